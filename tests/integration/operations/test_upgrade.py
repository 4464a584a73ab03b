"""A rolling upgrade: the registry of before the newest migrations works on their schema, beside this one."""

import asyncio
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from clip_registry.domain.clips import Cut
from clip_registry.timers import clip_counts as counts
from clip_shared.bus.envelope import to_record
from clip_shared.bus.settings import KafkaSettings
from local_stack.processes.ports import LOOPBACK
from local_stack.processes.process import Process
from local_stack.processes.workspace import Workspace
from tests.integration.clip_registry.conftest import Database
from tests.integration.clip_registry.test_service import (
    GATEWAY_TOKEN,
    JANITOR_TOKEN,
    a_service,
    publish,
    signed,
)
from tests.support.deployment import ROOT
from tests.unit.clip_registry.cuts import a_created_event, a_cut

pytestmark = pytest.mark.usefixtures("topics")

# The last commit with the schema of before. A change that adds migrations names the commit before them.
PREVIOUS = "16fad5b"
PACKAGES = ("shared", "services/clip-registry")
PUBLICATION = {"until": None, "embed": True, "downloadable": False, "indexable": False}


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """The code of the previous version, from the history."""
    command = ["git", "-C", str(ROOT), "archive", PREVIOUS, *PACKAGES]
    found = subprocess.run(command, capture_output=True, check=False)
    if found.returncode != 0:
        pytest.skip(f"the history here does not go back to {PREVIOUS}")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@asynccontextmanager
async def the_previous_registry(
    code: Path, database: Database, kafka: KafkaSettings
) -> AsyncIterator[httpx.AsyncClient]:
    """Run the previous version as a process of its own."""
    with Workspace() as workspace:
        http, operations = workspace.ports.claim("previous"), workspace.ports.claim("previous-operations")

        def readiness_error() -> str | None:
            try:
                answer = httpx.get(f"http://{LOOPBACK}:{operations}/healthz/ready", timeout=5)
            except httpx.TransportError as error:
                return str(error)
            return None if answer.status_code == httpx.codes.OK else answer.text

        process = Process(
            "previous",
            [sys.executable, "-m", "clip_registry", "serve"],
            log=workspace.state.log("previous"),
            environment={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(str(code / each) for each in PACKAGES),
                "DATABASE_URL": database.url,
                "KAFKA_BOOTSTRAP_SERVERS": kafka.kafka_bootstrap_servers,
                "REGISTRY_GATEWAY_TOKEN": GATEWAY_TOKEN,
                "REGISTRY_JANITOR_TOKEN": JANITOR_TOKEN,
                "FREE_STORAGE_BUCKET": "clips",
                "HTTP_HOST": LOOPBACK,
                "HTTP_PORT": str(http),
                "OPERATIONS_PORT": str(operations),
                "SHUTDOWN_DELAY_SECONDS": "0",
            },
            readiness_error=readiness_error,
        )
        await asyncio.to_thread(process.start)
        try:
            async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{http}", auth=signed) as client:
                yield client
        finally:
            await asyncio.to_thread(process.stop)


class ClipActions:
    """All that a clip may go through, asked of one registry."""

    def __init__(self, client: httpx.AsyncClient, database: Database) -> None:
        self._client, self._database = client, database

    async def is_there(self, cut: Cut) -> None:
        async with asyncio.timeout(60):
            while (await self._client.get(f"/v1/clips/{cut.clip_id}")).status_code != httpx.codes.OK:
                await asyncio.sleep(0.1)

    async def goes_on(self, cut: Cut) -> None:
        account = {"account_id": cut.twitch_account_id}
        for action, more in (
            ("keep", {}),
            ("publish", PUBLICATION),
            ("unpublish", {}),
            ("rename", {"title": "What a save"}),
            ("delete", {}),
            ("restore", {}),
            ("unkeep", {}),
        ):
            answer = await self._client.post(f"/v1/clips/{cut.clip_id}/{action}", json={**account, **more})
            assert answer.is_success, (action, answer.text)

    async def ends(self, cut: Cut) -> None:
        await self._database.expire(cut.clip_id)
        answer = await self._client.post("/v1/expirations", json={})
        assert answer.json()["expired"] == 1, answer.text


async def test_the_previous_registry_works_on_the_new_schema(
    previous: Path, own: Database, kafka_settings: KafkaSettings
) -> None:
    """Each version records events of the new one, and acts on what the other has recorded."""
    account = f"account-{uuid4().hex[:8]}"
    first, second = (a_cut(f"{account}-{name}", at=datetime.now(UTC), account=account) for name in ("1", "2"))

    async with the_previous_registry(previous, own, kafka_settings) as client:
        old = ClipActions(client, own)
        await publish(kafka_settings, to_record(a_created_event(first)))
        await old.is_there(first)
        await old.goes_on(first)

        async with a_service(own, kafka_settings) as new_client:
            new = ClipActions(new_client, own)
            await publish(kafka_settings, to_record(a_created_event(second)))
            for version in (new, old):
                await version.is_there(second)
                await version.goes_on(second)
            await new.goes_on(first)
            await old.ends(first)
            await new.ends(second)

            async with asyncio.timeout(60):
                while await own.run("SELECT FROM outbox WHERE queue = 'clip-lifecycle'"):
                    await asyncio.sleep(0.1)

    assert await own.run("SELECT DISTINCT status FROM generated_clips") == [("purged",)]
    assert await counts.drift(own.engine) == []
