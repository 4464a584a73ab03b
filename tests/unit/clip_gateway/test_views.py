"""A clip as its owner sees it."""

from datetime import timedelta
from typing import Any

import pytest

from clip_gateway.views import ClipView
from clip_shared.contracts.events import HighlightKind
from clip_shared.contracts.registry_api import ClipRecord, ClipStatus, CutOffer
from tests.unit.clip_gateway.conftest import ADDRESSES
from tests.unit.clip_gateway.fakes import DAY, NOON, PUBLICATION, a_clip


def shown(clip: ClipRecord) -> dict[str, Any]:
    return ClipView.of(clip, ADDRESSES).model_dump(mode="json", by_alias=True)


def test_an_available_clip() -> None:
    clip = a_clip(seconds_left=2.5 * DAY)
    path = f"/v1/clips/{clip.clip_id}"
    view = shown(clip)
    assert view.pop("cut") == clip.cut_receipt.model_dump(mode="json")
    assert view == {
        "id": str(clip.clip_id),
        "title": "A fine moment",
        "kind": "heuristic",
        "origin": "detector",
        "status": "available",
        "expired": False,
        "score": 0.5,
        "duration_seconds": 2.0,
        "size_bytes": 1000,
        "revision": 1,
        "vod": {"id": "vod-1", "start_seconds": 0.5, "end_seconds": 3.0},
        "created_at": "2026-03-01T12:00:00Z",
        "expires_at": "2026-03-04T00:00:00Z",
        "expires_in_days": 3,
        "kept_at": None,
        "kept_by": None,
        "published_at": None,
        "share_url": None,
        "publication": None,
        "deleted_at": None,
        "offer": None,
        "links": {
            "self": path,
            "watch": f"{path}/watch",
            "download": f"{path}/download",
            "poster": f"{path}/poster",
            "vod": "/v1/vods/vod-1",
        },
        "actions": {
            "keep": {"method": "POST", "href": f"{path}/keep"},
            "publish": {"method": "POST", "href": f"{path}/publish"},
            "rename": {"method": "PATCH", "href": path},
            "delete": {"method": "DELETE", "href": path},
        },
    }


def test_a_kept_clip_says_by_whom_and_since_when_and_does_not_expire() -> None:
    view = shown(a_clip(status=ClipStatus.KEPT))
    assert (view["kept_at"], view["kept_by"]) == ("2026-03-01T12:00:00Z", "ann")
    assert (view["expires_at"], view["expires_in_days"], view["share_url"]) == (None, None, None)
    assert list(view["actions"]) == ["unkeep", "publish", "rename", "delete"]


def test_a_published_clip_says_where_and_how() -> None:
    until = NOON + timedelta(days=3)
    public = PUBLICATION.model_copy(update={"revision": 2, "until": until, "downloadable": True})
    view = shown(a_clip(status=ClipStatus.PUBLISHED, share_slug="slug", publication=public, revision=3))
    assert view["share_url"] == "http://clips.example/s/slug"
    assert view["publication"] == {
        "revision": 2,
        "until": "2026-03-04T12:00:00Z",
        "embed": True,
        "downloadable": True,
        "indexable": False,
        "embed_url": "http://clips.example/e/slug",
    }
    assert list(view["actions"]) == ["publish", "unpublish", "rename", "delete"]


def test_without_embedding_there_is_no_embed_url() -> None:
    hidden = PUBLICATION.model_copy(update={"embed": False})
    assert shown(a_clip(status=ClipStatus.PUBLISHED, publication=hidden))["publication"]["embed_url"] is None


@pytest.mark.parametrize(
    "clip",
    [a_clip(seconds_left=-1), a_clip(status=ClipStatus.DELETED, share_slug="s", publication=PUBLICATION)],
)
def test_an_expired_or_deleted_clip_has_no_media_links(clip: ClipRecord) -> None:
    view = shown(clip)
    assert {name for name, link in view["links"].items() if link is None} == {"watch", "download", "poster"}
    assert (view["share_url"], view["publication"]) == (None, None)
    assert view["expired"] is (clip.status is ClipStatus.AVAILABLE)


def test_without_a_poster_there_is_no_link_to_one() -> None:
    links = shown(a_clip(poster_key=None))["links"]
    assert links["poster"] is None
    assert links["watch"]


def test_a_newer_cut_on_offer_is_shown_without_what_is_internal() -> None:
    offer = CutOffer(
        kind=HighlightKind.REFINED,
        title="Better",
        score=None,
        start_seconds=1,
        end_seconds=9,
        highlight_event_id="event-2",
        highlight_detected_at=NOON,
    )
    assert shown(a_clip(status=ClipStatus.KEPT, offer=offer))["offer"] == {
        "title": "Better",
        "kind": "refined",
        "score": None,
        "start_seconds": 1.0,
        "end_seconds": 9.0,
        "detected_at": "2026-03-01T12:00:00Z",
    }


@pytest.mark.parametrize("status", [each for each in ClipStatus if each is not ClipStatus.PURGED])
def test_a_view_does_not_show_where_objects_are(status: ClipStatus) -> None:
    clip = a_clip(
        status=status, bucket="our-bucket", stream_highlight_id="hl-inside", highlight_event_id="ev-inside"
    )
    text = ClipView.of(clip, ADDRESSES).model_dump_json()
    for inside in ("our-bucket", "event-1.mp4", "event-1.jpg", "hl-inside", "ev-inside"):
        assert inside not in text
