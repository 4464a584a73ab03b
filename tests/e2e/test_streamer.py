"""A streamer and their viewers in a browser, on the whole system: the main path, and other cases."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, expect

from local_stack.stack import CLIPS_BUCKET
from tests.e2e.conftest import EmbeddingSite
from tests.e2e.platform import Platform, until
from tests.support.browser import running_browser

PATIENCE_MS = 20_000
PHONE = {"width": 390, "height": 844}
SERIOUS = {"serious", "critical"}
PLAYING = """async video => {
  video.muted = true
  await video.play()
  const begun = video.currentTime
  await new Promise(resolve => setTimeout(resolve, 700))
  return video.currentTime - begun
}"""
SEEKING = """async video => {
  video.pause()
  const sought = new Promise(resolve => video.addEventListener("seeked", resolve, {once: true}))
  video.currentTime = 2.5
  await sought
  return [video.currentTime, video.readyState]
}"""


@pytest.fixture(scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    async with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


class Visitor:
    """A person with a browser, and the errors in the console of their pages."""

    def __init__(self, context: BrowserContext, page: Page, url: str) -> None:
        self.context = context
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, message: Any) -> None:
        # The browser logs refusals that a test causes; they are not errors of the page.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    async def open(self, path: str) -> int:
        response = await self.page.goto(f"{self.url}{path}")
        assert response is not None
        return response.status

    async def sign_in(self, account: str, path: str = "/") -> None:
        await self.open(path)
        assert "/sign-in" in self.page.url
        await self.page.get_by_label("Account").fill(account)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.page.wait_for_url(f"{self.url}{path}")


@pytest.fixture
async def visit(browser: Browser, platform: Platform) -> AsyncIterator[Any]:
    """Yield a function that makes visitors; in the end, check that their pages logged no errors."""
    visitors: list[Visitor] = []

    async def make(**options: Any) -> Visitor:
        context = await browser.new_context(accept_downloads=True, **options)
        context.set_default_timeout(PATIENCE_MS)
        visitors.append(Visitor(context, await context.new_page(), platform.stack.gateway.url))
        return visitors[-1]

    yield make
    for each in visitors:
        await each.context.close()
    assert [complaint for each in visitors for complaint in each.complaints] == []


def an_account() -> str:
    """Return a new account."""
    return f"streamer-{uuid.uuid4().hex[:8]}"


async def clips_of(platform: Platform, account: str, *titles: str) -> list[uuid.UUID]:
    """Cut clips for an account; return their ids."""
    ids = [
        await platform.detect(twitch_account_id=account, title=title, start_seconds=5 + n, end_seconds=9 + n)
        for n, title in enumerate(titles)
    ]
    for clip_id in ids:
        await platform.available(clip_id, account)
    return ids


async def row(platform: Platform, clip_id: uuid.UUID) -> dict[str, Any]:
    """Return a clip's row in the registry's database."""
    connection = await asyncpg.connect(platform.stack.environment["DATABASE_URL"].replace("+asyncpg", ""))
    try:
        found = await connection.fetchrow("SELECT * FROM generated_clips WHERE clip_id = $1", clip_id)
    finally:
        await connection.close()
    assert found is not None
    return dict(found)


async def assert_accessible(page: Page) -> None:
    found = await Axe().run(page)
    serious = [
        f"{each['id']}: {node['html']}"
        for each in found.response["violations"]
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]
    assert serious == []


def card(visitor: Visitor, title: str) -> Any:
    return visitor.page.get_by_role("listitem").filter(has=visitor.page.get_by_role("heading", name=title))


async def test_the_journey_of_a_streamer(platform: Platform, visit: Any, tmp_path: Path) -> None:
    account = an_account()
    (clip_id,) = await clips_of(platform, account, "Ace — “Größe” 🎉")
    ann = await visit()
    page = ann.page

    # A guest is redirected to sign in, and then back to the page.
    await ann.sign_in(account, f"/clips/{clip_id}")
    video = page.locator("video")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Ace — “Größe” 🎉")

    # Watch: time advances, seeking works.
    assert await video.evaluate(PLAYING) > 0.3
    sought, ready = await video.evaluate(SEEKING)
    assert sought == pytest.approx(2.5, abs=0.05)
    assert ready >= 2
    await assert_accessible(page)

    # Download: the file name and the bytes.
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="Download").first.click()
    download = await downloading.value
    assert download.suggested_filename == "Ace — “Größe” 🎉.mp4"
    saved = tmp_path / "saved.mp4"
    await download.save_as(saved)
    stored = await row(platform, clip_id)
    body = platform.s3.get_object(Bucket=CLIPS_BUCKET, Key=stored["object_key"])["Body"].read()
    assert saved.read_bytes() == body

    # Keep: the badge, also after a reload, and in the registry.
    await page.get_by_role("button", name="Keep").click()
    await expect(page.get_by_role("button", name="Let expire")).to_be_visible()
    await page.reload()
    await expect(page.locator(".badge.kept")).to_be_visible()
    stored = await row(platform, clip_id)
    assert (stored["status"], stored["kept_by"], stored["expires_at"]) == ("kept", account, None)

    # Rename.
    await page.get_by_text("Rename").click()
    await page.get_by_role("textbox", name="Title").fill("A better name")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("A better name")
    assert (await row(platform, clip_id))["title"] == "A better name"

    # Delete, and undo.
    await page.get_by_role("button", name="Delete").click()
    await page.wait_for_url(f"{ann.url}/**")
    await expect(page.get_by_role("status").get_by_text("A better name")).to_be_visible()
    assert (await row(platform, clip_id))["status"] == "deleted"
    await page.get_by_role("status").get_by_role("button", name="Undo").click()
    await expect(card(ann, "A better name").locator(".badge.kept")).to_be_visible()
    assert (await row(platform, clip_id))["status"] == "kept"
    await assert_accessible(page)


async def test_many_at_once(platform: Platform, visit: Any) -> None:
    account = an_account()
    titles = [f"Highlight {n}" for n in range(6)]
    ids = await clips_of(platform, account, *titles)
    ann = await visit()
    await ann.sign_in(account)
    for title in titles[:5]:
        # Forced: the checkbox itself is below the poster.
        await card(ann, title).get_by_label(f"Select: {title}").check(force=True)
    await ann.page.get_by_role("form", name="Selected clips").get_by_role("button", name="Keep").click()
    await expect(ann.page.locator(".badge.kept")).to_have_count(5)
    statuses = [(await row(platform, each))["status"] for each in ids]
    assert statuses == ["kept"] * 5 + ["available"]


async def test_a_public_clip_is_a_promise(
    platform: Platform, visit: Any, embedding_site: EmbeddingSite
) -> None:
    account = an_account()
    (clip_id,) = await clips_of(platform, account, "For everybody")
    ann, stranger = await visit(), await visit()
    await ann.sign_in(account, f"/clips/{clip_id}")
    await ann.page.get_by_role("button", name=re.compile("Publish|Make public")).click()
    await expect(ann.page.locator(".badge.published")).to_be_visible()
    async with platform.gateway(account) as api:
        shared = (await api.get(f"/v1/clips/{clip_id}")).json()
    share_url = shared["share_url"]
    await expect(ann.page.locator(f"input[value='{share_url}']")).to_have_count(1)
    await assert_accessible(ann.page)

    # A second browser, without sign-in.
    path = share_url.removeprefix(ann.url)
    assert await stranger.open(path) == 200
    assert await stranger.page.locator("video").evaluate(PLAYING) > 0.3
    assert account not in await stranger.page.content()
    await assert_accessible(stranger.page)

    # Embedded in a site that the platform allows, and in another site.
    slug = path.rpartition("/")[2]
    await stranger.page.goto(embedding_site.page(embedding_site.allowed, f"{ann.url}/e/{slug}"))
    embedded = stranger.page.frame_locator("iframe").locator("video")
    assert await embedded.evaluate(PLAYING) > 0.3
    refused = await visit()
    await refused.page.goto(embedding_site.page(embedding_site.other, f"{ann.url}/e/{slug}"))
    await refused.page.wait_for_timeout(1000)
    assert await refused.page.frame_locator("iframe").locator("video").count() == 0
    # The browser's message for a blocked frame.
    assert all("frame-ancestors" in complaint for complaint in refused.complaints)
    refused.complaints.clear()

    # Unpublished: page and media address answer 410.
    async with httpx.AsyncClient(base_url=ann.url) as guest:
        found = re.search(r'property="og:video" content="([^"]+)"', (await guest.get(path)).text)
        assert found
        media = found[1].removeprefix(ann.url)
        assert (await guest.get(media)).status_code == 302
        await ann.page.get_by_role("button", name=re.compile("Unpublish|Stop sharing|private")).click()
        await expect(ann.page.locator(".badge.kept")).to_be_visible()
        assert [(await guest.get(each)).status_code for each in (path, media, f"/e/{slug}")] == [410] * 3
    assert await stranger.open(path) == 410


async def test_a_deleted_clip_cannot_be_watched(platform: Platform, visit: Any) -> None:
    account = an_account()
    (clip_id,) = await clips_of(platform, account, "Not for long")
    async with platform.gateway(account) as api:
        shared = (await api.post(f"/v1/clips/{clip_id}/publish", json={})).json()
        path = shared["share_url"].removeprefix(platform.stack.gateway.url)
        assert (await api.delete(f"/v1/clips/{clip_id}")).status_code == 200
        stranger = await visit()
        assert await stranger.open(path) == 410
        assert (await api.get(f"/v1/clips/{clip_id}/watch")).status_code == 404
        assert (await api.post(f"/v1/clips/{clip_id}/restore")).json()["status"] == "published"
        assert await stranger.open(path) == 200


async def test_another_account_is_refused(platform: Platform, visit: Any) -> None:
    owner = an_account()
    (clip_id,) = await clips_of(platform, owner, "Mine")
    eve = await visit()
    await eve.sign_in(an_account())
    assert await eve.open(f"/clips/{clip_id}") == 403
    assert "Mine" not in await eve.page.content()
    await eve.open("/")
    await expect(eve.page.get_by_text("Your clips will appear here")).to_be_visible()


async def test_without_javascript(platform: Platform, visit: Any) -> None:
    account = an_account()
    first, second = await clips_of(platform, account, "First", "Second")
    plain = await visit(java_script_enabled=False)
    await plain.sign_in(account)
    await plain.page.get_by_role("button", name="Keep: First").click()
    await expect(card(plain, "First").locator(".badge.kept")).to_be_visible()
    await plain.page.get_by_role("button", name="Delete: Second").click()
    assert (await row(platform, second))["status"] == "deleted"
    await plain.page.get_by_role("button", name="Undo").click()
    assert (await row(platform, second))["status"] == "available"
    await plain.open(f"/clips/{first}")
    await plain.page.get_by_role("button", name=re.compile("Publish|Make public")).click()
    assert (await row(platform, first))["status"] == "published"


async def test_pages_fit_the_width_of_a_phone(platform: Platform, visit: Any) -> None:
    account = an_account()
    (clip_id,) = await clips_of(
        platform, account, "A title that goes on and on, as titles on streams do " * 3
    )
    phone = await visit(viewport=PHONE, has_touch=True, is_mobile=True)
    await phone.sign_in(account)
    for path in ("/", f"/clips/{clip_id}", "/clips/nothing"):
        await phone.open(path)
        width = await phone.page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], path
        await assert_accessible(phone.page)


async def test_in_another_language(platform: Platform, visit: Any) -> None:
    account = an_account()
    await clips_of(platform, account, "Ein Treffer")
    german = await visit(locale="de-DE", timezone_id="Europe/Berlin")
    await german.open("/")
    await german.page.get_by_role("textbox").first.fill(account)
    await german.page.get_by_role("button", name="Anmelden").click()
    assert await german.page.locator("html").get_attribute("lang") == "de"
    await expect(german.page.get_by_text("Läuft in 7 Tagen ab")).to_be_visible()


async def test_the_registry_away_is_said_and_mended_by_itself(platform: Platform, visit: Any) -> None:
    account = an_account()
    await clips_of(platform, account, "Still there")
    ann = await visit()
    await ann.sign_in(account)
    platform.stack.registry.kill()
    try:
        assert await ann.open("/") == 503
        await assert_accessible(ann.page)
    finally:
        await asyncio.to_thread(platform.stack.registry.start)
    await expect(card(ann, "Still there")).to_be_visible(timeout=PATIENCE_MS)


async def test_a_vod_lists_the_outcomes_of_its_highlights(platform: Platform, visit: Any) -> None:
    account, vod = an_account(), f"vod-{uuid.uuid4().hex[:8]}"
    common: dict[str, Any] = {"twitch_account_id": account, "source_vod_id": vod}
    clip_id = await platform.detect(**common, title="Seen")
    await platform.detect(**common, title="Unseen", is_clipable=False)
    await platform.available(clip_id, account)

    async def counted() -> bool | None:
        async with platform.gateway(account) as api:
            found = await api.get(f"/v1/vods/{vod}")
            return True if found.status_code == 200 and found.json()["skipped"] == 1 else None

    await until(counted, "the skip to be stored")
    ann = await visit()
    await ann.sign_in(account, f"/?vod={vod}")
    await expect(ann.page.get_by_text("2 highlights, 1 clip, 1 skipped")).to_be_visible()
    await expect(ann.page.get_by_text("marked as not to be clipped")).to_be_visible()
