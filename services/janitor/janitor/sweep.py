"""The orphan sweep: it finds the objects in the clips' bucket that no clip owns, and deletes them if told to.

An orphan stays when a cutter dies between its upload and its event, when an event is refused, and when a
release is lost. There are two passes. The first counts, and the count decides whether to go on. The second
asks the registry again about every object, right before it is deleted. A pass keeps one page and the counts
in memory.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime

from clip_shared.contracts.clip_keys import is_clip_key
from clip_shared.errors import PermanentError
from janitor.domain import CLIPS_PREFIX, DeletionFailure, are_too_many_orphans
from janitor.registry import JanitorRegistry
from janitor.storage import ClipBucket, ListedObject

MAX_EXAMPLES = 10


class TooManyOrphans(PermanentError):
    """The share of orphans is so large that the registry is more likely the wrong one for this bucket."""


@dataclass
class SweepCounts:
    """What a pass has found so far.

    Attributes:
        examined: objects that the registry was asked about.
        young: objects that are left alone because of their age.
        foreign: objects under ``clips/`` whose keys the cutter does not write.
        orphans: examined objects that no clip owns.
        examples: the keys of the first orphans.
        failures: for the first orphans that could not be deleted, why.
    """

    examined: int = 0
    young: int = 0
    foreign: int = 0
    orphans: int = 0
    orphan_bytes: int = 0
    deleted: int = 0
    failed: int = 0
    examples: list[str] = field(default_factory=list)
    failures: dict[str, DeletionFailure] = field(default_factory=dict)

    def needs_force(self, limit_percent: float) -> bool:
        """Return whether these are too many orphans to delete unless forced."""
        return are_too_many_orphans(self.orphans, self.examined, limit_percent)


OnPage = Callable[[SweepCounts], None]
"""Called with the counts after each page."""


class OrphanSweep:
    """A sweep of one bucket.

    Args:
        bucket: the clips' bucket.
        registry: knows which objects clips own.
        older_than: objects modified later are left alone: their clips may still be announced.
        limit_percent: how many percent of the examined objects may be orphans. If more are, nothing is
            deleted unless forced.
        on_page: called with the counts after each page.
    """

    def __init__(
        self,
        bucket: ClipBucket,
        registry: JanitorRegistry,
        *,
        older_than: datetime,
        limit_percent: float,
        on_page: OnPage,
    ) -> None:
        self._bucket = bucket
        self._registry = registry
        self._older_than = older_than
        self._limit_percent = limit_percent
        self._on_page = on_page

    async def count(self) -> SweepCounts:
        """Count the orphans.

        Raises:
            TransientError: the storage or the registry is out.
        """
        counts = SweepCounts()
        async for _ in self._orphans(counts):
            self._on_page(counts)
        return counts

    async def delete(self, counted: SweepCounts, *, force: bool) -> SweepCounts:
        """Delete what is an orphan now. If it is interrupted, it can be repeated from the start.

        Raises:
            TooManyOrphans: they are more of what was counted than the limit allows, and ``force`` is not set.
            TransientError: the storage or the registry is out.
        """
        if not force:
            self._refuse_too_many(counted.orphans, counted, deleted=0)
        counts = SweepCounts()
        async for orphans in self._orphans(counts):
            if not force:  # the registry may know less by now than when the orphans were counted
                self._refuse_too_many(counts.orphans, counted, deleted=counts.deleted)
            failures = await self._bucket.delete([each.key for each in orphans])
            counts.deleted += len(orphans) - len(failures)
            counts.failed += len(failures)
            _add_failures(counts, failures)
            self._on_page(counts)
        return counts

    def _refuse_too_many(self, orphans: int, counted: SweepCounts, *, deleted: int) -> None:
        if are_too_many_orphans(orphans, counted.examined, self._limit_percent):
            raise TooManyOrphans(
                f"{orphans:,} of {counted.examined:,} examined objects have no clip, which is more than"
                f" {self._limit_percent:g} %; {deleted:,} were deleted"
            )

    async def _orphans(self, counts: SweepCounts) -> AsyncIterator[list[ListedObject]]:
        """Yield the orphans page by page, and count them."""
        async for page in self._bucket.pages(CLIPS_PREFIX):
            candidates = [each for each in page if self._is_candidate(each, counts)]
            orphans = await self._orphans_among(candidates)
            counts.examined += len(candidates)
            counts.orphans += len(orphans)
            counts.orphan_bytes += sum(each.size_bytes for each in orphans)
            counts.examples += [each.key for each in orphans[: MAX_EXAMPLES - len(counts.examples)]]
            yield orphans

    def _is_candidate(self, found: ListedObject, counts: SweepCounts) -> bool:
        if not is_clip_key(found.key):
            counts.foreign += 1
        elif found.modified_at >= self._older_than:
            counts.young += 1
        else:
            return True
        return False

    async def _orphans_among(self, candidates: list[ListedObject]) -> list[ListedObject]:
        if not candidates:
            return []
        orphans = await self._registry.orphans(self._bucket.name, [each.key for each in candidates])
        return [each for each in candidates if each.key in orphans]


def _add_failures(counts: SweepCounts, failures: dict[str, DeletionFailure]) -> None:
    for key in list(failures)[: MAX_EXAMPLES - len(counts.failures)]:
        counts.failures[key] = failures[key]
