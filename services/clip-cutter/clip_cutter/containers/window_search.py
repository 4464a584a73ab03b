"""Finds the offset of a stream at which a demuxer has to start reading a window.

It reads a few places of the file, compares their times with the window, and goes back to a keyframe.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from clip_cutter.containers.model import ROUNDING_SECONDS, ByteRange, TrackKind, UnsupportedMedia
from clip_cutter.containers.stream import SampleStart, Stream
from clip_cutter.containers.survey import ReadRanges, StreamSurvey, SurveyPoint

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
AUDIO_BEFORE_SECONDS = 0.5  # audio is read from this long before the window
INTERLEAVE_SECONDS = 3.0  # audio may be earlier or later by this than the video beside it in the file
# Read before and after a guessed offset in one request: a keyframe is usually within that.
LEAD_SECONDS, TRAIL_SECONDS = 2.5, 0.3
MIN_LEAD_BYTES, MAX_LEAD_BYTES = 128 * KIBIBYTE, 4 * MEBIBYTE
MIN_TRAIL_BYTES, MAX_TRAIL_BYTES = 64 * KIBIBYTE, MEBIBYTE
OVERLAP_BYTES = 256 * KIBIBYTE  # a sample may be recognized only with the bytes of the next block
CONFIGURATION_BYTES = 128 * KIBIBYTE
MAX_DATA_BYTES = 8 * MEBIBYTE
MAX_BACK_BYTES = 64 * MEBIBYTE
MAX_GUESSES = 40
INTERPOLATIONS = 12  # then the interval is halved: interpolation fails if the bit rate varies much


@dataclass(frozen=True)
class ReadStart:
    """Where a demuxer has to start reading.

    Args:
        offset: in the file; a sample starts there, or the file does.
        before: the bytes right before ``offset``, which may hold configurations.
        data: the bytes from ``offset`` on, as far as the search has read them.
        bytes_per_second: the bit rate around ``offset``, in bytes.
    """

    offset: int
    before: bytes
    data: bytes
    bytes_per_second: float


@dataclass(frozen=True)
class _LoadedRange:
    """A part of the file that was read around the start of a window.

    Args:
        offset, end: of the part in the file.
        first: its first bytes.
        data: its last bytes; all of its bytes as long as they are few.
        samples: the samples that start in it.
    """

    offset: int
    end: int
    first: bytes
    data: bytes
    samples: Sequence[SampleStart]

    @property
    def data_start(self) -> int:
        """Return the offset of ``data`` in the file."""
        return self.end - len(self.data)


class WindowSearch:
    """Finds windows in a stream of ``size`` bytes; ``read_ranges`` reads ranges of the file."""

    def __init__(self, stream: Stream, survey: StreamSurvey, read_ranges: ReadRanges, size: int) -> None:
        self._stream = stream
        self._timeline = survey.timeline
        self._points = survey.points
        self._read_ranges = read_ranges
        self._size = size

    async def find(self, start: float) -> ReadStart:
        """Return where to start reading a window that starts at ``start``, in seconds of the VOD.

        That is the keyframe that the frame at ``start`` depends on, or the audio before it.

        Raises:
            UnsupportedMedia: no keyframe in 64 MiB before the window, or the times are in no order.
        """
        loaded = await self._load_around(start)
        while (offset := self._read_offset(loaded, start)) is None:
            loaded = await self._load_before(loaded)
        if offset - loaded.data_start >= min(CONFIGURATION_BYTES, offset):
            before = loaded.data[: offset - loaded.data_start][-CONFIGURATION_BYTES:]
        else:
            before = await self._read_range(ByteRange(max(offset - CONFIGURATION_BYTES, 0), offset))
        data = loaded.data[offset - loaded.data_start :] if offset >= loaded.data_start else b""
        low, high = self._bracket(start)
        return ReadStart(offset, before, data, _bytes_per_second(low, high))

    async def _load_around(self, start: float) -> _LoadedRange:
        """Load the part of the file with a time, or the nearest part."""
        low, high = self._bracket(start)
        for attempt in range(MAX_GUESSES):
            guess = _guess(low, high, start, halve=attempt >= INTERPOLATIONS)
            loaded = await self._load(guess, _bytes_per_second(low, high))
            if not loaded.samples:
                raise UnsupportedMedia(
                    f"stream: no sample starts between offsets {loaded.offset} and {loaded.end}"
                )
            times = [self._timeline.seconds(sample.offset, sample.decoded) for sample in loaded.samples]
            if max(times) < start and loaded.end < self._size:
                low = SurveyPoint(loaded.end, max(times))
            elif times[0] > start and loaded.offset > 0:
                high = SurveyPoint(loaded.offset, times[0])
            else:
                return loaded
            if low.offset >= high.offset:
                return loaded
        raise UnsupportedMedia(f"stream: {start:.3f} s is not found after {MAX_GUESSES} guesses")

    def _bracket(self, seconds: float) -> tuple[SurveyPoint, SurveyPoint]:
        """Return the last known point before a time, and the first one after it."""
        place = bisect_right(self._points, seconds, key=lambda each: each.seconds)
        place = min(max(place, 1), len(self._points) - 1)
        return self._points[place - 1], self._points[place]

    async def _load(self, guess: int, byte_rate: float) -> _LoadedRange:
        """Load the bytes around an offset; more bytes if no sample starts in them."""
        lead = int(min(max(byte_rate * LEAD_SECONDS, MIN_LEAD_BYTES), MAX_LEAD_BYTES))
        after = int(min(max(byte_rate * TRAIL_SECONDS, MIN_TRAIL_BYTES), MAX_TRAIL_BYTES))
        for more in (0, MAX_LEAD_BYTES):
            wanted = ByteRange(max(guess - lead, 0), min(guess + after + more, self._size))
            data = await self._read_range(wanted)
            samples = self._stream.sample_starts(data, wanted.start)
            if samples:
                break
        return _LoadedRange(wanted.start, wanted.end, data[:OVERLAP_BYTES], data, samples)

    async def _load_before(self, loaded: _LoadedRange) -> _LoadedRange:
        """Load the bytes before a loaded range; return both as one range."""
        size = loaded.end - loaded.offset
        if size > MAX_BACK_BYTES:
            raise UnsupportedMedia(f"stream: no keyframe in {size} bytes before the window")
        start = max(loaded.offset - min(size, MAX_LEAD_BYTES), 0)
        data = await self._read_range(ByteRange(start, loaded.offset))
        samples = {sample.offset: sample for sample in self._stream.sample_starts(data + loaded.first, start)}
        samples |= {sample.offset: sample for sample in loaded.samples}
        is_held = loaded.data_start == loaded.offset and len(data) + len(loaded.data) <= MAX_DATA_BYTES
        return _LoadedRange(
            start,
            loaded.end,
            (data + loaded.first)[:OVERLAP_BYTES],
            data + loaded.data if is_held else loaded.data,
            [samples[offset] for offset in sorted(samples)],
        )

    def _read_offset(self, loaded: _LoadedRange, start: float) -> int | None:
        """Return the offset to read from; None if it is before the loaded range."""
        keyframes, before, after = [], [], []
        for sample in loaded.samples:
            time = self._timeline.seconds(sample.offset, sample.shown)
            if sample.kind == TrackKind.VIDEO and sample.is_keyframe and time <= start + ROUNDING_SECONDS:
                keyframes.append(sample.offset)
            elif sample.kind == TrackKind.AUDIO and time > start - AUDIO_BEFORE_SECONDS:
                after.append(sample.offset)
            elif sample.kind == TrackKind.AUDIO and time > start - INTERLEAVE_SECONDS:
                before.append(sample.offset)
        first = loaded.samples[0]
        is_early = self._timeline.seconds(first.offset, first.decoded) <= start - INTERLEAVE_SECONDS
        if loaded.offset > 0 and not (keyframes and (before or is_early)):
            return None
        return min([*keyframes[-1:], *(before[-1:] or after[:1])]) if keyframes else 0

    async def _read_range(self, wanted: ByteRange) -> bytes:
        (data,) = await self._read_ranges([wanted])
        return data


def _bytes_per_second(low: SurveyPoint, high: SurveyPoint) -> float:
    """Return the mean bit rate between two points, in bytes per second."""
    return (high.offset - low.offset) / max(high.seconds - low.seconds, 0.001)


def _guess(low: SurveyPoint, high: SurveyPoint, seconds: float, *, halve: bool) -> int:
    share = 0.5
    if not halve and high.seconds > low.seconds:
        share = min(max((seconds - low.seconds) / (high.seconds - low.seconds), 0.0), 1.0)
    return low.offset + int((high.offset - low.offset) * share)
