"""The orphan sweep: objects in the clips' bucket that no clip owns, found and, if asked to, deleted.

They come about when a cutter dies between its upload and its event, when an event is refused, when a
release is lost. Two passes: the first counts, and with that it is decided; the second asks the registry
again about each object, immediately before it is deleted. A pass keeps one page in memory, and counters.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime

from clip_shared.contracts.clip_keys import is_clip_key
from clip_shared.errors import PermanentError
from janitor.domain import CLIPS_PREFIX, Failure, is_too_much
from janitor.registry_client import Registry
from janitor.storage import ClipBucket, Listed

MAX_EXAMPLES = 10


class TooManyOrphans(PermanentError):
    """So much of what was examined has no clip that, more likely, the registry is not this bucket's."""


@dataclass
class Tally:
    """What a pass has met so far. Examples are the first of their kind."""

    examined: int = 0
    young: int = 0
    foreign: int = 0
    orphans: int = 0
    orphan_bytes: int = 0
    deleted: int = 0
    failed: int = 0
    examples: list[str] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)

    def is_too_much(self, limit_percent: float) -> bool:
        """Whether deleting these orphans has to be forced."""
        return is_too_much(self.orphans, self.examined, limit_percent)


Progress = Callable[[Tally], None]
"""Told of a pass after each page."""


class Sweep:
    """A sweep of the objects that were last modified before ``older_than``: of no cut that is under way.

    ``limit_percent`` of the examined objects may be orphans; if more are, none is deleted unless forced.
    """

    def __init__(
        self,
        storage: ClipBucket,
        registry: Registry,
        *,
        older_than: datetime,
        limit_percent: float,
        progress: Progress,
    ) -> None:
        self._storage = storage
        self._registry = registry
        self._older_than = older_than
        self._limit_percent = limit_percent
        self._progress = progress

    async def count(self) -> Tally:
        """Find what there is to delete.

        Raises:
            TransientError: the storage or the registry is out.
        """
        tally = Tally()
        async for _ in self._orphans(tally):
            self._progress(tally)
        return tally

    async def delete(self, counted: Tally, *, force: bool) -> Tally:
        """Delete what is (still) an orphan. Ended halfway, it can be done again from the start.

        Raises:
            TooManyOrphans: they are more of what was counted than the limit allows, and it is not forced.
            TransientError: the storage or the registry is out.
        """
        if not force:
            self._refuse_too_many(counted.orphans, counted, deleted=0)
        tally = Tally()
        async for orphans in self._orphans(tally):
            if not force:  # what was counted may have changed: so may the registry
                self._refuse_too_many(tally.orphans, counted, deleted=tally.deleted)
            failures = await self._storage.delete([each.key for each in orphans])
            tally.deleted += len(orphans) - len(failures)
            tally.failed += len(failures)
            _remember(tally, failures)
            self._progress(tally)
        return tally

    def _refuse_too_many(self, orphans: int, counted: Tally, *, deleted: int) -> None:
        if is_too_much(orphans, counted.examined, self._limit_percent):
            raise TooManyOrphans(
                f"{orphans:,} of {counted.examined:,} examined objects have no clip, which is more than"
                f" {self._limit_percent:g} %; {deleted:,} were deleted"
            )

    async def _orphans(self, tally: Tally) -> AsyncIterator[list[Listed]]:
        """Page by page, the objects that no clip owns."""
        async for page in self._storage.pages(CLIPS_PREFIX):
            candidates = [each for each in page if self._is_candidate(each, tally)]
            orphans = await self._unowned(candidates)
            tally.examined += len(candidates)
            tally.orphans += len(orphans)
            tally.orphan_bytes += sum(each.size_bytes for each in orphans)
            tally.examples += [each.key for each in orphans[: MAX_EXAMPLES - len(tally.examples)]]
            yield orphans

    def _is_candidate(self, listed: Listed, tally: Tally) -> bool:
        if not is_clip_key(listed.key):
            tally.foreign += 1
        elif listed.modified_at >= self._older_than:
            tally.young += 1
        else:
            return True
        return False

    async def _unowned(self, candidates: list[Listed]) -> list[Listed]:
        if not candidates:
            return []
        unknown = await self._registry.unknown_objects(
            self._storage.bucket, [each.key for each in candidates]
        )
        return [each for each in candidates if each.key in unknown]


def _remember(tally: Tally, failures: dict[str, Failure]) -> None:
    for key in list(failures)[: MAX_EXAMPLES - len(tally.failures)]:
        tally.failures[key] = failures[key]
