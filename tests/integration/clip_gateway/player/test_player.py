"""A clip's page in a browser: playback beyond the life of a URL, and every control."""

import asyncio
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, Request, expect

from clip_shared.contracts.registry_api import Actor, ClipAction, ClipRecord, ClipStatus
from clip_shared.errors import TransientError
from tests.integration.clip_gateway.player.conftest import (
    FRAMES_PER_SECOND,
    SECONDS,
    URL_SECONDS,
    WAIT_MS,
    signed_in,
)
from tests.integration.clip_gateway.served import ClipFiles, ServedGateway
from tests.unit.clip_gateway.fakes import a_clip
from tests.unit.clip_gateway.parts import COOKIE

LONG: dict[str, Any] = {"duration_seconds": float(SECONDS)}
FRAME = 1 / FRAMES_PER_SECOND


async def opened(page: Page, gateway: ServedGateway, clip: ClipRecord, rest: str = "") -> Page:
    """The page of a clip, whose video is ready to play."""
    await page.goto(f"{gateway.url}/clips/{clip.clip_id}{rest}")
    await until(page, "video.readyState >= 2")
    return page


async def until(page: Page, condition: str) -> None:
    wanted = f"() => {{ const video = document.querySelector('video'); return {condition} }}"
    await page.wait_for_function(wanted, timeout=WAIT_MS)


async def of_video(page: Page, expression: str) -> Any:
    return await page.evaluate(
        f"() => {{ const video = document.querySelector('video'); return {expression} }}"
    )


async def with_aged_url(page: Page, gateway: ServedGateway, large_media: ClipFiles) -> ClipRecord:
    """Open the page of a clip, and wait until the URL of its video has expired."""
    clip = await gateway.put(a_clip(**LONG), large_media)
    await opened(page, gateway, clip)
    await of_video(page, "(video.playbackRate = 1.5, 0)")
    await asyncio.sleep(URL_SECONDS + 1)
    return clip


async def test_a_video_goes_on_after_its_url_has_run_out(
    page: Page, gateway: ServedGateway, large_media: ClipFiles
) -> None:
    refused: list[str] = []

    def note(request: Request) -> None:
        if "X-Amz" in request.url and "BLOCKED_BY_ORB" in (request.failure or ""):
            refused.append(request.url)

    page.on("requestfailed", note)
    await with_aged_url(page, gateway, large_media)
    # A part that was not read ahead: the storage refuses the URL.
    await of_video(page, f"(video.currentTime = {SECONDS - 6}, video.play(), 0)")
    await until(page, f"video.currentTime > {SECONDS - 5.5}")
    assert refused, "the URL was still good, or all of the video had been read: nothing was tried"
    assert await of_video(page, "[video.paused, video.error, video.playbackRate]") == [False, None, 1.5]
    await expect(page.locator("#stage-note")).to_be_empty()


async def test_a_paused_video_is_renewed_where_it_is_looked_at_and_stays_paused(
    page: Page, gateway: ServedGateway, large_media: ClipFiles
) -> None:
    await with_aged_url(page, gateway, large_media)
    given = len(gateway.limits.presigns)
    await of_video(page, f"(video.currentTime = {SECONDS - 6}, 0)")
    await until(page, f"video.readyState >= 2 && !video.seeking && video.currentTime == {SECONDS - 6}")
    assert len(gateway.limits.presigns) > given
    assert await of_video(page, "video.paused")


async def test_the_page_says_that_nothing_answers_and_goes_on_when_it_does(
    page: Page, gateway: ServedGateway, large_media: ClipFiles
) -> None:
    await with_aged_url(page, gateway, large_media)
    gateway.registry.outage = TransientError("away")
    await of_video(page, f"(video.currentTime = {SECONDS - 6}, video.play(), 0)")
    await expect(page.locator("#stage-note")).to_contain_text("Trying again", timeout=WAIT_MS)
    gateway.registry.outage = None
    await until(page, f"video.currentTime > {SECONDS - 5.5}")
    await expect(page.locator("#stage-note")).to_be_empty()


async def test_the_page_says_that_the_sign_in_has_run_out(
    page: Page, context: BrowserContext, gateway: ServedGateway, large_media: ClipFiles
) -> None:
    await with_aged_url(page, gateway, large_media)
    await context.clear_cookies(name=COOKIE)
    await of_video(page, f"(video.currentTime = {SECONDS - 6}, 0)")
    await expect(page.locator("#stage-note")).to_contain_text("signed out", timeout=WAIT_MS)


