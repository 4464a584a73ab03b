"""Tags of an FLV, in parts of a file that begin and end anywhere."""

from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.containers.flv.tags import FlvTag, find_tag, tags_in
from tests.unit.clip_cutter.containers.flv.builders import FILE_HEAD, HEAD, picture, script, sound, tag

FILE = HEAD + picture(0, key=True) + b"".join(sound(at) + picture(at + 40) for at in range(0, 1000, 40))


def test_tags_follow_one_another_behind_the_head() -> None:
    data = FILE_HEAD + script() + picture(0x1234567, key=True)
    first, second = tags_in(data)
    assert first == FlvTag(13, 13 + len(script()), 18, 0)
    assert (second.start, second.end, second.time) == (first.end, len(data), 0x1234567)
    assert data[second.body][:2] == b"\x17\1"


def test_a_time_has_four_bytes() -> None:
    assert [each.time for each in tags_in(FILE_HEAD + picture(0xFEDCBA98))] == [0xFEDCBA98]


def test_a_second_head_in_the_middle_of_the_file_is_passed() -> None:
    data = FILE_HEAD + picture(0) + FILE_HEAD + picture(1)
    assert [each.time for each in tags_in(data)] == [0, 1]


def test_sizes_that_a_writer_left_out_do_not_matter_where_tags_follow() -> None:
    data = FILE_HEAD + b"".join(tag(9, at, b"\x27\1", size_behind=0) for at in range(3)) + sound(3)
    assert [each.time for each in tags_in(data)] == [0, 1, 2, 3]


def test_bytes_that_are_not_tags_are_skipped() -> None:
    data = FILE_HEAD + picture(0) + b"\x09\0\0\x05 and so on \x12" + picture(1) + picture(2)
    assert [each.time for each in tags_in(data)] == [0, 1, 2]


def test_what_looks_like_a_tag_in_a_picture_is_not_one() -> None:
    inside = picture(77)[:-1] + b"!"
    data = picture(0, content=b"...." + inside * 3) + picture(1) + picture(2)
    assert [each.time for each in tags_in(data[5:])] == [1, 2]


@given(st.integers(0, len(FILE)))
def test_tags_are_found_from_any_offset(start: int) -> None:
    whole = list(tags_in(FILE))
    expected = [each.start for each in whole if each.start >= start]
    assert [each.start + start for each in tags_in(FILE[start:])] == expected


@given(st.integers(0, len(FILE)))
def test_the_last_tag_may_be_cut_off(end: int) -> None:
    whole = [each for each in tags_in(FILE) if each.start + 11 <= end]
    assert list(tags_in(FILE[:end])) == whole


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for each in tags_in(data + FILE[100:] + data):
        assert each.start < each.end
    assert find_tag(data, 0) is None or b"\0\0\0" in data
