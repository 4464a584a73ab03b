"""What every public route begins with: the visitor is counted, and the slug leads to a public clip."""

import re
from datetime import UTC, datetime

from fastapi import Request

from clip_gateway.domain import Refusal, Refused
from clip_gateway.parts import GatewayParts
from clip_gateway.public.published_clips import publication_of
from clip_shared.contracts.registry_api import ClipRecord

_SLUG = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class PublicDependencies:
    """FastAPI dependencies of the public routes."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts

    async def count(self, request: Request) -> None:
        """Count a request of an address.

        Raises:
            Refused: too many in a short time.
        """
        self._parts.limits.count_visit(request.client.host if request.client else "")

    async def shared(self, slug: str) -> ClipRecord:
        """The clip behind a slug, public at this moment.

        Raises:
            Refused: there never was one (UNKNOWN), or it is not public any more (UNPUBLISHED).
        """
        clip = await self._parts.registry.shared(checked(slug))
        publication_of(clip, datetime.now(UTC))
        return clip


def checked(slug: str) -> str:
    """The slug, if it can be one: nothing else goes to the registry.

    Raises:
        Refused: UNKNOWN.
    """
    if not _SLUG.fullmatch(slug):
        raise Refused(Refusal.UNKNOWN)
    return slug
