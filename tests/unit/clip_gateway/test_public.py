"""Published clips for visitors, and what visitors must not see."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import feedparser
import httpx
import pytest
from bs4 import BeautifulSoup
from linkpreview import LinkPreview
from linkpreview.link import Link
from prometheus_client import CollectorRegistry

from clip_gateway import asgi
from clip_gateway.parts import GatewayParts
from clip_gateway.public.published_clips import LARGEST_PREVIEW_BYTES
from clip_gateway.rate_limits import RateLimits
from clip_shared.contracts.registry_api import Actor, ClipAction, ClipRecord, ClipStatus
from clip_shared.errors import TransientError
from tests.unit.clip_gateway.conftest import ADDRESSES
from tests.unit.clip_gateway.fakes import PUBLICATION, InMemoryRegistry, a_clip

TITLE = 'Größter <b>"Moment"</b> & 日本 🎉'
ACCOUNT = "account-of-ann"
HOME = ADDRESSES.public_url
SHARED = ("/s/abc", "/e/abc", "/m/abc/1.mp4", "/m/abc/1.jpg", f"/oembed?url={HOME}/s/abc")


def publish(registry: InMemoryRegistry, slug: str = "abc", **changes: Any) -> ClipRecord:
    """Put a published clip into the registry; ``changes`` may also be options of its publication."""
    said = {name: changes.pop(name) for name in list(changes) if name in type(PUBLICATION).model_fields}
    published = {"share_slug": slug, "publication": PUBLICATION.model_copy(update=said), "title": TITLE}
    return registry.put(a_clip(ACCOUNT, status=ClipStatus.PUBLISHED, **{**published, **changes}))


@pytest.fixture
def clip(registry: InMemoryRegistry) -> ClipRecord:
    return publish(registry, downloadable=True)


@pytest.fixture
async def feed(registry: InMemoryRegistry, clip: ClipRecord) -> str:
    """The path of the account's feed, without its extension."""
    return f"/f/{(await registry.open_feed(clip.twitch_account_id)).slug}"


def meta(page: str, prefix: str = "") -> dict[str, str]:
    """A page's meta tags whose names begin with a prefix, without it."""
    tags = BeautifulSoup(page, "html.parser").select("meta[content]")
    named = {str(tag.get("property") or tag.get("name")): str(tag["content"]) for tag in tags}
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


# What previews read.


@pytest.mark.usefixtures("clip")
async def test_a_share_page_says_what_chat_clients_need(guest: httpx.AsyncClient) -> None:
    page = (await guest.get("/s/abc")).text
    assert meta(page, "og:") == {
        "site_name": "Clips",
        "type": "video.other",
        "url": f"{HOME}/s/abc",
        "title": TITLE,
        "description": "A video of 0:02",
        "image": f"{HOME}/m/abc/1.jpg",
        "image:type": "image/jpeg",
        "image:alt": TITLE,
        "video": f"{HOME}/m/abc/1.mp4",
        "video:type": "video/mp4",
        "video:width": "1280",
        "video:height": "720",
    }
    assert meta(page, "twitter:") == {
        "card": "player",
        "title": TITLE,
        "image": f"{HOME}/m/abc/1.jpg",
        "player": f"{HOME}/e/abc",
        "player:width": "1280",
        "player:height": "720",
        "player:stream": f"{HOME}/m/abc/1.mp4",
        "player:stream:content_type": "video/mp4",
    }
    preview = LinkPreview(Link(f"{HOME}/s/abc", page), parser="html.parser")
    assert (preview.site_name, preview.title) == ("Clips", TITLE)
    assert preview.absolute_image == f"{HOME}/m/abc/1.jpg"


@pytest.mark.usefixtures("clip")
async def test_over_tls_the_video_is_said_to_be_secure(parts: GatewayParts) -> None:
    safe = asgi.create(replace(parts, addresses=replace(ADDRESSES, public_url="https://clips.example")))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(safe), base_url="https://clips.example"
    ) as client:
        found = meta((await client.get("/s/abc")).text, "og:")
    assert found["video:secure_url"] == "https://clips.example/m/abc/1.mp4"


