"""Targets that call one reader of a container, and check what it returns for any bytes."""

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from random import Random

from clip_cutter.containers import aac, avc
from clip_cutter.containers.flv import FlvStream
from clip_cutter.containers.model import Track, TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.boxes import walk
from clip_cutter.containers.mp4.fragment_index import read_random_access, read_segment_index
from clip_cutter.containers.mp4.fragments import find_moofs, read_fragment, read_header
from clip_cutter.containers.mp4.index import Movie, find_index, find_tracks, visit_tables
from clip_cutter.containers.mpegts import TransportStream
from clip_cutter.containers.stream import Stream
from clip_cutter.containers.timeline import Timeline, TimelineSegment

HEAD_BYTES = 64 * 1024
MEDIA = Path("media")


def read_avc(_: Random, data: bytes) -> None:
    avc.is_idr(data, 4)
    avc.is_well_formed(data, 4)
    found = avc.format_of(data)
    assert avc.length_size_of(found.entry) in {1, 2, 4}
    assert found.width > 0 < found.height


def read_annex_b(_: Random, data: bytes) -> None:
    units = avc.split_nal_units(data)
    sps = [unit for unit in units if avc.nal_unit_type(unit) == avc.SPS]
    pps = [unit for unit in units if avc.nal_unit_type(unit) == avc.PPS]
    avc.format_of(avc.record_of(sps, pps))


def read_aac(_: Random, data: bytes) -> None:
    found = aac.format_of(data)
    assert found.rate > 0 < found.channels


def read_adts(_: Random, data: bytes) -> None:
    at = 0
    for config, start, end in aac.adts_frames(data):
        assert at < start < end <= len(data)
        aac.format_of(config)
        at = end


def read_flv(random: Random, data: bytes) -> None:
    history = FlvStream().history()
    step = random.choice((100, 4096, len(data) or 1))
    for at in range(0, len(data), step):
        history.feed(data[at : at + step])
    _read_stream(FlvStream.read(data[:HEAD_BYTES]), random, data)


def read_transport_stream(random: Random, data: bytes) -> None:
    _read_stream(TransportStream.read(data[:HEAD_BYTES]), random, data)


def _read_stream(stream: Stream, random: Random, data: bytes) -> None:
    """Find samples in a part of a stream, and read the stream from a sample on."""
    begin = random.randint(0, len(data))
    samples = stream.sample_starts(data[begin : begin + random.choice((1000, HEAD_BYTES))], begin)
    assert all(begin <= sample.offset < len(data) for sample in samples)
    assert all(before.offset <= after.offset for before, after in pairwise(samples))
    first = random.choice([None, *samples])
    offset, clock = (first.offset, first.decoded) if first else (0, random.choice((0, 126_000)))
    output = BytesIO()
    timeline = Timeline(stream.timescale, stream.wrap, [TimelineSegment(0, clock, 0)])
    demuxer = stream.demuxer(
        output, offset, timeline, [data[:HEAD_BYTES], data[max(offset - HEAD_BYTES, 0) : offset]]
    )
    step = random.choice((100, 4096, len(data) or 1))
    for at in range(offset, len(data), step):
        demuxer.feed(data[at : at + step])
    demuxer.finish()
    assert set(demuxer.reached) <= set(TrackKind)
    check_tracks(demuxer.tracks(MEDIA), len(output.getvalue()))


def read_index(random: Random, data: bytes) -> None:
    def read(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    moov = find_index(read, len(data))
    for trak in find_tracks(read, moov):
        visit_tables(read, trak, lambda offset, size: None)  # noqa: ARG005
    movie = Movie.read(read, moov, len(data))
    assert math.isfinite(movie.seconds)
    start = random.uniform(-1, min(movie.seconds, 1e6) + 1)
    for extent in movie.row_extents(start, start + 2):
        assert extent.size >= 0
    check_tracks(movie.select(start, start + 2), len(data))
    check_tracks(movie.all(), len(data))


def read_fragments(_: Random, data: bytes) -> None:
    def read(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    boxes = list(walk(read, 0, len(data)))
    moov = next((box for box in boxes if box.kind == b"moov"), None)
    if moov is None:
        raise UnsupportedMedia("no header")
    header = read_header(read, moov, len(data))
    for box in boxes:
        if box.kind == b"sidx":
            read_segment_index(data[box.start : box.end], box.end)
        if box.kind == b"mfra":
            read_random_access(read, box, box.head)
    for at in find_moofs(data):
        size = int.from_bytes(data[at : at + 4])
        read_fragment(data[at : at + size], at, header)


def check_tracks(tracks: Sequence[Track], media_bytes: int) -> None:
    """Check what every reader guarantees."""
    kinds = [track.kind for track in tracks]
    assert kinds in ([TrackKind.VIDEO], [TrackKind.AUDIO], [TrackKind.VIDEO, TrackKind.AUDIO])
    for track in tracks:
        assert track.timescale > 0
        assert track.samples
        assert all(each.offset >= 0 and each.offset + each.size <= media_bytes for each in track.samples)
        assert all(0 <= each.format < len(track.formats) for each in track.samples)
        assert all(each.length >= 0 for each in track.samples)
        assert all(before.decoded <= after.decoded for before, after in pairwise(track.samples))


Reader = Callable[[Random, bytes], None]
