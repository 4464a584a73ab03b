"""The body of a video or audio tag (§E.4.2, §E.4.3; Enhanced RTMP v1 and v2)."""

from typing import NamedTuple

from clip_cutter.containers.flv.tags import AUDIO, VIDEO
from clip_cutter.containers.model import UnsupportedMedia

KEYFRAME, COMMAND = 1, 5  # FrameType
AVC, AAC, EXTENDED_AUDIO = 7, 10, 9  # CodecID of video, SoundFormat of audio
EXTENDED_VIDEO = 0x80
FOURCC = {AUDIO: b"mp4a", VIDEO: b"avc1"}
# Packet types. Those without a sample end a sequence, or have metadata of colours or channels.
CONFIGURATION, CODED, CODED_AT_ONCE = 0, 1, 3
WITHOUT_SAMPLE = frozenset({2, 4})
PLAIN_SIZE, EXTENDED_SIZE, SHIFT_SIZE = 2, 5, 3
MAX_HEAD = 8


class TagBody(NamedTuple):
    """The head of a tag's body.

    Args:
        is_configuration: whether the body has a decoder configuration instead of a sample.
        start: position in the body of the configuration or the sample.
        is_keyframe: whether the sample is a keyframe.
        shift: CompositionTime: presentation time minus decode time, in milliseconds.
    """

    is_configuration: bool
    start: int
    is_keyframe: bool = True
    shift: int = 0


def parse(type_: int, body: bytes) -> TagBody | None:
    """Parse the body of a tag.

    Args:
        type_: the type of the tag.
        body: the first ``MAX_HEAD`` bytes of its body, or more.

    Returns:
        The head of the body; None if the body has neither a sample nor a configuration.

    Raises:
        UnsupportedMedia: the video codec is not H.264, or the audio codec is not AAC.
    """
    if not body or type_ not in FOURCC:
        return None
    return _parse_video(body) if type_ == VIDEO else _parse_audio(body)


def _parse_video(body: bytes) -> TagBody | None:
    is_extended = bool(body[0] & EXTENDED_VIDEO)
    frame, codec = body[0] >> 4 & 7 if is_extended else body[0] >> 4, body[0] & 15
    if frame == COMMAND:
        return None
    if is_extended:
        kind, start = codec, _skip_fourcc(VIDEO, body)
    elif codec == AVC:
        kind, start = _packet_type(body), PLAIN_SIZE
    else:
        raise UnsupportedMedia(f"FLV video tag: codec {codec} instead of {AVC} (H.264)")
    is_keyframe = frame == KEYFRAME
    shift = int.from_bytes(body[start : start + SHIFT_SIZE], signed=True)
    if kind == CONFIGURATION:
        return TagBody(is_configuration=True, start=start if is_extended else start + SHIFT_SIZE)
    if kind == CODED:
        return TagBody(False, start + SHIFT_SIZE, is_keyframe, shift)
    if kind == CODED_AT_ONCE and is_extended:
        return TagBody(False, start, is_keyframe)
    _check_empty(kind, VIDEO)
    return None


def _parse_audio(body: bytes) -> TagBody | None:
    codec = body[0] >> 4
    if codec == EXTENDED_AUDIO:
        kind, start = body[0] & 15, _skip_fourcc(AUDIO, body)
    elif codec == AAC:
        kind, start = _packet_type(body), PLAIN_SIZE
    else:
        raise UnsupportedMedia(f"FLV audio tag: codec {codec} instead of {AAC} (AAC)")
    if kind in (CONFIGURATION, CODED):
        return TagBody(kind == CONFIGURATION, start)
    _check_empty(kind, AUDIO)
    return None


def _packet_type(body: bytes) -> int:
    return body[1] if len(body) >= PLAIN_SIZE else min(WITHOUT_SAMPLE)


def _skip_fourcc(type_: int, body: bytes) -> int:
    name = body[1:EXTENDED_SIZE]
    if name != FOURCC[type_]:
        raise UnsupportedMedia(f"FLV tag of type {type_}: FourCC {name!r} instead of {FOURCC[type_]!r}")
    return EXTENDED_SIZE


def _check_empty(kind: int, type_: int) -> None:
    if kind not in WITHOUT_SAMPLE:
        raise UnsupportedMedia(f"FLV tag of type {type_}: packet type {kind} is not supported")
