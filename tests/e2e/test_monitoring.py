"""A real Prometheus beside the running system answers every query of every panel and of every rule."""

import asyncio
import math
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from local_stack.processes.workspace import Workspace
from local_stack.servers.monitoring import Monitoring, MonitoringPrograms, MonitoringUnavailable
from tests.e2e.platform import Platform, until
from tests.support.monitoring import PromQuery, measured, panel_queries, rule_queries

SCRAPE_SECONDS = 1
RATE_INTERVAL = "1m"
# The time for data to arrive: the services read the ends of partitions only once in a while.
PATIENCE_SECONDS = 150
# Parts of queries that have a result only during a fault, or after a day of scraping.
SILENT_WHEN_WELL = ("absent(", "absent_over_time(", " offset 1d2h")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def monitoring(platform: Platform) -> AsyncIterator[Monitoring]:
    """Prometheus and Alertmanager, which have scraped the system before the load."""
    try:
        MonitoringPrograms.find()
    except MonitoringUnavailable as error:
        pytest.skip(str(error))
    with (
        Workspace() as workspace,
        Monitoring(workspace, platform.stack.targets, scrape_seconds=SCRAPE_SECONDS) as running,
    ):
        await _until_scraped(running)
        # First, because a restarted process counts from 0, and earlier increases may be lost.
        await _fail(platform)
        await _until_scraped_again(running)
        await _load(platform)
        yield running


async def _until_scraped(monitoring: Monitoring) -> None:
    async def scraped() -> bool | None:
        return True if await _answers(monitoring, "count(up == 1) == 4") else None

    await until(scraped, "all four services to be scraped")


async def _until_scraped_again(monitoring: Monitoring) -> None:
    async def scraped() -> bool | None:
        # After its first scrape, the counts of the new process are increases.
        restarted = 'changes(process_start_time_seconds{job="clip-registry"}[5m]) >= 1'
        return True if await _answers(monitoring, restarted) else None

    await until(scraped, "the registry's new process to be scraped")


async def _load(platform: Platform) -> None:
    """Cause every counted event once."""
    purged, kept, published, deleted = [await platform.detect(title=f"Clip {number}") for number in range(4)]
    await platform.detect(source={"profile": "local", "bucket": "vods", "key": "nowhere.mp4"})
    await platform.send("highlight-detected", b"no JSON", key=uuid.uuid4().hex)
    for clip_id in (purged, kept, published, deleted):
        await platform.available(clip_id)
    async with platform.gateway() as streamer, platform.gateway(None) as guest:
        await streamer.get("/v1/clips")
        for view in ("watch", "download", "poster"):
            await streamer.get(f"/v1/clips/{kept}/{view}")
        await streamer.post(f"/v1/clips/{kept}/keep")
        await streamer.post(f"/v1/clips/{published}/publish")
        await streamer.delete(f"/v1/clips/{deleted}")
        await guest.get("/v1/clips")
        await platform.expire(purged)
        await platform.tick()


async def _fail(platform: Platform) -> None:
    """Cause a 5xx of the gateway: the registry is stopped."""
    await asyncio.to_thread(platform.stack.registry.kill)
    try:
        async with platform.gateway() as streamer:
            answer = await streamer.get("/v1/clips")
    finally:
        await asyncio.to_thread(platform.stack.registry.start)
    assert answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR


async def _answers(monitoring: Monitoring, expression: str) -> bool:
    """Return whether Prometheus has a value for an expression.

    Raises:
        AssertionError: Prometheus refuses the expression.
    """
    async with httpx.AsyncClient(base_url=monitoring.prometheus.url, timeout=30) as client:
        answer = await client.get("/api/v1/query", params={"query": expression})
    assert answer.status_code == httpx.codes.OK, f"{expression}: {answer.text}"
    return any(not math.isnan(float(each["value"][1])) for each in answer.json()["data"]["result"])


async def _unanswered(monitoring: Monitoring, queries: list[PromQuery]) -> list[PromQuery]:
    """Repeat queries until all have a value or the time is over; return those without a value."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while queries := [each for each in queries if not await _answers(monitoring, each.expression)]:
                await asyncio.sleep(SCRAPE_SECONDS)
    except TimeoutError:
        pass
    return queries


@pytest.mark.timeout(3 * PATIENCE_SECONDS)
async def test_every_panel_has_data(monitoring: Monitoring) -> None:
    assert await _unanswered(monitoring, list(panel_queries(RATE_INTERVAL))) == []


@pytest.mark.timeout(3 * PATIENCE_SECONDS)
async def test_every_rule_has_something_to_compare(monitoring: Monitoring) -> None:
    parts = [
        PromQuery(query.where, part)
        for query in rule_queries()
        for part in measured(query.expression)
        if not any(words in part for words in SILENT_WHEN_WELL)
    ]
    assert await _unanswered(monitoring, parts) == []


async def test_every_rule_is_evaluated(monitoring: Monitoring) -> None:
    async with httpx.AsyncClient(base_url=monitoring.prometheus.url) as client:

        async def evaluated() -> list[str] | None:
            groups = (await client.get("/api/v1/rules")).json()["data"]["groups"]
            health = {rule["health"]: rule for group in groups for rule in group["rules"]}
            return None if "unknown" in health else sorted(health)

        assert await until(evaluated, "all rules to be evaluated") == ["ok"]


async def test_an_alert_reaches_its_receiver(monitoring: Monitoring) -> None:
    """The load caused a dead letter, for which an alert fires."""
    async with httpx.AsyncClient(base_url=monitoring.alertmanager.url) as client:

        async def received() -> dict[str, object] | None:
            query = {"filter": 'alertname="ClipsDeadLetters"', "receiver": "tickets"}
            alerts: list[dict[str, object]] = (await client.get("/api/v2/alerts", params=query)).json()
            return alerts[0] if alerts else None

        alert = await until(received, "the alert to reach Alertmanager")
    assert alert["annotations"]["runbook_url"] == "docs/runbooks/ClipsDeadLetters.md"  # type: ignore[index]
