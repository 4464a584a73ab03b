"""Sample descriptions (``stsd``, ISO/IEC 14496-12 §8.5.2): how the samples of a track are coded."""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from clip_cutter.containers import aac, avc
from clip_cutter.containers.model import Format, TrackKind, UnsupportedMedia
from clip_cutter.containers.mp4.boxes import HEAD, Box, Read, content, walk

UNKNOWN = "unknown"
MAX_ENTRIES = 256
VISUAL_ENTRY_BYTES = 78  # of a VisualSampleEntry before its boxes (§12.1.3)
# Of an AudioSampleEntry before its boxes, by version (§12.2.3; versions 1 and 2 are QuickTime's).
AUDIO_ENTRY_BYTES: Mapping[int, int] = {0: 28, 1: 44, 2: 64}
COVER_ART_KINDS = frozenset({b"jpeg", b"png "})  # cover art is a video track with one picture
# ffmpeg's name of the codec, by the kind of the sample entry (registered at mp4ra.org).
CODECS: Mapping[bytes, str] = {
    **dict.fromkeys((b"avc1", b"avc3"), "h264"),
    **dict.fromkeys((b"hvc1", b"hev1", b"dvh1", b"dvhe"), "hevc"),
    b"av01": "av1",
    b"vp08": "vp8",
    b"vp09": "vp9",
    b"Opus": "opus",
    b"ac-3": "ac3",
    b"ec-3": "eac3",
    b"fLaC": "flac",
    b"alac": "alac",
    b".mp3": "mp3",
    b"sowt": "pcm_s16le",
    b"twos": "pcm_s16be",
}
# ffmpeg's name of the codec, by objectTypeIndication (ISO/IEC 14496-1 §7.2.6.6, registered at mp4ra.org).
OBJECT_TYPES: Mapping[int, str] = {
    0x20: "mpeg4",
    **dict.fromkeys(range(0x60, 0x66), "mpeg2video"),
    0x6A: "mpeg1video",
    0x40: "aac",
    **dict.fromkeys((0x66, 0x67, 0x68), "aac"),
    **dict.fromkeys((0x69, 0x6B), "mp3"),
    0xA5: "ac3",
    0xA6: "eac3",
    0xAD: "opus",
    0xDD: "vorbis",
}
ES, DECODER_CONFIG, DECODER_SPECIFIC_INFO = 3, 4, 5  # tags of descriptors (ISO/IEC 14496-1 §7.2.2.1)
ES_BYTES, DECODER_CONFIG_BYTES = 3, 13  # of these two descriptors, before the descriptors in them
COVER_ART_OBJECT_TYPES = frozenset({0x6C, 0x6D})  # JPEG, PNG


def read_entries(read: Read, stsd: Box, kind: TrackKind) -> tuple[Format, ...]:
    """Return the formats of a track, in the order of its ``stsd`` box.

    Raises:
        UnsupportedMedia: the box is damaged, or has no sample entry, or more than 256.
    """
    entries = list(islice(walk(read, stsd.start + 8, stsd.end), MAX_ENTRIES + 1))
    (count,) = struct.unpack(">I", read(stsd.start + 4, 4))
    if len(entries) != count or not 0 < count <= MAX_ENTRIES or entries[-1].end > stsd.end:
        raise UnsupportedMedia(f"stsd: {len(entries)} sample entries of {count} that it lists")
    return tuple(_read_entry(read, entry, kind) for entry in entries)


def is_cover_art(entry: Format) -> bool:
    """Return whether a track of this format is cover art, not video."""
    return entry.entry[4:8] in COVER_ART_KINDS or _object_type(entry.entry) in COVER_ART_OBJECT_TYPES


def _read_entry(read: Read, box: Box, kind: TrackKind) -> Format:
    data = content(read, box)
    entry = HEAD.pack(HEAD.size + len(data), box.kind) + data
    if kind is TrackKind.VIDEO:
        return _video(box.kind, data, entry)
    return _audio(box.kind, data, entry)


def _video(kind: bytes, data: bytes, entry: bytes) -> Format:
    if len(data) < VISUAL_ENTRY_BYTES:
        raise UnsupportedMedia(
            f"stsd: video sample entry of {len(data)} bytes, {VISUAL_ENTRY_BYTES} are needed"
        )
    width, height = struct.unpack_from(">HH", data, 24)
    codec = CODECS.get(kind) or OBJECT_TYPES.get(_object_type(entry), UNKNOWN)
    found = Format(codec, entry, width=width, height=height)
    if codec == "h264":
        return _completed(found, avc.format_of, _box_content(data, VISUAL_ENTRY_BYTES, b"avcC"))
    return found


