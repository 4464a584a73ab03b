"""What holds for all four services alike."""

import importlib
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from fastapi import FastAPI
from faststream import AckPolicy
from pydantic_settings import BaseSettings

from clip_shared.bus.bus import Bus
from tests.reference.settings import SERVICES as SETTINGS

SERVICES = ("clip_cutter", "clip_registry", "clip_gateway", "janitor")
SUBSCRIBED = {
    "clip_cutter": {"highlight-detected", "highlight-encodings"},
    "clip_registry": {"clip-created", "clip-skipped"},
    "clip_gateway": set[str](),
    "janitor": {"daily-tick", "clip-objects-released"},
}
ENVIRONMENT = {
    "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092",
    "DATABASE_URL": "postgresql://clips:clips@localhost/clips",
    "REGISTRY_URL": "http://localhost:1",
    "REGISTRY_TOKEN": "a-token-for-tests-only",
    "REGISTRY_GATEWAY_TOKEN": "a-token-for-tests-only",
    "REGISTRY_JANITOR_TOKEN": "another-token-for-tests-only",
    "FREE_STORAGE_ENDPOINT": "http://localhost:2",
    "FREE_STORAGE_BUCKET": "clips",
    "FREE_STORAGE_ACCESS_KEY": "key",
    "FREE_STORAGE_SECRET_KEY": "secret",
    "SOURCE_STORAGE_PROFILES": "{}",
    "PUBLIC_URL": "http://localhost:3",
    "JWT_ALGORITHM": "HS256",
    "JWT_SECRET": "a-secret-of-at-least-thirty-two-bytes",
    "JWT_ISSUER": "https://issuer.test",
    "JWT_AUDIENCE": "clips",
}


def module(service: str, name: str) -> ModuleType:
    return importlib.import_module(f"{service}.{name}")


def settings_of(service: str) -> type[BaseSettings]:
    return SETTINGS[service.replace("_", "-")]


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return str(request.param)


def build(service: str) -> FastAPI:
    app = module(service, "app").build(settings_of(service)())
    assert isinstance(app, FastAPI)
    return app


async def test_every_subscriber_commits_only_what_was_handled(service: str) -> None:
    bus: Bus | None = build(service).state.bus
    # FastStream types its subscribers as their base class, which knows neither topics nor arguments.
    subscribers: list[Any] = list(bus.broker.subscribers) if bus else []
    assert {name for each in subscribers for name in each.topic_names} == SUBSCRIBED[service]
    for each in subscribers:
        assert each.ack_policy is AckPolicy.NACK_ON_ERROR
        # FastStream turns the client's own commits on for the policies that may lose events.
        assert not each._connection_args.get("enable_auto_commit")


async def test_every_subscriber_has_the_session_of_the_settings(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_SESSION_TIMEOUT_SECONDS", "7")
    bus: Bus | None = build(service).state.bus
    subscribers: list[Any] = list(bus.broker.subscribers) if bus else []
    assert {each._connection_args["session_timeout_ms"] for each in subscribers} <= {7000}


async def test_only_the_service_that_runs_native_code_writes_crash_marks(service: str) -> None:
    bus: Bus | None = build(service).state.bus
    marked = [each.writes_crash_marks for each in bus.subscriptions] if bus else []
    assert set(marked) <= {service == "clip_cutter"}


async def test_two_apps_in_one_process_do_not_share_subscribers(service: str) -> None:
    first, second = build(service).state.bus, build(service).state.bus
    if first is not None:
        assert not set(first.broker.subscribers) & set(second.broker.subscribers)


def test_every_service_has_the_same_rooms(service: str) -> None:
    for name in ("__main__", "app", "settings", "domain", "metrics"):
        assert module(service, name).__doc__


def test_every_setting_is_described(service: str) -> None:
    fields = settings_of(service).model_fields
    assert [name for name, field in fields.items() if not field.description] == []


def test_without_settings_everything_missing_is_named(service: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", service, "serve"],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert "The settings cannot be used" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_import_needs_no_settings_and_opens_no_connection(service: str) -> None:
    code = (
        "import socket\n"
        "def refuse(*_): raise RuntimeError('connected at import')\n"
        "socket.socket.connect = refuse\n"
        f"import sys, {service}.app, {service}.__main__\n"
        # Tracing is off unless it is turned on, and costs no memory then.
        "assert 'opentelemetry.sdk' not in sys.modules"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, env={"PATH": ""}, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
