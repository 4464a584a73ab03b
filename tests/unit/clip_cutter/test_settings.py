"""The cutter's knobs."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from clip_cutter.domain.plan import ModeChoice
from clip_cutter.settings import CutterSettings

PROFILE: dict[str, Any] = {
    "endpoint": "https://s3.test",
    "access_key": "key",
    "secret_key": "very-secret",
    "buckets": ["vods"],
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")


def test_kafka_is_all_it_needs() -> None:
    settings = CutterSettings()
    assert settings.free_storage_bucket is None
    assert settings.source_storage_profiles == {}
    assert (settings.cut_mode, settings.min_clip_seconds, settings.max_clip_seconds) == (
        ModeChoice.AUTO,
        1,
        180,
    )
    assert (settings.max_clips_per_vod, settings.job_deadline_seconds) == (None, 600)
    assert settings.ffmpeg_threads >= 1


def test_profiles_are_read_from_json_and_keep_their_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_STORAGE_PROFILES", json.dumps({"archive": PROFILE}))
    settings = CutterSettings()
    profile = settings.source_storage_profiles["archive"]
    assert profile.buckets == {"vods"}
    assert profile.secret_key is not None
    assert profile.secret_key.get_secret_value() == "very-secret"
    assert "very-secret" not in repr(settings)


def test_a_profile_needs_no_more_than_its_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_STORAGE_PROFILES", json.dumps({"aws": {"buckets": ["vods"]}}))
    profile = CutterSettings().source_storage_profiles["aws"]
    assert (profile.endpoint, profile.access_key, profile.secret_key) == (None, None, None)
    assert profile.addressing == "path"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SOURCE_STORAGE_PROFILES", "{", "not JSON"),
        ("SOURCE_STORAGE_PROFILES", json.dumps({"a b": PROFILE}), "a b"),
        ("SOURCE_STORAGE_PROFILES", json.dumps({"a": {**PROFILE, "buckets": []}}), "buckets"),
        ("SOURCE_STORAGE_PROFILES", json.dumps({"a": {**PROFILE, "bucket": "vods"}}), "bucket"),
        ("SOURCE_STORAGE_PROFILES", json.dumps({"a": {**PROFILE, "endpoint": "s3"}}), "endpoint"),
        ("SOURCE_STORAGE_PROFILES", json.dumps({"a": {**PROFILE, "access_key": None}}), "go together"),
        ("SOURCE_STORAGE_PROFILES", json.dumps({"a": {**PROFILE, "secret_key": None}}), "go together"),
        ("SOURCE_STORAGE_PROFILES", json.dumps({"a": {**PROFILE, "addressing": "dns"}}), "addressing"),
        ("CUT_MODE", "fast", "cut_mode"),
        ("MIN_CLIP_SECONDS", "200", "greater than MAX_CLIP_SECONDS"),
        ("MAX_CLIP_SECONDS", "3601", "less than or equal to 3600"),
        ("MAX_CLIPS_PER_VOD", "0", "max_clips_per_vod"),
        ("JOB_DEADLINE_SECONDS", "0", "job_deadline_seconds"),
        ("ENCODING_DEADLINE_SECONDS", "0", "encoding_deadline_seconds"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as refused:
        CutterSettings()
    assert words in str(refused.value)
