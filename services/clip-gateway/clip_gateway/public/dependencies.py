"""FastAPI dependencies of every public route: the rate limit, and the clip that a slug leads to."""

import re
from datetime import UTC, datetime

from fastapi import Request

from clip_gateway.domain import Refusal, Refused
from clip_gateway.parts import GatewayParts
from clip_gateway.public.published_clips import publication_of
from clip_shared.contracts.registry_api import ClipRecord

_SLUG = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class PublicDependencies:
    """The dependencies, with the parts that they need."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts

    async def count_visit(self, request: Request) -> None:
        """Count a request against the limit of its client's address.

        Raises:
            Refused: TOO_MANY: more than VISITS_PER_MINUTE requests from one address.
        """
        self._parts.limits.count_visit(request.client.host if request.client else "")

    async def published_clip(self, slug: str) -> ClipRecord:
        """Return the clip behind a share link, which is published now.

        Raises:
            Refused: no clip ever had the slug (UNKNOWN), or its clip is no longer published (UNPUBLISHED).
        """
        clip = await self._parts.registry.shared(checked_slug(slug))
        publication_of(clip, datetime.now(UTC))
        return clip


def checked_slug(slug: str) -> str:
    """Return a slug if it has the form of a slug: other text is never sent to the registry.

    Raises:
        Refused: UNKNOWN: the text is not 1 to 64 letters, digits, ``_`` and ``-``.
    """
    if not _SLUG.fullmatch(slug):
        raise Refused(Refusal.UNKNOWN)
    return slug
