"""The gallery in a browser: with scripts and without, by mouse and by keyboard, wide and narrow."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, expect

from clip_shared.contracts.events import HighlightKind, SkipReason
from clip_shared.contracts.registry_api import ClipStatus, SkippedHighlight
from clip_shared.errors import TransientError
from tests.integration.clip_cutter.media import ffmpeg, h264, record
from tests.integration.clip_gateway.served import ClipFiles, ServedGateway, served_gateway
from tests.unit.clip_gateway.fakes import DAY, NOON

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
FIRST_PAGE_BYTES = 100_000
# Chromium's preset "Fast 3G".
# Between the network's clock and the page's.
CLOCKS_DIFFER_MS = 10
TRICKLE = {"latency": 20, "downloadThroughput": 10_000, "uploadThroughput": 84_375}
FAST_3G = {"latency": 562.5, "downloadThroughput": 180_000, "uploadThroughput": 84_375}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> ClipFiles:
    """Four seconds of video, ready to be played while it is fetched, and its poster."""
    folder = tmp_path_factory.mktemp("media")
    video = record(folder / "clip.mp4", *h264(), "-movflags", "+faststart", seconds=4, size=(640, 360))
    ffmpeg("-i", str(video), "-frames:v", "1", "-q:v", "5", str(folder / "clip.jpg"))
    return ClipFiles(video.read_bytes(), (folder / "clip.jpg").read_bytes())


@pytest.fixture
async def gateway(s3: "S3Client", media: ClipFiles) -> AsyncIterator[ServedGateway]:
    """The pages on an empty registry."""
    async with served_gateway(s3, media, login_url="/sign-in") as gateway:
        yield gateway


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """An empty window."""
    context = await browser.new_context()
    yield await context.new_page()
    await context.close()


@pytest.fixture
async def ann(page: Page, gateway: ServedGateway) -> AsyncIterator[Page]:
    """Ann's window. A warning or an error in its console fails the test."""
    complaints = listen(page)
    await gateway.sign_in(page.context)
    yield page
    assert complaints == []


def listen(page: Page) -> list[str]:
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints


async def fill(gateway: ServedGateway, count: int = 30) -> None:
    """Clips of every kind, the newest first: number 1 is urgent, 3 kept, 5 published, 7 expired."""
    for number in range(count):
        changes: dict[str, Any] = {"seconds_left": (7 - number % 5) * DAY}
        if number == 1:
            changes = {"seconds_left": 0.5 * DAY}
        elif number == 3:
            changes = {"status": ClipStatus.KEPT}
        elif number == 5:
            changes = {"status": ClipStatus.PUBLISHED}
        elif number == 7:
            changes = {"seconds_left": -60}
        await gateway.add(title=f"Moment {number:02}", created_at=NOON - timedelta(hours=number), **changes)
    gateway.registry.skips["vod-1"] = [
        SkippedHighlight(
            stream_highlight_id="hl-skipped",
            source_vod_id="vod-1",
            kind=HighlightKind.HEURISTIC,
            reason=SkipReason.TOO_SHORT,
            message="Too short.",
            skipped_at=NOON,
        )
    ]


async def open_gallery(page: Page, gateway: ServedGateway, path: str = "/") -> None:
    await page.goto(gateway.url + path)  # until everything is loaded, scripts too


def statuses(gateway: ServedGateway) -> dict[str, ClipStatus]:
    return {clip.title: clip.status for clip in gateway.registry.clips.values()}


async def test_posters_are_shown(ann: Page, gateway: ServedGateway) -> None:
    await fill(gateway, 3)
    await open_gallery(ann, gateway)
    await expect(ann.locator(".poster img")).to_have_count(3)
    for poster in await ann.locator(".poster img").all():
        await expect(poster).to_have_js_property("naturalWidth", 640)


