"""What the environment may say."""

from typing import Any

import pytest
from pydantic import ValidationError

from clip_registry.settings import RegistrySettings

REQUIRED = {
    "DATABASE_URL": "postgresql://clips:secret@db:5432/clips",
    "REGISTRY_GATEWAY_TOKEN": "0123456789abcdef",
    "REGISTRY_JANITOR_TOKEN": "fedcba9876543210",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def test_what_is_required_is_enough() -> None:
    settings = RegistrySettings()
    assert settings.clip_retention_days == 7
    assert settings.max_ephemeral_clips_per_account is None


@pytest.mark.parametrize("name", ["CLIP_RETENTION_DAYS", "VODMANAGER_GENERATED_CLIP_RETENTION_DAYS"])
def test_retention_answers_to_both_names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "0.0001")
    assert RegistrySettings().clip_retention_days == 0.0001


def test_the_new_name_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VODMANAGER_GENERATED_CLIP_RETENTION_DAYS", "30")
    monkeypatch.setenv("CLIP_RETENTION_DAYS", "3")
    assert RegistrySettings().clip_retention_days == 3


def test_the_two_tokens_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_JANITOR_TOKEN", REQUIRED["REGISTRY_GATEWAY_TOKEN"])
    with pytest.raises(ValidationError, match="must differ"):
        RegistrySettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://u:hush@h/d"),
        ("DATABASE_URL", "hush"),
        ("REGISTRY_GATEWAY_TOKEN", "short"),
        ("REGISTRY_JANITOR_TOKEN", "short"),
        ("RELEASE_DELAY_SECONDS", "-1"),
        ("DATABASE_POOLER", "session"),
        ("CLIP_RETENTION_DAYS", "0"),
        ("CLIP_RETENTION_DAYS", "-1"),
        ("CLIP_RETENTION_DAYS", "inf"),
        ("CLIP_RETENTION_DAYS", "nan"),
        ("MAX_EPHEMERAL_CLIPS_PER_ACCOUNT", "0"),
    ],
)
def test_what_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as refusal:
        RegistrySettings()
    assert name.lower() in str(refusal.value).lower()
    assert "hush" not in _shown(refusal.value)


def _shown(error: ValidationError) -> str:
    details: list[Any] = error.errors(include_input=False, include_context=False)
    return str(details)