async def test_a_clip_without_a_player_for_others_is_a_large_picture(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    publish(registry, embed=False)
    page = (await guest.get("/s/abc")).text
    assert meta(page)["twitter:card"] == "summary_large_image"
    assert "/e/abc" not in page
    assert (await guest.get("/e/abc")).status_code == 404


async def test_a_video_too_large_for_a_preview_is_offered_as_a_picture(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    for size, is_offered in ((LARGEST_PREVIEW_BYTES, True), (LARGEST_PREVIEW_BYTES + 1, False)):
        publish(registry, slug=f"of-{size}", file_size_bytes=size)
        found = meta((await guest.get(f"/s/of-{size}")).text)
        assert ("og:video" in found) is is_offered
        assert "og:image" in found


async def test_a_clip_without_a_poster_names_none(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    publish(registry, poster_key=None)
    page = (await guest.get("/s/abc")).text
    assert ".jpg" not in page
    assert "og:image" not in meta(page)
    assert (await guest.get("/m/abc/1.jpg")).status_code == 404


@pytest.mark.usefixtures("clip")
async def test_oembed_is_found_on_the_page_and_fits_the_frame(guest: httpx.AsyncClient) -> None:
    page = (await guest.get("/s/abc")).text
    link = BeautifulSoup(page, "html.parser").select_one('link[type="application/json+oembed"]')
    assert link is not None
    found = (await guest.get(str(link["href"]))).json()
    assert (found["version"], found["type"], found["title"]) == ("1.0", "video", TITLE)
    assert (found["width"], found["height"]) == (1280, 720)
    assert f'src="{HOME}/e/abc"' in found["html"]
    assert "<b>" not in found["html"]
    assert found["thumbnail_url"] == f"{HOME}/m/abc/1.jpg"


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("", (1280, 720)),
        ("&maxwidth=640", (640, 360)),
        ("&maxheight=360", (640, 360)),
        ("&maxwidth=640&maxheight=90", (160, 90)),
        ("&maxwidth=5000&maxheight=5000", (1280, 720)),
        ("&maxwidth=1", (1, 1)),
    ],
)
@pytest.mark.usefixtures("clip")
async def test_oembed_stays_within_what_was_asked(
    guest: httpx.AsyncClient, asked: str, given: tuple[int, int]
) -> None:
    found = (await guest.get(f"/oembed?url={HOME}/s/abc{asked}")).json()
    assert (found["width"], found["height"]) == given
    assert f'width="{given[0]}" height="{given[1]}"' in found["html"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 404),
        ("?url=", 404),
        (f"?url={HOME}/s/", 404),
        (f"?url={HOME}/s/abc/download", 404),
        (f"?url={HOME}.evil.example/s/abc", 404),
        ("?url=https://clips.example/s/abc", 404),  # another scheme
        ("?url=http://[", 404),
        (f"?url={HOME}/s/abc&format=xml", 501),
        (f"?url={HOME}/s/abc&maxwidth=0", 400),
        (f"?url={HOME}/s/abc&maxheight=wide", 400),
        (f"?url={HOME}/e/abc", 200),
        (f"?url={HOME}/s/abc?from=chat", 200),
    ],
)
@pytest.mark.usefixtures("clip")
async def test_oembed_knows_our_own_links(guest: httpx.AsyncClient, query: str, status: int) -> None:
    assert (await guest.get(f"/oembed{query}")).status_code == status


async def test_oembed_of_a_clip_without_a_player_is_a_link(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    publish(registry, embed=False)
    found = (await guest.get(f"/oembed?url={HOME}/s/abc")).json()
    assert found["type"] == "link"
    assert "html" not in found


# Media.


def expires_in(answer: httpx.Response) -> int:
    return int(parse_qs(urlsplit(answer.headers["location"]).query)["X-Amz-Expires"][0])


@pytest.mark.parametrize("path", ["/m/abc/1.mp4", "/m/abc/1.jpg", "/s/abc/download"])
@pytest.mark.usefixtures("clip")
async def test_media_lead_to_urls_of_a_minute_that_no_cache_keeps(
    guest: httpx.AsyncClient, path: str
) -> None:
    answer = await guest.get(path)
    assert answer.status_code == 302
    assert answer.headers["cache-control"] == "no-store"
    assert expires_in(answer) == 60
    assert (await guest.head(path)).headers["location"] != answer.headers["location"]  # signed for HEAD


async def test_no_url_outlives_the_publication(guest: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    publish(registry, until=datetime.now(UTC) + timedelta(seconds=20))
    assert 1 <= expires_in(await guest.get("/m/abc/1.mp4")) <= 20


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("3.mp4", 302),
        ("3.jpg", 302),
        ("2.mp4", 410),  # public once
        ("1.jpg", 410),
        ("4.mp4", 404),  # not published yet
        ("0.mp4", 404),
        ("03.mp4", 404),
        ("-1.mp4", 404),
        (f"{'9' * 5000}.mp4", 404),
        ("\u0663.mp4", 404),
        ("3.exe", 404),
        ("3", 404),
    ],
)
async def test_one_revision_is_public(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, name: str, status: int
) -> None:
    publish(registry, revision=3)
    assert (await guest.get(f"/m/abc/{name}")).status_code == status


