"""What the environment may say."""

import pytest
from pydantic import ValidationError

from clip_shared.contracts.topics import DAY_SECONDS, TOPICS
from janitor.settings import JanitorSettings, SweepSettings

REQUIRED = {
    "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
    "FREE_STORAGE_BUCKET": "clips",
    "REGISTRY_URL": "http://registry:8080",
    "REGISTRY_TOKEN": "0123456789abcdef",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def test_what_is_required_is_enough() -> None:
    settings = JanitorSettings()
    assert settings.expiration_batch_size == 500
    assert settings.tick_budget_seconds == 300
    assert (settings.purge_limit, settings.purge_limit_percent) == (1000, 30)
    assert settings.sweep_limit_percent == 2


@pytest.mark.parametrize("name", REQUIRED)
def test_each_is_needed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(ValidationError, match=name.lower()):
        JanitorSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXPIRATION_BATCH_SIZE", "0"),
        ("EXPIRATION_BATCH_SIZE", "5001"),
        ("TICK_BUDGET_SECONDS", "0"),
        ("TICK_BUDGET_SECONDS", "inf"),
        ("SWEEP_MIN_AGE_HOURS", "0"),
        ("SWEEP_MIN_AGE_HOURS", "nan"),
        ("SWEEP_LIMIT_PERCENT", "101"),
        ("SWEEP_LIMIT_PERCENT", "nan"),
        ("PURGE_LIMIT", "-1"),
        ("PURGE_LIMIT_PERCENT", "nan"),
        ("PURGE_LIMIT_PERCENT", "100.1"),
        ("REGISTRY_TOKEN", "short"),
    ],
)
def test_values_that_cannot_work(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.lower()):
        JanitorSettings()


def test_the_sweep_needs_no_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS")
    assert SweepSettings().sweep_min_age_hours == 192


def test_an_object_is_left_alone_for_as_long_as_its_event_may_wait() -> None:
    [created] = [topic for topic in TOPICS if topic.name == "clip-created"]
    assert JanitorSettings().sweep_min_age_hours * 3600 > created.retention_days * DAY_SECONDS
