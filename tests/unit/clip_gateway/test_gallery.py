"""The gallery and its forms, as a browser without scripts uses them, and as the page's script does."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from starlette.types import ASGIApp

from clip_shared.contracts.events import HighlightKind, SkipReason
from clip_shared.contracts.registry_api import (
    BatchOutcome,
    BatchResult,
    BatchResults,
    ClipAction,
    ClipOrder,
    ClipRecord,
    ClipStatus,
    CutOffer,
    SkippedHighlight,
)
from clip_shared.errors import TransientError
from tests.unit.clip_gateway.fakes import DAY, NOON, InMemoryRegistry, a_clip
from tests.unit.clip_gateway.parts import COOKIE
from tests.unit.clip_gateway.tokens import hs256

OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
BY_SCRIPT = {"HX-Request": "true", "HX-Request-Type": "partial"}


@pytest.fixture
async def ann(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """Ann's browser, on one of our pages."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://clips.example",
        cookies={COOKIE: hs256()},
        headers=OWN_PAGE,
    ) as client:
        yield client


async def page(ann: httpx.AsyncClient, address: str = "/", **headers: str) -> str:
    answer = await ann.get(address, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_a_guest_is_sent_to_sign_in_and_back(guest: httpx.AsyncClient) -> None:
    answer = await guest.get("/?status=kept")
    assert answer.status_code == 303
    assert answer.headers["location"] == "https://sign-in.example/?next=%2F%3Fstatus%3Dkept"


async def test_a_card_says_what_its_clip_is(ann: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    clip = registry.put(a_clip(title='<b>"Ace"</b>', duration_seconds=3723.4, seconds_left=2.5 * DAY))
    text = await page(ann)
    assert "&lt;b&gt;&#34;Ace&#34;&lt;/b&gt;" in text
    assert "<b>" not in text
    assert "1:02:03" in text
    assert "Expires in 3 days" in text
    assert f'src="https://media.example/clips/{clip.poster_key}?' in text
    assert f'formaction="/clips/{clip.clip_id}/keep"' in text


@pytest.mark.parametrize(
    ("clip", "said"),
    [
        (a_clip(seconds_left=0.5 * DAY), "Expires within a day"),
        (a_clip(seconds_left=-1), "Expired"),
        (a_clip(status=ClipStatus.KEPT), "Kept"),
        (a_clip(status=ClipStatus.PUBLISHED), "Published"),
    ],
)
async def test_a_card_says_how_long_its_clip_stays(
    ann: httpx.AsyncClient, registry: InMemoryRegistry, clip: ClipRecord, said: str
) -> None:
    registry.put(clip)
    card = (await page(ann)).partition('id="cards"')[2].partition("</ul>")[0]
    assert said in card
    assert ("Expires " in card) == said.startswith("Expires ")


async def test_a_card_says_that_there_is_a_newer_cut(
    ann: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    offer = CutOffer(
        kind=HighlightKind.REFINED,
        title="Better",
        score=0.9,
        start_seconds=0,
        end_seconds=5,
        highlight_event_id="event-2",
        highlight_detected_at=NOON,
    )
    registry.put(a_clip(status=ClipStatus.KEPT, offer=offer))
    assert "Newer cut" in await page(ann)


async def test_an_expired_clip_can_be_kept_but_not_watched(
    ann: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    clip = registry.put(a_clip(seconds_left=-1))
    text = await page(ann)
    assert f"{clip.clip_id}/keep" in text
    assert f"{clip.clip_id}/watch" not in text
    assert f"{clip.clip_id}/download" not in text


async def test_others_clips_are_not_shown(ann: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    registry.put(a_clip("bob", title="of bob"))
    assert "of bob" not in await page(ann)


async def test_filters_search_and_order_reach_the_registry(
    ann: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    registry.put(a_clip(title="long ace", duration_seconds=50, kind=HighlightKind.REFINED))
    registry.put(a_clip(title="short ACE", duration_seconds=5, kind=HighlightKind.REFINED))
    registry.put(a_clip(title="quick ace", kind=HighlightKind.HEURISTIC))
    registry.put(a_clip(title="kept ace", kind=HighlightKind.REFINED, status=ClipStatus.KEPT))
    registry.put(a_clip(title="other", kind=HighlightKind.REFINED))
    text = await page(ann, f"/?title=Ace&kind=refined&status=available&vod=&order={ClipOrder.LONGEST}")
    cards = text.partition('id="cards"')[2].partition("</ul>")[0]
    titles = [
        title for title in ("long ace", "short ACE", "quick ace", "kept ace", "other") if title in cards
    ]
    assert titles == ["long ace", "short ACE"]
    assert cards.index("long ace") < cards.index("short ACE")
    assert '<option value="longest" selected>' in text


async def test_pages_follow_one_another(ann: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    for number in range(30):
        registry.put(a_clip(title=f"clip {number:02}", created_at=NOON - timedelta(hours=number)))
    first = await page(ann)
    assert first.count('<li class="card') == 24
    following = first.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
    second = await page(ann, following.replace("&amp;", "&"))
    assert second.count('<li class="card') == 6
    assert "clip 29" in second
    assert 'rel="next"' not in second


async def test_a_cursor_of_another_day_leads_to_the_first_page(ann: httpx.AsyncClient) -> None:
    answer = await ann.get("/?status=kept&cursor=stale")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?status=kept"


async def test_a_vod_says_what_became_of_its_highlights(
    ann: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    registry.put(a_clip(source_vod_id="vod-7"))
    registry.skips["vod-7"] = [
        SkippedHighlight(
            stream_highlight_id=f"hl-{number}",
            source_vod_id="vod-7",
            kind=HighlightKind.HEURISTIC,
            reason=reason,
            message="in other words",
            skipped_at=NOON,
        )
        for number, reason in enumerate(
            [SkipReason.TOO_SHORT, SkipReason.TOO_SHORT, SkipReason.SOURCE_MISSING]
        )
    ]
    text = " ".join((await page(ann, "/?vod=vod-7")).split())
    assert "4 highlights, 1 clip, 3 skipped" in text
    assert "2 \N{MULTIPLICATION SIGN}</span> too short for a clip" in text
    assert "file is missing" in text
    latest = " ".join((await page(ann)).split())
    assert "4 highlights, 1 clip, 3 skipped" in latest


async def test_an_unknown_vod_is_an_empty_list(ann: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    registry.put(a_clip())
    assert "No clip matches" in await page(ann, "/?vod=nowhere")


async def test_an_empty_gallery_explains_what_will_be_there(ann: httpx.AsyncClient) -> None:
    assert "Your clips will appear here" in await page(ann)


async def test_the_page_speaks_german(ann: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    registry.put(a_clip(file_size_bytes=1_234_567_890, seconds_left=2.5 * DAY))
    text = await page(ann, **{"Accept-Language": "de-AT,de;q=0.9,en;q=0.5"})
    assert '<html lang="de">' in text
    assert "Läuft in 3 Tagen ab" in text
    assert "1,2\N{NO-BREAK SPACE}GB" in text


async def test_a_missing_registry_is_an_outage(ann: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    registry.outage = TransientError("away")
    answer = await ann.get("/")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


async def test_no_cache_keeps_the_page(ann: httpx.AsyncClient) -> None:
    assert (await ann.get("/")).headers["cache-control"] == "no-store"


# --- Forms ---


async def test_a_form_leads_back_to_its_page_at_the_clip(
    ann: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    clip = registry.put(a_clip())
    answer = await ann.post(f"/clips/{clip.clip_id}/keep", data={"back": "/?order=best"})
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/?order=best&done=keep&count=1#clip-{clip.clip_id}"
    assert registry.clips[clip.clip_id].status is ClipStatus.KEPT
    assert "1 clip is kept." in await page(ann, answer.headers["location"])


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/\\evil.example", ""])
async def test_a_form_leads_nowhere_else(
    ann: httpx.AsyncClient, registry: InMemoryRegistry, back: str
) -> None:
    clip = registry.put(a_clip())
    answer = await ann.post(f"/clips/{clip.clip_id}/keep", data={"back": back})
    assert answer.headers["location"].startswith("/?done=keep")


async def test_after_a_delete_the_page_offers_to_undo_it(
    ann: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    clip = registry.put(a_clip(title="Ace"))
    answer = await ann.post(f"/clips/{clip.clip_id}/delete", data={"back": "/"})
    text = await page(ann, answer.headers["location"])
    assert "“Ace” is deleted." in text
    assert f'name="ids" value="{clip.clip_id}"' in text
    back = await ann.post("/clips/batch", data={"action": "restore", "ids": str(clip.clip_id)})
    assert registry.clips[clip.clip_id].status is ClipStatus.AVAILABLE
    assert "1 clip is back." in await page(ann, back.headers["location"])
    # The address still says so; the clip is there, and so the page does not.
    assert "is deleted" not in await page(ann, answer.headers["location"])


async def test_a_batch_says_how_many_it_changed_and_how_many_not(
    ann: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    mine = [registry.put(a_clip()) for _ in range(3)]
    other = registry.put(a_clip("bob"))
    ids = [str(each.clip_id) for each in (*mine, other)]
    answer = await ann.post("/clips/batch", data={"action": "keep", "ids": [*ids, "no id"], "back": "/"})
    assert all(registry.clips[each.clip_id].status is ClipStatus.KEPT for each in mine)
    assert registry.clips[other.clip_id].status is ClipStatus.AVAILABLE
    text = " ".join((await page(ann, answer.headers["location"])).split())
    assert "3 clips are kept. 1 clip could not be changed." in text


@pytest.mark.parametrize("path", ["/clips/{id}/keep", "/clips/batch"])
async def test_changed_clips_of_other_accounts_are_not_shown(
    ann: httpx.AsyncClient, registry: InMemoryRegistry, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    mine, theirs = registry.put(a_clip("ann")), a_clip("bob", title="Not hers to see")

    async def change_bobs(*_: object) -> object:
        return theirs

    async def change_many_of_bob(_: object) -> object:
        return BatchResults(
            results=(BatchResult(clip_id=theirs.clip_id, outcome=BatchOutcome.DONE, clip=theirs),)
        )

    monkeypatch.setattr(registry, "act", change_bobs)
    monkeypatch.setattr(registry, "act_on_many", change_many_of_bob)
    answer = await ann.post(
        path.format(id=mine.clip_id),
        data={"action": "keep", "ids": str(mine.clip_id)},
        headers={"HX-Request-Type": "partial"},
    )
    assert theirs.title not in answer.text
    assert str(theirs.clip_id) not in answer.text


@pytest.mark.parametrize("data", [{}, {"action": "keep"}, {"action": "publish", "ids": str(uuid4())}])
async def test_a_batch_of_nothing_changes_nothing(ann: httpx.AsyncClient, data: dict[str, str]) -> None:
    answer = await ann.post("/clips/batch", data=data)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_a_clip_is_renamed_and_published_with_options(
    ann: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    clip = registry.put(a_clip())
    await ann.post(f"/clips/{clip.clip_id}/rename", data={"title": "  Better  "})
    assert registry.clips[clip.clip_id].title == "Better"
    options = {"options": "1", "until": "2199-01-02T03:04", "downloadable": "on"}
    await ann.post(f"/clips/{clip.clip_id}/publish", data=options)
    publication = registry.clips[clip.clip_id].publication
    assert publication is not None
    assert publication.until == datetime(2199, 1, 2, 3, 4, tzinfo=UTC)
    assert (publication.embed, publication.downloadable, publication.indexable) == (False, True, False)


async def test_a_form_without_options_publishes_with_the_defaults(
    ann: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    clip = registry.put(a_clip())
    await ann.post(f"/clips/{clip.clip_id}/publish")
    publication = registry.clips[clip.clip_id].publication
    assert publication is not None
    assert (publication.until, publication.embed) == (None, True)


@pytest.mark.parametrize(
    ("action", "data"),
    [
        ("rename", {"title": " "}),
        ("rename", {"title": "x" * 201}),
        ("publish", {"options": "1", "until": "tomorrow"}),
    ],
)
async def test_forms_with_invalid_fields_are_refused(
    ann: httpx.AsyncClient, registry: InMemoryRegistry, action: str, data: dict[str, str]
) -> None:
    clip = registry.put(a_clip())
    answer = await ann.post(f"/clips/{clip.clip_id}/{action}", data=data)
    assert answer.status_code == 422
    assert registry.clips[clip.clip_id] == clip


@pytest.mark.parametrize("action", list(ClipAction))
async def test_a_clip_of_another_account_is_not_changed(
    ann: httpx.AsyncClient, registry: InMemoryRegistry, action: ClipAction
) -> None:
    clip = registry.put(a_clip("bob"))
    assert (await ann.post(f"/clips/{clip.clip_id}/{action}", data={"title": "x"})).status_code == 403
    assert (await ann.get(f"/clips/{clip.clip_id}/{action}")).status_code in {404, 405}
    assert registry.clips[clip.clip_id] == clip


@pytest.mark.parametrize("path", ["/clips/{id}/keep", "/clips/batch", "/feed"])
async def test_another_site_changes_nothing(
    ann: httpx.AsyncClient, registry: InMemoryRegistry, path: str
) -> None:
    clip = registry.put(a_clip())
    data = {"action": "keep", "ids": str(clip.clip_id), "feed": "on"}
    answer = await ann.post(path.format(id=clip.clip_id), data=data, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403
    assert registry.clips[clip.clip_id] == clip
    assert registry.feeds == {}


async def test_the_feed_is_switched_on_and_off(ann: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    answer = await ann.post("/feed", data={"feed": "on", "back": "/?status=published"})
    assert answer.headers["location"] == "/?status=published"
    slug = registry.feeds["ann"].slug
    assert f"http://clips.example/f/{slug}.atom" in await page(ann, "/?status=published")
    await ann.post("/feed", data={"feed": "off"})
    assert registry.feeds == {}


# --- What the script gets ---


async def test_the_script_gets_the_card_the_usage_and_a_message(
    ann: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    clip = registry.put(a_clip())
    answer = await ann.post(f"/clips/{clip.clip_id}/delete", data={"back": "/"}, headers=BY_SCRIPT)
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert f'<hx-partial hx-target="#clip-{clip.clip_id}"' in answer.text
    assert f'formaction="/clips/{clip.clip_id}/restore"' in answer.text
    assert '<hx-partial hx-target="#usage"' in answer.text
    assert "is deleted." in answer.text


async def test_the_script_gets_a_refusal_as_a_message(
    ann: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    clip = registry.put(a_clip(status=ClipStatus.DELETED))
    answer = await ann.post(f"/clips/{clip.clip_id}/keep", headers=BY_SCRIPT)
    assert answer.status_code == 409
    assert '<hx-partial hx-target="#messages"' in answer.text
    assert (await ann.post(f"/clips/{uuid4()}/keep", headers=BY_SCRIPT)).status_code == 404


async def test_a_change_is_confirmed_during_an_outage_of_the_usage(
    ann: httpx.AsyncClient, registry: InMemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_account_id: str) -> None:
        raise TransientError("away")

    clip = registry.put(a_clip())
    monkeypatch.setattr(registry, "usage_of", away)
    answer = await ann.post(f"/clips/{clip.clip_id}/keep", headers=BY_SCRIPT)
    assert answer.status_code == 200
    assert "#usage" not in answer.text
    assert registry.clips[clip.clip_id].status is ClipStatus.KEPT


async def test_the_usage_says_what_expires_next(ann: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    for title, days in (("later", 3), ("next", 1.5), ("too late", -1)):
        registry.put(a_clip(title=title, seconds_left=days * DAY))
    usage = (await page(ann)).partition('id="usage"')[2].partition("</section>")[0]
    assert "next" in usage
    assert "in 2 days" in " ".join(usage.split())
    assert "too late" not in usage
