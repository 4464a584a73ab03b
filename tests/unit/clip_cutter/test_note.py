"""What is stored with a clip fits where it is stored, and comes back unchanged."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.cutter import MAX_REASON
from clip_cutter.storage import MAX_NOTE_BYTES, Note
from clip_shared.events import CutMode, CutReceipt, HighlightKind

LONG = 1234567.123456
RECEIPT = CutReceipt(
    mode=CutMode.EXACT,
    requested_start_seconds=LONG,
    requested_end_seconds=LONG,
    actual_start_seconds=LONG,
    actual_end_seconds=LONG,
    audio_video_skew_ms=-38.123,
    fallback_reason="x" * MAX_REASON,
)
NOW = datetime(2026, 11, 22, 19, 3, 7, 123456, tzinfo=UTC)


def note(title: str, **changes: Any) -> Note:
    return Note(
        source_vod_id=changes.get("source_vod_id", "v1"),
        kind=HighlightKind.HEURISTIC,
        title=title,
        score=0.123456789012345,
        highlight_detected_at=NOW,
        duration_seconds=LONG,
        cut_receipt=changes.get("receipt", RECEIPT),
        created_at=NOW,
    )


@given(st.text(max_size=200))
def test_any_title_comes_back(title: str) -> None:
    packed = note(title).packed()
    assert packed.isascii()
    assert Note.unpacked(packed) == note(title)


@pytest.mark.parametrize(
    "characters", ['\x00\x01\x02\x1f"\\', "aä€😀", "".join(map(chr, range(0x4E00, 0x9000)))]
)
def test_the_longest_note_fits_into_s3s_metadata(characters: str) -> None:
    chance = random.Random(7)  # noqa: S311 - a test's chance
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
    for _ in range(50):
        title = "".join(chance.choices(characters, k=200))
        vod, reason = "".join(chance.choices(letters, k=64)), "".join(chance.choices(letters, k=MAX_REASON))
        receipt = RECEIPT.model_copy(update={"fallback_reason": reason})
        assert len(note(title, source_vod_id=vod, receipt=receipt).packed()) <= MAX_NOTE_BYTES


@pytest.mark.parametrize("text", ["", "not base64!", "aGVsbG8=", "eJwDAAAAAAE="])
def test_something_else_is_no_note(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's is one, too
        Note.unpacked(text)
