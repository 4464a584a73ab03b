"""ffmpeg and ffprobe: a file in, typed facts or another file out; and whose fault it was when not.

:mod:`clip_cutter.arguments` says what they are told, :mod:`clip_cutter.process` runs them.
"""

import re
import shutil
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from clip_cutter import arguments, process
from clip_cutter.arguments import Cut, Input
from clip_cutter.domain.media import Media
from clip_cutter.probe import Unintelligible, read_media
from clip_cutter.process import Limits
from clip_shared.errors import TransientError

PROBE_SECONDS = 60.0
KEPT_LINES = 5
MAX_OUTAGES = 5  # of one run, which resumes its reading after each
MAX_LINE = 300

_SIGNED = re.compile(r"\S*X-Amz-\S*")
_PULLED = re.compile(r"Statistics: (\d+) bytes read")
_TROUBLE = re.compile(r"\[(?:error|fatal|panic)\] ")
# Lines that only the network can cause. A file that ends too early causes none of them.
_OUTAGE = re.compile(
    r"^\[(?:https?|tls|tcp) @ [^]]*\] \[(?:error|warning)\] (?!HTTP error 4(?!08|29))"
    r"|Server returned 5"
    r"|Error (?:opening input|during demuxing): (?:Input/output|I/O|Connection|Operation timed|Network)"
)
_NO_SPACE = "No space left on device"
_NO_MEMORY = "Cannot allocate memory"
_KILLED = {
    -signal.SIGXFSZ: "it would become too large",
    -signal.SIGXCPU: "it takes too long to process",
    -signal.SIGKILL: "it takes too much to process",
}


class ToolFailed(Exception):
    """A run ended badly because of what it read. ``str()`` of it says how, and never where from."""


class ToolMissing(Exception):
    """ffmpeg or ffprobe is not on this machine."""


@dataclass
class Diary:
    """What a run said on its standard error, as far as anybody needs it."""

    secret: str = field(repr=False)
    pulled_bytes: int = 0
    outages: list[str] = field(default_factory=list)
    troubles: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))

    def note(self, line: str) -> None:
        """Take one line.

        Raises:
            TransientError: the source breaks off again and again.
        """
        if match := _PULLED.search(line):
            self.pulled_bytes = int(match[1])  # the last one: the input is closed after the output was reread
        line = _SIGNED.sub("the source", line.replace(self.secret, "the source"))[:MAX_LINE]
        if _OUTAGE.search(line):
            self.outages.append(line)
        if len(self.outages) > MAX_OUTAGES:
            raise self.judge("")
        if _TROUBLE.search(line):
            self.troubles.append(line)

    def judge(self, reason: str) -> Exception:
        """Whose fault a failure was: the storage's, this machine's, or (for the given reason) the file's."""
        if self.outages:
            return TransientError(f"the source storage broke off: {self.outages[-1]}")
        if any(_NO_SPACE in line for line in self.troubles):
            return TransientError("the scratch disk is full")
        if any(_NO_MEMORY in line for line in self.troubles):
            return ToolFailed("it takes too much memory to process")
        return ToolFailed(reason)


@dataclass(frozen=True)
class Programs:
    """Where ffmpeg and ffprobe are."""

    ffmpeg: str
    ffprobe: str

    @classmethod
    def find(cls, ffmpeg_path: str | None, ffprobe_path: str | None) -> Self:
        """The programs at the given paths, else those on PATH.

        Raises:
            ToolMissing: one of them is not there.
        """
        return cls(_find("ffmpeg", ffmpeg_path), _find("ffprobe", ffprobe_path))


def _find(name: str, given: str | None) -> str:
    found = shutil.which(given or name)
    if found is None:
        where = f"at {given}" if given else "on PATH"
        raise ToolMissing(f"{name} is not {where}: install FFmpeg, or set {name.upper()}_PATH")
    return found


class Ffmpeg:
    """The two programs within their limits.

    ``on_pulled`` is told how many bytes each run read from a remote source. All methods raise

    - ToolFailed: because of what was read;
    - TransientError: the source storage broke off, or the scratch disk is full.
    """

    def __init__(
        self, programs: Programs, *, limits: Limits, threads: int, on_pulled: Callable[[int], None]
    ) -> None:
        self._programs = programs
        self._limits = limits
        self._threads = threads
        self._on_pulled = on_pulled

    async def probe(self, source: Input) -> Media:
        """What is in a file."""
        command = arguments.probe_command(self._programs.ffprobe, source)
        limits = replace(self._limits, deadline_seconds=min(PROBE_SECONDS, self._limits.deadline_seconds))
        answer, diary = await self._run(command, source, limits)
        try:
            media = read_media(answer)
        except Unintelligible as error:
            raise diary.judge("it says nothing sensible about itself") from error
        if media.is_vague and diary.outages:
            raise diary.judge("it was not read to its end")
        return media

    async def cut(self, cut: Cut, output: Path) -> Diary:
        """Cut a window into a new MP4. Success proves nothing: look at the file, and at the diary."""
        command = arguments.cut_command(self._programs.ffmpeg, cut, output, self._threads)
        _, diary = await self._run(command, cut.source, self._limits)
        return diary

    async def tighten(self, clip: Path, output: Path) -> None:
        """Copy a clip without most of what its edit list hides."""
        command = arguments.tighten_command(self._programs.ffmpeg, clip, output)
        await self._run(command, Input.of_file(clip), self._limits)

    async def poster(self, clip: Path, output: Path, keyframe: float | None) -> None:
        """Save a picture of a clip: the one at ``keyframe`` (seconds), else its first."""
        command = arguments.poster_command(self._programs.ffmpeg, clip, output, keyframe)
        await self._run(command, Input.of_file(clip), self._limits)
        if not _exists(output):  # ffmpeg reports success
            raise ToolFailed("its pictures cannot be decoded")

    async def _run(self, command: list[str], source: Input, limits: Limits) -> tuple[bytes, Diary]:
        diary = Diary(source.location)
        try:
            result = await process.run(command, limits, diary.note)
        except process.TooMuchOutput as error:
            raise ToolFailed("it has too many parts") from error
        except TimeoutError as error:
            raise diary.judge(f"it takes more than {limits.deadline_seconds:.0f} s to read") from error
        finally:
            if source.is_remote:
                self._on_pulled(diary.pulled_bytes)
        if result.return_code != 0:
            last = diary.troubles[-1] if diary.troubles else f"exit code {result.return_code}"
            raise diary.judge(_KILLED.get(result.return_code, last))
        return result.output, diary


def _exists(path: Path) -> bool:
    return path.exists()
