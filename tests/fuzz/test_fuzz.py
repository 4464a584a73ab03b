"""The fuzz harness: it repeats its inputs, and finds what a reader must not do."""

import gc
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from clip_cutter.containers.model import UnsupportedMedia
from clip_cutter.cutter import FinishedClip
from clip_shared.contracts.events import CutMode
from tests.fuzz.__main__ import FuzzTarget, try_target
from tests.fuzz.mutations import GENERAL, STRUCTURED, MutatedFile, mutate
from tests.fuzz.pipeline import WrongWindow, check_window
from tests.fuzz.seeds import CASES, Seed
from tests.fuzz.watch import Hang, Leak, ResourceWatch, deadline
from tests.integration.clip_cutter.media import h264, record

FILES = [Seed(path.name, path.read_bytes()) for path in sorted(CASES.glob("flv-*.flv"))]
FILES += [Seed(name, (CASES / name).read_bytes()) for name in ("two-edits.mp4", "muted.ts")]


@pytest.mark.parametrize("seed", FILES, ids=lambda seed: seed.name)
def test_an_input_is_computed_from_its_seed(seed: Seed) -> None:
    def made(number: int) -> MutatedFile:
        return mutate(Random(f"1 {number}"), seed.data, seed.suffix, [each.data for each in FILES])  # noqa: S311

    assert [made(number) for number in range(40)] == [made(number) for number in range(40)]
    assert sum(made(number).data == seed.data for number in range(40)) < 20


@pytest.mark.parametrize("seed", FILES, ids=lambda seed: seed.name)
def test_mutations_accept_any_bytes(seed: Seed) -> None:
    for number, data in enumerate((b"", b"\0", seed.data[:100], seed.data)):
        for mutation in (*GENERAL, *STRUCTURED[seed.suffix]):
            assert isinstance(mutation(Random(number), data), bytes)  # noqa: S311


def fails_on_truncation(_: Random, seed: Seed, made: MutatedFile) -> None:
    if "truncate" in made.changes:
        raise IndexError(seed.name)
    raise UnsupportedMedia("nothing that is read")


def test_a_failure_is_found_printed_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    target = FuzzTarget("planted", fails_on_truncation, FILES, share=1)
    first = try_target(target, 5, seconds=20)
    told = capsys.readouterr().out
    kept = sorted(tmp_path.glob(".local/fuzz/planted-5-*"))
    assert first.failures == len(kept) == 5
    assert "IndexError: " in told
    number = int(kept[0].stem.split("-")[-1])
    assert f'make fuzz SEED=5 ARGS="--only planted --number {number}"' in told
    data = kept[0].read_bytes()
    kept[0].unlink()
    again = try_target(target, 5, seconds=20, number=number)
    assert (again.inputs, again.failures) == (1, 1)
    assert kept[0].read_bytes() == data


def test_an_endless_input_is_interrupted() -> None:
    with pytest.raises(Hang):
        wait(0.05)


def wait(seconds: float) -> None:
    with deadline(seconds):
        time.sleep(10)


def test_open_files_are_found(tmp_path: Path) -> None:
    gc.collect()  # what tests before have left open would be closed meanwhile
    watch = ResourceWatch(max_mebibytes=1024)
    watch.check()
    with ExitStack() as files:
        for number in range(20):
            files.enter_context((tmp_path / str(number)).open("wb"))
        with pytest.raises(Leak, match="open files"):
            watch.check()


def test_too_much_memory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # The most that this process ever had, which other tests have raised before.
    taken = iter([100, 110, 200])
    monkeypatch.setattr("tests.fuzz.watch.peak_bytes", lambda: next(taken) * 1024 * 1024)
    watch = ResourceWatch(max_mebibytes=16)
    watch.check()
    with pytest.raises(Leak, match="memory has grown by 100 MiB"):
        watch.check()


def test_peak_memory_is_measured() -> None:
    script = (
        "from tests.fuzz.watch import peak_bytes; before = peak_bytes(); much = bytearray([1]) * 2**28;"
        "print(peak_bytes() - before)"
    )
    grown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(grown.stdout) > 2**27


def test_a_clip_of_another_window_is_found(tmp_path: Path) -> None:
    plain = record(tmp_path / "clip.mp4", *h264(), rate="10", seconds=3)
    clip = FinishedClip(plain, plain, CutMode.COPY, 0.0, 3.0, size_bytes=1, skew_ms=None)
    check_window(clip, 10)
    with pytest.raises(WrongWindow):
        check_window(replace(clip, start=1.0), 10)