def _audio(kind: bytes, data: bytes, entry: bytes) -> Format:
    if len(data) < AUDIO_ENTRY_BYTES[0]:
        raise UnsupportedMedia(
            f"stsd: audio sample entry of {len(data)} bytes, {AUDIO_ENTRY_BYTES[0]} are needed"
        )
    channels, _, _, rate = struct.unpack_from(">HH4sI", data, 16)
    codec = CODECS.get(kind) or OBJECT_TYPES.get(_object_type(entry), UNKNOWN)
    found = Format(codec, entry, rate=rate >> 16, channels=channels)
    if codec == "aac":
        return _completed(found, aac.format_of, _descriptors(_esds(entry)).get(DECODER_SPECIFIC_INFO, b""))
    return found


def _completed(found: Format, describe: Callable[[bytes], Format], configuration: bytes) -> Format:
    """Return a format completed from its codec configuration; the sample entry stays that of the file."""
    try:
        described = describe(configuration)
    except UnsupportedMedia:  # ffmpeg may read this configuration; a browser may not
        return found
    return replace(described, entry=found.entry)


def _object_type(entry: bytes) -> int:
    """Return the objectTypeIndication of a sample entry with an ``esds`` box; else -1."""
    config = _descriptors(_esds(entry)).get(DECODER_CONFIG, b"")
    return config[0] if config else -1


def _esds(entry: bytes) -> bytes:
    """Return the ES_Descriptor of a sample entry's ``esds`` box; empty if it has no such box."""
    kind, data = entry[4:8], entry[HEAD.size :]
    if kind == b"mp4v":
        return _box_content(data, VISUAL_ENTRY_BYTES, b"esds")[4:]
    if kind == b"mp4a":
        start = AUDIO_ENTRY_BYTES.get(int.from_bytes(data[8:10]), AUDIO_ENTRY_BYTES[0])
        return (_box_content(data, start, b"esds") or _box_content(data, start, b"wave", b"esds"))[4:]
    return b""


def _box_content(data: bytes, start: int, *path: bytes) -> bytes:
    """Return the content of the box at the end of a path of kinds; empty if the box is missing."""
    end = len(data)
    for kind in path:
        found = [box for box in _boxes(data, start, end) if box.kind == kind]
        if not found:
            return b""
        start, end = found[0].start, found[0].end
    return data[start:end]


def _boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Iterate over boxes. Stop at the first bytes that are no box: QuickTime ends the list with zeros."""
    while start + HEAD.size <= end:
        size, kind = HEAD.unpack_from(data, start)
        if size < HEAD.size or start + size > end:
            return
        yield Box(kind, start, start + HEAD.size, start + size)
        start += size


def _descriptors(data: bytes) -> dict[int, bytes]:
    """Return the contents of all descriptors in an ES_Descriptor, at any depth, by tag.

    A descriptor is a tag, a length with 7 bits per byte, and its content (ISO/IEC 14496-1 §8.3.3).
    """
    found: dict[int, bytes] = {}
    at = 0
    while at + 2 <= len(data):
        tag = data[at]
        length, at = _length(data, at + 1)
        inner = data[at : at + length]
        found.setdefault(tag, inner)
        at += {ES: _es_descriptor_bytes(inner), DECODER_CONFIG: DECODER_CONFIG_BYTES}.get(tag, length)
    return found


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return the length of a descriptor, and the offset of its content."""
    length = 0
    for byte in data[at : at + 4]:
        length, at = length << 7 | byte & 0x7F, at + 1
        if not byte & 0x80:
            break
    return length, at


def _es_descriptor_bytes(descriptor: bytes) -> int:
    """Return the number of bytes of an ES_Descriptor before its descriptors (§7.2.6.5)."""
    if len(descriptor) < ES_BYTES:
        return len(descriptor)
    flags, size = descriptor[2], ES_BYTES
    size += 2 if flags & 0x80 else 0
    size += 1 + descriptor[size] if flags & 0x40 and size < len(descriptor) else 0
    return size + (2 if flags & 0x20 else 0)
