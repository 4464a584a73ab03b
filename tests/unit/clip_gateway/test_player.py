"""The page of a clip, and the error pages."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx
import pytest
from starlette.types import ASGIApp

from clip_gateway import asgi
from clip_gateway.domain import Refusal, Refused
from clip_gateway.parts import GatewayParts
from clip_shared.contracts.events import CutMode, CutReceipt, HighlightKind, TrackFate, TrackReceipt
from clip_shared.contracts.registry_api import ClipStatus, CutOffer
from clip_shared.errors import TransientError
from tests.unit.clip_gateway.fakes import DAY, NOON, RECEIPT, InMemoryRegistry, a_clip
from tests.unit.clip_gateway.parts import COOKIE
from tests.unit.clip_gateway.tokens import hs256

HOST = "http://clips.example"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


def browser(app: ASGIApp, **headers: str) -> httpx.AsyncClient:
    """Ann's browser, on one of our pages."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url=HOST,
        cookies={COOKIE: hs256()},
        headers={**OWN_PAGE, **headers},
    )


@pytest.fixture
async def ann(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with browser(app) as client:
        yield client


@pytest.fixture
def put(registry: InMemoryRegistry) -> Callable[..., str]:
    """Puts a clip of ann's into the registry, and returns the address of its page."""

    def put_clip(account: str = "ann", **values: Any) -> str:
        return f"/clips/{registry.put(a_clip(account, **values)).clip_id}"

    return put_clip


async def read(client: httpx.AsyncClient, address: str) -> str:
    answer = await client.get(address)
    assert answer.status_code == HTTPStatus.OK, answer.text
    return answer.text


async def test_the_video_knows_how_long_its_urls_live(
    ann: httpx.AsyncClient, put: Callable[..., str]
) -> None:
    page = put()
    assert f'src="/v1{page}/watch" data-seconds="900"' in await read(ann, page)
    assert 'data-seconds="30"' in await read(ann, put(seconds_left=30.9))


@pytest.mark.parametrize(
    ("status", "offered", "not_offered"),
    [
        (ClipStatus.AVAILABLE, {"keep", "publish", "rename", "delete"}, {"unkeep", "unpublish", "restore"}),
        (ClipStatus.KEPT, {"unkeep", "publish", "rename", "delete"}, {"keep", "unpublish", "restore"}),
        (ClipStatus.PUBLISHED, {"publish", "unpublish", "rename", "delete"}, {"keep", "unkeep", "restore"}),
        (ClipStatus.DELETED, {"restore"}, {"keep", "unkeep", "publish", "unpublish", "rename", "delete"}),
    ],
)
async def test_the_page_offers_what_can_be_done(
    ann: httpx.AsyncClient,
    put: Callable[..., str],
    status: ClipStatus,
    offered: set[str],
    not_offered: set[str],
) -> None:
    page = put(status=status)
    text = await read(ann, page)
    for action in offered:
        assert f'action="{page}/{action}"' in text
    for action in not_offered:
        assert f'action="{page}/{action}"' not in text


async def test_an_expired_or_deleted_clip_shows_no_video(
    ann: httpx.AsyncClient, put: Callable[..., str]
) -> None:
    for page in (put(seconds_left=-1), put(status=ClipStatus.DELETED)):
        text = await read(ann, page)
        assert "<video" not in text
        assert f"/v1{page}/" not in text
    assert "This clip has expired." in await read(ann, put(seconds_left=-1))


async def test_a_published_clip_says_where_it_is(ann: httpx.AsyncClient, put: Callable[..., str]) -> None:
    page = put(status=ClipStatus.PUBLISHED, share_slug="abc", title='"A" & <b>')
    text = await read(ann, page)
    assert f'value="{HOST}/s/abc"' in text
    # The code is text to be copied: what is escaped in it is escaped once more.
    title = "&amp;#34;A&amp;#34; &amp;amp; &amp;lt;b&amp;gt;"
    assert f"&lt;iframe src=&#34;{HOST}/e/abc&#34; title=&#34;{title}&#34;" in text


async def test_the_receipt_is_in_plain_words(ann: httpx.AsyncClient, put: Callable[..., str]) -> None:
    receipt = CutReceipt(
        mode=CutMode.EXACT,
        requested_start_seconds=3600,
        requested_end_seconds=3700,
        actual_start_seconds=3610,
        actual_end_seconds=3700,
        audio_video_skew_ms=-120.4,
        fallback_reason="the video is HEVC",
        audio=TrackReceipt(fate=TrackFate.RE_ENCODED),
        remark="The VOD breaks off.",
    )
    text = await read(ann, put(cut_receipt=receipt, kind=HighlightKind.REFINED, file_size_bytes=12_345_678))
    for sentence in (
        "1:00:10\u20131:01:40",
        "1:00:00\u20131:01:40",
        "the video is HEVC",
        "120 ms before the video, encoded again",
        "The VOD breaks off.",
        "a second, closer look at the stream, score 0.5",
        "12 MB",
    ):
        assert sentence in text
    left_out = RECEIPT.model_copy(
        update={"audio": TrackReceipt(fate=TrackFate.LEFT_OUT, reason="Opus in MPEG-TS")}
    )
    assert 'left out: <span lang="en">Opus in MPEG-TS</span>' in await read(ann, put(cut_receipt=left_out))


async def test_a_newer_cut_is_shown(ann: httpx.AsyncClient, put: Callable[..., str]) -> None:
    offer = CutOffer(
        kind=HighlightKind.REFINED,
        title="Newer",
        score=0.9,
        start_seconds=60,
        end_seconds=95,
        highlight_event_id="event-2",
        highlight_detected_at=NOON + timedelta(hours=1),
    )
    text = await read(ann, put(status=ClipStatus.KEPT, offer=offer))
    assert "A newer cut exists" in text
    assert "1:00\u20131:35" in text
    assert "A newer cut exists" not in await read(ann, put(status=ClipStatus.KEPT))


async def test_a_page_shows_a_notice_while_it_is_true(
    ann: httpx.AsyncClient, put: Callable[..., str]
) -> None:
    page = put()
    done = await ann.post(f"{page}/keep", data={"back": page}, follow_redirects=True)
    assert "The clip is kept." in done.text
    await ann.post(f"{page}/unkeep", data={"back": page})
    assert "The clip is kept." not in await read(ann, str(done.url).removeprefix(HOST).partition("#")[0])


async def test_a_page_speaks_german(app: ASGIApp, put: Callable[..., str]) -> None:
    async with browser(app, **{"Accept-Language": "de"}) as ann:
        text = await read(ann, put(seconds_left=2.5 * DAY))
    assert '<html lang="de">' in text
    assert "Läuft in 3 Tagen ab" in text
    assert "Über diesen Clip" in text


async def test_a_guest_is_sent_to_sign_in_and_back(guest: httpx.AsyncClient, put: Callable[..., str]) -> None:
    page = put()
    answer = await guest.get(page)
    assert answer.status_code == HTTPStatus.SEE_OTHER
    assert answer.headers["location"] == f"https://sign-in.example/?next={page.replace('/', '%2F')}"


async def test_a_guests_form_leads_to_sign_in_and_back_to_its_page(
    guest: httpx.AsyncClient, put: Callable[..., str]
) -> None:
    page = put()
    answer = await guest.post(f"{page}/keep", headers={"Referer": f"{HOST}{page}", **OWN_PAGE})
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert f'href="https://sign-in.example/?next={page.replace("/", "%2F")}"' in answer.text
    elsewhere = await guest.post(f"{page}/keep", headers={"Referer": "http://other.example/trap", **OWN_PAGE})
    assert 'href="https://sign-in.example/?next=%2F"' in elsewhere.text


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        (f"/clips/{UUID(int=7)}", HTTPStatus.NOT_FOUND, "Page not found"),
        ("/clips/not-a-clip", HTTPStatus.NOT_FOUND, "Page not found"),
        ("/nowhere", HTTPStatus.NOT_FOUND, "Page not found"),
    ],
)
async def test_an_unknown_address_has_an_error_page(
    ann: httpx.AsyncClient, path: str, status: HTTPStatus, sentence: str
) -> None:
    answer = await ann.get(path)
    assert answer.status_code == status
    assert f"<h1>{sentence}</h1>" in answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_a_clip_of_another_account_reveals_nothing(
    ann: httpx.AsyncClient, put: Callable[..., str]
) -> None:
    answer = await ann.get(put("bob", title="A secret"))
    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert "<h1>This is not yours</h1>" in answer.text
    assert 'action="/sign-out"' in answer.text
    assert "A secret" not in answer.text
    assert "bob" not in answer.text


