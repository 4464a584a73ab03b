"""The rules of the edge: who may see what, for how long, and under which name. Pure: no I/O, no clock."""

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
    """Why a caller does not get what was asked for."""

    NOT_SIGNED_IN = "not_signed_in"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a reason
    EXPIRED_TOKEN = "expired_token"  # noqa: S105 - a reason
    CROSS_ORIGIN = "cross_origin"
    NOT_OWNER = "not_owner"
    UNKNOWN = "unknown"
    PURGED = "purged"
    EXPIRED = "expired"
    DELETED = "deleted"  # by its owner: it can be restored, not watched
    UNPUBLISHED = "unpublished"  # the share link was good once
    NO_POSTER = "no_poster"
    MISPLACED = "misplaced"  # not in the bucket of clips, or not its account's: never handed out
    NOT_ALLOWED = "not_allowed"  # not from the clip's status
    TOO_MANY = "too_many"  # requests in a short time
    BAD_CURSOR = "bad_cursor"
    TOO_LATE = "too_late"  # to publish until a moment that has passed


class Refused(ClipsError):
    """The answer is no; ``reason`` says why. ``detail`` is a sentence for the caller, where there is one."""

    def __init__(
        self, reason: Refusal, detail: str | None = None, *, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, kw_only=True)
class ClipQuery:
    """Which of an account's clips, and in which order. Nothing said: all that are not deleted."""

    statuses: tuple[ClipStatus, ...] = ()
    kinds: tuple[HighlightKind, ...] = ()
    vod_id: str | None = None
    title: str | None = None  # a part of it, in any case
    order: ClipOrder = ClipOrder.NEWEST
    limit: int = 50
    cursor: str | None = None


def owned(clip: ClipRecord | None, account_id: str) -> ClipRecord:
    """The clip, if the account may see what it is, and change it: also one that is expired or deleted.

    Raises:
        Refused: unknown, purged, or somebody else's.
    """
    if clip is None:
        raise Refused(Refusal.UNKNOWN)
    if clip.status is ClipStatus.PURGED:
        raise Refused(Refusal.PURGED)
    if clip.twitch_account_id != account_id:
        raise Refused(Refusal.NOT_OWNER)
    return clip


def watchable(clip: ClipRecord | None, account_id: str) -> ClipRecord:
    """The clip, if the account may watch it.

    Raises:
        Refused: as for :func:`owned`; or deleted, or expired.
    """
    clip = owned(clip, account_id)
    if clip.status is ClipStatus.DELETED:
        raise Refused(Refusal.DELETED)
    if is_expired(clip):
        raise Refused(Refusal.EXPIRED)
    return clip


def owned_or_none(clip: ClipRecord | None, account_id: str) -> ClipRecord | None:
    """The clip, if the account may see what it is; else None."""
    try:
        return owned(clip, account_id)
    except Refused:
        return None


def split_owned(clips: Iterable[ClipRecord], account_id: str) -> tuple[list[ClipRecord], list[ClipRecord]]:
    """The account's clips, and somebody else's that should never have been among them."""
    mine: list[ClipRecord] = []
    foreign: list[ClipRecord] = []
    for clip in clips:
        (mine if clip.twitch_account_id == account_id else foreign).append(clip)
    return mine, foreign


def is_expired(clip: ClipRecord) -> bool:
    """Whether a clip's time is up. It is there until it is purged, and can be kept until then."""
    if clip.status is not ClipStatus.AVAILABLE or clip.expires_in_seconds is None:
        return False
    return clip.expires_in_seconds <= 0


def is_watchable(clip: ClipRecord) -> bool:
    """Whether the owner can watch a clip that is not purged."""
    return clip.status is not ClipStatus.DELETED and not is_expired(clip)


