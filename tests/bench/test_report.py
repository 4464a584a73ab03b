from dataclasses import replace
from pathlib import Path

import pytest

from clip_shared.events import CutMode
from tests.bench.cases import LONG, SHORT, Case, full
from tests.bench.report import (
    BARE,
    CUTTER,
    MOVIEPY,
    Result,
    Run,
    Traffic,
    as_dict,
    long_over_short,
    summary,
    targets,
)
from tests.bench.run import About, Spread, replace_figures

CASE = Case(CutMode.COPY, "720p60", SHORT, 30, rounds=3, moviepy=1)
RESULT = Result(
    CASE,
    {
        CUTTER: [Run(2, 0.5, 1, 50), Run(3, 0.25, 2, 70), Run(8, 1, 4, 60)],
        BARE: [Run(1, 0.25), Run(2, 0.25), Run(2, 0.5)],
        MOVIEPY: [Run(100, 90)],
    },
    Traffic(pulled_bytes=120, stored_bytes=100),
)


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
    long = replace(RESULT, case=case, runs={**RESULT.runs, CUTTER: [Run(3, 1)] * 3})
    assert long_over_short([RESULT, long]) == {"copy 720p60 30 s": Spread(1, 3 / 8, 1.5)}
    assert long_over_short([RESULT]) == {}


def test_the_table_has_a_cell_for_each_heading() -> None:
    about = About("cutter", machine={"cores": 2, "cpu": "", "memory_gib": 1, "load_at_start": 0})
    rows = [line for line in summary([RESULT], about).splitlines() if line.startswith("| ")][:3]
    assert len({row.count("|") for row in rows}) == 1
    assert "2.00 (1.50, 4.00)" in rows[2]
    assert as_dict([RESULT])["cases"][0]["pulled_per_stored"] == pytest.approx(1.2)


def test_targets_are_of_half_a_minute_and_of_all_memory() -> None:
    other = replace(RESULT, case=replace(CASE, seconds=10, moviepy=0))
    exact = replace(RESULT, case=replace(CASE, mode=CutMode.EXACT), runs={**RESULT.runs, MOVIEPY: []})
    found = {target.what: (target.bound, target.found) for target in targets([RESULT, other, exact])}
    assert found == {
        "copy 720p60 10 min 30 s, cutter ÷ ffmpeg + upload": (1.5, 2),
        "exact 720p60 10 min 30 s, cutter ÷ ffmpeg + upload": (1.05, 2),
        "copy 720p60 10 min 30 s, MoviePy ÷ cutter": (50, 50),
        "the worker's peak RSS, MiB": (120, 70 / 2**20),
    }
    assert [target.verdict for target in targets([])] == ["not measured"]


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
