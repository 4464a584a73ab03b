"""The rules of the gateway: who may see a clip, for how long, and under which file name.

Pure: no I/O, no clock.
"""

import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from clip_shared.contracts.clip_keys import account_of
from clip_shared.contracts.events import HighlightKind
from clip_shared.contracts.registry_api import ClipAction, ClipOrder, ClipRecord, ClipStatus
from clip_shared.errors import ClipsError

DAY_SECONDS = 24 * 60 * 60


class Refusal(StrEnum):
    """Why a request is refused. Metrics count refusals by these values."""

    NOT_SIGNED_IN = "not_signed_in"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a reason
    EXPIRED_TOKEN = "expired_token"  # noqa: S105 - a reason
    CROSS_ORIGIN = "cross_origin"
    NOT_OWNER = "not_owner"
    UNKNOWN = "unknown"
    PURGED = "purged"
    EXPIRED = "expired"
    DELETED = "deleted"  # by its owner: it can be restored, but not watched
    UNPUBLISHED = "unpublished"  # the clip was published under this link
    NO_POSTER = "no_poster"
    MISPLACED = "misplaced"  # the object is in another bucket, or under another account's prefix
    NOT_ALLOWED = "not_allowed"  # the clip's status does not allow the action
    TOO_MANY = "too_many"  # requests in a minute
    BAD_CURSOR = "bad_cursor"
    TOO_LATE = "too_late"  # the end of a publication is in the past


class Refused(ClipsError):
    """A rule refuses a request.

    Attributes:
        reason: the rule.
        detail: a sentence of the registry for the caller; None: the reason's own sentence is shown.
        retry_after_seconds: when to ask again; None: asking again does not help.
    """

    def __init__(
        self, reason: Refusal, detail: str | None = None, *, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, kw_only=True)
class ClipQuery:
    """Which of an account's clips to list, and in which order. The default: all that are not deleted."""

    statuses: tuple[ClipStatus, ...] = ()
    kinds: tuple[HighlightKind, ...] = ()
    vod_id: str | None = None
    title: str | None = None  # part of the title; case does not matter
    order: ClipOrder = ClipOrder.NEWEST
    limit: int = 50
    cursor: str | None = None


def owned(clip: ClipRecord | None, account_id: str) -> ClipRecord:
    """Return the clip if the account owns it; an expired or deleted clip still has its owner.

    Raises:
        Refused: there is no such clip (UNKNOWN), it is purged (PURGED) or another account's (NOT_OWNER).
    """
    if clip is None:
        raise Refused(Refusal.UNKNOWN)
    if clip.status is ClipStatus.PURGED:
        raise Refused(Refusal.PURGED)
    if clip.twitch_account_id != account_id:
        raise Refused(Refusal.NOT_OWNER)
    return clip


def watchable(clip: ClipRecord | None, account_id: str) -> ClipRecord:
    """Return the clip if the account owns it and can watch it.

    Raises:
        Refused: as for :func:`owned`; or the clip is deleted (DELETED) or expired (EXPIRED).
    """
    clip = owned(clip, account_id)
    if clip.status is ClipStatus.DELETED:
        raise Refused(Refusal.DELETED)
    if is_expired(clip):
        raise Refused(Refusal.EXPIRED)
    return clip


def owned_or_none(clip: ClipRecord | None, account_id: str) -> ClipRecord | None:
    """Return the clip if the account owns it; else None."""
    try:
        return owned(clip, account_id)
    except Refused:
        return None


def split_owned(clips: Iterable[ClipRecord], account_id: str) -> tuple[list[ClipRecord], list[ClipRecord]]:
    """Return the account's clips, and clips of other accounts, which a list must never contain."""
    mine: list[ClipRecord] = []
    foreign: list[ClipRecord] = []
    for clip in clips:
        (mine if clip.twitch_account_id == account_id else foreign).append(clip)
    return mine, foreign


def is_expired(clip: ClipRecord) -> bool:
    """Return whether a clip is past its time. Until it is purged, its owner can still keep it."""
    if clip.status is not ClipStatus.AVAILABLE or clip.expires_in_seconds is None:
        return False
    return clip.expires_in_seconds <= 0


def is_watchable(clip: ClipRecord) -> bool:
    """Return whether the owner of a clip that is not purged can watch it."""
    return clip.status is not ClipStatus.DELETED and not is_expired(clip)