async def test_a_poster_is_shown_though_its_url_has_run_out(
    page: Page, s3: "S3Client", media: ClipFiles
) -> None:
    # Long enough for the new URL to be followed on a busy machine.
    async with served_gateway(s3, media, url_seconds=5, login_url="/sign-in") as gateway:
        await fill(gateway, 24)
        await gateway.sign_in(page.context)
        await open_gallery(page, gateway)
        last = page.locator(".poster img").last
        assert (
            await last.evaluate("image => image.complete && image.naturalWidth") == 0
        )  # far below, not asked
        signed = await last.get_attribute("src")
        await page.wait_for_timeout(6500)
        await last.scroll_into_view_if_needed()
        await expect(last).to_have_js_property("naturalWidth", 640)
        assert await last.get_attribute("src") != signed


async def test_keep_delete_and_undo_happen_in_place(ann: Page, gateway: ServedGateway) -> None:
    await fill(gateway, 4)
    await open_gallery(ann, gateway)
    await ann.evaluate("window.still = true")  # gone if the page is loaded again
    first, second = ann.locator(".card").nth(0), ann.locator(".card").nth(1)

    await first.get_by_role("button", name="Keep").click()
    await expect(first.get_by_text("Kept", exact=True)).to_be_visible()
    await expect(first.get_by_text("Expires")).to_have_count(0)
    await expect(ann.locator("#usage")).to_contain_text("2 kept")
    await expect(ann.get_by_role("status")).to_contain_text("“Moment 00” is kept.")

    await second.get_by_role("button", name="Delete").click()
    await expect(second.get_by_text("Deleted", exact=True)).to_be_visible()
    assert statuses(gateway)["Moment 01"] is ClipStatus.DELETED
    await second.get_by_role("button", name="Undo").click()
    await expect(second.get_by_text("Expires within a day")).to_be_visible()
    assert statuses(gateway)["Moment 01"] is ClipStatus.AVAILABLE
    assert await ann.evaluate("window.still")


async def test_it_works_by_keyboard_alone(ann: Page, gateway: ServedGateway) -> None:
    await fill(gateway, 2)
    await open_gallery(ann, gateway)
    await ann.keyboard.press("Tab")
    await expect(ann.get_by_role("link", name="Skip to the content")).to_be_focused()
    await ann.locator(".card-title a").first.focus()
    await ann.keyboard.press("Tab")
    await ann.keyboard.press("Enter")  # Keep
    await expect(ann.locator(".card").first.get_by_text("Kept", exact=True)).to_be_visible()
    await ann.keyboard.press("Tab")
    await ann.keyboard.press("Tab")
    await ann.keyboard.press("Enter")  # Delete
    undo = ann.locator(".card").first.get_by_role("button", name="Undo")
    await expect(undo).to_be_focused()
    await ann.keyboard.press("Enter")
    await expect(ann.locator(".card").first.get_by_text("Kept", exact=True)).to_be_visible()


async def test_many_are_kept_at_once(ann: Page, gateway: ServedGateway) -> None:
    await fill(gateway, 8)
    await open_gallery(ann, gateway)
    bar = ann.get_by_role("form", name="Selected clips")
    await expect(bar).to_be_hidden()
    boxes = ann.get_by_role("checkbox")
    for number in (0, 1, 2, 4, 6):
        await boxes.nth(number).check()
    await expect(bar).to_contain_text("5 selected")
    await bar.get_by_role("button", name="Keep").click()
    await expect(ann.get_by_role("status")).to_contain_text("5 clips are kept.")
    await expect(bar).to_be_hidden()
    kept = [title for title, status in statuses(gateway).items() if status is ClipStatus.KEPT]
    assert len(kept) == 6


