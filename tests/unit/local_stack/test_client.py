import subprocess
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from aiokafka import ConsumerRecord

from clip_shared.bus.envelope import to_record
from clip_shared.contracts.events import ClipAvailable, ClipSkipped, Event, HighlightKind, SkipReason
from local_stack.client import Client, HighlightReport, read_env, read_outcome, write_env

NOW = datetime.now(UTC)
IDS = {"stream_highlight_id": "highlight-1", "twitch_account_id": "a", "source_vod_id": "v"}
AVAILABLE = ClipAvailable(
    **IDS,
    clip_id=uuid.uuid4(),
    version=1,
    title="t",
    kind=HighlightKind.REFINED,
    duration_seconds=1,
    expires_at=None,
)
SKIPPED = ClipSkipped(
    **IDS,
    kind=HighlightKind.REFINED,
    highlight_event_id="e",
    highlight_detected_at=NOW,
    reason=SkipReason.SOURCE_MISSING,
    message="The VOD does not exist.",
)


def record(data: Any, **changes: Any) -> ConsumerRecord:
    sent = to_record(Event.new(data, source="test"))
    facts = {"topic": sent.topic, "key": sent.key, "value": sent.value, "headers": sent.headers}
    return SimpleNamespace(timestamp=int(NOW.timestamp() * 1000) + 1000, **{**facts, **changes})


@pytest.mark.parametrize(
    "environment",
    [{"PLAIN": "http://127.0.0.1:1"}, {"JSON": '{"local": {"buckets": ["vods"]}}'}, {"QUOTES": "it's $HOME"}],
)
def test_stack_env_reads_the_same_here_and_in_a_shell(tmp_path: Path, environment: dict[str, str]) -> None:
    file = tmp_path / "stack.env"
    file.write_text(write_env(environment))
    assert read_env(file.read_text()) == environment
    name, value = next(iter(environment.items()))
    script = f'. "{file}"; printf %s "${name}"'
    shell = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout == value


def test_a_token_is_what_the_gateway_asks_for() -> None:
    settings = {"JWT_SECRET": "s" * 32, "JWT_ISSUER": "i", "JWT_AUDIENCE": "a", "JWT_ALGORITHM": "HS256"}
    token = Client(settings).token("streamer-1", lifetime=timedelta(minutes=1))
    claims = jwt.decode(token, "s" * 32, algorithms=["HS256"], issuer="i", audience="a")
    assert claims["sub"] == "streamer-1"


def test_each_kind_of_outcome_is_read() -> None:
    assert read_outcome(record(AVAILABLE)) == HighlightReport("highlight-1")
    assert read_outcome(record(SKIPPED)) == HighlightReport("highlight-1", "The VOD does not exist.")
    for topic in ("highlight-detected", "highlight-encodings", "clip-created", "clip-skipped"):
        dead = record(SKIPPED, topic=f"{topic}.dlq", headers=[("dlq_error", b"unknown profile")])
        assert read_outcome(dead) == HighlightReport("highlight-1", "unknown profile")


@pytest.mark.parametrize("changes", [{"value": b"{"}, {"headers": []}, {"value": None}])
def test_records_without_an_outcome_are_skipped(changes: dict[str, Any]) -> None:
    assert read_outcome(record(AVAILABLE, **changes)) is None
