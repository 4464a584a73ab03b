"""What a page says of what a form did, once the browser is back on it. Pure.

All of it is in the address: nothing is remembered between the two requests, and a reload says the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from clip_shared.contracts.registry_api import MAX_BATCH, ClipAction

_OURS = {"done", "count", "failed", "clip"}


@dataclass(frozen=True)
class CompletedAction:
    """What a form did: to how many clips, how many it could not change, and which can be undone."""

    action: ClipAction
    count: int
    failed: int = 0
    clip_ids: tuple[UUID, ...] = ()

    @classmethod
    def of(cls, parameters: Iterable[tuple[str, str]]) -> Self | None:
        """Return what the parameters of an address say was done; None: nothing, or nothing readable."""
        pairs = list(parameters)
        said = dict(pairs)
        try:
            ids = [UUID(value) for name, value in pairs if name == "clip"]
            count, failed = int(said.get("count", 0)), int(said.get("failed", 0))
            action = ClipAction(said.get("done", ""))
        except ValueError:
            return None
        if not (0 <= count <= MAX_BATCH and 0 <= failed <= MAX_BATCH):
            return None
        return cls(action, count, failed, tuple(ids[:MAX_BATCH]))

    def added_to(self, page: str) -> str:
        """Return the address of a page with this in it, in place of what it said before."""
        path, _, query = page.partition("#")[0].partition("?")
        kept = [pair for pair in parse_qsl(query) if pair[0] not in _OURS]
        counts = [("count", self.count), ("failed", self.failed)]
        ours = [("done", self.action.value), *((name, str(value)) for name, value in counts if value)]
        clips = [("clip", str(each)) for each in self.clip_ids]
        return f"{path}?{urlencode(kept + ours + clips)}"
