"""The filters of the gallery, as its address holds them. Pure.

People type, share and bookmark addresses: a parameter that is not valid is ignored, and is never an error.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

from clip_gateway.domain import ClipQuery
from clip_shared.contracts.events import HighlightKind
from clip_shared.contracts.registry_api import ClipOrder, ClipStatus

PAGE_SIZE = 24  # divides into full rows of two, three and four cards
LONGEST_TITLE = 200
LONGEST_CURSOR = 500

_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHOWN = {ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED, ClipStatus.DELETED}
_Choice = TypeVar("_Choice", ClipStatus, HighlightKind, ClipOrder)


@dataclass(frozen=True, kw_only=True)
class GalleryFilters:
    """The filters that a streamer chose. The default: all clips that are not deleted, the newest first."""

    status: ClipStatus | None = None
    kind: HighlightKind | None = None
    vod: str | None = None
    title: str = ""
    order: ClipOrder = ClipOrder.NEWEST
    cursor: str | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Self:
        """Read the query parameters of an address."""
        status = _choice(ClipStatus, parameters.get("status"))
        vod = parameters.get("vod", "")
        cursor = parameters.get("cursor", "")
        return cls(
            status=status if status in _SHOWN else None,
            kind=_choice(HighlightKind, parameters.get("kind")),
            vod=vod if _IDENTIFIER.fullmatch(vod) else None,
            title=" ".join(parameters.get("title", "").replace("\0", "").split())[:LONGEST_TITLE],
            order=_choice(ClipOrder, parameters.get("order")) or ClipOrder.NEWEST,
            cursor=cursor if 0 < len(cursor) <= LONGEST_CURSOR else None,
        )

    @property
    def narrow(self) -> bool:
        """Whether a filter may leave out some clips; a later page alone does not."""
        return any((self.status, self.kind, self.vod, self.title))

    def query(self) -> ClipQuery:
        """Return the same filters as a query to the registry."""
        return ClipQuery(
            statuses=(self.status,) if self.status else (),
            kinds=(self.kind,) if self.kind else (),
            vod_id=self.vod,
            title=self.title or None,
            order=self.order,
            limit=PAGE_SIZE,
            cursor=self.cursor,
        )

    def link(self, **changes: Any) -> str:
        """Return the address of the gallery with changed filters, at its first page."""
        chosen = replace(self, **{"cursor": None, **changes})
        said = {name: value for name, value in vars(chosen).items() if value}
        if chosen.order is ClipOrder.NEWEST:
            del said["order"]
        return f"/?{urlencode(said)}" if said else "/"


def _choice(kind: type[_Choice], value: str | None) -> _Choice | None:
    try:
        return kind(value) if value else None
    except ValueError:
        return None
