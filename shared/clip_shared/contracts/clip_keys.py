"""The keys of a clip's objects in the free bucket. An object under any other key is not a clip.

The bucket may hold other things (the free tier's VODs, for example). The registry therefore accepts, the
janitor deletes and the gateway signs no key that this module does not recognise.
"""

import re
from uuid import UUID

_IDENTIFIER = "[A-Za-z0-9_-]{1,64}"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_CLIP_KEY = re.compile(
    rf"clips/(?P<account>{_IDENTIFIER})/(?P<clip>{_UUID})/(?P<event>{_IDENTIFIER})\.(?P<kind>mp4|jpg)"
)


def video_key(account_id: str, clip_id: UUID, event_id: str) -> str:
    """Return the key of a clip's video: the same for a redelivered event, a new one for each new event."""
    return f"clips/{account_id}/{clip_id}/{event_id}.mp4"


def poster_key(account_id: str, clip_id: UUID, event_id: str) -> str:
    """Return the key of a clip's poster, beside its video."""
    return f"clips/{account_id}/{clip_id}/{event_id}.jpg"


def is_clip_key(key: str) -> bool:
    """Return whether a key has the form that :func:`video_key` or :func:`poster_key` gives."""
    return _CLIP_KEY.fullmatch(key) is not None


def account_of(key: str) -> str | None:
    """Return the account that a clip's object belongs to, or None where the key is not a clip's."""
    found = _CLIP_KEY.fullmatch(key)
    return found["account"] if found else None


def clip_of(key: str) -> UUID | None:
    """Return the clip that an object belongs to, or None where the key is not a clip's."""
    found = _CLIP_KEY.fullmatch(key)
    return UUID(found["clip"]) if found else None