async def test_a_purged_clip_is_gone(ann: httpx.AsyncClient, put: Callable[..., str]) -> None:
    answer = await ann.get(put(status=ClipStatus.PURGED))
    assert answer.status_code == HTTPStatus.NOT_FOUND


async def test_a_request_of_another_site_changes_nothing(
    app: ASGIApp, registry: InMemoryRegistry, put: Callable[..., str]
) -> None:
    page = put()
    async with browser(app, **{"Sec-Fetch-Site": "cross-site"}) as ann:
        answer = await ann.post(f"{page}/keep")
    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert "<h1>This request came from another site</h1>" in answer.text
    assert {clip.status for clip in registry.clips.values()} == {ClipStatus.AVAILABLE}


async def test_a_refused_action_leads_back(ann: httpx.AsyncClient, put: Callable[..., str]) -> None:
    page = put(status=ClipStatus.PUBLISHED)
    answer = await ann.post(f"{page}/unkeep", headers={"Referer": f"{HOST}{page}?done=publish"})
    assert answer.status_code == HTTPStatus.CONFLICT
    assert "<h1>This clip has changed</h1>" in answer.text
    assert f'href="{page}?done=publish"' in answer.text


async def test_a_wrong_method_is_told_the_right_ones(ann: httpx.AsyncClient, put: Callable[..., str]) -> None:
    answer = await ann.delete(put())
    assert answer.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert "<h1>This does not work</h1>" in answer.text


