"""The notice that a page shows after a form has changed clips. Pure.

After a form the browser is redirected to a page. What was done travels in that page's address, as query
parameters: the server remembers nothing between the two requests, and a reload shows the same notice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from clip_shared.contracts.registry_api import MAX_BATCH, ClipAction, ClipRecord

_PARAMETERS = {"done", "count", "failed", "clip"}


@dataclass(frozen=True)
class CompletedAction:
    """An action that a form applied to clips, as the address of the next page carries it.

    Attributes:
        count: how many clips were changed.
        failed: how many clips could not be changed.
        clip_ids: the changed clips that the notice offers to restore.
    """

    action: ClipAction
    count: int
    failed: int = 0
    clip_ids: tuple[UUID, ...] = ()

    @classmethod
    def of(cls, parameters: Iterable[tuple[str, str]]) -> Self | None:
        """Read the query parameters of an address; None if they name no action or are not valid."""
        pairs = list(parameters)
        values = dict(pairs)
        try:
            ids = [UUID(value) for name, value in pairs if name == "clip"]
            count, failed = int(values.get("count", 0)), int(values.get("failed", 0))
            action = ClipAction(values.get("done", ""))
        except ValueError:
            return None
        if not (0 <= count <= MAX_BATCH and 0 <= failed <= MAX_BATCH):
            return None
        return cls(action, count, failed, tuple(ids[:MAX_BATCH]))

    def added_to(self, page: str) -> str:
        """Return the address of a page with this action in its query, in place of an earlier action."""
        path, _, query = page.partition("#")[0].partition("?")
        kept = [pair for pair in parse_qsl(query) if pair[0] not in _PARAMETERS]
        counts = [("count", self.count), ("failed", self.failed)]
        ours = [("done", self.action.value), *((name, str(value)) for name, value in counts if value)]
        clips = [("clip", str(each)) for each in self.clip_ids]
        return f"{path}?{urlencode(kept + ours + clips)}"


@dataclass(frozen=True)
class ActionNotice:
    """What a page says about a completed action.

    Attributes:
        count: how many clips were changed.
        failed: how many clips could not be changed.
        title: of the changed clip, if it is one; None: only the count is shown.
        undo: the deleted clips that can be restored.
    """

    action: ClipAction
    count: int
    failed: int = 0
    title: str | None = None
    undo: tuple[UUID, ...] = ()

    @classmethod
    def of(cls, action: ClipAction, clips: list[ClipRecord], failed: int = 0) -> Self:
        """Return the notice for an action that changed ``clips`` and could not change ``failed`` others."""
        ids = tuple(clip.clip_id for clip in clips)
        undo = ids if action is ClipAction.DELETE else ()
        return cls(action, len(clips), failed, clips[0].title if len(clips) == 1 else None, undo)