async def test_the_page_says_that_the_clip_is_gone(page: Page, gateway: ServedGateway) -> None:
    clip = await gateway.put(a_clip(**LONG))
    await page.route(
        "**/watch", lambda route: route.abort() if route.request.method == "GET" else route.continue_()
    )
    await page.goto(f"{gateway.url}/clips/{clip.clip_id}")
    await gateway.registry.act(ClipAction.DELETE, clip.clip_id, Actor(account_id="ann"))
    await of_video(page, "(video.load(), 0)")
    await expect(page.locator("#stage-note")).to_contain_text("cannot be watched any more", timeout=WAIT_MS)


async def test_a_file_that_does_not_play_is_not_retried_forever(page: Page, gateway: ServedGateway) -> None:
    clip = await gateway.put(a_clip(**LONG), ClipFiles(b"no video at all", b"no poster"))
    await page.goto(f"{gateway.url}/clips/{clip.clip_id}")
    await expect(page.locator("#stage-note")).to_contain_text("cannot play this video", timeout=WAIT_MS)
    assert len(gateway.limits.presigns) < 12


# Note the time of each frame that the browser shows.
NOTE_FRAMES = """function note(_, { mediaTime }) {
    window.shown = mediaTime
    document.querySelector("video").requestVideoFrameCallback(note)
}
document.querySelector("video").requestVideoFrameCallback(note)"""


async def shows(page: Page, frame: int) -> None:
    """Wait until a frame, by its number, is shown."""
    number = f"() => Math.round(window.shown * {FRAMES_PER_SECOND})"
    await page.wait_for_function(f"{number} === {frame}", timeout=WAIT_MS)
    # What comes after it would be another step.
    await asyncio.sleep(0.5)
    assert await page.evaluate(number) == frame


async def test_a_step_shows_the_next_frame_and_the_one_before(page: Page, gateway: ServedGateway) -> None:
    await opened(page, gateway, await gateway.put(a_clip(**LONG)))
    await page.evaluate(f"() => {{ {NOTE_FRAMES} }}")
    await of_video(page, f"(video.currentTime = {100.5 * FRAME}, 0)")
    await shows(page, 100)
    for key, frame in [(".", 101), (".", 102), (",", 101), (",", 100), (",", 99)]:
        await page.keyboard.press(key)
        await shows(page, frame)
    await page.get_by_role("button", name="One frame forward").click()
    await shows(page, 100)


async def test_every_key_does_what_the_list_says(page: Page, gateway: ServedGateway) -> None:
    await opened(page, gateway, await gateway.put(a_clip(**LONG)))
    await page.keyboard.press("5")
    await until(page, f"video.currentTime == {SECONDS / 2}")
    await page.keyboard.press("ArrowRight")
    await until(page, f"video.currentTime == {SECONDS / 2 + 5}")
    await page.keyboard.press("j")
    await until(page, f"video.currentTime == {SECONDS / 2 - 5}")
    await page.keyboard.press("r")
    assert await of_video(page, "video.loop")
    await expect(page.get_by_role("button", name="Repeat")).to_have_attribute("aria-pressed", "true")
    await page.keyboard.press(">")
    assert await of_video(page, "video.playbackRate") == 1.25
    await expect(page.get_by_label("Speed")).to_have_value("1.25")
    await page.keyboard.press("m")
    assert await of_video(page, "video.muted")
    await page.keyboard.press("Space")
    await until(page, "!video.paused")
    await page.keyboard.press("k")
    await until(page, "video.paused")
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_be_hidden()


async def test_keys_are_left_alone_where_people_write_and_can_be_switched_off(
    page: Page, gateway: ServedGateway
) -> None:
    await opened(page, gateway, await gateway.put(a_clip(**LONG)))
    await page.get_by_text("Rename", exact=True).click()
    await page.get_by_label("Title").fill("")
    await page.get_by_label("Title").press_sequentially("mr. k 5?")
    await expect(page.get_by_label("Title")).to_have_value("mr. k 5?")
    assert await of_video(page, "[video.muted, video.loop, video.currentTime]") == [False, False, 0]
    await page.get_by_role("button", name="Keyboard shortcuts").click()
    await page.get_by_label("Shortcuts are on").uncheck()
    await page.keyboard.press("Escape")
    await page.keyboard.press("m")
    await page.reload()
    await until(page, "video.readyState >= 1")
    await page.keyboard.press("m")
    assert not await of_video(page, "video.muted")


