"""A published clip in a browser: its page, its player on other sites, and the end of both."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Frame, Page, expect

from clip_gateway.public import media as public_media
from clip_shared.contracts.registry_api import Actor, ClipAction, ClipRecord
from clip_shared.errors import TransientError
from tests.integration.clip_gateway.public.conftest import SECONDS, TITLE, EmbeddingSites
from tests.integration.clip_gateway.served import ClipFiles
from tests.unit.clip_gateway.fakes import InMemoryRegistry

WAIT_MS = 20_000
PLAY = """second => {
    const video = document.querySelector("video")
    video.currentTime = second
    // Loading the video again ends a pending play().
    video.play().catch(() => {})
}"""
# Load another address into a page's frame, and wait for it.
FRAME = """url => new Promise(done => {
    const frame = document.querySelector("iframe")
    frame.onload = done
    frame.src = url
})"""


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(locale="en-GB", accept_downloads=True)
    context.set_default_timeout(WAIT_MS)
    yield context
    await context.close()


@pytest.fixture
async def page(context: BrowserContext) -> Page:
    return await context.new_page()


def share(sites: EmbeddingSites, clip: ClipRecord) -> str:
    return f"{sites.gateway}/s/{clip.share_slug}"


async def plays_from(where: Page | Frame, second: float) -> None:
    """Wait until the video has played for a second from the expected time."""
    await where.wait_for_function(
        "from => { const v = document.querySelector('video'); return !v.paused && v.currentTime > from + 1 }",
        arg=second,
        timeout=WAIT_MS,
    )


async def play(where: Page | Frame, second: float = 0) -> None:
    await where.evaluate(PLAY, second)
    await plays_from(where, second)


async def now(where: Page | Frame) -> float:
    return float(await where.evaluate("document.querySelector('video').currentTime"))


async def test_a_visitor_watches_and_nothing_comes_from_elsewhere(
    sites: EmbeddingSites, clip: ClipRecord, page: Page
) -> None:
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(share(sites, clip))
    await expect(page.get_by_role("heading", name=TITLE)).to_be_visible()
    await expect(page).to_have_title(TITLE)
    await play(page)
    assert await page.evaluate("document.querySelector('video').duration") == pytest.approx(SECONDS, abs=0.1)
    await play(page, 20)
    assert said == []
    storage = "/clips/clips/"
    assert {url for url in asked if not url.startswith(sites.gateway) and storage not in url} == set()
    assert any(storage in url for url in asked)


async def test_a_link_to_a_second_starts_there(sites: EmbeddingSites, clip: ClipRecord, page: Page) -> None:
    await page.goto(f"{share(sites, clip)}#t=12.5")
    await page.wait_for_function("() => document.querySelector('video').readyState >= 2")
    assert await now(page) == pytest.approx(12.5, abs=0.1)


async def test_a_download_has_the_titles_name_and_all_bytes(
    sites: EmbeddingSites, clip: ClipRecord, page: Page, media: ClipFiles
) -> None:
    await page.goto(share(sites, clip))
    async with page.expect_download() as started:
        await page.get_by_role("link", name="Download").click()
    download = await started.value
    assert download.suggested_filename == "Der größte Moment 1v4 on the last round.mp4"
    assert await asyncio.to_thread((await download.path()).read_bytes) == media.video


async def test_a_player_goes_on_where_it_was_when_its_url_has_run_out(
    sites: EmbeddingSites, clip: ClipRecord, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_media, "LONGEST_SECONDS", 2.0)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.method} {request.url}"))
    address = f"GET {sites.gateway}/m/{clip.share_slug}/1.mp4"
    await page.goto(share(sites, clip))
    await play(page, 3)
    await page.evaluate("document.querySelector('video').pause()")
    assert asked.count(address) == 1
    await asyncio.sleep(3)  # the URL is dead
    # Far from what is loaded already: the player has to ask again.
    await play(page, 25)
    assert asked.count(address) == 2
    await expect(page.get_by_role("alert")).to_have_count(0)


async def test_a_player_that_cannot_go_on_says_so(
    sites: EmbeddingSites,
    clip: ClipRecord,
    page: Page,
    registry: InMemoryRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(public_media, "LONGEST_SECONDS", 2.0)
    await page.goto(share(sites, clip))
    await play(page, 3)
    await registry.act(ClipAction.UNPUBLISH, clip.clip_id, Actor(account_id="ann"))
    await asyncio.sleep(4)
    await page.evaluate("document.querySelector('video').currentTime = 25")
    await expect(page.get_by_role("alert")).to_have_text("This clip is no longer public", timeout=WAIT_MS)


async def test_after_unpublishing_the_page_and_the_media_are_gone_at_once(
    sites: EmbeddingSites,
    clip: ClipRecord,
    page: Page,
    registry: InMemoryRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(public_media, "LONGEST_SECONDS", 3.0)
    async with httpx.AsyncClient() as visitor:
        media = f"{sites.gateway}/m/{clip.share_slug}/1.mp4"
        handed_out = (await visitor.get(media)).headers["location"]
        assert (await visitor.get(handed_out)).status_code == 200
        await registry.act(ClipAction.UNPUBLISH, clip.clip_id, Actor(account_id="ann"))
        assert (await visitor.get(media)).status_code == 410
        await asyncio.sleep(4)
        assert (await visitor.get(handed_out)).status_code == 403
    answer = await page.goto(share(sites, clip))
    assert answer is not None
    assert answer.status == 410
    await expect(page.get_by_role("heading", name="This clip is no longer public")).to_be_visible()


async def test_an_allowed_site_embeds_the_player(sites: EmbeddingSites, page: Page) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    await page.goto(sites.friend)
    frame = page.frames[1]
    await play(frame)
    link = frame.get_by_role("link", name=TITLE)
    await expect(link).to_have_attribute("target", "_blank")
    async with page.context.expect_page() as opened:
        await frame.evaluate("document.querySelector('video').pause()")
        await link.click()
    shown = await opened.value
    await expect(shown.get_by_role("heading", name=TITLE)).to_be_visible()
    assert said == []


async def test_what_oembed_gives_an_allowed_site_plays_there(
    sites: EmbeddingSites, clip: ClipRecord, page: Page
) -> None:
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.goto(sites.friend)
    async with httpx.AsyncClient() as site:
        found = (await site.get(f"{sites.gateway}/oembed", params={"url": share(sites, clip)})).json()
    await page.evaluate("html => { document.body.innerHTML = html }", found["html"])
    await play(page.frames[1])
    box = await page.locator("iframe").bounding_box()
    assert box is not None
    assert box["width"] < 390
    assert box["width"] / box["height"] == pytest.approx(16 / 9, rel=0.01)


async def test_another_site_cannot_embed_it(sites: EmbeddingSites, page: Page) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    await page.goto(sites.stranger)
    frame = page.frames[1]
    await frame.wait_for_load_state()
    assert frame.url.startswith("chrome-error:")
    assert any("frame-ancestors" in each for each in said)


async def test_the_share_page_cannot_be_framed(sites: EmbeddingSites, clip: ClipRecord, page: Page) -> None:
    await page.goto(sites.friend)
    await page.evaluate(FRAME, share(sites, clip))
    assert page.frames[1].url.startswith("chrome-error:")


async def test_in_a_frame_the_end_is_said_too(
    sites: EmbeddingSites, clip: ClipRecord, page: Page, registry: InMemoryRegistry
) -> None:
    await registry.act(ClipAction.UNPUBLISH, clip.clip_id, Actor(account_id="ann"))
    await page.goto(sites.friend)
    await expect(page.frames[1].get_by_role("heading", name="no longer public")).to_be_visible()


async def test_without_javascript_the_page_plays_and_downloads(
    sites: EmbeddingSites, clip: ClipRecord, browser: Browser
) -> None:
    async with await browser.new_context(java_script_enabled=False) as context:
        page = await context.new_page()
        async with page.expect_response(
            lambda answer: "/clips/clips/" in answer.url and ".mp4" in answer.url
        ):
            await page.goto(share(sites, clip))
        await expect(page.locator("video[controls]")).to_be_visible()
        await expect(page.get_by_role("link", name="Download")).to_be_visible()


async def test_the_page_recovers_from_an_outage(
    sites: EmbeddingSites, clip: ClipRecord, page: Page, registry: InMemoryRegistry
) -> None:
    registry.outage = TransientError("away")
    await page.goto(share(sites, clip))
    await expect(page.get_by_role("heading", name="One moment")).to_be_visible()
    registry.outage = None
    await expect(page.get_by_role("heading", name=TITLE)).to_be_visible(timeout=WAIT_MS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_pages_are_accessible(
    sites: EmbeddingSites, clip: ClipRecord, browser: Browser, scheme: str
) -> None:
    async with await browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light", viewport={"width": 390, "height": 844}
    ) as context:
        page = await context.new_page()
        for name, path in (
            ("share", f"/s/{clip.share_slug}"),
            ("embed", f"/e/{clip.share_slug}"),
            ("missing", "/s/nowhere"),
        ):
            await page.goto(f"{sites.gateway}{path}")
            found = (await Axe().run(page)).response["violations"]
            assert [(each["id"], each["impact"]) for each in found] == [], (name, found)
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= 390, name


async def test_the_page_does_not_shift_while_it_loads(
    sites: EmbeddingSites, clip: ClipRecord, page: Page
) -> None:
    await page.add_init_script(
        "window.shifts = 0; new PerformanceObserver(list => { for (const e of list.getEntries())"
        " window.shifts += e.value }).observe({ type: 'layout-shift', buffered: true })"
    )
    await page.goto(share(sites, clip))
    await page.wait_for_function("() => document.querySelector('video').readyState >= 2")
    assert await page.evaluate("window.shifts") < 0.01


async def test_a_keyboard_reaches_the_player_and_the_download(
    sites: EmbeddingSites, clip: ClipRecord, page: Page
) -> None:
    await page.goto(share(sites, clip))
    reached = []
    for _ in range(20):
        await page.keyboard.press("Tab")
        reached.append(
            await page.evaluate("document.activeElement.tagName + (document.activeElement.href ?? '')")
        )
        if "/download" in reached[-1]:
            break
    assert "VIDEO" in reached
    assert "/download" in reached[-1]
