"""The parts, put together: what readiness says."""

from typing import Any

import httpx
import pytest

from clip_cutter.app import build
from clip_cutter.ffmpeg.run import UnusableTool
from clip_cutter.settings import CutterSettings


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")


async def checks() -> dict[str, Any]:
    transport = httpx.ASGITransport(build(CutterSettings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        found: dict[str, Any] = (await client.get("/healthz/ready")).json()["checks"]
        return found


async def test_without_storage_it_is_ready_but_degraded() -> None:
    found = await checks()
    assert found["storage"]["status"] == "degraded"
    assert "FREE_STORAGE_" in found["storage"]["reason"]
    assert found["sources"]["status"] == "degraded"
    assert found["ffmpeg"]["status"] == "ready"


async def test_storage_that_is_out_is_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ENDPOINT": "http://127.0.0.1:9",
        "BUCKET": "clips",
        "ACCESS_KEY": "key",
        "SECRET_KEY": "secret",
    }.items():
        monkeypatch.setenv(f"FREE_STORAGE_{name}", value)
    assert (await checks())["storage"]["status"] == "failing"


def test_without_ffmpeg_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFMPEG_PATH", "/nowhere/ffmpeg")
    with pytest.raises(UnusableTool, match="FFMPEG_PATH"):
        build(CutterSettings())
