"""A headless Chromium: the machine's own, for none can be downloaded everywhere that tests run.

It asks nothing of the world: not even a name is looked up. Each one has a profile and a home of its own.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
START_MS = 30_000
# Browsers take loopback addresses, and localhost, for as safe as TLS. This name leads here too, and is not.
PLAIN_HOST = "clips.test"
FLAGS = (
    # Playwright turns off most of what a browser fetches by itself. Nothing but this machine can be reached,
    # not through a proxy either.
    f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1,"
    " MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--no-proxy-server",
    # Videos play without a click.
    "--autoplay-policy=no-user-gesture-required",
)


def find_chromium() -> str:
    """The browser on PATH. Where there is none the test is skipped, but never in CI."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse(f"no Chromium on PATH ({', '.join(PROGRAMS)}): on Debian, apt-get install chromium")
    return found


@asynccontextmanager
async def running_browser(home: Path) -> AsyncIterator[Browser]:
    """A browser, all of whose processes end with this; ``home`` is where it keeps what it keeps."""
    program = find_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program,
            args=FLAGS,
            # Without a UTF-8 locale it could save no file whose name is not ASCII.
            env={"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"},
            timeout=START_MS,
        )
        try:
            yield browser
        finally:
            await browser.close()
