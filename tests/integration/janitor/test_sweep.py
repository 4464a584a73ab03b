"""The sweep's command on a real bucket and the real registry."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import structlog
from typer.testing import CliRunner, Result

from clip_registry.reports import ReportedCut
from clip_shared.contracts.events import clip_id_for
from janitor import __main__ as command
from janitor import storage
from local_stack.servers.servers import Addresses
from tests.integration.clip_gateway.conftest import JANITOR_TOKEN, RealRegistrySetup
from tests.integration.janitor.conftest import keys_in, put
from tests.unit.clip_registry.cuts import a_cut

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def environment(addresses: Addresses, bucket: str, real_registry: RealRegistrySetup) -> dict[str, str]:
    return {
        "FREE_STORAGE_ENDPOINT": addresses.s3_endpoint_url,
        "FREE_STORAGE_REGION": addresses.s3_region,
        "FREE_STORAGE_BUCKET": bucket,
        "FREE_STORAGE_ACCESS_KEY": addresses.s3_access_key,
        "FREE_STORAGE_SECRET_KEY": addresses.s3_secret_key,
        "REGISTRY_URL": real_registry.url,
        "REGISTRY_TOKEN": JANITOR_TOKEN,
        # Of three objects, one is more than two percent.
        "SWEEP_LIMIT_PERCENT": "50",
    }


@pytest.fixture
def in_a_year(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the tests upload is old."""
    monkeypatch.setattr(command, "_hours_ago", lambda _: datetime.now(UTC) + timedelta(days=365))
    yield
    structlog.reset_defaults()


async def sweep(environment: dict[str, str], *options: str) -> Result:
    """Run the command beside the registry, which lives in this thread's loop."""
    runner = CliRunner()
    return await asyncio.to_thread(runner.invoke, command.cli, ["sweep", *options], env=environment)


async def a_recorded_clip(real_registry: RealRegistrySetup, s3: "S3Client", bucket: str) -> set[str]:
    """The objects of a new clip, in the bucket and in the registry."""
    cut = a_cut(f"hl-{uuid4().hex}", bucket=bucket)
    keys = {each.key for each in cut.objects}
    await put(s3, bucket, *keys)
    await real_registry.store.record([ReportedCut(cut, "created")])
    return keys


def orphan() -> str:
    return f"clips/ann/{clip_id_for(uuid4().hex)}/event-1.mp4"


@pytest.mark.usefixtures("in_a_year")
async def test_orphans_are_shown_and_then_deleted(
    environment: dict[str, str], real_registry: RealRegistrySetup, s3: "S3Client", bucket: str, tmp_path: Path
) -> None:
    owned = await a_recorded_clip(real_registry, s3, bucket)
    lost = orphan()
    await put(s3, bucket, lost, "precious", "clips/not-ours")
    dry = await sweep(environment)
    assert dry.exit_code == 0, dry.output
    assert "examined  3 objects" in dry.stdout
    assert "orphans   1 objects, 1 B" in dry.stdout
    assert lost in dry.stdout
    assert "repeat with --delete" in dry.stdout
    assert lost in await keys_in(s3, bucket)
    metrics = tmp_path / "sweep.prom"
    done = await sweep(environment, "--delete", "--metrics-file", str(metrics))
    assert done.exit_code == 0, done.output
    assert "deleted   1 objects" in done.stdout
    assert await keys_in(s3, bucket) == owned | {"precious", "clips/not-ours"}
    assert "clips_sweep_deleted_objects 1.0" in metrics.read_text()


@pytest.mark.usefixtures("in_a_year")
async def test_the_wrong_registry_cannot_empty_the_bucket(
    environment: dict[str, str], s3: "S3Client", bucket: str
) -> None:
    lost = orphan()
    await put(s3, bucket, lost)
    dry = await sweep(environment)
    assert dry.exit_code == 0
    assert "--delete would refuse" in dry.stdout
    refused = await sweep(environment, "--delete")
    assert refused.exit_code == 3
    assert "more than 50 %" in refused.stderr
    assert "--force" in refused.stderr
    assert await keys_in(s3, bucket) == {lost}
    assert (await sweep(environment, "--delete", "--force")).exit_code == 0
    assert await keys_in(s3, bucket) == set()


