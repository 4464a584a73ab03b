"""The scratch disk is empty when nobody works on it, whatever happened before."""

import asyncio
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry

from clip_cutter.domain.policy import Skipped
from clip_cutter.metrics import CutterMetrics
from clip_cutter.scratch import MEBIBYTE, Scratch
from clip_shared.contracts.events import SkipReason
from clip_shared.errors import TransientError
from tests.integration.clip_cutter.conftest import PATIENCE_SECONDS
from tests.integration.clip_cutter.disk import small_disk


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


def scratch_on(root: Path) -> Scratch:
    return Scratch(root, CutterMetrics(CollectorRegistry()))


def test_a_jobs_folder_is_private_and_goes_with_it(root: Path) -> None:
    scratch = scratch_on(root)
    folders: list[Path] = []

    def fail() -> None:
        with scratch.job(PATIENCE_SECONDS) as job:
            (job.folder / "clip.mp4").write_bytes(b"x")
            assert job.folder.stat().st_mode & 0o777 == 0o700
            folders.append(job.folder)
            raise RuntimeError

    with scratch.opened():
        with pytest.raises(RuntimeError):
            fail()
        assert not folders[0].exists()
    assert [path.name for path in root.iterdir()] == ["lock"]


def test_workers_do_not_touch_each_others_folders(root: Path) -> None:
    first, second = scratch_on(root), scratch_on(root)
    with first.opened(), first.job(PATIENCE_SECONDS) as job:
        with second.opened(), second.job(PATIENCE_SECONDS) as other:
            assert job.folder.exists()
            assert other.folder.parent != job.folder.parent
        assert job.folder.exists()


def test_what_a_killed_worker_left_is_removed_and_its_ffmpeg_ended(root: Path) -> None:
    code = f"""
        import subprocess, sys, time
        from pathlib import Path
        from prometheus_client import CollectorRegistry
        from clip_cutter.metrics import CutterMetrics
        from clip_cutter.scratch import Scratch

        scratch = Scratch(Path({str(root)!r}), CutterMetrics(CollectorRegistry()))
        with scratch.opened(), scratch.job(5) as job:
            (job.folder / "clip.mp4").write_bytes(b"x")
            child = subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(60)", str(job.folder / "clip.mp4")],
                start_new_session=True,
            )
            print(child.pid, flush=True)
            time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        stray = psutil.Process(int(worker.stdout.readline()))
        worker.kill()
    assert list(root.glob("worker-*/job-*/clip.mp4"))
    with scratch_on(root).opened():
        assert len(list(root.glob("worker-*"))) == 1
        assert not list(root.glob("worker-*/job-*"))
        stray.wait(5)
    assert [path.name for path in root.iterdir()] == ["lock"]


def sample(registry: CollectorRegistry, name: str) -> float:
    value = registry.get_sample_value(name)
    assert value is not None
    return value


async def test_a_job_waits_for_room(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_cutter.scratch.LOOK_AGAIN_SECONDS", 0.05)
    registry = CollectorRegistry()
    scratch = Scratch(root, CutterMetrics(registry))
    with scratch.opened(), scratch.job(5) as job:
        real = shutil.disk_usage(root)
        free = [10, 10, 10, 10_000]
        usage = type(real)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(real.total, real.used, free.pop(0)))
        await job.reserve(1000)
        free[:] = [10_000] * 100
        assert registry.get_sample_value("clips_scratch_free_bytes") == 10_000
        assert registry.get_sample_value("clips_scratch_size_bytes") == real.used + 10_000
        assert registry.get_sample_value("clips_disk_wait_seconds") == 0
        free[:] = [10] * 100
        waiting = asyncio.create_task(replace(job, max_wait_seconds=0.2).reserve(1000))
        await asyncio.sleep(0.01)
        assert registry.get_sample_value("clips_jobs_waiting_for_disk") == 1
        assert 0 < sample(registry, "clips_disk_wait_seconds") < 60
        with pytest.raises(TransientError, match="10 bytes free"):
            await waiting
    assert registry.get_sample_value("clips_jobs_waiting_for_disk") == 0
    assert registry.get_sample_value("clips_disk_wait_seconds") == 0


async def test_what_is_larger_than_the_whole_disk_is_not_waited_for(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        scratch = scratch_on(disk)
        with scratch.opened(), scratch.job(PATIENCE_SECONDS) as job:
            with pytest.raises(Skipped) as skip:
                await job.reserve(2 * MEBIBYTE)
            assert skip.value.reason is SkipReason.SOURCE_UNREADABLE
            assert str(skip.value) == (
                "A clip of this highlight needs 2 MiB of disk space while it is cut,"
                " more than this platform has. A shorter highlight may fit."
            )
            (job.folder / "excerpt").write_bytes(bytes(MEBIBYTE // 2))
            with pytest.raises(Skipped):  # beside what the job has there already
                await job.reserve(3 * MEBIBYTE // 4)
            await job.reserve(MEBIBYTE // 4)


async def test_what_others_take_of_the_disk_is_waited_for(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        (disk / "somebody's").write_bytes(bytes(MEBIBYTE // 2))
        scratch = scratch_on(disk)
        with scratch.opened(), scratch.job(0) as job:
            with pytest.raises(TransientError):
                await job.reserve(3 * MEBIBYTE // 4)
            (disk / "somebody's").unlink()
            await job.reserve(3 * MEBIBYTE // 4)


async def test_two_jobs_do_not_count_on_the_same_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        scratch = scratch_on(disk)
        with scratch.opened(), scratch.job(0) as job:
            with scratch.job(0) as other:
                await other.reserve(MEBIBYTE // 2)
                with pytest.raises(TransientError):  # room for either, and for one after the other
                    await job.reserve(3 * MEBIBYTE // 4)
                (other.folder / "clip.mp4").write_bytes(bytes(MEBIBYTE // 2))
                await job.reserve(MEBIBYTE // 4)
            await job.reserve(MEBIBYTE // 2)
