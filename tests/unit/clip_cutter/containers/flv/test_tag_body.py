"""Bodies of tags with video and audio."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.containers.flv.tag_body import TagBody, parse
from clip_cutter.containers.flv.tags import AUDIO, VIDEO
from clip_cutter.containers.model import UnsupportedMedia

CONFIGURATION = TagBody(is_configuration=True, start=5)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("1700000000", CONFIGURATION),
        ("1701000028", TagBody(False, 5, True, 40)),
        ("2701ffffd8", TagBody(False, 5, False, -40)),
        ("3701000000", TagBody(False, 5, False, 0)),  # a picture that nothing refers to
        ("1702000000", None),  # the end of a sequence
        ("5700", None),  # a command
        ("17", None),
        ("", None),
        ("9061766331", CONFIGURATION),  # Enhanced RTMP
        ("9161766331000028", TagBody(False, 8, True, 40)),
        ("a361766331", TagBody(False, 5, False, 0)),
        ("9261766331", None),
        ("9461766331", None),
        ("d000", None),
    ],
)
def test_video(body: str, expected: TagBody | None) -> None:
    assert parse(VIDEO, bytes.fromhex(body)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("af00", TagBody(True, 2)),
        ("af01", TagBody(False, 2)),
        ("ae01", TagBody(False, 2)),
        ("af", None),
        ("906d703461", TagBody(True, 5)),
        ("916d703461", TagBody(False, 5)),
        ("926d703461", None),
        ("946d703461", None),
    ],
)
def test_audio(body: str, expected: TagBody | None) -> None:
    assert parse(AUDIO, bytes.fromhex(body)) == expected


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (VIDEO, "12"),  # Sorenson H.263
        (VIDEO, "1c00"),  # HEVC, as some wrote it before it had a standard
        (VIDEO, "9068766331"),
        (VIDEO, "9061763031"),
        (VIDEO, "9661766331"),  # several tracks
        (VIDEO, "1703"),
        (VIDEO, "90"),
        (AUDIO, "2f"),  # MP3
        (AUDIO, "904f707573"),
        (AUDIO, "956d703461"),
        (AUDIO, "af07"),
    ],
)
def test_other_codecs_are_refused(kind: int, body: str) -> None:
    with pytest.raises(UnsupportedMedia):
        parse(kind, bytes.fromhex(body))


def test_scripts_hold_no_media() -> None:
    assert parse(18, b"\x02\0\x0aonMetaData") is None


@given(st.sampled_from([AUDIO, VIDEO, 18]), st.binary(max_size=8))
def test_any_bytes(kind: int, body: bytes) -> None:
    with suppress(UnsupportedMedia):
        parse(kind, body)
