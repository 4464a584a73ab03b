"""A program that crashes is our trouble, and one that is left behind is nobody's."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from clip_cutter.cutter import Cutter, FinishedClip
from clip_cutter.domain.plan import ModeChoice
from clip_cutter.domain.policy import Skipped, Window
from clip_cutter.ffmpeg import process
from clip_cutter.ffmpeg.run import Ffmpeg, FfmpegPrograms, ToolCrashed, ToolLimited
from clip_cutter.scratch import Job
from clip_cutter.vods.opener import VodOpener
from clip_cutter.vods.remuxed import open_remuxed
from clip_cutter.vods.source import LocalFile
from clip_shared.errors import PermanentError, TransientError
from tests.integration.clip_cutter.conftest import LIMITS, PROGRAMS, running
from tests.integration.clip_cutter.media import DecodedFile

Vod = Callable[[str], DecodedFile]
CutWith = Callable[..., Awaitable[FinishedClip]]
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


def ffmpeg_of(programs: FfmpegPrograms) -> Ffmpeg:
    return Ffmpeg(programs, limits=LIMITS, threads=2, on_pulled=lambda _: None)


async def look(programs: FfmpegPrograms, path: Path) -> None:
    """Open a VOD as one that ffmpeg reads."""
    await open_remuxed(LocalFile.of(path), ffmpeg_of(programs))


@pytest.fixture
def cut_with(vod: Vod, vods: VodOpener, job: Job) -> CutWith:
    """Cut a window with other programs than those that are installed."""

    async def cut(programs: FfmpegPrograms, mode: str = "exact") -> FinishedClip:
        source, window = LocalFile.of(vod("b-frames.mp4").path), Window(1, 4)
        excerpt = await (await vods.open(source, job)).excerpt(source, window, job)
        cutter = Cutter(
            ffmpeg_of(programs), mode=ModeChoice(mode), min_seconds=1, max_bytes=LIMITS.file_bytes
        )
        return await cutter.make(excerpt, window, job)

    return cut


@pytest.mark.parametrize("name", CRASHES)
async def test_a_crash_is_no_fact_about_the_file(
    vod: Vod, programs: FfmpegPrograms, fake: Callable[[str, str], str], cut_with: CutWith, name: str
) -> None:
    crashing = fake("crashing", f"kill -{name} $$")
    with pytest.raises(ToolCrashed, match=f"SIG{name}") as crash:
        await look(FfmpegPrograms(programs.ffmpeg, crashing), vod("b-frames.mp4").path)
    # Neither once and for all nor without end: the bus counts the attempts.
    assert not isinstance(crash.value, PermanentError | TransientError)
    with pytest.raises(ToolCrashed, match=f"SIG{name}"):
        await cut_with(FfmpegPrograms(crashing, programs.ffprobe))


@pytest.mark.parametrize("code", [1, 126, 127])
async def test_a_program_that_never_ran_says_nothing_about_the_file(
    vod: Vod, programs: FfmpegPrograms, fake: Callable[[str, str], str], cut_with: CutWith, code: int
) -> None:
    broken = fake("broken", f"echo 'cannot execute' >&2; exit {code}")
    with pytest.raises(ToolCrashed, match=f"broken did not run: exit code {code}"):
        await look(FfmpegPrograms(programs.ffmpeg, broken), vod("b-frames.mp4").path)
    with pytest.raises(ToolCrashed, match=f"broken did not run: exit code {code}"):
        await cut_with(FfmpegPrograms(broken, programs.ffprobe))


async def test_an_unshare_that_fails_later_on_says_nothing_about_the_file(
    vod: Vod, programs: FfmpegPrograms, fake: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unshare = fake("unshare", 'for last; do :; done; test "$last" = true')
    monkeypatch.setattr(process, "without_network", lambda: (unshare, "--net", "--"))
    with pytest.raises(ToolCrashed, match="did not run: exit code 1"):
        await look(programs, vod("b-frames.mp4").path)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"\x1b[0m" * 100])
async def test_a_file_of_garbage_is_the_files_fault(
    programs: FfmpegPrograms, tmp_path: Path, content: bytes
) -> None:
    vod = tmp_path / "garbage.mp4"
    vod.write_bytes(content)
    with pytest.raises(Skipped):
        await look(programs, vod)


@pytest.mark.parametrize("name", ["XCPU", "XFSZ"])
async def test_what_our_limits_end_is_not_the_files_fault(
    programs: FfmpegPrograms, fake: Callable[[str, str], str], cut_with: CutWith, name: str
) -> None:
    ended = fake("ended", f"kill -{name} $$")
    with pytest.raises(ToolLimited) as limit:
        await cut_with(FfmpegPrograms(ended, programs.ffprobe))
    assert not isinstance(limit.value, PermanentError | TransientError)


async def test_a_copy_of_which_no_picture_decodes_is_re_encoded_and_leaves_nothing_running(
    programs: FfmpegPrograms, fake: Callable[[str, str], str], cut_with: CutWith
) -> None:
    failed = r"printf '\033[0m\033[0;31m[fatal] \033[0m\033[0;31mno\n' >&2; exit 1"
    # The first poster is that of the copy.
    ffmpeg = fake(
        "ffmpeg",
        f'case "$*" in *first*) test -e "$0.done" || {{ touch "$0.done"; {failed}; }};; esac\n'
        f'exec {programs.ffmpeg} "$@"',
    )
    before = running(*PROGRAMS)
    clip = await cut_with(FfmpegPrograms(ffmpeg, programs.ffprobe), "copy")
    assert clip.fallback_reason == "no"
    assert running(*PROGRAMS) == before