async def test_downloads_are_the_owners_to_allow(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    publish(registry, "closed")
    publish(registry, "open", downloadable=True)
    assert (await guest.get("/s/closed/download")).status_code == 404
    assert "/download" not in (await guest.get("/s/closed")).text
    assert "/s/open/download" in (await guest.get("/s/open")).text
    answer = await guest.get("/s/open/download")
    disposition = parse_qs(urlsplit(answer.headers["location"]).query)["response-content-disposition"][0]
    assert disposition.startswith("attachment;")
    assert "Größter" in unquote(disposition)


async def test_an_object_of_another_account_is_never_handed_out(
    guest: httpx.AsyncClient, registry: InMemoryRegistry
) -> None:
    publish(registry, object_key="clips/somebody/x/event-1.mp4")
    assert (await guest.get("/m/abc/1.mp4")).status_code == 404


# What is over.


async def end_by_unpublishing(registry: InMemoryRegistry, clip: ClipRecord) -> None:
    await registry.act(ClipAction.UNPUBLISH, clip.clip_id, Actor(account_id=ACCOUNT))


async def end_by_deleting(registry: InMemoryRegistry, clip: ClipRecord) -> None:
    await registry.act(ClipAction.DELETE, clip.clip_id, Actor(account_id=ACCOUNT))


async def end_by_time(registry: InMemoryRegistry, clip: ClipRecord) -> None:
    past = PUBLICATION.model_copy(update={"until": datetime.now(UTC), "downloadable": True})
    registry.put(clip.model_copy(update={"publication": past}))


@pytest.mark.parametrize("end", [end_by_unpublishing, end_by_deleting, end_by_time])
async def test_an_unpublished_clip_is_gone_at_once(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, clip: ClipRecord, end: Any
) -> None:
    paths = (*SHARED, "/s/abc/download")
    assert [(await guest.get(path)).status_code for path in paths] == [200, 200, 302, 302, 200, 302]
    await end(registry, clip)
    for path in paths:
        answer = await guest.get(path)
        assert (path, answer.status_code) == (path, 410)
        assert answer.headers["cache-control"] == "no-store"
        assert TITLE not in answer.text
        assert "This clip is no longer public" in answer.text


@pytest.mark.parametrize("slug", ["never-was", "a b", "ü", "x" * 65, "%2e%2e", "%00", "a%2Fb"])
async def test_an_unknown_slug_is_not_found(guest: httpx.AsyncClient, slug: str) -> None:
    for path in (f"/s/{slug}", f"/e/{slug}", f"/m/{slug}/1.mp4", f"/f/{slug}.atom", f"/f/{slug}.json"):
        assert (path, (await guest.get(path)).status_code) == (path, 404)


@pytest.mark.parametrize("slug", ["a b", "x" * 65, "a.b"])
async def test_the_registry_is_not_asked_for_what_cannot_be_a_slug(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, slug: str
) -> None:
    registry.outage = TransientError("away")
    assert (await guest.get(f"/s/{slug}")).status_code == 404


@pytest.mark.usefixtures("clip")
async def test_an_outage_page_reloads_by_itself(guest: httpx.AsyncClient, registry: InMemoryRegistry) -> None:
    registry.outage = TransientError("away")
    answer = await guest.get("/s/abc")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert 'http-equiv="refresh"' in answer.text
    registry.outage = None
    assert (await guest.get("/s/abc")).status_code == 200


# What visitors must not see.


async def everything(guest: httpx.AsyncClient, feed: str) -> dict[str, str]:
    """Every public answer with its headers, except redirects: only these name objects."""
    paths = [path for path in SHARED if not path.startswith("/m/")] + [f"{feed}.atom", f"{feed}.json"]
    answers = {path: await guest.get(path) for path in paths}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {path: f"{answer.headers} {answer.text}" for path, answer in answers.items()}


async def test_no_public_answer_names_the_account_the_highlight_or_an_object(
    guest: httpx.AsyncClient, clip: ClipRecord, feed: str
) -> None:
    secrets = {
        clip.twitch_account_id,
        clip.stream_highlight_id,
        clip.source_vod_id,
        clip.highlight_event_id,
        str(clip.clip_id),
        clip.object_key,
        "event-1",
    }
    for path, text in (await everything(guest, feed)).items():
        assert (path, {secret for secret in secrets if secret in text}) == (path, set())
        assert "abc" in text  # it does speak of this clip


@pytest.mark.usefixtures("clip")
async def test_public_pages_ignore_the_sign_in(guest: httpx.AsyncClient, feed: str) -> None:
    before = await everything(guest, feed)
    guest.cookies.set("clips_session", "a token")
    guest.headers["authorization"] = "Bearer a token"
    assert await everything(guest, feed) == before


# Search engines, frames, caches.


@pytest.mark.parametrize("is_indexable", [False, True])
async def test_search_engines_are_kept_away_unless_allowed(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, is_indexable: bool
) -> None:
    publish(registry, indexable=is_indexable, downloadable=True)
    page = await guest.get("/s/abc")
    assert meta(page.text).get("robots") == (None if is_indexable else "noindex")
    said = {
        path: (await guest.get(path)).headers.get("x-robots-tag")
        for path in (*SHARED, "/s/abc/download", "/s/other")
    }
    follows = None if is_indexable else "noindex"
    assert said == {
        "/s/abc": follows,
        "/m/abc/1.mp4": follows,
        "/m/abc/1.jpg": follows,
        "/e/abc": "noindex",
        f"/oembed?url={HOME}/s/abc": "noindex",
        "/s/abc/download": "noindex",
        "/s/other": "noindex",
    }


@pytest.mark.usefixtures("clip")
async def test_only_the_allowed_sites_may_frame_and_only_the_player(guest: httpx.AsyncClient) -> None:
    async def ancestors(path: str) -> str:
        policy = (await guest.get(path)).headers["content-security-policy"]
        return next(each for each in policy.split("; ") if each.startswith("frame-ancestors"))

    assert await ancestors("/e/abc") == "frame-ancestors https://friends.example"
    assert await ancestors("/e/other") == "frame-ancestors https://friends.example"  # the error, in the frame
    assert await ancestors("/s/abc") == "frame-ancestors 'none'"
    assert "x-frame-options" not in (await guest.get("/e/abc")).headers


@pytest.mark.usefixtures("clip")
async def test_without_allowed_sites_no_site_may_frame(parts: GatewayParts) -> None:
    app = asgi.create(replace(parts, addresses=replace(ADDRESSES, embed_origins=())))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOME) as client:
        policy = (await client.get("/e/abc")).headers["content-security-policy"]
    assert policy.endswith("frame-ancestors 'none'")