_ACTIONS: Mapping[ClipStatus, tuple[ClipAction, ...]] = {
    ClipStatus.AVAILABLE: (ClipAction.KEEP, ClipAction.PUBLISH, ClipAction.RENAME, ClipAction.DELETE),
    ClipStatus.KEPT: (ClipAction.UNKEEP, ClipAction.PUBLISH, ClipAction.RENAME, ClipAction.DELETE),
    ClipStatus.PUBLISHED: (ClipAction.PUBLISH, ClipAction.UNPUBLISH, ClipAction.RENAME, ClipAction.DELETE),
    ClipStatus.DELETED: (ClipAction.RESTORE,),
    ClipStatus.PURGED: (),
}


def actions_of(clip: ClipRecord) -> tuple[ClipAction, ...]:
    """Return the actions that a clip's status allows. PUBLISH on a published clip changes its options."""
    return _ACTIONS[clip.status]


def days_left(seconds: float | None) -> int | None:
    """Return whole days until expiry, rounded up; 0: expired. None for a clip that does not expire."""
    return None if seconds is None else max(0, math.ceil(seconds / DAY_SECONDS))


def presign_seconds(longest: int, seconds_left: float | None) -> int:
    """Return how long a URL lives: at most ``longest``, not longer than its clip, at least 1 s (S3's rule).

    ``seconds_left`` is None for a clip that does not expire.
    """
    return longest if seconds_left is None else max(1, min(longest, math.floor(seconds_left)))


class Rendition(StrEnum):
    """What a presigned URL of a clip gives. Metrics count URLs by these values."""

    WATCH = "watch"
    DOWNLOAD = "download"
    POSTER = "poster"


@dataclass(frozen=True)
class Presentation:
    """An object, and the response headers that the storage sends with it to a browser."""

    bucket: str
    key: str
    content_type: str
    content_disposition: str


def present(rendition: Rendition, clip: ClipRecord) -> Presentation:
    """Return the object of a clip's rendition, and its response headers.

    Raises:
        Refused: the clip has no poster (NO_POSTER), or its object key is not under its account's prefix
            (MISPLACED).
    """
    if rendition is Rendition.POSTER:
        if clip.poster_key is None:
            raise Refused(Refusal.NO_POSTER)
        return Presentation(clip.bucket, _own_key(clip.poster_key, clip), "image/jpeg", "inline")
    # Only media types: an HTML page or a script in the bucket must not run in the storage's origin.
    media_type = clip.content_type if clip.content_type.startswith("video/") else "application/octet-stream"
    disposition = attachment(file_name(clip.title)) if rendition is Rendition.DOWNLOAD else "inline"
    return Presentation(clip.bucket, _own_key(clip.object_key, clip), media_type, disposition)


def _own_key(key: str, clip: ClipRecord) -> str:
    """Return the key if it is under the prefix of the clip's account."""
    if account_of(key) != clip.twitch_account_id:
        raise Refused(Refusal.MISPLACED)
    return key


# File names: without characters that file systems or shells refuse, or that hide or reorder text.

EXTENSION = ".mp4"
# Common file systems allow 255 bytes; this leaves room for the extension and for " (1)".
LONGEST_NAME_BYTES = 180
_FORBIDDEN = str.maketrans(dict.fromkeys('/\\:*?"<>|', " "))
_JOINERS = "\u200c\u200d"  # invisible, but part of words in many scripts and of emoji
_WINDOWS_DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{name}{n}" for name in ("COM", "LPT") for n in range(1, 10)),
}
_RFC5987_SAFE = "!#$&+-.^_`|~"


def file_name(title: str) -> str:
    """Return a readable file name for a title: any script, no path separators, no control characters."""
    text = unicodedata.normalize("NFC", title).translate(_FORBIDDEN)
    shown = "".join(each for each in text if each.isspace() or not _is_hidden(each))
    cut = " ".join(shown.split()).encode()[:LONGEST_NAME_BYTES].decode(errors="ignore")
    name = cut.strip(" ." + _JOINERS)
    if name.split(".")[0].strip().upper() in _WINDOWS_DEVICES:
        name = f"_{name}"
    return (name or "clip") + EXTENSION


def _is_hidden(character: str) -> bool:
    """Return whether a character is a control character, a surrogate, or formats text invisibly."""
    return unicodedata.category(character) in {"Cc", "Cf", "Cs"} and character not in _JOINERS


def attachment(name: str) -> str:
    """Return a Content-Disposition that saves under this name (RFC 6266), in ASCII too for old clients."""
    # NFKD can bring back forbidden characters: a full-width slash becomes a plain one.
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().translate(_FORBIDDEN)
    # Some browsers decode %xx in a quoted name.
    plain = " ".join(plain.replace("%", " ").split())
    if plain.startswith("."):
        plain = f"clip{plain}"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_RFC5987_SAFE)}"
