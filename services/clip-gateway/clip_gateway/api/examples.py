"""Examples of the models of the JSON API, for its OpenAPI document."""

from typing import Any

_ID = "5d9c7a0e-2f6b-5c1d-9e3a-7b8f4a6c2d10"
_PATH = f"/v1/clips/{_ID}"

_CLIP: dict[str, Any] = {
    "id": _ID,
    "title": "Clutch in the last round",
    "kind": "refined",
    "origin": "detector",
    "status": "available",
    "expired": False,
    "score": 0.93,
    "duration_seconds": 31.4,
    "size_bytes": 23_900_160,
    "revision": 1,
    "vod": {"id": "vod-2201", "start_seconds": 4210.0, "end_seconds": 4241.4},
    "cut": {
        "mode": "copy",
        "requested_start_seconds": 4210.0,
        "requested_end_seconds": 4241.4,
        "actual_start_seconds": 4210.0,
        "actual_end_seconds": 4241.4,
        "audio_video_skew_ms": -3.2,
        "fallback_reason": None,
        "video": {"fate": "copied", "reason": None},
        "audio": {"fate": "copied", "reason": None},
        "remark": None,
    },
    "created_at": "2026-11-20T21:14:03Z",
    "expires_at": "2026-11-27T21:14:03Z",
    "expires_in_days": 6,
    "kept_at": None,
    "kept_by": None,
    "published_at": None,
    "share_url": None,
    "publication": None,
    "deleted_at": None,
    "offer": None,
    "links": {
        "self": _PATH,
        "watch": f"{_PATH}/watch",
        "download": f"{_PATH}/download",
        "poster": f"{_PATH}/poster",
        "vod": "/v1/vods/vod-2201",
    },
    "actions": {
        "keep": {"method": "POST", "href": f"{_PATH}/keep"},
        "publish": {"method": "POST", "href": f"{_PATH}/publish"},
        "rename": {"method": "PATCH", "href": _PATH},
        "delete": {"method": "DELETE", "href": _PATH},
    },
}
_PUBLISHED: dict[str, Any] = _CLIP | {
    "status": "published",
    "expires_at": None,
    "expires_in_days": None,
    "kept_at": "2026-11-21T08:30:00Z",
    "kept_by": "ann",
    "published_at": "2026-11-21T08:30:00Z",
    "share_url": "https://clips.example/s/q3ZxT0vBn8w",
    "publication": {
        "revision": 1,
        "until": None,
        "embed": True,
        "downloadable": False,
        "indexable": False,
        "embed_url": "https://clips.example/e/q3ZxT0vBn8w",
    },
    "actions": {
        "publish": {"method": "POST", "href": f"{_PATH}/publish"},
        "unpublish": {"method": "DELETE", "href": f"{_PATH}/publish"},
        "rename": {"method": "PATCH", "href": _PATH},
        "delete": {"method": "DELETE", "href": _PATH},
    },
}
_VOD = {"id": "vod-2201", "highlights": 12, "clips": 9, "skipped": 3, "latest_at": "2026-11-20T21:13:41Z"}

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "ClipView": [_CLIP, _PUBLISHED],
    "ClipList": [{"items": [_CLIP], "next_cursor": None}],
    "ClipChanges": [{"title": "The last two minutes"}],
    "PublishOptions": [{"until": "2027-01-31T20:00:00Z", "downloadable": True}],
    "Batch": [{"action": "keep", "ids": [_ID]}],
    "BatchAnswer": [{"results": [{"id": _ID, "outcome": "done", "clip": _PUBLISHED}]}],
    "UsageView": [
        {
            "by_status": {
                "available": {"clips": 1, "bytes": 23_900_160},
                "kept": {"clips": 4, "bytes": 88_113_020},
                "published": {"clips": 1, "bytes": 19_002_511},
                "deleted": {"clips": 0, "bytes": 0},
            },
            "clip_limit": 20,
            "next_to_expire": [_CLIP],
        }
    ],
    "VodList": [{"items": [_VOD]}],
    "VodDetailView": [
        _VOD
        | {
            "skips": [
                {
                    "kind": "heuristic",
                    "reason": "too_short",
                    "message": "The highlight is shorter than 3 seconds.",
                    "skipped_at": "2026-11-20T21:13:50Z",
                }
            ]
        }
    ],
    "FeedView": [
        {
            "atom_url": "https://clips.example/f/rT5kPq0aZ2.atom",
            "json_url": "https://clips.example/f/rT5kPq0aZ2.json",
            "created_at": "2026-11-01T10:00:00Z",
        }
    ],
}
"""By the name of the model. A model that is only part of others has its example inside theirs."""