async def test_caches_ask_again_and_are_told_when_nothing_changed(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, clip: ClipRecord, feed: str
) -> None:
    for path in ("/s/abc", "/e/abc", f"/oembed?url={HOME}/s/abc", f"{feed}.atom", f"{feed}.json"):
        first = await guest.get(path)
        assert first.headers["cache-control"] == "public, no-cache"
        assert "Accept-Language" in first.headers["vary"].split(", ")
        tag = first.headers["etag"]
        assert tag.startswith('W/"')
        for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
            again = await guest.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == tag
        assert (await guest.get(path, headers={"If-None-Match": '"other"'})).status_code == 200
    registry.put(clip.model_copy(update={"title": "Another"}))
    assert (await guest.get("/s/abc", headers={"If-None-Match": tag})).status_code == 200


@pytest.mark.usefixtures("clip")
async def test_a_page_is_in_the_visitors_language(guest: httpx.AsyncClient) -> None:
    german = await guest.get("/s/abc", headers={"Accept-Language": "de-AT, en;q=0.5"})
    english = await guest.get("/s/abc")
    assert '<html lang="de">' in german.text
    assert "Herunterladen" in german.text
    assert "Download" in english.text
    assert german.headers["etag"] != english.headers["etag"]


@pytest.mark.usefixtures("clip")
async def test_an_address_that_asks_too_often_waits(
    parts: GatewayParts, prometheus: CollectorRegistry
) -> None:
    app = asgi.create(replace(parts, limits=RateLimits(presigns_per_minute=1, visits_per_minute=3)))

    def visitor(address: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url=HOME)

    async with visitor("192.0.2.1") as one, visitor("192.0.2.2") as other:
        assert [(await one.get(path)).status_code for path in SHARED[:4]] == [200, 200, 302, 429]
        refused = await one.get("/s/abc")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert "Too many requests" in refused.text
        assert (await other.get("/s/abc")).status_code == 200
    assert prometheus.get_sample_value("clips_refusals_total", {"reason": "too_many"}) == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.usefixtures("clip")
