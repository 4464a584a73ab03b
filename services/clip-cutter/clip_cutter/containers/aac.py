"""AAC (ISO/IEC 14496-3), and its sample entry in MP4 (ISO/IEC 14496-14 §5.6)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Self

from clip_cutter.containers.bit_reader import BitReader
from clip_cutter.containers.model import Format, Sample, UnsupportedMedia

RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
EXPLICIT_RATE = 15
# Number of channels, by channel configuration (table 1.19).
CHANNELS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 8, 11: 7, 12: 8, 14: 8}
FRAME_SAMPLES = 1024  # in a frame, at the rate of its configuration

# Audio object types (table 1.17).
MAIN, LOW_COMPLEXITY, SCALABLE_RATE, LONG_TERM, SBR, PS = 1, 2, 3, 4, 5, 29
GENERAL = frozenset({MAIN, LOW_COMPLEXITY, SCALABLE_RATE, LONG_TERM})
ESCAPE = 31
SBR_SYNC, PS_SYNC = 0x2B7, 0x548
SBR_BITS, PS_BITS = 11 + 5 + 1, 11 + 1  # minimum length of an extension
MAX_WEB_CHANNELS = 6
MAX_CONFIG = 64
MAX_RATE = 192_000

ADTS_HEAD = 7
ADTS_SYNC = 0xFFF
ADTS_CRC = 2

# Descriptors (ISO/IEC 14496-1 §7.2.2.1).
ES, DECODER, SPECIFIC, SYNC_LAYER = 3, 4, 5, 6
MPEG4_AUDIO, AUDIO_STREAM = 0x40, 0x15
MP4_SYNC_LAYER = b"\2"
MAX_WRITTEN_RATE = 0xFFFF


@dataclass(frozen=True)
class AudioSpecificConfig:
    """An AudioSpecificConfig (§1.6.2.1).

    Args:
        object_type: 2 is AAC-LC, 5 is HE-AAC (with SBR), 29 is HE-AAC v2 (with SBR and PS).
        rate: samples per second of the core codec; a frame holds 1024 of these samples, also with SBR.
        output_rate: samples per second after decoding, if the configuration signals SBR; else ``rate``.
        channels: number of channels after decoding.
    """

    object_type: int
    rate: int
    output_rate: int
    channels: int

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Parse an AudioSpecificConfig.

        Raises:
            UnsupportedMedia: the data is not valid, or the object type is not AAC Main, LC, SSR, LTP or
                HE-AAC.
        """
        if len(data) > MAX_CONFIG:
            raise UnsupportedMedia(f"AudioSpecificConfig: {len(data)} bytes, the limit is {MAX_CONFIG}")
        bits = BitReader(data)
        kind, rate = _read_object_type(bits), _read_rate(bits)
        channels, core, output_rate = bits.read(4), kind, rate
        if kind in (SBR, PS):
            output_rate, core = _read_rate(bits), _read_object_type(bits)
        _read_general(bits, core)
        if kind == core:
            kind, output_rate = _read_extension(bits, kind, rate)
        if channels not in CHANNELS:
            raise UnsupportedMedia(f"AudioSpecificConfig: channel configuration {channels} is not supported")
        return cls(kind, rate, output_rate, 2 if kind == PS else CHANNELS[channels])

    @property
    def is_web(self) -> bool:
        """Return whether every browser plays this configuration."""
        return self.object_type in (LOW_COMPLEXITY, SBR, PS) and self.channels <= MAX_WEB_CHANNELS


class AdtsFrame(NamedTuple):
    """An ADTS frame: its AudioSpecificConfig, and start and end of its payload, without the header."""

    config: bytes
    start: int
    end: int


class AacFrame(NamedTuple):
    """A frame of AAC, at ``offset`` of the file that holds it.

    Args:
        tick: the presentation time, in samples at the rate of its format.
        offset, size: where the frame lies in the file, in bytes.
        format: position of the frame's format in the formats of its track.
    """

    tick: int
    offset: int
    size: int
    format: int

    def sample(self, factor: int) -> Sample:
        """Return the frame as a sample of a track that has ``factor`` ticks for each tick of the frame."""
        time, length = self.tick * factor, FRAME_SAMPLES * factor
        return Sample(time, time, length, self.offset, self.size, is_keyframe=True, format=self.format)


def format_of(config: bytes) -> Format:
    """Return the format of an AudioSpecificConfig, with an ``mp4a`` sample entry.

    The format's rate is that of the core codec: a sample of the track lasts 1024 ticks at this rate.

    Raises:
        UnsupportedMedia: as :meth:`AudioSpecificConfig.read`.
    """
    audio = AudioSpecificConfig.read(config)
    return Format(
        codec="aac",
        entry=_entry(config, audio),
        rate=audio.rate,
        channels=audio.channels,
        is_web=audio.is_web,
    )


