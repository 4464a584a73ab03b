from dataclasses import replace

import pytest

from tests.bench import janitor, registry
from tests.bench.queries import LARGE, SMALL, QueryTiming
from tests.bench.registry import Bare, RegistryRun
from tests.bench.run import About, Bound, Spread, table

RUN = RegistryRun(stored=300, relayed=200, through=150, cpu_seconds=0.001)
ABOUT = About("registry", machine={"cores": 2, "cpu": "", "memory_gib": 1, "load_at_start": 0})


@pytest.mark.parametrize(
    ("found", "at_least", "outcome"),
    [
        (0.8, True, "met"),
        (0.79, True, "**missed**"),
        (0.8, False, "met"),
        (0.81, False, "**missed**"),
        (None, True, "not measured"),
    ],
)
def test_a_target_is_met_or_missed_or_not_measured(found: float | None, at_least: bool, outcome: str) -> None:
    assert Bound("ratio", 0.8, found, at_least=at_least).outcome == outcome


def test_growth_is_of_neighbouring_runs() -> None:
    query = QueryTiming("get", {SMALL: [1.0] * 5 + [2.0] * 5, LARGE: [1.5] * 5 + [8.0] * 5})
    assert query.growth == Spread(2.75, 1.5, 4)
    assert QueryTiming("get").growth is None


def test_the_registry_is_compared_with_the_loop_of_its_round() -> None:
    results = registry.RegistryFigures(rounds=[(RUN, Bare(400, 0)), (replace(RUN, stored=100), Bare(100, 0))])
    assert results.ratio(lambda run: run.stored) == Spread(0.875, 0.75, 1)
    assert [target.outcome for target in registry.targets(results)][:2] == ["met", "met"]
    assert "| into the store | 200 (100, 300) | 250 (100, 400) |" in registry.summary(ABOUT, results)


def test_a_run_that_was_interrupted_at_once_has_no_figures() -> None:
    for found in (registry.targets(registry.RegistryFigures()), janitor.targets(janitor.JanitorFigures(10))):
        assert {target.outcome for target in found} == {"not measured"}
    assert "not measured" in registry.summary(ABOUT, registry.RegistryFigures())
    assert "not measured" in janitor.summary(ABOUT, janitor.JanitorFigures(10))


def test_a_purge_ends_with_its_last_object_and_memory_must_not_grow_late() -> None:
    sizes = [50, 100, 100, 100, 100, 100, 100, 120, 100, 100]
    samples = [
        janitor.PurgeProgress(
            float(at), clips_left=max(0, 5 - at), objects_left=9 - at, memory={"janitor": size}
        )
        for at, size in enumerate(sizes)
    ]
    results = janitor.JanitorFigures(clips=18, halves=[4.0, 2.0], samples=samples)
    assert results.purge_rate == 2
    assert results.whole == Spread(0.75, 0.5, 1)
    assert results.growth("janitor") == pytest.approx(1.2)
    assert [target.outcome for target in janitor.targets(results)][1:3] == ["**missed**", "**missed**"]


def test_a_table_has_a_cell_for_each_heading() -> None:
    assert table(("a", "b"), ("1", "2")).splitlines() == ["| a | b |", "| --- | --: |", "| 1 | 2 |"]
