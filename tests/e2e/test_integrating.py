"""The programs of docs/integrating.md run as on the page, against a running stack."""

import asyncio
import os
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from clip_shared.contracts.events import clip_id_for
from tests.e2e.platform import Platform
from tests.support import programs

# A compiler is downloaded and Java is started, perhaps on a busy machine.
pytestmark = pytest.mark.timeout(400)
PATIENCE_SECONDS = 100
PUBLISH = ["publish_highlight.py", "PublishHighlight.java"]
FOLLOW = ["follow_clips.py", "FollowClips.java"]
# Variables of a shell that has sourced stack.env.
SHELL = ("PATH", "HOME", "LANG", "TMPDIR")


class IntegrationPrograms:
    """The programs of the page, in a folder and an environment."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = folder, environment

    @asynccontextmanager
    async def running(self, name: str, *arguments: str) -> AsyncIterator[Process]:
        """Run a program, and end it if it has not ended by itself. ``errors`` has its standard error."""
        with self.errors.open("a") as errors:
            process = await asyncio.create_subprocess_exec(
                *programs.words(name, self._folder),
                *arguments,
                env=self._environment,
                cwd=self._folder,
                stdout=PIPE,
                stderr=errors,
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def run(self, name: str, *arguments: str) -> str:
        """Run a program to its end, and return its output."""
        async with self.running(name, *arguments) as process, asyncio.timeout(PATIENCE_SECONDS):
            printed, _ = await process.communicate()
        assert process.returncode == 0, self.errors.read_text()
        return printed.decode()

    async def line_of(self, process: Process, *wanted: str) -> str:
        """Wait for a line with all of these words."""
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for line in process.stdout:
                if all(word in line.decode() for word in wanted):
                    return line.decode()
        raise AssertionError(f"it ended without a line with {wanted}: {self.errors.read_text()}")

    @property
    def errors(self) -> Path:
        """The standard error of all programs."""
        return self._folder / "errors.txt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs, with the Java programs compiled."""
    folder = tmp_path_factory.mktemp("integrating")
    programs.write_all(folder)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path, platform: Platform) -> IntegrationPrograms:
    shell = {name: os.environ[name] for name in SHELL if name in os.environ}
    return IntegrationPrograms(
        folder, {**shell, **platform.stack.environment, "TOKEN": platform.token("streamer-1")}
    )


def test_every_program_is_run_here(folder: Path) -> None:
    assert list(programs.texts()) == ["upload_vod.py", *PUBLISH, *FOLLOW, "fetch_clip.py"]
    assert all(Path(programs.words(name, folder)[0]).exists() for name in programs.texts())


@pytest.mark.parametrize(
    ("publish", "follow"), list(zip(PUBLISH, FOLLOW, strict=True)), ids=["python", "java"]
)
async def test_a_highlight_is_published_and_its_clip_followed(
    page: IntegrationPrograms, publish: str, follow: str
) -> None:
    highlight = f"highlight-{uuid.uuid4().hex[:12]}"
    clip = str(clip_id_for(highlight))
    printed = await page.run(publish, highlight, "vod.mp4", "5", "8")
    assert printed in {f"clip {clip}\n", f"sent highlight {highlight}\n"}
    async with page.running(follow, f"platform.{highlight}") as following:
        assert clip in await page.line_of(following, "clip.available.v1", highlight)


async def test_a_vod_is_uploaded_and_its_clip_fetched(
    page: IntegrationPrograms, platform: Platform, vod: Path, tmp_path: Path
) -> None:
    copy, saved = tmp_path / f"{uuid.uuid4().hex}.mp4", tmp_path / "clip.mp4"
    copy.symlink_to(vod)
    await page.run("upload_vod.py", str(copy))
    source = {"profile": "local", "bucket": "vods", "key": copy.name}
    clip = await platform.detect(source=source, start_seconds=1, end_seconds=3)
    await platform.available(clip)
    printed = await page.run("fetch_clip.py", str(clip), str(saved))
    assert printed.startswith("What a save: 2.0 s, expires at ")
    assert saved.read_bytes()[4:8] == b"ftyp"