def adts_frames(data: bytes) -> Iterator[AdtsFrame]:
    """Yield the consecutive frames at the start of ``data`` (§1.A.3.2).

    Stop where no whole frame follows: at the ``end`` of the last frame, or at 0.

    Raises:
        UnsupportedMedia: a frame holds several raw data blocks, or its channel configuration is 0.
    """
    at = 0
    while at + ADTS_HEAD <= len(data):
        head = int.from_bytes(data[at : at + ADTS_HEAD])
        size, start = head >> 13 & 0x1FFF, at + ADTS_HEAD + (0 if head >> 40 & 1 else ADTS_CRC)
        if not _is_adts(head) or start >= at + size or at + size > len(data):
            return
        if head & 3:
            raise UnsupportedMedia(
                f"ADTS header: {(head & 3) + 1} raw data blocks in a frame, 1 is supported"
            )
        at += size
        yield AdtsFrame(_adts_config(head >> 38 & 3, head >> 34 & 15, head >> 30 & 7), start, at)


def _is_adts(head: int) -> bool:
    """Return whether 7 bytes are an ADTS header: sync word, layer 0, and a valid rate index."""
    return head >> 44 == ADTS_SYNC and not head >> 41 & 3 and head >> 34 & 15 < len(RATES)


@lru_cache(maxsize=64)
def _adts_config(profile: int, rate: int, channels: int) -> bytes:
    if not channels:
        raise UnsupportedMedia("ADTS header: channel configuration 0 is not supported")
    return ((profile + 1) << 11 | rate << 7 | channels << 3).to_bytes(2)


def _read_object_type(bits: BitReader) -> int:
    kind = bits.read(5)
    return 32 + bits.read(6) if kind == ESCAPE else kind


def _read_rate(bits: BitReader) -> int:
    index = bits.read(4)
    if index == EXPLICIT_RATE:
        rate = bits.read(24)
    elif index < len(RATES):
        rate = RATES[index]
    else:
        raise UnsupportedMedia(f"AudioSpecificConfig: rate index {index} is reserved")
    if not 0 < rate <= MAX_RATE:
        raise UnsupportedMedia(f"AudioSpecificConfig: {rate} samples per second, the limit is {MAX_RATE}")
    return rate


def _read_general(bits: BitReader, kind: int) -> None:
    """Read a GASpecificConfig (§4.4.1); frames must have 1024 samples."""
    if kind not in GENERAL:
        raise UnsupportedMedia(f"AudioSpecificConfig: audio object type {kind} is not supported")
    if bits.flag():
        raise UnsupportedMedia(f"AudioSpecificConfig: 960 samples in a frame, {FRAME_SAMPLES} are supported")
    if bits.flag():
        bits.read(14)  # coreCoderDelay
    bits.flag()


def _read_extension(bits: BitReader, kind: int, rate: int) -> tuple[int, int]:
    """Return object type and rate of the SBR extension after the core's configuration, if any (§1.6.5)."""
    if bits.left < SBR_BITS or bits.read(11) != SBR_SYNC:
        return kind, rate
    if _read_object_type(bits) != SBR or not bits.flag():
        return kind, rate
    output_rate = _read_rate(bits)
    has_ps = bits.left >= PS_BITS and bits.read(11) == PS_SYNC and bits.flag()
    return PS if has_ps else SBR, output_rate


def _entry(config: bytes, audio: AudioSpecificConfig) -> bytes:
    """Return an audio sample entry (ISO/IEC 14496-12 §12.2.3)."""
    rate = audio.rate if audio.rate <= MAX_WRITTEN_RATE else 0
    head = struct.pack(">6xH8xHH4xI", 1, audio.channels, 16, rate << 16)
    return _box(b"mp4a", head, _box(b"esds", bytes(4), _stream_descriptor(config)))


def _stream_descriptor(config: bytes) -> bytes:
    """Return an ES_Descriptor (ISO/IEC 14496-1 §7.2.6.5); its buffer size and bit rates are 0 (unknown)."""
    about = struct.pack(">BB11x", MPEG4_AUDIO, AUDIO_STREAM)
    decoder = _descriptor(DECODER, about + _descriptor(SPECIFIC, config))
    return _descriptor(ES, bytes(3) + decoder + _descriptor(SYNC_LAYER, MP4_SYNC_LAYER))


def _descriptor(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body
