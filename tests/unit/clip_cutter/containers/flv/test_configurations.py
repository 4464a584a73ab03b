"""Configurations, and the offsets from which they are valid."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.containers.flv.configurations import MAX_CHANGES, Configurations, FlvConfigurationHistory
from clip_cutter.containers.flv.tags import AUDIO, VIDEO
from clip_cutter.containers.model import UnsupportedMedia
from tests.unit.clip_cutter.containers.flv.builders import (
    AAC_44,
    AAC_48,
    AVC_1,
    AVC_2,
    FILE_HEAD,
    HEAD,
    aac_header,
    avc_header,
    picture,
    sound,
    tag,
)

# Each part is 6 s long; the second one has other video, the third one other audio.
PARTS = [
    HEAD + b"".join(picture(at, key=at == 0) + sound(at) for at in range(0, 6000, 100)),
    avc_header(AVC_2, 6000)
    + b"".join(picture(at, key=at == 6000) + sound(at) for at in range(6000, 12000, 100)),
    aac_header(AAC_44, 12_000) + b"".join(picture(at) + sound(at) for at in range(12_000, 18_000, 100)),
]
FILE = b"".join(PARTS)
HOLD = [(avc_header(AVC_1), aac_header(AAC_48)), (avc_header(AVC_2, 6000), aac_header(AAC_48))]
HOLD += [(avc_header(AVC_2, 6000), aac_header(AAC_44, 12_000))]


def history(pieces: Sequence[bytes]) -> FlvConfigurationHistory:
    found = FlvConfigurationHistory()
    for piece in pieces:
        found.feed(piece)
    return found


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(st.integers(1, len(FILE)))
def test_the_history_knows_the_configurations_of_every_offset(size: int) -> None:
    found = history(pieces(FILE, size))
    assert found.reached == len(FILE)
    for number, hold in enumerate(HOLD):
        end = sum(map(len, PARTS[: number + 1]))
        assert found.heads(end - 1) == [b"".join(hold)]
    assert found.heads(0) == []


def test_the_history_knows_only_what_was_read() -> None:
    found = history([FILE[:200]])
    assert (found.reached, found.heads(len(FILE))) == (200, [b"".join(HOLD[0])])


def test_a_configuration_that_comes_again_changes_nothing() -> None:
    again = HEAD + (avc_header(AVC_1, 40) + aac_header(AAC_48, 40) + picture(40)) * 3
    assert len(history([again])._changes) == 2


def test_the_history_skips_bytes_that_are_not_tags() -> None:
    broken = PARTS[0] + b"no tag" * 1000 + PARTS[1] + PARTS[2]
    for size in (7, 1000, len(broken)):
        assert history(pieces(broken, size)).heads(len(broken)) == [b"".join(HOLD[2])]


def test_the_history_needs_little_memory() -> None:
    found = history([HEAD, *[bytes(1024 * 1024)] * 4])
    assert len(found._rest) <= 1024 * 1024
    found = history([HEAD, tag(9, 0, b"\x17\1" + bytes(2**23))[:-1]])
    assert len(found._rest) < 100


def test_too_many_configurations_are_refused() -> None:
    changes = [avc_header(AVC_1) + avc_header(AVC_2)] * (MAX_CHANGES // 2 + 1)
    with pytest.raises(UnsupportedMedia):
        history([FILE_HEAD, *changes])


def test_formats_come_in_order_and_only_once() -> None:
    known = Configurations([HEAD])
    assert (known.place(VIDEO), known.place(AUDIO)) == (0, 0)
    known.learn(AUDIO, AAC_44)
    assert known.place(AUDIO) == 1
    known.learn(AUDIO, AAC_48)
    assert known.place(AUDIO) == 0
    assert [each.rate for each in known.formats[AUDIO]] == [48_000, 44_100]


def test_later_parts_replace_earlier_configurations() -> None:
    known = Configurations([HEAD, *history([FILE]).heads(len(FILE))])
    known.place(AUDIO)
    known.place(VIDEO)
    assert [each.rate for each in known.formats[AUDIO]] == [44_100]
    assert known.formats[VIDEO][0].entry.find(AVC_2) > 0


@pytest.mark.parametrize(
    "heads", [[], [b""], [FILE_HEAD], [HEAD[:-30]], [FILE_HEAD + aac_header(b"\x12\x08")]]
)
def test_without_a_configuration_samples_are_refused(heads: list[bytes]) -> None:
    known = Configurations(heads)
    with pytest.raises(UnsupportedMedia):
        known.place(VIDEO)


@given(st.lists(st.one_of(st.binary(max_size=100), st.sampled_from(PARTS)), max_size=6))
def test_any_bytes(data: list[bytes]) -> None:
    found = history(data)
    assert found.reached == sum(map(len, data))
    Configurations(found.heads(found.reached))
