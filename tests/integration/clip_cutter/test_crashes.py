"""A program that crashes is our trouble, and one that is left behind is nobody's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from clip_cutter import process
from clip_cutter.arguments import Input
from clip_cutter.cutter import Cutter, Job
from clip_cutter.domain.cut import ModeChoice
from clip_cutter.domain.policy import Skipped, Window
from clip_cutter.ffmpeg import Ffmpeg, Programs, ToolCrashed
from clip_shared.errors import PermanentError, TransientError
from tests.integration.clip_cutter.conftest import LIMITS, PROGRAMS, running
from tests.integration.clip_cutter.media import Seen

Vod = Callable[[str], Seen]
CRASHES = ["SEGV", "ABRT", "KILL", "BUS", "ILL"]


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str, str], str]:
    """A program of a name that does what a shell script says."""

    def make(name: str, script: str) -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


def cutter_of(programs: Programs) -> Cutter:
    ffmpeg = Ffmpeg(programs, limits=LIMITS, threads=2, on_pulled=lambda _: None)
    return Cutter(ffmpeg, mode=ModeChoice.AUTO, min_seconds=1)


@pytest.mark.parametrize("name", CRASHES)
async def test_a_crash_is_no_fact_about_the_file(
    vod: Vod, programs: Programs, fake: Callable[[str, str], str], folder: Path, name: str
) -> None:
    crashing = fake("crashing", f"kill -{name} $$")
    source = Input.of_file(vod("b-frames.mp4").path)
    with pytest.raises(ToolCrashed, match=f"SIG{name}") as crash:
        await cutter_of(Programs(programs.ffmpeg, crashing)).look(source)
    # Neither once and for all nor without end: the bus counts the attempts.
    assert not isinstance(crash.value, PermanentError | TransientError)
    cutter = cutter_of(Programs(crashing, programs.ffprobe))
    with pytest.raises(ToolCrashed, match=f"SIG{name}"):
        await cutter.cut(Job(source, await cutter.look(source), Window(1, 4), folder))


@pytest.mark.parametrize("code", [1, 126, 127])
async def test_a_program_that_never_ran_says_nothing_about_the_file(
    vod: Vod, programs: Programs, fake: Callable[[str, str], str], folder: Path, code: int
) -> None:
    broken = fake("broken", f"echo 'cannot execute' >&2; exit {code}")
    source = Input.of_file(vod("b-frames.mp4").path)
    with pytest.raises(ToolCrashed, match=f"broken did not run: exit code {code}"):
        await cutter_of(Programs(programs.ffmpeg, broken)).look(source)
    cutter = cutter_of(Programs(broken, programs.ffprobe))
    with pytest.raises(ToolCrashed, match=f"broken did not run: exit code {code}"):
        await cutter.cut(Job(source, await cutter.look(source), Window(1, 4), folder))


async def test_an_unshare_that_fails_later_on_says_nothing_about_the_file(
    vod: Vod, programs: Programs, fake: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unshare = fake("unshare", 'for last; do :; done; test "$last" = true')
    monkeypatch.setattr(process, "without_network", lambda: (unshare, "--net", "--"))
    with pytest.raises(ToolCrashed, match="did not run: exit code 1"):
        await cutter_of(programs).look(Input.of_file(vod("b-frames.mp4").path))


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"\x1b[0m" * 100])
async def test_a_file_of_garbage_is_the_files_fault(
    programs: Programs, tmp_path: Path, content: bytes
) -> None:
    vod = tmp_path / "garbage.mp4"
    vod.write_bytes(content)
    with pytest.raises(Skipped):
        await cutter_of(programs).look(Input.of_file(vod))


@pytest.mark.parametrize("name", ["XCPU", "XFSZ"])
async def test_what_our_limits_end_is_the_files_fault(
    vod: Vod, programs: Programs, fake: Callable[[str, str], str], folder: Path, name: str
) -> None:
    cutter = cutter_of(Programs(fake("ended", f"kill -{name} $$"), programs.ffprobe))
    source = Input.of_file(vod("b-frames.mp4").path)
    with pytest.raises(Skipped):
        await cutter.cut(Job(source, await cutter.look(source), Window(1, 4), folder))


async def test_a_failed_verification_leaves_nothing_running_in_the_next_attempts_folder(
    vod: Vod, programs: Programs, fake: Callable[[str, str], str], folder: Path, tmp_path: Path
) -> None:
    began, left = tmp_path / "began", tmp_path / "left"
    ffmpeg = fake(
        "ffmpeg",
        f'case "$*" in *poster.jpg*) touch {began}; exec sleep 29.25;; esac\n'
        # The next attempt looks around before it begins.
        f"cat /proc/[0-9]*/cmdline 2>/dev/null | grep -q '29[.]25' && touch {left}\n"
        f'exec {programs.ffmpeg} "$@"',
    )
    ffprobe = fake(
        "ffprobe",
        f'case "$*" in *clip.mp4*) while ! test -e {began}; do sleep 0.02; done\n'
        r"printf '\033[0m\033[0;31m[fatal] \033[0m\033[0;31mno\n' >&2; exit 1;; esac"
        "\n"
        f'exec {programs.ffprobe} "$@"',
    )
    cutter = cutter_of(Programs(ffmpeg, ffprobe))
    source = Input.of_file(vod("b-frames.mp4").path)
    before = running(*PROGRAMS, "sleep")
    with pytest.raises(Skipped):
        await cutter.cut(Job(source, await cutter.look(source), Window(1, 4), folder))
    assert running(*PROGRAMS, "sleep") == before
    assert began.exists()
    assert not left.exists()