async def test_a_range_is_selected_deleted_and_restored(ann: Page, gateway: ServedGateway) -> None:
    await fill(gateway, 4)
    await open_gallery(ann, gateway)
    boxes = ann.get_by_role("checkbox")
    await boxes.nth(0).check()
    await boxes.nth(2).click(modifiers=["Shift"])
    bar = ann.get_by_role("form", name="Selected clips")
    await expect(bar).to_contain_text("3 selected")
    await bar.get_by_role("button", name="Delete").click()
    message = ann.get_by_role("status")
    await expect(message).to_contain_text("3 clips are deleted.")
    await message.get_by_role("button", name="Undo").click()
    await expect(message).to_contain_text("3 clips are back.")
    assert ClipStatus.DELETED not in statuses(gateway).values()


async def test_search_and_filters_change_the_list_and_the_address(ann: Page, gateway: ServedGateway) -> None:
    await fill(gateway, 8)
    await open_gallery(ann, gateway)
    await ann.get_by_role("searchbox").fill("moment 06")
    await expect(ann.locator(".card")).to_have_count(1)
    await expect(ann).to_have_url(re.compile(r"\?title=moment\+06$"))
    await expect(ann.get_by_role("searchbox")).to_be_focused()
    await ann.get_by_role("searchbox").fill("")
    await expect(ann.locator(".card")).to_have_count(8)
    await ann.get_by_label("Order").select_option("Oldest first")
    await expect(ann.locator(".card").first).to_contain_text("Moment 07")
    await ann.get_by_role("link", name=re.compile("^Kept")).click()
    await expect(ann.locator(".card")).to_have_count(1)
    await expect(ann).to_have_url(re.compile("status=kept&order=oldest$"))
    await ann.go_back()
    await expect(ann.locator(".card")).to_have_count(8)
    await ann.reload()
    await expect(ann.get_by_label("Order")).to_have_value("oldest")


async def test_more_clips_come_below(ann: Page, gateway: ServedGateway) -> None:
    await fill(gateway, 30)
    await open_gallery(ann, gateway)
    await expect(ann.locator(".card")).to_have_count(24)
    await ann.get_by_role("link", name="More clips").click()
    await expect(ann.locator(".card")).to_have_count(30)
    await expect(ann.get_by_role("link", name="More clips")).to_have_count(0)
    titles = await ann.locator(".card-title").all_inner_texts()
    assert titles == [f"Moment {number:02}" for number in range(30)]


async def test_a_vod_says_what_was_skipped(ann: Page, gateway: ServedGateway) -> None:
    await fill(gateway, 3)
    await open_gallery(ann, gateway)
    await ann.get_by_label("VOD").select_option(index=1)
    await expect(ann.locator(".vod")).to_contain_text("4 highlights, 3 clips, 1 skipped")
    await expect(ann.locator(".vod")).to_contain_text("too short for a clip")


@pytest.mark.parametrize("by", ["pointer", "focus"])
async def test_a_preview_plays_and_ends(ann: Page, gateway: ServedGateway, by: str) -> None:
    await fill(gateway, 2)
    await open_gallery(ann, gateway)
    link = ann.locator(".card-title a").first
    await (link.hover() if by == "pointer" else link.focus())
    video = ann.locator(".poster video")
    await expect(video).to_have_class("is-playing")
    async with asyncio.timeout(10):
        while await video.evaluate("video => video.currentTime") < 0.2:
            await asyncio.sleep(0.05)
    assert await video.evaluate("video => video.muted")
    if by == "pointer":
        await ann.mouse.move(2, 2)
    else:
        await ann.get_by_role("searchbox").focus()
    await expect(video).to_have_count(0)


async def test_no_preview_for_those_who_want_no_motion(ann: Page, gateway: ServedGateway) -> None:
    await fill(gateway, 1)
    await ann.emulate_media(reduced_motion="reduce")
    await open_gallery(ann, gateway)
    await ann.locator(".card-title a").hover()
    await ann.wait_for_timeout(800)
    await expect(ann.locator("video")).to_have_count(0)


