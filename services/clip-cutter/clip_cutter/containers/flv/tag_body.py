"""What a tag of video or audio holds (§E.4.2, §E.4.3; Enhanced RTMP v1 and v2)."""

from typing import NamedTuple

from clip_cutter.containers.flv.tags import AUDIO, VIDEO
from clip_cutter.containers.model import UnsupportedMedia

KEYFRAME, COMMAND = 1, 5  # types of frames
AVC, AAC, EXTENDED_AUDIO = 7, 10, 9  # codecs
EXTENDED_VIDEO = 0x80
FOURCC = {AUDIO: b"mp4a", VIDEO: b"avc1"}
# Types of packets. Of those without a sample, some end a sequence, others are about colours or channels.
CONFIGURATION, CODED, CODED_AT_ONCE = 0, 1, 3
WITHOUT_SAMPLE = frozenset({2, 4})
PLAIN_SIZE, EXTENDED_SIZE, SHIFT_SIZE = 2, 5, 3
MAX_HEAD = 8


class TagBody(NamedTuple):
    """What a body holds, and where in it that begins.

    ``shift``: how many milliseconds a picture is shown after it is decoded.
    """

    is_configuration: bool
    start: int
    is_keyframe: bool = True
    shift: int = 0


def parse(type_: int, body: bytes) -> TagBody | None:
    """Return what the body of a tag holds, by its first ``MAX_HEAD`` bytes; None if it is not coded media.

    Raises:
        UnsupportedMedia: it is video that is not H.264, or audio that is not AAC.
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
        raise UnsupportedMedia(f"an FLV with video of codec {codec}")
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
        raise UnsupportedMedia(f"an FLV with audio of codec {codec}")
    if kind in (CONFIGURATION, CODED):
        return TagBody(kind == CONFIGURATION, start)
    _check_empty(kind, AUDIO)
    return None


def _packet_type(body: bytes) -> int:
    return body[1] if len(body) >= PLAIN_SIZE else min(WITHOUT_SAMPLE)


def _skip_fourcc(type_: int, body: bytes) -> int:
    name = body[1:EXTENDED_SIZE]
    if name != FOURCC[type_]:
        raise UnsupportedMedia(f"an FLV with {name!r}")
    return EXTENDED_SIZE


def _check_empty(kind: int, type_: int) -> None:
    if kind not in WITHOUT_SAMPLE:
        raise UnsupportedMedia(f"an FLV with packets of type {kind} in tags of type {type_}")
