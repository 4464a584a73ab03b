"""MPEG-TS as we read it, against ffprobe's packets and ffmpeg's pictures of the same files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from clip_cutter.containers import avc
from clip_cutter.containers.model import Sample, Track, TrackKind
from clip_cutter.containers.mpegts import TransportStream
from clip_cutter.containers.stream_clock import StreamClock
from local_stack.processes.ffmpeg import find_tools, run_tool
from tests.integration.clip_cutter.media import DecodedFile, ffmpeg, h264, record, remux

CASES = Path(__file__).parents[2] / "cases"
FEED_BYTES = 100_003  # so that every kind of thing is cut in two
ADTS_HEAD = 7
WRAPPING = ("-output_ts_offset", "95430")  # the clock begins again with 0 within the VOD
SMALL_PES = ("-pes_payload_size", "0")
MADE = ["b-frames.ts", "closed-60.ts", "film.ts", "from-an-hour.ts", "silent.ts", "open-gop.ts"]


class ProbedPacket(NamedTuple):
    """What ffprobe says of a packet; times in seconds from the start of the file."""

    decoded: float
    shown: float
    size: int
    is_keyframe: bool


@pytest.fixture(scope="session")
def stream(
    vod: Callable[[str], DecodedFile], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Streams by name: VODs of the other tests, and some that only we need."""
    folder = tmp_path_factory.mktemp("streams")

    def make(name: str) -> Path:
        path = folder / name
        if name == "wrap.ts":
            return remux(vod("b-frames.mp4").path, path, *WRAPPING)
        if name == "a-frame-a-packet.ts":
            return remux(vod("b-frames.mp4").path, path, *SMALL_PES)
        if name == "slices.ts":
            sliced = (*h264()[:-3], h264()[-3] + ":slices=4:aud=1", "-c:a", "aac")
            return record(path, *sliced)
        if name == "blu-ray.m2ts":
            return remux(vod("silent.mp4").path, path, "-mpegts_m2ts_mode", "1")
        return vod(name).path

    return make


SILENT = ["silent.ts", "blu-ray.m2ts"]
NAMES = [*MADE, "wrap.ts", "a-frame-a-packet.ts", "slices.ts", "blu-ray.m2ts"]


def read(path: Path, media: Path) -> dict[TrackKind, Track]:
    """All samples of a stream whose clock does not jump."""
    data = path.read_bytes()
    stream = TransportStream.read(data[:65536])
    clock = StreamClock(stream.timescale, stream.wrap)
    marks = stream.sample_starts(data, 0)
    assert clock.jumps(marks) == []
    with media.open("wb") as output:
        demuxer = stream.demuxer(output, 0, clock.timeline(clock.start(marks), []), ())
        for at in range(0, len(data), FEED_BYTES):
            demuxer.feed(data[at : at + FEED_BYTES])
        demuxer.finish()
    return {track.kind: track for track in demuxer.tracks(media)}


def packets(path: Path, kind: str) -> list[ProbedPacket]:
    """The packets of the first stream of a kind."""
    arguments = [
        "-v",
        "error",
        "-show_packets",
        "-show_format",
        "-select_streams",
        f"{kind}:0",
        "-of",
        "json",
    ]
    answer: dict[str, Any] = json.loads(run_tool(find_tools().ffprobe, [*arguments, str(path)]))
    start = float(answer["format"]["start_time"])
    return [
        ProbedPacket(
            float(each["dts_time"]) - start,
            float(each["pts_time"]) - start,
            int(each["size"]),
            each["flags"].startswith("K"),
        )
        for each in answer["packets"]
    ]


def seconds(track: Track, sample: Sample) -> tuple[float, float]:
    return track.seconds(sample.decoded), track.seconds(sample.shown)


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_where_ffprobe_sees_packets(
    stream: Callable[[str], Path], name: str, tmp_path: Path
) -> None:
    path = stream(name)
    tracks = read(path, tmp_path / "media")
    for kind, track in tracks.items():
        expected = packets(path, kind.value[0])
        assert len(track.samples) == len(expected)
        for sample, packet in zip(track.samples, expected, strict=True):
            assert seconds(track, sample) == pytest.approx((packet.decoded, packet.shown), abs=2e-5)
            assert sample.is_keyframe == packet.is_keyframe
            if kind == TrackKind.AUDIO:
                assert sample.size == packet.size - ADTS_HEAD
        assert track.damages == ()
    assert (TrackKind.AUDIO in tracks) == (name not in SILENT)


@pytest.mark.parametrize("name", NAMES)
def test_samples_decode_to_the_same_pictures_and_audio(
    stream: Callable[[str], Path], name: str, tmp_path: Path
) -> None:
    path = stream(name)
    tracks = read(path, tmp_path / "media")
    video = dump_video(tracks[TrackKind.VIDEO], tmp_path / "video.h264")
    assert hashes(video, "v") == hashes(path, "v")
    if TrackKind.AUDIO in tracks:
        audio = dump_audio(tracks[TrackKind.AUDIO], tmp_path / "audio.aac")
        assert hashes(audio, "a") == hashes(path, "a")


def dump_video(track: Track, path: Path) -> Path:
    """The samples as a byte stream, with the parameter sets before each keyframe."""
    media = track.media.read_bytes()
    with path.open("wb") as file:
        for sample in track.samples:
            record_ = avc.AvcDecoderConfigurationRecord.read(
                configuration(track.formats[sample.format].entry)
            )
            units = [*record_.sps, *record_.pps] if sample.is_keyframe else []
            at, end = sample.offset, sample.offset + sample.size
            while at < end:
                size = int.from_bytes(media[at : at + 4])
                units.append(media[at + 4 : at + 4 + size])
                at += 4 + size
            assert at == end
            file.write(b"".join(b"\0\0\0\1" + unit for unit in units))
    return path


def configuration(entry: bytes) -> bytes:
    at = entry.index(b"avcC")
    return entry[at + 4 : at - 4 + int.from_bytes(entry[at - 4 : at])]


def dump_audio(track: Track, path: Path) -> Path:
    """The samples in ADTS."""
    media, entry = track.media.read_bytes(), track.formats[0].entry
    at = entry.index(b"\x05\x02") + 2  # the DecoderSpecificInfo of two bytes
    config = int.from_bytes(entry[at : at + 2])
    with path.open("wb") as file:
        for sample in track.samples:
            profile, rate, channels = (config >> 11) - 1, config >> 7 & 15, config >> 3 & 15
            head = 0xFFF1 << 40 | profile << 38 | rate << 34 | channels << 30
            head |= (sample.size + ADTS_HEAD) << 13 | 0x7FF << 2
            file.write(head.to_bytes(ADTS_HEAD) + media[sample.offset : sample.offset + sample.size])
    return path


def hashes(path: Path, kind: str) -> list[str]:
    answer = ffmpeg(
        *("-i", str(path), "-map", f"0:{kind}:0", "-fps_mode", "passthrough"),
        *("-f", "framehash", "-hash", "md5", "-"),
    ).decode()
    return [
        timeline.split(",")[5].strip() for timeline in answer.splitlines() if not timeline.startswith("#")
    ]
