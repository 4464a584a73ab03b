from dataclasses import replace
from pathlib import Path

import pytest

from clip_shared.contracts.events import CutMode
from tests.bench.cases import FRAGMENTED, LONG, SHORT, BenchmarkCase, full
from tests.bench.report import (
    BARE,
    CUTTER,
    MOVIEPY,
    CaseFigures,
    CutRun,
    Traffic,
    as_dict,
    long_over_short,
    summary,
)
from tests.bench.run import About, Bound, Spread, replace_figures, targets_table
from tests.bench.targets import CPU_RATIOS, FASTER_THAN_MOVIEPY, LONG_OVER_SHORT, RATIOS, targets

CASE = BenchmarkCase(CutMode.COPY, "720p60", SHORT, 30, rounds=3, moviepy=1)
RESULT = CaseFigures(
    CASE,
    {
        CUTTER: [CutRun(2, 0.5, 1, 50), CutRun(3, 0.25, 2, 70), CutRun(8, 1, 4, 60)],
        BARE: [CutRun(1, 0.25), CutRun(2, 0.25), CutRun(2, 0.5)],
        MOVIEPY: [CutRun(100, 90)],
    },
    Traffic(pulled_bytes=120, stored_bytes=100),
)
FAR_RUNS = {CUTTER: [CutRun(1, 0.5, 1, 50), CutRun(2, 0.5, 1, 50)], BARE: [], MOVIEPY: []}


def test_ratios_are_of_pairs_not_of_medians() -> None:
    assert RESULT.ratio == Spread(2, 1.5, 4)
    assert RESULT.ratio_with_bus == Spread(1, 1, 2)
    assert RESULT.cpu_ratio == Spread(2, 1, 2)


def test_moviepy_is_compared_with_its_own_round_only() -> None:
    assert RESULT.times_faster_than_moviepy == Spread(50, 50, 50)
    assert replace(RESULT, runs={**RESULT.runs, MOVIEPY: []}).times_faster_than_moviepy is None


def test_throughput_memory_and_traffic() -> None:
    assert RESULT.clips_per_second_and_core == 2
    assert RESULT.peak_rss_bytes == 70
    assert RESULT.pulled_per_stored == pytest.approx(1.2)


def test_a_long_recording_is_compared_with_its_short_twin() -> None:
    case = replace(CASE, source=LONG, moviepy=0)
    long = replace(RESULT, case=case, runs={**RESULT.runs, CUTTER: [CutRun(3, 1)] * 3})
    assert long_over_short([RESULT, long]) == {"copy 720p60 30 s": Spread(1, 3 / 8, 1.5)}
    assert long_over_short([RESULT]) == {}


def test_the_table_has_a_cell_for_each_heading() -> None:
    about = About("cutter", machine={"cores": 2, "cpu": "", "memory_gib": 1, "load_at_start": 0})
    rows = [line for line in summary([RESULT], about).splitlines() if line.startswith("| ")][:3]
    assert len({row.count("|") for row in rows}) == 1
    assert "2.00 (1.50, 4.00)" in rows[2]
    assert as_dict([RESULT])["cases"][0]["pulled_per_stored"] == pytest.approx(1.2)


def test_targets_are_of_some_cases_and_of_all_memory() -> None:
    other = replace(RESULT, case=replace(CASE, seconds=45, moviepy=0))
    exact = replace(RESULT, case=replace(CASE, mode=CutMode.EXACT), runs={**RESULT.runs, MOVIEPY: []})
    far = replace(RESULT, case=replace(CASE, source=FRAGMENTED, first=True, far=True), runs=FAR_RUNS)
    found = [(target.what, target.bound, target.found) for target in targets([RESULT, other, exact, far])]
    assert found == [
        ("copy 720p60 10 min 30 s, cutter ÷ ffmpeg + upload", 0.8, 2),
        ("exact 720p60 10 min 30 s, cutter ÷ ffmpeg + upload", 1.03, 2),
        ("copy 720p60 10 min 30 s, CPU, cutter ÷ ffmpeg + upload", 1, 2),
        ("copy 720p60 6 h fragmented 30 s, first, far, seconds", 2, 1.5),
        ("copy 720p60 10 min 30 s, MoviePy ÷ cutter", 50, 50),
        ("the worker's peak RSS, MiB", 110, 70 / 2**20),
    ]
    assert [target.outcome for target in targets([])] == ["not measured"]


def test_every_target_is_of_a_case_that_is_measured() -> None:
    cases = [replace(RESULT, case=case) for case in full(moviepy=True, every=False)]
    names = {each.case.name for each in cases}
    assert {*RATIOS, *CPU_RATIOS, *FASTER_THAN_MOVIEPY} <= names
    assert set(LONG_OVER_SHORT) <= set(long_over_short(cases))


def test_figures_before_have_a_column_when_they_are_known() -> None:
    new, old = Bound("a", 2, 1), Bound("b", 1, 2, before=3)
    assert targets_table([new]).splitlines()[2] == "| a ≤ 2 | 1.00 | met |"
    assert targets_table([new, old]).splitlines()[2:] == [
        "| a ≤ 2 |  | 1.00 | met |",
        "| b ≤ 1 | 3.00 | 2.00 | **missed** |",
    ]


def test_bare_ffmpeg_takes_no_part_where_the_storage_is_far() -> None:
    far = replace(RESULT, case=replace(CASE, far=True), runs=FAR_RUNS)
    assert (far.ratio, far.cpu_ratio, far.seconds(CUTTER)) == (None, None, 1.5)
    about = About("cutter", machine={"cores": 2, "cpu": "", "memory_gib": 1, "load_at_start": 0})
    assert "30 s, far" in summary([far], about)


def test_figures_replace_figures_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    marks = "before\n<!-- {0}: begin -->\nold\n<!-- {0}: end -->\nafter\n"
    page.write_text(marks.format("figures") + marks.format("registry"))
    replace_figures(page, "new", name="registry")
    replaced = "before\n<!-- registry: begin -->\n\nnew\n\n<!-- registry: end -->\nafter\n"
    assert page.read_text() == marks.format("figures") + replaced
    with pytest.raises(ValueError, match="no place"):
        replace_figures(page, "new", name="janitor")


def test_each_copy_from_the_long_recording_has_a_twin() -> None:
    cases = [replace(RESULT, case=case) for case in full(moviepy=True, every=False)]
    long = [each.case.name for each in cases if each.case.source == LONG]
    assert len(long_over_short(cases)) == len(long) > 5


def test_no_case_stands_twice_in_a_run() -> None:
    names = [case.name for case in full(moviepy=True, every=True)]
    assert len(names) == len(set(names))
