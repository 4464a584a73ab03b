"""The orphan sweep on a bucket and a registry in memory."""

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from clip_shared.errors import TransientError
from janitor import storage as storage_module
from janitor.metrics import write_sweep
from janitor.storage import ClipBucket
from janitor.sweep import MAX_EXAMPLES, OrphanSweep, SweepCounts, TooManyOrphans
from tests.unit.janitor.fakes import NOON, FakeJanitorRegistry, InMemoryBucket, a_key, client_error

HOUR = timedelta(hours=1)


def key_of(number: int, ending: str = "mp4") -> str:
    return a_key(str(number), ending)


class SweepSetup:
    """A bucket with ``owned`` videos of clips and ``orphans`` of none; all of it is old."""

    def __init__(self, *, owned: int, orphans: int, page_size: int = 1000, limit_percent: float = 50) -> None:
        self.owned = {key_of(number) for number in range(owned)}
        self.orphans = {key_of(owned + number) for number in range(orphans)}
        self.s3 = InMemoryBucket(*self.owned, *self.orphans)
        self.s3.page_size = page_size
        self.registry = FakeJanitorRegistry()
        self.registry.owned = {("clips", key) for key in self.owned}
        self.seen: list[int] = []
        self.sweep = OrphanSweep(
            ClipBucket(cast("Any", self.s3), "clips"),
            self.registry,
            older_than=NOON + HOUR,
            limit_percent=limit_percent,
            on_page=lambda counts: self.seen.append(counts.examined),
        )

    async def delete(self, *, force: bool = False) -> SweepCounts:
        return await self.sweep.delete(await self.sweep.count(), force=force)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "FIRST_PAUSE_SECONDS", 0)


async def test_counting_deletes_nothing() -> None:
    setup = SweepSetup(owned=3, orphans=2)
    counts = await setup.sweep.count()
    assert (counts.examined, counts.orphans, counts.orphan_bytes, counts.deleted) == (5, 2, 20, 0)
    assert set(counts.examples) == setup.orphans
    assert setup.s3.batches == []
    assert (counts.needs_force(40), counts.needs_force(39.9)) == (False, True)


async def test_deleting_takes_the_orphans_and_nothing_else() -> None:
    setup = SweepSetup(owned=3, orphans=2)
    counts = await setup.delete()
    assert (counts.deleted, counts.failed) == (2, 0)
    assert setup.s3.keys == setup.owned


async def test_any_number_of_objects_goes_page_by_page() -> None:
    setup = SweepSetup(owned=30, orphans=15, page_size=7)
    counts = await setup.delete()
    assert (counts.examined, counts.deleted) == (45, 15)
    assert setup.s3.keys == setup.owned
    assert max(map(len, setup.registry.asked)) == 7
    assert len(counts.examples) == MAX_EXAMPLES
    assert setup.seen == [7, 14, 21, 28, 35, 42, 45] * 2


async def test_posters_count_too() -> None:
    setup = SweepSetup(owned=1, orphans=0)
    setup.s3.keys |= {key_of(0, "jpg"), key_of(1, "jpg")}
    setup.registry.owned.add(("clips", key_of(0, "jpg")))
    await setup.delete()
    assert setup.s3.keys == {key_of(0), key_of(0, "jpg")}


async def test_what_may_still_be_announced_is_left_alone() -> None:
    setup = SweepSetup(owned=2, orphans=2)
    young, at_the_edge = sorted(setup.orphans)
    setup.s3.modified = {young: NOON + 2 * HOUR, at_the_edge: NOON + HOUR}
    counts = await setup.delete()
    assert (counts.young, counts.orphans) == (2, 0)
    assert setup.s3.keys == setup.owned | setup.orphans


async def test_what_is_not_of_the_cutters_making_is_left_alone() -> None:
    setup = SweepSetup(owned=2, orphans=0)
    strange = {"clips/README.md", "clips/a//b.mp4", "clips/", "backup.tar"}
    setup.s3.keys |= strange
    counts = await setup.delete()
    assert (counts.foreign, counts.orphans) == (3, 0)  # one is not even under clips/
    assert setup.s3.keys == setup.owned | strange
    assert [key for asked in setup.registry.asked for key in asked if key in strange] == []


@pytest.mark.parametrize(("owned", "orphans", "limit_percent"), [(4, 5, 50), (97, 3, 2), (49, 1, 0)])
async def test_more_than_the_limit_is_refused_before_anything_is_deleted(
    owned: int, orphans: int, limit_percent: float
) -> None:
    setup = SweepSetup(owned=owned, orphans=orphans, page_size=1, limit_percent=limit_percent)
    with pytest.raises(TooManyOrphans, match=f"{orphans} of {owned + orphans} .* {limit_percent} %"):
        await setup.delete()
    assert setup.s3.batches == []
    await setup.delete(force=True)
    assert setup.s3.keys == setup.owned


async def test_a_registry_that_forgets_everything_meanwhile_is_noticed() -> None:
    setup = SweepSetup(owned=8, orphans=2, page_size=1)
    counted = await setup.sweep.count()
    setup.registry.owned.clear()
    with pytest.raises(TooManyOrphans, match="6 of 10"):
        await setup.sweep.delete(counted, force=False)
    assert len(setup.s3.keys) == 5


async def test_what_a_clip_owns_by_now_stays() -> None:
    """Its event was late, but came between the two passes."""
    setup = SweepSetup(owned=3, orphans=2)
    counted = await setup.sweep.count()
    late, orphan = sorted(setup.orphans)
    setup.registry.owned.add(("clips", late))
    counts = await setup.sweep.delete(counted, force=False)
    assert setup.s3.keys == setup.owned | {late}
    assert counts.examples == [orphan]


async def test_what_cannot_be_deleted_is_named_and_the_rest_goes() -> None:
    setup = SweepSetup(owned=3, orphans=3)
    stuck = min(setup.orphans)
    setup.s3.stuck[stuck] = ["AccessDenied"] * 10
    counts = await setup.delete()
    assert (counts.deleted, counts.failed) == (2, 1)
    assert counts.failures[stuck].code == "AccessDenied"
    assert setup.s3.keys == setup.owned | {stuck}


async def test_an_outage_ends_it_and_nothing_is_lost_by_going_on_later() -> None:
    setup = SweepSetup(owned=5, orphans=4, page_size=2)
    counted = await setup.sweep.count()
    setup.s3.outage = client_error("ServiceUnavailable", 503)
    with pytest.raises(TransientError):
        await setup.sweep.delete(counted, force=False)
    setup.s3.outage = None
    await setup.delete()
    assert setup.s3.keys == setup.owned


def test_the_figures_can_be_left_for_prometheus(tmp_path: Path) -> None:
    write_sweep(SweepCounts(examined=5, orphans=2, deleted=2), tmp_path / "sweep.prom")
    text = (tmp_path / "sweep.prom").read_text()
    assert "clips_sweep_examined_objects 5.0" in text
    assert "clips_sweep_deleted_objects 2.0" in text
    assert list(tmp_path.iterdir()) == [tmp_path / "sweep.prom"]
