"""What is stored with a clip fits where it is stored, and comes back unchanged."""

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_cutter.announcements import receipt_of
from clip_cutter.containers.model import TrackKind
from clip_cutter.cutter import FinishedClip
from clip_cutter.domain.plan import TrackPlan
from clip_cutter.domain.policy import Window
from clip_cutter.storage import MAX_METADATA_BYTES, MAX_REASON, ClipMetadata
from clip_shared.contracts.events import CutMode, CutReceipt, HighlightKind, TrackFate, TrackReceipt

LONG = 1234567.123456
RECEIPT = CutReceipt(
    mode=CutMode.EXACT,
    requested_start_seconds=LONG,
    requested_end_seconds=LONG,
    actual_start_seconds=LONG,
    actual_end_seconds=LONG,
    audio_video_skew_ms=-38.123,
    fallback_reason="x" * MAX_REASON,
    video=TrackReceipt(fate=TrackFate.RE_ENCODED, reason="y" * MAX_REASON),
    audio=TrackReceipt(fate=TrackFate.LEFT_OUT, reason="z" * MAX_REASON),
    remark="w" * MAX_REASON,
)
NOW = datetime(2026, 11, 22, 19, 3, 7, 123456, tzinfo=UTC)


def metadata(title: str, **changes: Any) -> ClipMetadata:
    return ClipMetadata(
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
    packed = metadata(title).packed()
    assert packed.isascii()
    assert ClipMetadata.unpacked(packed) == metadata(title)


@pytest.mark.parametrize(
    "characters", ['\x00\x01\x02\x1f"\\', "aä€😀", "".join(map(chr, range(0x4E00, 0x9000)))]
)
def test_the_longest_note_fits_into_s3s_metadata(characters: str) -> None:
    chance = random.Random(7)  # noqa: S311 - a test's chance
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
    for _ in range(50):
        title = "".join(chance.choices(characters, k=200))
        vod = "".join(chance.choices(letters, k=64))
        fallback, video, audio, remark = ("".join(chance.choices(letters, k=MAX_REASON)) for _ in range(4))
        receipt = RECEIPT.model_copy(
            update={
                "fallback_reason": fallback,
                "video": TrackReceipt(fate=TrackFate.RE_ENCODED, reason=video),
                "audio": TrackReceipt(fate=TrackFate.LEFT_OUT, reason=audio),
                "remark": remark,
            }
        )
        assert len(metadata(title, source_vod_id=vod, receipt=receipt).packed()) <= MAX_METADATA_BYTES


@pytest.mark.parametrize("text", ["", "not base64!", "aGVsbG8=", "eJwDAAAAAAE="])
def test_something_else_is_no_note(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's is one, too
        ClipMetadata.unpacked(text)


def test_a_receipt_says_what_became_of_each_track_and_no_more_than_fits() -> None:
    clip = FinishedClip(
        video=Path(),
        poster=Path(),
        mode=CutMode.COPY,
        start=1.0,
        end=2.0,
        size_bytes=1,
        skew_ms=0.0,
        fallback_reason="x" * 1000,
        tracks=(
            TrackPlan(TrackKind.VIDEO, TrackFate.COPIED),
            TrackPlan(TrackKind.AUDIO, TrackFate.RE_ENCODED, "y" * 1000),
        ),
        remark="z" * 1000,
    )
    receipt = receipt_of(clip, Window(1.0, 2.0))
    assert receipt.video == TrackReceipt(fate=TrackFate.COPIED)
    assert receipt.audio == TrackReceipt(fate=TrackFate.RE_ENCODED, reason="y" * MAX_REASON)
    assert (receipt.fallback_reason, receipt.remark) == ("x" * MAX_REASON, "z" * MAX_REASON)


def test_a_receipt_from_before_says_nothing_of_the_tracks() -> None:
    clip = FinishedClip(Path(), Path(), CutMode.COPY, start=1.0, end=2.0, size_bytes=1, skew_ms=None)
    receipt = receipt_of(clip, Window(1.0, 2.0))
    assert (receipt.video, receipt.audio, receipt.remark, receipt.fallback_reason) == (None,) * 4
