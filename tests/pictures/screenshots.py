"""Take the screenshots of docs/screenshots on a temporary stack: ``make screenshots``."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import typer
from playwright.async_api import Browser, Page, ViewportSize

from local_stack.client import Client
from local_stack.demo import sample
from local_stack.stack import LocalStack, temporary_stack
from tests.support.browser import running_browser

ACCOUNT = "streamer-1"
FOLDER = Path("docs/screenshots")
QUALITY = 82  # of JPEG: an image stays well below 300 kB
# Long enough for the posters to load.
SETTLE_MS = 700
# Clips of the sample that are kept or published before the screenshots.
KEPT = ("The boss falls at the ninth attempt", "First win of the season")
PUBLISHED = "Grandmother joins the stream"

Scheme = Literal["light", "dark"]


@dataclass(frozen=True)
class Viewer:
    """A device and colour scheme."""

    name: str
    viewport: ViewportSize
    scheme: Scheme
    is_phone: bool


DESKTOP, PHONE = ViewportSize(width=1280, height=860), ViewportSize(width=390, height=844)
LOOKS = [
    Viewer(f"{device}-{scheme}", viewport, scheme, device == "phone")
    for device, viewport in (("desktop", DESKTOP), ("phone", PHONE))
    for scheme in ("light", "dark")
]


def main(folder: Annotated[Path, typer.Option(help="The folder for the images.")] = FOLDER) -> None:
    """Take a screenshot of each main page: light and dark, on a desktop and on a phone."""
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_stack() as stack, tempfile.TemporaryDirectory(prefix="clips-screenshots-") as scratch:
        typer.echo("Cutting a few clips …")
        client = Client(stack.environment)
        sample.fill(client, ACCOUNT, Path(scratch))
        paths = _arrange(client)
        asyncio.run(_take_all(stack, paths, folder, Path(scratch)))
    typer.echo(f"The images are in {folder}.")


def _arrange(client: Client) -> dict[str, str]:
    """Keep and publish clips of the sample; return the path of each page, by its name."""
    with client.gateway(ACCOUNT) as api:
        clips = {clip["title"]: clip for clip in _json(api.get("/v1/clips"))["items"]}
        for title in KEPT:
            _json(api.post(f"/v1/clips/{clips[title]['id']}/keep"))
        public = _json(api.post(f"/v1/clips/{clips[PUBLISHED]['id']}/publish", json={"downloadable": True}))
    share = public["share_url"].removeprefix(client.environment["PUBLIC_URL"])
    return {"gallery": "/", "player": f"/clips/{public['id']}", "share": share}


def _json(response: httpx.Response) -> Any:
    return response.raise_for_status().json()


async def _take_all(stack: LocalStack, paths: dict[str, str], folder: Path, home: Path) -> None:
    async with running_browser(home) as browser:
        for look in LOOKS:
            async with _signed_in(browser, look, stack.gateway.url) as page:
                for name, path in paths.items():
                    await page.goto(f"{stack.gateway.url}{path}")
                    await page.wait_for_load_state("networkidle")
                    await page.wait_for_timeout(SETTLE_MS)
                    picture = folder / f"{name}-{look.name}.jpg"
                    await page.screenshot(path=picture, type="jpeg", quality=QUALITY)
                    typer.echo(f"  {picture}")


@asynccontextmanager
async def _signed_in(browser: Browser, look: Viewer, url: str) -> AsyncIterator[Page]:
    context = await browser.new_context(
        viewport=look.viewport,
        color_scheme=look.scheme,
        is_mobile=look.is_phone,
        has_touch=look.is_phone,
        device_scale_factor=2 if look.is_phone else 1,
    )
    try:
        page = await context.new_page()
        await page.goto(f"{url}/sign-in")
        await page.get_by_label("Account").fill(ACCOUNT)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url(f"{url}/")
        yield page
    finally:
        await context.close()


if __name__ == "__main__":
    typer.run(main)
