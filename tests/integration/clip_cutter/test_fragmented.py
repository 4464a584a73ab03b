"""Fragmented MP4s as ffmpeg writes them: the samples of a window are ffprobe's packets."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import pytest

from clip_cutter.containers.model import ByteRange, Track, TrackKind
from clip_cutter.domain.policy import Window
from clip_cutter.ffmpeg.input import FfmpegInput
from clip_cutter.scratch import Job, Scratch
from clip_cutter.vods.fragmented import FragmentedMp4, open_fragmented
from clip_cutter.vods.source import LocalFile
from local_stack.processes.ffmpeg import find_tools, run_tool
from tests.integration.clip_cutter.media import SAMPLE_RATE, h264, record, remux

FLAGS = {
    "plain": ["-movflags", "frag_keyframe"],
    "empty": ["-movflags", "frag_keyframe+empty_moov"],
    "delayed": ["-movflags", "frag_keyframe+empty_moov+delay_moov"],
    "from-fragment": ["-movflags", "frag_keyframe+empty_moov+default_base_moof"],
    "dash": ["-movflags", "frag_keyframe+dash"],
    "indexed": ["-movflags", "frag_keyframe+empty_moov+default_base_moof+global_sidx"],
    "separate": ["-movflags", "frag_keyframe+empty_moov+separate_moof"],
    "without-trailer": ["-movflags", "frag_keyframe+empty_moov+skip_trailer"],
    "short": ["-movflags", "empty_moov+delay_moov+default_base_moof", "-frag_duration", "200000"],
}
# ffprobe shifts pictures that are shown before they are decoded; the standard (§8.6.1.3) does not.
NEGATIVE = {"every-frame": ["-movflags", "cmaf+frag_every_frame"]}
REORDERED_SECONDS = 2 / 30
ROUNDING_SECONDS = 0.001

Packet = tuple[float, bytes, bool]


class UnboundedScratch:
    async def reserve(self, _: Job, __: int) -> None:
        return


class Counted:
    """A local file that counts requests, and takes its time for each."""

    def __init__(self, path: Path, delay: float) -> None:
        self._file, self._delay = LocalFile.of(path), delay
        self.requests = 0

    @property
    def identity(self) -> str:
        return self._file.identity

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes

    @property
    def input(self) -> FfmpegInput:
        return self._file.input

    async def peek(self, wanted: ByteRange) -> bytes:
        self.requests += 1
        await asyncio.sleep(self._delay)
        return await self._file.peek(wanted)

    async def read(self, wanted: ByteRange, file: IO[bytes]) -> None:
        self.requests += 1
        await asyncio.sleep(self._delay)
        await self._file.read(wanted, file)


@pytest.fixture(scope="module")
def source_vod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("fragmented") / "whole.mp4", *h264())


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path, 1.0, cast("Scratch", UnboundedScratch()))


@pytest.fixture
def written(source_vod: Path, tmp_path: Path) -> Callable[[str], Path]:
    def written(name: str) -> Path:
        return remux(source_vod, tmp_path / "vod.mp4", *(FLAGS | NEGATIVE)[name])

    return written


def packets(path: Path, kind: TrackKind) -> list[Packet]:
    """ffprobe's packets: when they are shown from the file's start, their bytes, whether keyframes."""
    shown = "packet=pts_time,size,pos,flags:format=start_time"
    arguments = ["-v", "error", "-select_streams", kind[0], "-show_entries", shown, "-of", "json", str(path)]
    answer: dict[str, Any] = json.loads(run_tool(find_tools().ffprobe, arguments))
    data, zero = path.read_bytes(), float(answer["format"]["start_time"])
    return [
        (
            float(each["pts_time"]) - zero,
            data[int(each["pos"]) :][: int(each["size"])],
            "K" in each["flags"],
        )
        for each in answer["packets"]
    ]


def samples(track: Track | None) -> list[Packet]:
    assert track is not None
    data = track.media.read_bytes()
    return [
        (track.seconds(each.shown), data[each.offset :][: each.size], each.is_keyframe)
        for each in track.samples
    ]


def check(found: list[Packet], wanted: list[Packet], shift: float = 0.0) -> None:
    """The samples found must be consecutive packets, shown at the same times."""
    contents = [packet[1:] for packet in wanted]
    at = next(
        at
        for at in range(len(wanted))
        if contents[at] == found[0][1:] and abs(wanted[at][0] - shift - found[0][0]) < ROUNDING_SECONDS
    )
    assert contents[at : at + len(found)] == [sample[1:] for sample in found]
    times = [packet[0] - shift for packet in wanted[at : at + len(found)]]
    assert [sample[0] for sample in found] == pytest.approx(times, abs=ROUNDING_SECONDS)


def _evenly(wanted: list[Packet]) -> list[Packet]:
    frame = 1024 / SAMPLE_RATE
    return [(wanted[0][0] + at * frame, data, key) for at, (_, data, key) in enumerate(wanted)]


async def test_a_fragmented_vod_that_breaks_off_has_what_is_there(job: Job, written: Any) -> None:
    whole = written("without-trailer")
    path = whole.with_name("broken.mp4")
    path.write_bytes(whole.read_bytes()[:-20_000])
    vod = await open_fragmented(LocalFile.of(path), job)
    assert 10 < vod.seconds < 12
    excerpt = await vod.excerpt(LocalFile.of(path), Window(9, vod.seconds), job)
    check(samples(excerpt.video), packets(whole, TrackKind.VIDEO))
    assert excerpt.remark is not None


@pytest.mark.parametrize("name", [*FLAGS, *NEGATIVE])
@pytest.mark.parametrize("window", [Window(0, 12), Window(5.3, 8.3), Window(0.5, 1.2)], ids=str)
async def test_a_window_has_the_packets_of_ffprobe(job: Job, written: Any, name: str, window: Window) -> None:
    path = written(name)
    vod = await open_fragmented(LocalFile.of(path), job)
    excerpt = await vod.excerpt(LocalFile.of(path), window, job)
    video = samples(excerpt.video)
    check(video, packets(path, TrackKind.VIDEO), REORDERED_SECONDS if name in NEGATIVE else 0.0)
    audio = packets(path, TrackKind.AUDIO)
    # ffmpeg gives every second audio frame the time of the next one there: they are put where they belong.
    check(samples(excerpt.audio), _evenly(audio) if name in NEGATIVE else audio)
    assert video[0][2]
    assert video[0][0] <= max(window.start, 0.1)
    assert max(time for time, _, _ in video) >= min(window.end, vod.seconds) - 0.05
    assert isinstance(vod, FragmentedMp4)
    assert vod.seconds == pytest.approx(12, abs=0.1)


async def test_few_requests_are_made(job: Job, written: Any) -> None:
    source = Counted(written("short"), delay=0.02)
    vod = await open_fragmented(source, job)
    await vod.excerpt(source, Window(5.3, 8.3), job)
    assert source.requests < 20