async def test_a_link_leads_to_the_moment_it_was_copied_at(
    page: Page, context: BrowserContext, gateway: ServedGateway
) -> None:
    await context.grant_permissions(["clipboard-read", "clipboard-write"], origin=gateway.url)
    clip = await gateway.put(a_clip(**LONG))
    await opened(page, gateway, clip)
    await of_video(page, "(video.currentTime = 12.34, 0)")
    await page.get_by_role("button", name="Copy link at 0:12").click()
    await expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    link = await page.evaluate("navigator.clipboard.readText()")
    assert link == f"{gateway.url}/clips/{clip.clip_id}#t=12.3"
    await page.goto("about:blank")
    await page.goto(link)
    await until(page, "Math.abs(video.currentTime - 12.3) < 0.01")


async def test_keeping_and_publishing_do_not_stop_the_video(
    page: Page, context: BrowserContext, gateway: ServedGateway
) -> None:
    await context.grant_permissions(["clipboard-read", "clipboard-write"], origin=gateway.url)
    clip = await gateway.put(a_clip(**LONG))
    await opened(page, gateway, clip)
    await of_video(page, "(video.isTheSame = true, video.play())")
    await page.get_by_role("button", name="Keep").click()
    await expect(page.get_by_role("status").filter(has_text="The clip is kept.")).to_be_visible()
    await expect(page.get_by_role("button", name="Let expire")).to_be_focused()
    assert gateway.registry.clips[clip.clip_id].status is ClipStatus.KEPT

    await page.get_by_text("Options", exact=True).click()
    await page.get_by_label("Visitors may download it").check()
    await page.get_by_label("Public until").fill("2030-01-02T03:04")
    await page.get_by_role("button", name="Publish").click()
    await expect(page.get_by_role("heading", name="Public link")).to_be_visible()
    published = gateway.registry.clips[clip.clip_id]
    assert published.publication is not None
    assert published.publication.downloadable
    assert published.publication.until is not None
    # The reader is in Berlin, an hour ahead of UTC.
    assert published.publication.until.isoformat() == "2030-01-02T02:04:00+00:00"
    await page.get_by_text("Sharing options").click()
    await expect(page.get_by_label("Public until")).to_have_value("2030-01-02T03:04")
    await page.get_by_role("button", name="Copy", exact=True).first.click()
    share_url = f"{gateway.url}/s/{published.share_slug}"
    assert await page.evaluate("navigator.clipboard.readText()") == share_url

    await page.get_by_role("button", name="Unpublish").click()
    await expect(page.get_by_role("status").filter(has_text="no longer public")).to_be_visible()
    assert gateway.registry.clips[clip.clip_id].status is ClipStatus.KEPT
    assert await of_video(page, "video.isTheSame && !video.paused && video.currentTime > 0.5")


async def test_a_new_title_is_everywhere_at_once(page: Page, gateway: ServedGateway) -> None:
    clip = await gateway.put(a_clip(**LONG))
    await opened(page, gateway, clip)
    await page.get_by_text("Rename", exact=True).click()
    await page.get_by_label("Title").fill('Größter <b>"Moment"</b>')
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text('Größter <b>"Moment"</b>')
    assert await page.title() == 'Größter <b>"Moment"</b> · Clips'
    assert gateway.registry.clips[clip.clip_id].title == 'Größter <b>"Moment"</b>'


async def test_a_refused_action_is_reported_and_the_video_stays(page: Page, gateway: ServedGateway) -> None:
    clip = await gateway.put(a_clip(**LONG))
    await opened(page, gateway, clip)
    await gateway.registry.act(ClipAction.DELETE, clip.clip_id, Actor(account_id="ann"))
    await page.get_by_role("button", name="Keep").click()
    await expect(page.get_by_role("alert")).to_contain_text("not possible with the clip any more")
    gateway.registry.outage = TransientError("away")
    await page.get_by_role("button", name="Keep").click()
    await expect(page.get_by_role("alert")).to_contain_text("does not answer right now")
    await expect(page.locator("video")).to_be_visible()