async def test_an_outage_is_reported_and_the_page_stays(page: Page, gateway: ServedGateway) -> None:
    await fill(gateway, 1)
    await gateway.sign_in(page.context)
    await open_gallery(page, gateway)
    gateway.registry.outage = TransientError("away")
    await page.get_by_role("button", name="Keep").first.click()
    await expect(page.get_by_role("alert")).to_contain_text("does not answer")
    gateway.registry.outage = None
    await page.get_by_role("button", name="Keep").first.click()
    await expect(page.get_by_text("Kept", exact=True).first).to_be_visible()
    await expect(page.get_by_role("alert")).to_have_count(0)


async def test_a_refused_action_is_reported(page: Page, gateway: ServedGateway) -> None:
    clip = await gateway.add(title="Gone")
    await gateway.sign_in(page.context)
    await open_gallery(page, gateway)
    gateway.registry.clips.clear()
    await page.get_by_role("button", name="Keep").first.click()
    await expect(page.get_by_role("alert")).to_contain_text("does not exist any more")
    assert clip.clip_id not in gateway.registry.clips


async def test_all_of_it_works_without_scripts(browser: Browser, gateway: ServedGateway) -> None:
    await fill(gateway, 30)
    context = await browser.new_context(java_script_enabled=False)
    await gateway.sign_in(context)
    page = await context.new_page()
    await page.goto(gateway.url)
    await page.locator(".card").nth(0).get_by_role("button", name="Keep").click()
    await expect(page.locator(".card").nth(0)).to_contain_text("Kept")

    await page.locator(".card").nth(1).get_by_role("button", name="Delete").click()
    message = page.get_by_role("status")
    await expect(message).to_contain_text("“Moment 01” is deleted.")
    await expect(page.locator(".cards").get_by_text("Moment 01", exact=True)).to_have_count(0)
    await message.get_by_role("button", name="Undo").click()
    await expect(page.locator(".cards").get_by_text("Moment 01", exact=True)).to_be_visible()

    for number in (1, 2):
        await page.get_by_role("checkbox").nth(number).check()
    await page.get_by_role("form", name="Selected clips").get_by_role("button", name="Keep").click()
    await expect(page.get_by_role("status")).to_contain_text("2 clips are kept.")

    await page.get_by_role("searchbox").fill("moment 29")
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator(".card")).to_have_count(1)
    await page.goto(gateway.url)
    await page.get_by_role("link", name="More clips").click()
    await expect(page.locator(".card")).to_have_count(6)
    await page.get_by_role("link", name="First page").click()
    await expect(page.locator(".card")).to_have_count(24)
    await context.close()


async def test_times_are_the_readers_own(browser: Browser, gateway: ServedGateway) -> None:
    await gateway.add(created_at=NOON.replace(hour=23, minute=30))  # 1 March in UTC
    context = await browser.new_context(timezone_id="Asia/Tokyo", locale="de-DE")
    await gateway.sign_in(context)
    page = await context.new_page()
    await open_gallery(page, gateway)
    await expect(page.locator(".card time")).to_have_text("02.03.2026")
    await expect(page.locator("html")).to_have_attribute("lang", "de")
    await context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "path", ["/", "/?vod=vod-1", "/?status=published", "/?status=deleted", "/?title=nothing"]
)
async def test_axe_finds_nothing(ann: Page, gateway: ServedGateway, scheme: Any, path: str) -> None:
    await fill(gateway, 9)
    await ann.emulate_media(color_scheme=scheme)
    await open_gallery(ann, gateway, path)
    found = (await Axe().run(ann)).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


async def test_axe_finds_nothing_after_actions(ann: Page, gateway: ServedGateway) -> None:
    await fill(gateway, 4)
    await open_gallery(ann, gateway)
    await ann.locator(".card").nth(0).get_by_role("button", name="Delete").click()
    await expect(ann.get_by_role("status")).to_contain_text("is deleted.")
    await ann.get_by_role("checkbox").first.check()
    found = (await Axe().run(ann)).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