async def test_nothing_public_can_be_changed(guest: httpx.AsyncClient, method: str) -> None:
    for path in SHARED:
        answer = await guest.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.usefixtures("clip")
async def test_head_answers_as_get_does(guest: httpx.AsyncClient, feed: str) -> None:
    for path in (*SHARED, f"{feed}.atom", f"{feed}.json", "/s/other"):
        get, head = await guest.get(path), await guest.head(path)
        assert (head.status_code, head.content) == (get.status_code, b"")


# Feeds.


async def test_an_independent_reader_understands_the_atom_feed(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, clip: ClipRecord, feed: str
) -> None:
    publish(registry, "second", title="Second", poster_key=None, file_size_bytes=77)
    answer = await guest.get(f"{feed}.atom")
    assert answer.headers["content-type"] == "application/atom+xml"
    found = feedparser.parse(answer.content)
    assert not found.bozo, found.get("bozo_exception")
    assert found.version == "atom10"
    assert found.feed.id == f"{HOME}{feed}.atom"
    assert found.feed.title == "Published clips"
    assert found.feed.author == "Clips"
    by_id = {entry.id: entry for entry in found.entries}
    assert set(by_id) == {f"{HOME}/s/abc", f"{HOME}/s/second"}
    entry = by_id[f"{HOME}/s/abc"]
    assert (entry.title, entry.link) == (TITLE, f"{HOME}/s/abc")
    assert clip.published_at is not None
    assert datetime.fromisoformat(entry.published) == clip.published_at
    assert [(each.href, each.type, each.length) for each in entry.enclosures] == [
        (f"{HOME}/m/abc/1.mp4", "video/mp4", "1000")
    ]
    assert "<b>" not in entry.content[0].value
    assert f"{HOME}/m/abc/1.jpg" in entry.content[0].value
    assert "<img" not in by_id[f"{HOME}/s/second"].content[0].value


async def test_a_title_that_xml_cannot_hold_does_not_break_the_feed(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, feed: str
) -> None:
    publish(registry, "second", title="No\ufffe char\uffffacters")
    found = feedparser.parse((await guest.get(f"{feed}.atom")).content)
    assert not found.bozo, found.get("bozo_exception")
    assert {entry.title for entry in found.entries} == {TITLE, "No characters"}


async def test_the_json_feed_is_of_version_1_1(guest: httpx.AsyncClient, clip: ClipRecord, feed: str) -> None:
    answer = await guest.get(f"{feed}.json")
    assert answer.headers["content-type"] == "application/feed+json"
    found = json.loads(answer.content)
    assert found["version"] == "https://jsonfeed.org/version/1.1"
    assert found["feed_url"] == f"{HOME}{feed}.json"
    (item,) = found["items"]
    assert (item["id"], item["url"], item["title"]) == (f"{HOME}/s/abc", f"{HOME}/s/abc", TITLE)
    assert clip.published_at is not None
    assert datetime.fromisoformat(item["date_published"]) == clip.published_at
    assert item["image"] == f"{HOME}/m/abc/1.jpg"
    assert item["attachments"] == [
        {
            "url": f"{HOME}/m/abc/1.mp4",
            "mime_type": "video/mp4",
            "size_in_bytes": 1000,
            "duration_in_seconds": 2.0,
        }
    ]


async def test_a_feed_shows_what_is_public_now(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, clip: ClipRecord, feed: str
) -> None:
    await end_by_time(registry, clip)
    assert (await guest.get(f"{feed}.json")).json()["items"] == []
    assert feedparser.parse((await guest.get(f"{feed}.atom")).content).entries == []


async def test_a_feed_that_was_switched_off_is_not_found(
    guest: httpx.AsyncClient, registry: InMemoryRegistry, clip: ClipRecord, feed: str
) -> None:
    await registry.close_feed(clip.twitch_account_id)
    for extension in ("atom", "json"):
        assert (await guest.get(f"{feed}.{extension}")).status_code == 404
