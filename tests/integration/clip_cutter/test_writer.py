"""What our MP4 writer writes, as ffprobe and ffmpeg read it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clip_cutter.containers.model import Excerpt, Sample, Track, TrackKind
from clip_cutter.containers.mp4.index import open_movie
from clip_cutter.containers.mp4.writer import Unwritable, write
from clip_cutter.domain import plan as rules
from clip_cutter.domain.plan import FittedExcerpt
from clip_cutter.domain.policy import Window
from local_stack.processes.ffmpeg import find_tools, run_tool
from tests.integration.clip_cutter.media import DecodedFile

Vod = Callable[[str], DecodedFile]
SECONDS = 3.0


def fit(path: Path, start: float, end: float) -> FittedExcerpt:
    tracks = {track.kind: track for track in open_movie(path).select(start, end)}
    excerpt = Excerpt(tracks[TrackKind.VIDEO], tracks.get(TrackKind.AUDIO))
    return rules.fit(excerpt, Window(start, end), min_seconds=1.0)


def write_clip(fitted: FittedExcerpt, path: Path) -> DecodedFile:
    write(path, [track for track in (fitted.video, fitted.audio) if track], fitted.start, fitted.end)
    return DecodedFile(path)


def boxes(path: Path) -> list[str]:
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4])
        found.append(data[at + 4 : at + 8].decode())
        at += int.from_bytes(data[at + 8 : at + 16]) if size == 1 else size
    return found


@pytest.mark.parametrize("name", ["b-frames.mp4", "closed-60.mp4", "film.mp4", "ntsc.mp4", "silent.mp4"])
@pytest.mark.parametrize("start", [0.0, 5.3, 6.717])
def test_a_written_clip_shows_exactly_the_frames_of_its_window(
    vod: Vod, tmp_path: Path, name: str, start: float
) -> None:
    source = vod(name)
    fitted = fit(source.path, start, start + SECONDS)
    seen = write_clip(fitted, tmp_path / "clip.mp4")
    wanted = source.from_to(start, start + SECONDS)
    assert seen.hashes == [frame.hash for frame in wanted]
    assert [frame.time for frame in seen.frames] == pytest.approx(
        [frame.time - wanted[0].time for frame in wanted], abs=0.002
    )
    assert fitted.start + seen.seconds == pytest.approx(start + SECONDS, abs=0.002)
    if source.stream("audio"):
        heard = [moment - fitted.start for moment in source.beeps if start + 0.1 < moment < start + 2.9]
        assert seen.beeps[-len(heard) :] == pytest.approx(heard, abs=0.003)


def test_the_index_comes_first_and_samples_are_interleaved(vod: Vod, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(fit(vod("b-frames.mp4").path, 2.0, 10.0), path)
    assert boxes(path) == ["ftyp", "moov", "mdat"]
    packets = packets_of(path)
    positions = [int(packet["pos"]) for packet in packets]
    assert positions == sorted(positions)  # as demuxed by time, so they lie
    assert {packet["stream_index"] for packet in packets} == {0, 1}


def packets_of(path: Path) -> list[dict[str, Any]]:
    shown = ["-show_packets", "-of", "json", "-v", "error"]
    packets: list[dict[str, Any]] = json.loads(run_tool(find_tools().ffprobe, [*shown, path]))["packets"]
    return packets


def test_nothing_but_the_needed_samples_is_in_it(vod: Vod, tmp_path: Path) -> None:
    fitted = fit(vod("b-frames.mp4").path, 5.3, 8.3)
    path = tmp_path / "clip.mp4"
    write_clip(fitted, path)
    assert fitted.audio is not None
    media = sum(sample.size for track in (fitted.video, fitted.audio) for sample in track.samples)
    assert path.stat().st_size < media + 12_000


@pytest.mark.parametrize("timescale", [10_000_000, 90_000, 1000])
def test_audio_whose_ticks_are_no_samples_is_heard_from_the_start(
    vod: Vod, tmp_path: Path, timescale: int
) -> None:
    fitted = fit(vod("b-frames.mp4").path, 5.3, 8.3)
    assert fitted.audio is not None
    factor = timescale / fitted.audio.timescale
    samples = [
        each._replace(
            decoded=round(each.decoded * factor),
            shown=round(each.shown * factor),
            length=round(each.length * factor),
        )
        for each in fitted.audio.samples
    ]
    audio = replace(fitted.audio, timescale=timescale, samples=samples)
    seen = write_clip(replace(fitted, audio=audio), tmp_path / "clip.mp4")
    assert seen.beeps == pytest.approx([0.7, 1.7, 2.7], abs=0.003)


def test_a_track_that_begins_late_begins_late_in_the_file(vod: Vod, tmp_path: Path) -> None:
    seen = write_clip(fit(vod("late-sound.mp4").path, 1.0, 4.0), tmp_path / "clip.mp4")
    audio = seen.stream("audio")
    assert audio is not None
    assert float(audio["start_time"]) == pytest.approx(0.5, abs=0.025)
    assert seen.beeps == pytest.approx([0.5, 1.5, 2.5], abs=0.003)


def test_a_file_is_read_back_as_it_was_written(vod: Vod, tmp_path: Path) -> None:
    fitted = fit(vod("b-frames.mp4").path, 5.3, 8.3)
    path = tmp_path / "clip.mp4"
    write_clip(fitted, path)
    for track in open_movie(path).all():
        written = fitted.video if track.kind is TrackKind.VIDEO else fitted.audio
        assert written is not None
        assert [track.seconds(each.shown) + fitted.start for each in track.samples] == pytest.approx(
            [written.seconds(each.shown) for each in written.samples], abs=1e-4
        )


def test_samples_that_lie_nowhere_or_run_backwards_are_refused(vod: Vod, tmp_path: Path) -> None:
    fitted = fit(vod("silent.mp4").path, 5.3, 8.3)
    path = tmp_path / "clip.mp4"

    def refused(video: Track, why: str) -> None:
        with pytest.raises(Unwritable, match=why):
            write(path, [video], fitted.start, fitted.end)

    def changed(change: Callable[[Sample], Sample]) -> Track:
        return replace(fitted.video, samples=[*map(change, fitted.video.samples)])

    refused(replace(fitted.video, samples=[]), "no samples")
    refused(changed(lambda each: each._replace(offset=10**9)), "of their file")
    refused(changed(lambda each: each._replace(decoded=-each.decoded)), "run backwards")
    refused(changed(lambda each: each._replace(shown=each.shown + 2**40)), "no sample is shown|too large")