async def test_a_deleted_clip_leads_back_and_can_be_restored_on_its_page(
    page: Page, gateway: ServedGateway
) -> None:
    clip = await gateway.put(a_clip(status=ClipStatus.KEPT, **LONG))
    await opened(page, gateway, clip)
    await page.get_by_role("button", name="Delete").click()
    await expect(page).to_have_url(f"{gateway.url}/?done=delete&count=1&clip={clip.clip_id}")
    await expect(page.get_by_role("button", name="Undo").first).to_be_visible()
    await page.goto(f"{gateway.url}/clips/{clip.clip_id}")
    await expect(page.locator("video")).to_have_count(0)
    await page.get_by_role("button", name="Restore").click()
    await until(page, "video?.readyState >= 2")
    assert gateway.registry.clips[clip.clip_id].status is ClipStatus.KEPT


async def test_an_expired_clip_can_be_kept_and_watched_again(page: Page, gateway: ServedGateway) -> None:
    clip = await gateway.put(a_clip(seconds_left=-1, **LONG))
    await page.goto(f"{gateway.url}/clips/{clip.clip_id}")
    await expect(page.get_by_text("This clip has expired.")).to_be_visible()
    await page.get_by_role("button", name="Keep").click()
    await until(page, "video?.readyState >= 2")


async def test_everything_can_be_done_without_scripts(browser: Browser, gateway: ServedGateway) -> None:
    clip = await gateway.put(a_clip(**LONG))
    context = await signed_in(browser, gateway, java_script_enabled=False)
    page = await context.new_page()
    address = f"{gateway.url}/clips/{clip.clip_id}"
    await page.goto(address)
    await page.get_by_role("button", name="Keep").click()
    await expect(page.locator("#messages")).to_contain_text("The clip is kept.")
    await page.get_by_text("Rename", exact=True).click()
    await page.get_by_label("Title").fill("Another")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Another")
    await page.get_by_text("Options", exact=True).click()
    await page.get_by_label("Public until (UTC)").fill("2030-01-02T03:04")
    await page.get_by_role("button", name="Publish").click()
    await expect(page.get_by_role("heading", name="Public link")).to_be_visible()
    published = gateway.registry.clips[clip.clip_id].publication
    assert published is not None
    assert published.until is not None
    assert published.until.isoformat() == "2030-01-02T03:04:00+00:00"
    await page.get_by_role("button", name="Unpublish").click()
    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("button", name="Undo").first.click()
    assert gateway.registry.clips[clip.clip_id].status is ClipStatus.KEPT
    await expect(page.get_by_role("group", name="Playback")).to_be_hidden()
    await context.close()


async def test_the_page_of_an_outage_opens_what_was_wanted_when_it_is_back(
    page: Page, gateway: ServedGateway
) -> None:
    clip = await gateway.put(a_clip(**LONG))
    gateway.registry.outage = TransientError("away")
    answer = await page.goto(f"{gateway.url}/clips/{clip.clip_id}")
    assert answer is not None
    assert answer.status == 503
    await expect(page.get_by_role("heading", name="One moment")).to_be_visible()
    await asyncio.sleep(3)
    await expect(page.get_by_role("heading", name="One moment")).to_be_visible()
    gateway.registry.outage = None
    await until(page, "video?.readyState >= 2")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_every_state_suits_every_reader_and_fits_every_screen(
    browser: Browser, gateway: ServedGateway, scheme: str, width: int
) -> None:
    clips = [
        await gateway.put(a_clip(**LONG, title="Donaudampfschifffahrtsgesellschaftskapitän" * 3)),
        await gateway.put(a_clip(status=ClipStatus.PUBLISHED, **LONG)),
        await gateway.put(a_clip(seconds_left=-1)),
        await gateway.put(a_clip(status=ClipStatus.DELETED)),
        gateway.registry.put(a_clip("bob")),
    ]
    screen = {"width": width, "height": 900}
    context = await signed_in(browser, gateway, color_scheme=scheme, viewport=screen)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
    for clip in clips:
        await page.goto(f"{gateway.url}/clips/{clip.clip_id}")
        for details in await page.locator("details").all():
            await details.evaluate("details => details.open = true")
        await asyncio.sleep(0.3)  # until what turns has turned
        found = (await Axe().run(page)).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    await context.close()
