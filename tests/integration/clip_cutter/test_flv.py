"""FLV as we read it, beside what ffprobe says of the same packets."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from clip_cutter.containers.flv import FlvStream
from clip_cutter.containers.model import Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.timeline import Timeline, TimelineSegment
from local_stack.processes.ffmpeg import find_tools, run_tool
from tests.integration.clip_cutter.media import DecodedFile, h264, record

CASES = Path(__file__).parents[2] / "cases"
HEAD_BYTES = 64 * 1024


def read(data: bytes) -> tuple[list[Track], bytes]:
    """Read a whole file."""
    output = BytesIO()
    demuxer = FlvStream.read(data[:HEAD_BYTES]).demuxer(
        output, 0, Timeline(1000, 2**32, [TimelineSegment(0, 0, 0)]), []
    )
    for at in range(0, len(data), 10_000):
        demuxer.feed(data[at : at + 10_000])
    demuxer.finish()
    return demuxer.tracks(Path()), output.getvalue()


def packets(path: Path, kind: str) -> list[dict[str, str]]:
    """Return what ffprobe says of the packets of the first stream of a kind, with a hash of each."""
    shown = ["-show_packets", "-show_data_hash", "crc32", "-select_streams", f"{kind}:0", "-of", "json"]
    answer = run_tool(find_tools().ffprobe, ["-v", "error", *shown, path])
    found: list[dict[str, str]] = json.loads(answer)["packets"]
    return found


@pytest.mark.parametrize("name", ["b-frames.flv", "ntsc.flv"])
def test_pictures_are_the_packets_of_ffprobe(vod: Callable[[str], DecodedFile], name: str) -> None:
    path = vod(name).path
    tracks, media = read(path.read_bytes())
    found = [(each.decoded, each.shown, each.size, each.is_keyframe) for each in tracks[0].samples]
    wanted = [
        (int(each["dts"]), int(each["pts"]), int(each["size"]), "K" in each["flags"])
        for each in packets(path, "v")
    ]
    assert found == wanted
    assert sum(each.size for track in tracks for each in track.samples) == len(media)


@pytest.mark.parametrize("rate", [44_100, 48_000, 32_000])
def test_audio_has_clean_steps_beside_the_rounded_times_of_ffprobe(tmp_path: Path, rate: int) -> None:
    path = record(tmp_path / "vod.flv", *h264(), "-ar", str(rate), seconds=4)
    _, audio = read(path.read_bytes())[0]
    wanted = packets(path, "a")
    assert [each.size for each in audio.samples] == [int(each["size"]) for each in wanted]
    late = [
        audio.seconds(each.shown) - float(packet["pts_time"])
        for each, packet in zip(audio.samples, wanted, strict=True)
    ]
    assert max(map(abs, late)) < 0.002
    steps = {b.shown - a.shown for a, b in zip(audio.samples, audio.samples[1:], strict=False)}
    assert (audio.timescale, steps) == (rate, {1024})


def test_enhanced_rtmp_of_another_codec_is_left_to_ffmpeg(tmp_path: Path) -> None:
    path = record(tmp_path / "vod.flv", "-c:v", "libx265", "-preset", "ultrafast", "-c:a", "aac", seconds=1)
    with pytest.raises(UnsupportedMedia, match="hvc1"):
        read(path.read_bytes())


@pytest.mark.parametrize(
    ("name", "formats"), [("flv-second-avc-header.flv", (2, 1)), ("flv-second-aac-header.flv", (1, 2))]
)
def test_a_publisher_who_came_back_begins_a_format(name: str, formats: tuple[int, int]) -> None:
    data = (CASES / name).read_bytes()
    video, audio = read(data)[0]
    assert (len(video.formats), len(audio.formats)) == formats
    assert (video.kind, audio.kind) == (TrackKind.VIDEO, TrackKind.AUDIO)
    history = FlvStream.read(data[:HEAD_BYTES]).history()
    history.feed(data)
    middle, end = len(data) // 4, len(data)
    assert history.heads(middle) != history.heads(end)
