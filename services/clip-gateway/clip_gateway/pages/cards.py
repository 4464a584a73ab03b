"""The cards of the gallery: a clip with its poster."""

from dataclasses import dataclass

from clip_gateway.domain import Refused, Rendition, present
from clip_gateway.parts import GatewayParts
from clip_gateway.views import ClipView
from clip_shared.contracts.registry_api import ClipRecord


@dataclass(frozen=True)
class Card:
    """A clip, and the presigned URL of its poster; None: the clip has no poster to show."""

    clip: ClipView
    poster: str | None


def card_of(clip: ClipRecord, parts: GatewayParts) -> Card:
    """Return the card of a clip.

    The poster's URL is signed here: a redirect per poster would ask the registry once for every card. If the
    URL has expired before the poster comes into view, the page's script loads the redirect instead.
    """
    view = ClipView.of(clip, parts.addresses)
    return Card(view, _poster_url(clip, parts) if view.links.poster else None)


def _poster_url(clip: ClipRecord, parts: GatewayParts) -> str | None:
    try:
        return parts.presigner.url(present(Rendition.POSTER, clip), seconds_left=clip.expires_in_seconds)
    except Refused:
        return None
