"""What the environment may say."""

import pytest
from pydantic import ValidationError

from janitor.settings import Settings

REQUIRED = {
    "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
    "FREE_STORAGE_ENDPOINT": "http://s3:8333",
    "FREE_STORAGE_BUCKET": "clips",
    "FREE_STORAGE_ACCESS_KEY": "key",
    "FREE_STORAGE_SECRET_KEY": "secret",
    "REGISTRY_URL": "http://registry:8080",
    "REGISTRY_TOKEN": "0123456789abcdef",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def test_what_is_required_is_enough() -> None:
    settings = Settings()
    assert settings.expiration_batch_size == 500
    assert settings.tick_budget_seconds == 300


@pytest.mark.parametrize("name", REQUIRED)
def test_each_is_needed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EXPIRATION_BATCH_SIZE", "0"),
        ("EXPIRATION_BATCH_SIZE", "5001"),
        ("TICK_BUDGET_SECONDS", "0"),
        ("TICK_BUDGET_SECONDS", "inf"),
        ("REGISTRY_TOKEN", "short"),
    ],
)
def test_values_that_cannot_work(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()
