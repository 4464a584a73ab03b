"""Settings are checked at start-up, all problems at once, and no secret is shown."""

import pytest

from clip_shared.bus.settings import KafkaSettings
from clip_shared.http.settings import ApiSettings, ServiceSettings
from clip_shared.settings import load_settings
from clip_shared.storage import FreeStorageSettings


class Settings(ServiceSettings, KafkaSettings, FreeStorageSettings):
    """What a service would have."""


def test_all_problems_are_reported_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPERATIONS_PORT", "70000")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    with pytest.raises(SystemExit) as exit_:
        load_settings(Settings)
    assert exit_.value.code == 2
    told = capsys.readouterr().err
    assert all(name in told for name in ("OPERATIONS_PORT", "LOG_LEVEL", "KAFKA_BOOTSTRAP_SERVERS"))


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"SECRET_KEY": "hunter2hunter2", "BUCKET": "clips"}, "an access key and a secret key"),
        ({"ACCESS_KEY": "hunter2hunter2", "BUCKET": "clips"}, "an access key and a secret key"),
        ({"ACCESS_KEY": "key", "SECRET_KEY": "hunter2hunter2"}, "FREE_STORAGE_BUCKET"),
        ({"ENDPOINT": "http://s3:8333"}, "FREE_STORAGE_BUCKET"),
        ({"PUBLIC_ENDPOINT": "http://s3:8333"}, "FREE_STORAGE_BUCKET"),
        ({"BUCKET": "clips", "ADDRESSING": "dns"}, "FREE_STORAGE_ADDRESSING"),
    ],
)
def test_half_a_storage_is_refused_without_showing_the_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: dict[str, str], missing: str
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    for name, value in given.items():
        monkeypatch.setenv(f"FREE_STORAGE_{name}", value)
    with pytest.raises(SystemExit):
        load_settings(Settings)
    told = capsys.readouterr().err
    assert missing in told
    assert "hunter2" not in told


def test_a_bucket_is_a_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("FREE_STORAGE_BUCKET", "clips")
    settings = load_settings(Settings)
    assert (settings.free_storage_bucket, settings.free_storage_addressing) == ("clips", "path")


def test_sasl_needs_credentials(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    with pytest.raises(SystemExit):
        load_settings(Settings)
    assert "KAFKA_SASL_USERNAME" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["5", "31"])
def test_a_session_is_one_that_brokers_and_the_bus_allow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seconds: str
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    assert load_settings(Settings).kafka_session_timeout_seconds == 30
    monkeypatch.setenv("KAFKA_SESSION_TIMEOUT_SECONDS", seconds)
    with pytest.raises(SystemExit):
        load_settings(Settings)
    assert "KAFKA_SESSION_TIMEOUT_SECONDS" in capsys.readouterr().err


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("FREE_STORAGE_ENDPOINT", "")
    assert load_settings(Settings).free_storage_bucket is None


def test_an_api_on_the_operations_port_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTP_PORT", "8081")
    with pytest.raises(SystemExit):
        load_settings(ApiSettings)
    assert "HTTP_PORT and OPERATIONS_PORT must differ" in capsys.readouterr().err
