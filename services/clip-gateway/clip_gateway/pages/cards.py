"""Clips as the gallery's cards show them."""

from dataclasses import dataclass

from clip_gateway.domain import Refused, Rendition, present
from clip_gateway.parts import GatewayParts
from clip_gateway.views import ClipView
from clip_shared.contracts.registry_api import ClipRecord


@dataclass(frozen=True)
class Card:
    """A clip, and the URL of its poster; None: it has none to show now."""

    clip: ClipView
    poster: str | None


def card_of(clip: ClipRecord, parts: GatewayParts) -> Card:
    """A clip's card. Its poster's URL is signed here: to redirect to each would ask the registry once a card.

    Where such a URL has run out before anybody saw the poster, the page's script asks for the redirect.
    """
    view = ClipView.of(clip, parts.addresses)
    return Card(view, _poster_url(clip, parts) if view.links.poster else None)


def _poster_url(clip: ClipRecord, parts: GatewayParts) -> str | None:
    try:
        return parts.presigner.url(present(Rendition.POSTER, clip), seconds_left=clip.expires_in_seconds)
    except Refused:
        return None