@pytest.mark.parametrize("language", ["en", "de"])
async def test_a_phone_shows_it_whole(browser: Browser, gateway: ServedGateway, language: str) -> None:
    await fill(gateway, 8)
    context = await browser.new_context(locale=language, **PHONE)
    await gateway.sign_in(context, "ann")
    page = await context.new_page()
    await open_gallery(page, gateway)
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    for target in await page.locator(".card").first.locator("button, a.button, .pick").all():
        box = await target.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 36
    await page.get_by_role("checkbox").first.tap()
    bar = page.locator("#batch")
    await expect(bar).to_be_visible()
    box = await bar.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    await context.close()


async def test_the_first_page_is_light_and_still(ann: Page, gateway: ServedGateway) -> None:
    """Nothing is loaded from other origins."""
    await fill(gateway, 30)
    session = await ann.context.new_cdp_session(ann)
    await session.send("Network.enable")
    kinds: dict[str, tuple[str, str]] = {}
    sizes: dict[str, float] = {}
    session.on("Network.responseReceived", lambda event: kinds.update({event["requestId"]: _kind(event)}))
    session.on(
        "Network.loadingFinished",
        lambda event: sizes.update({event["requestId"]: event["encodedDataLength"]}),
    )
    await ann.add_init_script(
        """window.shifts = [];
        new PerformanceObserver(list => shifts.push(...list.getEntries().map(each => each.value)))
          .observe({ type: "layout-shift", buffered: true });"""
    )
    await open_gallery(ann, gateway)
    await ann.wait_for_load_state("networkidle")
    storage = urlsplit(gateway.s3.meta.endpoint_url).netloc
    assert {urlsplit(url).netloc for _, url in kinds.values()} <= {urlsplit(gateway.url).netloc, storage}
    assert sum(size for each, size in sizes.items() if kinds[each][0] != "Image") < FIRST_PAGE_BYTES
    assert await ann.evaluate("shifts") == []


def _kind(event: dict[str, Any]) -> tuple[str, str]:
    return event["type"], event["response"]["url"]


async def test_on_a_slow_connection_it_is_there_with_its_first_answer(
    ann: Page, gateway: ServedGateway
) -> None:
    """Everything works without scripts: the page is usable as soon as it is painted.

    That is after 0.75 s on a machine that has nothing else to do. A busy one takes longer for everything, but
    must not need another round trip.
    """
    await fill(gateway, 24)
    session = await ann.context.new_cdp_session(ann)
    await session.send("Network.enable")
    await session.send("Network.emulateNetworkConditions", {"offline": False, **FAST_3G})
    await ann.goto(gateway.url)
    painted = await ann.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    arrived = await ann.evaluate("performance.getEntriesByType('navigation')[0].responseEnd")
    blocking = await ann.evaluate(
        """performance.getEntriesByType("resource").filter(each => each.renderBlockingStatus === "blocking")
          .map(each => each.name)"""
    )
    assert blocking == []
    assert painted < arrived + FAST_3G["latency"]


async def test_a_slow_page_is_painted_at_once(ann: Page, gateway: ServedGateway) -> None:
    """A page that is painted in parts moves while it loads."""
    await fill(gateway, 24)
    session = await ann.context.new_cdp_session(ann)
    await session.send("Network.enable")
    await session.send("Network.emulateNetworkConditions", {"offline": False, **TRICKLE})
    await ann.goto(gateway.url, wait_until="domcontentloaded")
    painted = await ann.evaluate(
        """new Promise(done => new PerformanceObserver(list => done(list.getEntries()[0].startTime))
          .observe({ type: "paint", buffered: true }))"""
    )
    began, ended = await ann.evaluate(
        """(() => {
          const [page] = performance.getEntriesByType("navigation");
          return [page.responseStart, page.responseEnd];
        })()"""
    )
    assert ended - began > 1000
    assert painted > ended - CLOCKS_DIFFER_MS
