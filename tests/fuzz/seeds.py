"""Small files to mutate: files that ffmpeg makes, and damaged VODs from bug reports."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clip_cutter.containers.flv.tag_body import parse
from clip_cutter.containers.flv.tags import tags_in
from tests.integration.clip_cutter.media import ffmpeg, h264, record, remux

CASES = Path(__file__).parents[1] / "cases"
SECONDS, RATE = 5, 10


@dataclass(frozen=True)
class Seed:
    """A file; ``rate`` is its number of numbered frames per second, None if its frames have no numbers."""

    name: str
    data: bytes
    rate: int | None = None

    @property
    def suffix(self) -> str:
        """Return the suffix, which tells its container."""
        return Path(self.name).suffix


@dataclass(frozen=True)
class Seeds:
    """Whole files, and parts of files that have readers of their own."""

    files: tuple[Seed, ...]
    records: tuple[Seed, ...]
    configurations: tuple[Seed, ...]
    byte_streams: tuple[Seed, ...]
    adts: tuple[Seed, ...]

    def having(self, *suffixes: str) -> list[Seed]:
        """Return the files with some suffixes."""
        return [seed for seed in self.files if seed.suffix in suffixes]


def make_seeds(folder: Path) -> Seeds:
    """Make all files in a folder."""
    made = [Seed(path.name, path.read_bytes(), RATE) for path in _make(folder)]
    cases = [Seed(path.name, path.read_bytes()) for path in sorted(CASES.glob("*.*")) if path.suffix != ".md"]
    plain = str(folder / "plain.mp4")
    for name, options in (("video.h264", "-map 0:v -c copy"), ("audio.aac", "-map 0:a -c copy -f adts")):
        ffmpeg("-i", plain, *options.split(), "-t", "1", str(folder / name))
    video, audio = _configurations((folder / "plain.flv").read_bytes())
    return Seeds(
        files=(*made, *cases),
        records=(Seed("avcC", video),),
        configurations=(Seed("config", audio), Seed("he-aac", bytes.fromhex("eb098800"))),
        byte_streams=(Seed("video.h264", (folder / "video.h264").read_bytes()[:20_000]),),
        adts=(Seed("audio.aac", (folder / "audio.aac").read_bytes()),),
    )


def _make(folder: Path) -> Iterator[Path]:
    coded = (*h264(keyframe_every=10), "-b:a", "48k")
    plain = record(folder / "plain.mp4", *coded, rate=str(RATE), seconds=SECONDS)
    yield plain
    yield remux(plain, folder / "index-first.mp4", "-movflags", "+faststart")
    yield remux(plain, folder / "fragments.mp4", "-movflags", "+frag_keyframe+empty_moov+default_base_moof")
    yield remux(plain, folder / "segment-index.mp4", "-movflags", "+dash+global_sidx+frag_keyframe")
    yield remux(plain, folder / "plain.ts")
    yield remux(plain, folder / "plain.flv")
    yield remux(plain, folder / "plain.mkv")


def _configurations(flv: bytes) -> list[bytes]:
    bodies = [(tag.type, flv[tag.body]) for tag in tags_in(flv)]
    parsed = [(body, parse(type_, body)) for type_, body in bodies]
    return [body[found.start :] for body, found in parsed if found and found.is_configuration]
