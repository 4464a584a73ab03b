"""A headless Chromium, found on PATH, because a browser cannot be downloaded everywhere that tests run.

It reaches this machine only, and looks up no names. Each browser has a new profile and home folder.
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
# Browsers treat loopback addresses and localhost as secure. This name also leads here, and is not secure.
PLAIN_HOST = "clips.test"
FLAGS = (
    # Playwright turns off most background requests. The rest, and requests through a proxy, end here.
    f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1,"
    " MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--no-proxy-server",
    # Videos play without a click.
    "--autoplay-policy=no-user-gesture-required",
)


def find_chromium() -> str:
    """Return the path of the browser. When PATH has none, skip the test; in CI, fail it."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse(f"no Chromium on PATH ({', '.join(PROGRAMS)}): on Debian, apt-get install chromium")
    return found


@asynccontextmanager
async def running_browser(home: Path) -> AsyncIterator[Browser]:
    """Run a browser with its files in ``home``; all its processes end with this context."""
    program = find_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program,
            args=FLAGS,
            # Without a UTF-8 locale, it cannot save a file whose name is not ASCII.
            env={"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"},
            timeout=START_MS,
        )
        try:
            yield browser
        finally:
            await browser.close()