_ACTIONS: Mapping[ClipStatus, tuple[ClipAction, ...]] = {
    ClipStatus.AVAILABLE: (ClipAction.KEEP, ClipAction.PUBLISH, ClipAction.RENAME, ClipAction.DELETE),
    ClipStatus.KEPT: (ClipAction.UNKEEP, ClipAction.PUBLISH, ClipAction.RENAME, ClipAction.DELETE),
    ClipStatus.PUBLISHED: (ClipAction.PUBLISH, ClipAction.UNPUBLISH, ClipAction.RENAME, ClipAction.DELETE),
    ClipStatus.DELETED: (ClipAction.RESTORE,),
    ClipStatus.PURGED: (),
}


def actions_of(clip: ClipRecord) -> tuple[ClipAction, ...]:
    """What the owner can do to a clip now. To publish a published one changes how it is public."""
    return _ACTIONS[clip.status]


def days_left(seconds: float | None) -> int | None:
    """Whole days until expiry, rounded up: the last day counts as 1, and none left as 0. None: never."""
    return None if seconds is None else max(0, math.ceil(seconds / DAY_SECONDS))


def presign_seconds(longest: int, seconds_left: float | None) -> int:
    """How long a URL may live: not longer than its clip, but for the second that is the least S3 accepts."""
    return longest if seconds_left is None else max(1, min(longest, math.floor(seconds_left)))


class Rendition(StrEnum):
    """What of a clip is handed out by URL."""

    WATCH = "watch"
    DOWNLOAD = "download"
    POSTER = "poster"


@dataclass(frozen=True)
class Presentation:
    """An object and how the storage should present it to a browser."""

    bucket: str
    key: str
    content_type: str
    content_disposition: str


def present(view: Rendition, clip: ClipRecord) -> Presentation:
    """How a view of a clip is presented.

    Raises:
        Refused: the clip has no poster, or its object is not under its account's clips.
    """
    if view is Rendition.POSTER:
        if clip.poster_key is None:
            raise Refused(Refusal.NO_POSTER)
        return Presentation(clip.bucket, _own(clip.poster_key, clip), "image/jpeg", "inline")
    # Only ever media: a page or script in the bucket must not run in the storage's origin.
    media_type = clip.content_type if clip.content_type.startswith("video/") else "application/octet-stream"
    disposition = attachment(file_name(clip.title)) if view is Rendition.DOWNLOAD else "inline"
    return Presentation(clip.bucket, _own(clip.object_key, clip), media_type, disposition)


def _own(key: str, clip: ClipRecord) -> str:
    """The key, if it is of the clip's account: the bucket holds other accounts' clips, and other things."""
    if account_of(key) != clip.twitch_account_id:
        raise Refused(Refusal.MISPLACED)
    return key


# File names. What no file system or shell likes, and what makes a name look like another.

EXTENSION = ".mp4"
# With the extension well within the 255 bytes of common file systems, also after " (1)" is added.
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
    """A readable file name for a title: any script, no separators, no control or direction characters."""
    text = unicodedata.normalize("NFC", title).translate(_FORBIDDEN)
    shown = "".join(each for each in text if each.isspace() or not _is_hidden(each))
    cut = " ".join(shown.split()).encode()[:LONGEST_NAME_BYTES].decode(errors="ignore")
    name = cut.strip(" ." + _JOINERS)
    if name.split(".")[0].strip().upper() in _WINDOWS_DEVICES:
        name = f"_{name}"
    return (name or "clip") + EXTENSION


def _is_hidden(character: str) -> bool:
    """Control characters, surrogates, and the format characters that reorder or hide text."""
    return unicodedata.category(character) in {"Cc", "Cf", "Cs"} and character not in _JOINERS


def attachment(name: str) -> str:
    """A Content-Disposition that saves under this name (RFC 6266): in full, and in ASCII for old readers."""
    # Decomposing may bring back what the name was cleared of: a full-width slash becomes a plain one.
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().translate(_FORBIDDEN)
    # Some browsers would decode %xx in a quoted name.
    plain = " ".join(plain.replace("%", " ").split())
    if plain.startswith("."):
        plain = f"clip{plain}"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_RFC5987_SAFE)}"
