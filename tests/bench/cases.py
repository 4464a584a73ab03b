"""The clips that the cutter's benchmark cuts."""

from collections.abc import Iterator
from dataclasses import dataclass

from clip_shared.contracts.events import CutMode

PICTURES = ("720p60", "1080p60")
SHORT, LONG, STREAM, FLASH = "10 min", "6 h", "10 min MPEG-TS", "10 min FLV"
FRAGMENTED = "6 h fragmented"
SOURCE_SECONDS = {SHORT: 600, LONG: 6 * 3600, STREAM: 600, FLASH: 600, FRAGMENTED: 6 * 3600}
SUFFIXES = {SHORT: ".mp4", LONG: ".mp4", STREAM: ".ts", FLASH: ".flv", FRAGMENTED: ".mp4"}


@dataclass(frozen=True)
class BenchmarkCase:
    """A clip to cut. ``rounds``: how often; ``moviepy``: in how many rounds by MoviePy too.

    ``first``: every cut is the first one of its VOD, which the cutter has not read before. ``far``: the
    storage delays each answer; bare ffmpeg is not measured, because it would send thousands of requests.
    """

    mode: CutMode
    picture: str
    source: str
    seconds: int
    rounds: int
    moviepy: int = 0
    first: bool = False
    far: bool = False

    @property
    def vod(self) -> tuple[str, str]:
        """The VOD that it is cut from: kind of video, and length."""
        return self.picture, self.source

    @property
    def name(self) -> str:
        """The name of the case."""
        return f"{self.mode} {self.picture} {self.source} {self.clip}"

    @property
    def clip(self) -> str:
        """The length and conditions of the clip."""
        return f"{self.seconds} s{', first' if self.first else ''}{', far' if self.far else ''}"


COPY_ROUNDS = 7
# Re-encoding takes two to four CPU seconds for each second of a clip: long clips are cut only with --every.
EXACT_ROUNDS = {"720p60": {1: 4, 10: 3, 30: 5}, "1080p60": {1: 4, 10: 2}}
LONG_EXACT_ROUNDS = {60: 1, 120: 1}
MOVIEPY_ROUNDS = {("720p60", 30): 1}


def full(*, moviepy: bool, every: bool) -> list[BenchmarkCase]:
    """Return the cases of an ordinary run; with ``every``, also re-encodes that take minutes each."""
    return [*_copies(moviepy=moviepy), *_exacts(LONG_EXACT_ROUNDS if every else {})]


def _copies(*, moviepy: bool) -> Iterator[BenchmarkCase]:
    for picture in PICTURES:
        for seconds in (1, 10, 30, 60, 120):
            also = MOVIEPY_ROUNDS.get((picture, seconds), 0) if moviepy else 0
            yield BenchmarkCase(CutMode.COPY, picture, SHORT, seconds, COPY_ROUNDS, also)
            # A long VOD costs more because of its index, whose size does not depend on the video's size.
            if picture == PICTURES[0]:
                yield BenchmarkCase(CutMode.COPY, picture, LONG, seconds, COPY_ROUNDS)
    for source in (STREAM, FLASH):
        yield BenchmarkCase(CutMode.COPY, PICTURES[0], source, 30, COPY_ROUNDS)
    for source in (SHORT, LONG, STREAM, FLASH):
        yield BenchmarkCase(CutMode.COPY, PICTURES[0], source, 30, COPY_ROUNDS, first=True)
    yield BenchmarkCase(CutMode.COPY, PICTURES[0], FRAGMENTED, 30, COPY_ROUNDS, first=True, far=True)


def _exacts(also: dict[int, int]) -> Iterator[BenchmarkCase]:
    for picture, lengths in EXACT_ROUNDS.items():
        for seconds, times in (lengths | also).items():
            yield BenchmarkCase(CutMode.EXACT, picture, SHORT, seconds, times)


def quick(*, moviepy: bool) -> list[BenchmarkCase]:
    """Return the cases of a smoke run of less than a minute, whose figures have no meaning."""
    return [
        BenchmarkCase(CutMode.COPY, "720p60", SHORT, 1, rounds=2, moviepy=int(moviepy)),
        BenchmarkCase(CutMode.COPY, "720p60", SHORT, 30, rounds=2),
        BenchmarkCase(CutMode.COPY, "720p60", SHORT, 30, rounds=2, first=True),
        BenchmarkCase(CutMode.COPY, "720p60", STREAM, 30, rounds=2),
        BenchmarkCase(CutMode.COPY, "720p60", FLASH, 30, rounds=2),
        BenchmarkCase(CutMode.EXACT, "720p60", SHORT, 1, rounds=2),
    ]