async def test_an_outage_of_the_registry_has_a_retry_after(
    ann: httpx.AsyncClient, registry: InMemoryRegistry, put: Callable[..., str]
) -> None:
    page = put()
    registry.outage = TransientError("away")
    answer = await ann.get(f"{page}?done=keep")
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert answer.headers["retry-after"] == "5"
    assert f'<meta http-equiv="refresh" content="5; url={page}?done=keep">' in answer.text
    assert f'data-retry="{page}?done=keep"' in answer.text
    assert "may or may not be saved" not in answer.text


async def test_a_change_that_met_an_outage_is_not_repeated_by_the_page(
    ann: httpx.AsyncClient, registry: InMemoryRegistry, put: Callable[..., str]
) -> None:
    page = put()
    registry.outage = TransientError("away")
    answer = await ann.post(f"{page}/keep", headers={"Referer": f"{HOST}{page}"})
    assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert f'data-retry="{page}"' in answer.text
    assert "Your change may or may not be saved" in answer.text


async def test_too_many_requests_have_a_retry_after(
    ann: httpx.AsyncClient, registry: InMemoryRegistry, put: Callable[..., str]
) -> None:
    page = put()
    registry.outage = Refused(Refusal.TOO_MANY, retry_after_seconds=17)
    answer = await ann.get(page)
    assert answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert answer.headers["retry-after"] == "17"
    assert "<h1>Too many requests</h1>" in answer.text


async def test_a_defect_has_a_page_without_details(
    parts: GatewayParts, registry: InMemoryRegistry, put: Callable[..., str]
) -> None:
    page = put()
    registry.outage = RuntimeError("the inside of the machine")
    async with browser(asgi.create(parts)) as ann:
        answer = await ann.get(page)
    assert answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR
    assert "<h1>Something went wrong here</h1>" in answer.text
    assert "the inside" not in answer.text
    assert "content-security-policy" in answer.headers