@pytest.mark.usefixtures("in_a_year")
async def test_unless_told_otherwise_two_percent_is_the_limit(
    environment: dict[str, str], real_registry: RealRegistrySetup, s3: "S3Client", bucket: str
) -> None:
    del environment["SWEEP_LIMIT_PERCENT"]
    owned = [await a_recorded_clip(real_registry, s3, bucket) for _ in range(24)]
    lost = orphan()
    await put(s3, bucket, lost)  # of 49 objects
    refused = await sweep(environment, "--delete")
    assert refused.exit_code == 3, refused.output
    assert "1 of 49 examined objects have no clip, which is more than 2 %; 0 were deleted" in refused.stderr
    owned.append(await a_recorded_clip(real_registry, s3, bucket))
    assert (await sweep(environment, "--delete")).exit_code == 0
    assert await keys_in(s3, bucket) == {key for keys in owned for key in keys}


@pytest.mark.usefixtures("in_a_year")
async def test_a_purged_clips_objects_are_orphans_when_their_release_was_lost(
    environment: dict[str, str], real_registry: RealRegistrySetup, s3: "S3Client", bucket: str
) -> None:
    kept, purged = [await a_recorded_clip(real_registry, s3, bucket) for _ in range(2)]
    [clip_id] = {key.split("/")[2] for key in purged}
    await real_registry.database.run(
        "UPDATE generated_clips SET expires_at = now() WHERE clip_id = CAST(:clip_id AS uuid)",
        clip_id=clip_id,
    )
    await real_registry.store.purge(5000, None)
    assert (await sweep(environment, "--delete")).exit_code == 0
    assert await keys_in(s3, bucket) == kept


@pytest.mark.usefixtures("in_a_year")
async def test_many_pages(
    environment: dict[str, str], s3: "S3Client", bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MAX_KEYS", 7)
    await put(s3, bucket, *(orphan() for _ in range(30)))
    result = await sweep(environment, "--delete", "--force")
    assert result.exit_code == 0, result.output
    assert "deleted   30 objects" in result.stdout
    assert "… and 20 more" in result.stdout
    assert await keys_in(s3, bucket) == set()


def run(environment: dict[str, str], *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "janitor", "sweep", *options],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_what_was_just_uploaded_is_left_alone(
    environment: dict[str, str], s3: "S3Client", bucket: str
) -> None:
    lost = orphan()
    await put(s3, bucket, lost)
    result = await asyncio.to_thread(run, environment, "--delete", "--force", "--older-than", "1")
    assert result.returncode == 0, result.stderr
    assert "left out  1 younger objects" in result.stdout
    assert await keys_in(s3, bucket) == {lost}


@pytest.mark.parametrize(
    ("changed", "options", "code", "said"),
    [
        ({"FREE_STORAGE_ENDPOINT": "http://127.0.0.1:1"}, (), 1, "not finished: storage"),
        ({"FREE_STORAGE_BUCKET": "no-such-bucket"}, (), 1, "no-such-bucket"),
        ({"REGISTRY_TOKEN": ""}, (), 2, "REGISTRY_TOKEN"),
        ({}, ("--force",), 2, "only together with --delete"),
        ({}, ("--older-than", "0"), 2, "older-than"),
    ],
)
async def test_what_stands_in_the_way_is_said_and_coded(
    environment: dict[str, str], changed: dict[str, str], options: tuple[str, ...], code: int, said: str
) -> None:
    result = await asyncio.to_thread(run, environment | changed, *options)
    assert (result.returncode, "Traceback" in result.stderr) == (code, False), result.stderr
    assert said in result.stderr


@pytest.mark.usefixtures("in_a_year")
async def test_without_the_registry_nothing_is_an_orphan(
    environment: dict[str, str], s3: "S3Client", bucket: str
) -> None:
    lost = orphan()
    await put(s3, bucket, lost)
    result = await sweep(environment | {"REGISTRY_URL": "http://127.0.0.1:1"}, "--delete", "--force")
    assert result.exit_code == 1
    assert "not finished: the registry" in result.stderr
    assert await keys_in(s3, bucket) == {lost}
