"""A dead letter fits its topic, whatever the message holds, and says what it lacks."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.records import consumed

from clip_shared.bus.delivery.dead_letters import MAX_DEAD_LETTER_BYTES, dead_letter_of
from clip_shared.bus.dlq import DeadLetter
from clip_shared.bus.envelope import OutgoingRecord
from clip_shared.bus.fetching import UnreadableRecord

MIB = 1024 * 1024


def letter_of(error: BaseException | None = None, **facts: object) -> OutgoingRecord:
    record = consumed("clip-created", **facts)  # type: ignore[arg-type]
    return dead_letter_of(record, error or ValueError("no"), "test", 1)


def size_of(letter: OutgoingRecord) -> int:
    headers = sum(len(name.encode()) + len(value) + 12 for name, value in letter.headers)
    return len(letter.key or b"") + len(letter.value) + headers


def read(letter: OutgoingRecord) -> DeadLetter:
    notes = {name: value.decode() for name, value in letter.headers if name.startswith("dlq_")}
    record = consumed(letter.topic, key=letter.key, value=letter.value, headers=letter.headers, offset=9)
    return DeadLetter(record, notes)


def test_what_fits_stays_as_it_came() -> None:
    headers = [("ce_id", b"1"), ("x-empty", b""), ("dlq_error", b"of the last time"), ("x-null", None)]
    letter = letter_of(key=b"k", value=b"v" * 800 * 1024, headers=headers, partition=3, offset=5)
    assert letter.topic == "clip-created.dlq"
    assert (letter.key, letter.value) == (b"k", b"v" * 800 * 1024)
    assert letter.headers[:2] == [("ce_id", b"1"), ("x-empty", b"")]
    assert [value for name, value in letter.headers if name == "dlq_error"] == [b"no"]
    found = read(letter)
    assert found.lacks is None
    original = found.original
    assert (original.topic, original.partition, original.offset) == ("clip-created", 3, 5)
    assert list(original.headers) == letter.headers[:2]


def test_a_value_that_does_not_fit_is_truncated_and_its_hash_kept() -> None:
    value = bytes(range(256)) * 4096 + b"x"
    letter = letter_of(value=value)
    assert size_of(letter) <= MAX_DEAD_LETTER_BYTES
    assert value.startswith(letter.value)
    notes = dict(letter.headers)
    assert notes["dlq_truncated"] == str(len(value)).encode()
    assert notes["dlq_sha256"] == hashlib.sha256(value).hexdigest().encode()
    assert f"({len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()})" in str(read(letter).lacks)


def test_headers_and_a_key_that_do_not_fit_are_left_out() -> None:
    headers = [("x-huge", b"x" * MIB), ("ce_id", b"1"), *((f"x-{n}", b"y" * 1024) for n in range(100))]
    letter = letter_of(key=b"k" * MIB, value=b"v", headers=headers)
    assert size_of(letter) <= MAX_DEAD_LETTER_BYTES
    assert letter.key is None
    assert letter.headers[0] == ("ce_id", b"1")
    assert read(letter).lacks == f"the key ({MIB} bytes) and 38 header(s)"


def test_what_could_not_be_read_cannot_be_sent_back() -> None:
    record = UnreadableRecord(**vars(consumed("clip-created", value=b"")), problem="too large")
    assert read(dead_letter_of(record, ValueError("no"), "test", 1)).lacks == "what could not be read"


@pytest.mark.parametrize("error", [ValueError("\ud800" * 2000), ValueError("é" * 5000), KeyError("\x00")])
def test_any_error_can_be_noted(error: Exception) -> None:
    assert size_of(letter_of(error, value=b"x" * 2 * MIB)) <= MAX_DEAD_LETTER_BYTES


SIZES = st.integers(0, 2 * MIB)


@settings(deadline=None, max_examples=50)
@given(key=SIZES, value=SIZES, headers=st.lists(st.tuples(st.integers(0, 2000), SIZES), max_size=4))
def test_it_fits_whatever_it_holds(key: int, value: int, headers: list[tuple[int, int]]) -> None:
    letter = letter_of(
        key=b"k" * key, value=b"v" * value, headers=[("é" * name, b"h" * size) for name, size in headers]
    )
    assert size_of(letter) <= MAX_DEAD_LETTER_BYTES
    original = read(letter).original
    whole = (len(original.key or b""), len(original.value or b""), len(original.headers))
    assert (read(letter).lacks is None) == (whole == (key, value, len(headers)))
