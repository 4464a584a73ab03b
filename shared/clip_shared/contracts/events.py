"""The wire contract: every event that crosses the bus, as a frozen model.

A published version only ever gains optional fields; unknown fields are ignored. The JSON Schemas under
``shared/schemas/`` are generated from here, and a test fails when the two drift apart or when a change
would break a reader of an older version.

Bounds that a published schema does not state (a narrower schema would be a breaking change) are validators:
what no later step could store or compute with is refused or stripped here, at the edge.

Envelope: CloudEvents 1.0 in Kafka's binary mode, see :mod:`clip_shared.bus.envelope`.
"""

import re
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Generic, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

# Every derived id hangs from this root (uuid5, RFC 9562 §5.5). Changing it changes every clip's id.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "clips")

# Above the longest VOD of any platform (Twitch ends one after 48 hours); below, every sum of times is exact.
MAX_SECONDS = 30 * 24 * 60 * 60
# Above the largest object of S3 (50 TB), below what a database's bigint holds.
MAX_OBJECT_BYTES = 2**50
MAX_KEY_BYTES = 1024  # S3's limit, in UTF-8
# C0, DEL and C1: PostgreSQL stores no NUL, and none of the others can be shown.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def _without_control_characters(text: str) -> str:
    return _CONTROL.sub(" ", text).strip()


def _within_a_vod(seconds: float) -> float:
    if abs(seconds) > MAX_SECONDS:
        raise ValueError(f"more than {MAX_SECONDS} seconds from the start of a VOD")
    return seconds


def _fits_a_key(key: str) -> str:
    if len(key.encode()) > MAX_KEY_BYTES:
        raise ValueError(f"more than {MAX_KEY_BYTES} bytes in UTF-8")
    return key


def _fits_an_object(size: int) -> int:
    if size > MAX_OBJECT_BYTES:
        raise ValueError(f"more than {MAX_OBJECT_BYTES} bytes")
    return size


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("not a time in UTC") from error


Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
ObjectKey = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]+$"),
    AfterValidator(_fits_a_key),
]
_CLEANED = AfterValidator(_without_control_characters)
Text = Annotated[str, _CLEANED]
Title = Annotated[str, StringConstraints(max_length=200), _CLEANED]
Time = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Seconds = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_within_a_vod)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False), AfterValidator(_within_a_vod)]
ObjectSize = Annotated[int, Field(gt=0), AfterValidator(_fits_an_object)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Score = Finite


def clip_id_for(stream_highlight_id: str) -> UUID:
    """The clip that a highlight becomes: one highlight, one clip, however often it is cut."""
    return uuid.uuid5(NAMESPACE, f"clip:{stream_highlight_id}")


def event_id(*parts: str) -> str:
    """A stable id for an event that follows from other things, so that a repetition carries the same id."""
    return str(uuid.uuid5(NAMESPACE, "\n".join(parts)))


class Contract(BaseModel):
    """Base of all wire models: immutable, tolerant of fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class EventData(Contract):
    """The data of one type of event, which knows its type, its topic and its partition key."""

    TYPE: ClassVar[str]
    TOPIC: ClassVar[str]

    def key(self) -> str | None:
        """The Kafka key: events that must keep their order share it. None: any partition."""
        raise NotImplementedError(f"{type(self).__name__} names no key")


Data = TypeVar("Data", bound=EventData)


class Event(BaseModel, Generic[Data]):
    """An event with its envelope.

    ``id`` is safe in object keys and paths. ``time`` says when it happened (UTC). ``traceparent`` is the
    W3C trace context of its cause, if any.
    """

    model_config = ConfigDict(frozen=True)

    id: Identifier
    source: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    time: Time
    data: Data
    traceparent: str | None = None

    @classmethod
    def new(
        cls,
        data: Data,
        *,
        source: str,
        id: str | None = None,  # noqa: A002 - CloudEvents calls it id
        time: datetime | None = None,
        traceparent: str | None = None,
    ) -> Self:
        """Wrap data in an envelope; without an id a random one, without a time the present."""
        return cls(
            id=id or str(uuid.uuid4()),
            source=source,
            time=time or datetime.now(UTC),
            data=data,
            traceparent=traceparent,
        )


class HighlightKind(StrEnum):
    """How the detector came to a highlight."""

    HEURISTIC = "heuristic"
    REFINED = "refined"


class CutMode(StrEnum):
    """How a clip was cut: packets copied behind an edit list, or re-encoded."""

    COPY = "copy"
    EXACT = "exact"


class TrackFate(StrEnum):
    """What became of a kind of track of the VOD in a clip."""

    COPIED = "copied"
    RE_ENCODED = "re_encoded"
    LEFT_OUT = "left_out"


class SkipReason(StrEnum):
    """Why a highlight became no clip."""

    NOT_CLIPABLE = "not_clipable"
    WINDOW_OUTSIDE_SOURCE = "window_outside_source"
    TOO_SHORT = "too_short"
    FAN_OUT_CAPPED = "fan_out_capped"
    SOURCE_MISSING = "source_missing"
    SOURCE_UNREADABLE = "source_unreadable"
    STORAGE_NOT_CONFIGURED = "storage_not_configured"


class ClipOrigin(StrEnum):
    """Who asked for a cut."""

    DETECTOR = "detector"
    OWNER = "owner"
    IMPORT = "import"


class PurgeReason(StrEnum):
    """Why a clip was purged."""

    EXPIRED = "expired"  # nobody kept it
    EVICTED = "evicted"  # the account had more than its limit
    DELETED = "deleted"  # by its owner
    ERASED = "erased"  # with its account
    TAKEN_DOWN = "taken_down"  # by the platform


class SourceObject(Contract):
    """A VOD: an object in a configured source-storage profile. Never a URL."""

    profile: Identifier = Field(description="A profile of the cutter's SOURCE_STORAGE_PROFILES.")
    bucket: BucketName = Field(description="A bucket that this profile allows.")
    key: ObjectKey = Field(description="The VOD's key in it.")


class StoredObject(Contract):
    """A clip's video in the free bucket."""

    bucket: BucketName = Field(description="The clips' bucket.")
    key: ObjectKey = Field(description="clips/{twitch_account_id}/{clip_id}/{highlight_event_id}.mp4")
    size_bytes: ObjectSize = Field(description="Size of the video.")
    content_type: Text = Field(default="video/mp4", description="Media type of the video.")


class PosterObject(Contract):
    """A clip's still picture (JPEG) in the free bucket."""

    bucket: BucketName = Field(description="The clips' bucket.")
    key: ObjectKey = Field(description="clips/{twitch_account_id}/{clip_id}/{highlight_event_id}.jpg")


class TrackReceipt(Contract):
    """What became of the video, or of the audio, in a clip."""

    fate: TrackFate = Field(description="Copied, re-encoded, or left out.")
    reason: Text | None = Field(default=None, description="Why it was not copied; null where it was.")


class CutReceipt(Contract):
    """What was asked of the cutter and what it did. Times are seconds from the start of the VOD."""

    mode: CutMode = Field(description="copy: packets copied behind an edit list; exact: re-encoded.")
    requested_start_seconds: Seconds = Field(description="Start that the highlight asked for.")
    requested_end_seconds: Seconds = Field(description="End that the highlight asked for.")
    actual_start_seconds: Seconds = Field(description="Start of the clip.")
    actual_end_seconds: Seconds = Field(description="End of the clip.")
    audio_video_skew_ms: Finite | None = Field(
        default=None, description="Start of the sound minus start of the picture, in ms; null without sound."
    )
    fallback_reason: Text | None = Field(
        default=None, description="Why a copy was given up for a re-encode; null where it was not."
    )
    video: TrackReceipt | None = Field(
        default=None, description="What became of the video; null in receipts from before this field."
    )
    audio: TrackReceipt | None = Field(
        default=None, description="What became of the audio; null in receipts from before this field."
    )
    remark: Text | None = Field(
        default=None, description="What a viewer should know of the VOD, such as that it breaks off."
    )


class Highlight(Contract):
    """The ids that tie every event about a highlight together."""

    stream_highlight_id: Identifier = Field(description="The highlight. One highlight is one clip.")
    twitch_account_id: Identifier = Field(description="The account that owns the VOD and its clips.")
    source_vod_id: Identifier = Field(description="The VOD.")


class HighlightDetected(Highlight, EventData):
    """A moment of a VOD that is worth a clip."""

    TYPE: ClassVar[str] = "highlight.detected.v1"
    TOPIC: ClassVar[str] = "highlight-detected"

    source: SourceObject = Field(description="Where the VOD's file is.")
    start_seconds: Seconds = Field(description="Start of the window, in seconds from the start of the VOD.")
    end_seconds: Seconds = Field(description="End of the window, in seconds from the start of the VOD.")
    kind: HighlightKind = Field(description="How the detector came to the highlight.")
    title: Title = Field(description="Shown to people.")
    score: Score | None = Field(default=None, description="How good the highlight is; higher is better.")
    rank: int | None = Field(
        default=None, ge=1, description="Its place among its VOD's highlights; 1 is best."
    )
    is_clipable: bool = Field(default=True, description="false: skipped, with the reason not_clipable.")

    def key(self) -> str:
        """Keep the events of one highlight in order."""
        return self.stream_highlight_id


class EncodingRequested(HighlightDetected):
    """A highlight whose clip has to be re-encoded, with the id and the time of the highlight's own event."""

    TYPE: ClassVar[str] = "highlight.encoding-requested.v1"
    TOPIC: ClassVar[str] = "highlight-encodings"

    reason: Text = Field(description="Why its video cannot be copied.")


class HighlightOutcome(Highlight, EventData):
    """What both outcomes of a highlight say about the event that asked for it."""

    kind: HighlightKind = Field(description="How the detector came to the highlight.")
    highlight_event_id: Identifier = Field(description="Id of the highlight's event, as Clips identifies it.")
    highlight_detected_at: Time = Field(description="Time of the highlight's event.")

    def key(self) -> str:
        """Keep the events of one highlight in order."""
        return self.stream_highlight_id


class ClipCreated(HighlightOutcome):
    """A clip was cut and is complete in the free bucket."""

    TYPE: ClassVar[str] = "clip.created.v1"
    TOPIC: ClassVar[str] = "clip-created"

    clip_id: UUID = Field(description="Follows from stream_highlight_id (UUID version 5).")
    title: Title = Field(description="The highlight's title.")
    score: Score | None = Field(default=None, description="The highlight's score.")
    object: StoredObject = Field(description="The video.")
    poster: PosterObject | None = Field(default=None, description="The still picture.")
    duration_seconds: PositiveSeconds = Field(description="Length of the clip.")
    cut_receipt: CutReceipt = Field(description="What was asked of the cutter and what it did.")
    source: SourceObject | None = Field(
        default=None, description="The VOD that it was cut from; null in events from before this field."
    )
    origin: ClipOrigin | None = Field(
        default=None, description="Who asked for the cut; null in events from before this field: a detector."
    )


class ClipSkipped(HighlightOutcome):
    """A highlight became no clip, for a reason that a person understands."""

    TYPE: ClassVar[str] = "clip.skipped.v1"
    TOPIC: ClassVar[str] = "clip-skipped"

    reason: SkipReason = Field(description="Why, for programs.")
    source_profile: Identifier | None = Field(
        default=None, description="The source-storage profile that the highlight names."
    )
    message: Annotated[str, StringConstraints(min_length=1, max_length=500), _CLEANED] = Field(
        description="Why, in a sentence for people."
    )


class ClipLifecycle(Highlight, EventData):
    """A change in a clip's life. ``version`` grows with each: a reader may drop an older one."""

    TOPIC: ClassVar[str] = "clip-lifecycle"

    clip_id: UUID = Field(description="Follows from stream_highlight_id (UUID version 5).")
    version: Annotated[int, Field(ge=1)] = Field(
        description="Grows with each change of the clip: drop an event whose version you have passed."
    )

    def key(self) -> str:
        """Keep the events of one clip in order."""
        return str(self.clip_id)


class ClipAvailable(ClipLifecycle):
    """The clip can be watched until ``expires_at``; null: for as long as it is kept or published."""

    TYPE: ClassVar[str] = "clip.available.v1"

    title: Title = Field(description="The clip's title.")
    kind: HighlightKind = Field(description="How the detector came to the highlight.")
    duration_seconds: PositiveSeconds = Field(description="Length of the clip.")
    expires_at: Time | None = Field(description="When it expires; null: it is kept or published.")


class ClipKept(ClipLifecycle):
    """The streamer kept the clip: it no longer expires."""

    TYPE: ClassVar[str] = "clip.kept.v1"

    kept_at: Time = Field(description="When it was kept.")
    kept_by: Identifier = Field(description="The account that kept it.")


class ClipUnkept(ClipLifecycle):
    """The streamer let the clip go: a full new retention window begins."""

    TYPE: ClassVar[str] = "clip.unkept.v1"

    expires_at: Time = Field(description="When it expires now.")


class ClipPublished(ClipLifecycle):
    """The clip has a public page under ``share_slug``."""

    TYPE: ClassVar[str] = "clip.published.v1"

    share_slug: Text = Field(description="The last part of its public address; never used twice.")
    published_at: Time = Field(description="When it was published.")
    revision: int | None = Field(default=None, ge=1, description="Which video of the clip is public.")
    until: Time | None = Field(default=None, description="When it stops being public; null: never by itself.")
    embed: bool | None = Field(default=None, description="Whether other sites may embed it.")
    downloadable: bool | None = Field(default=None, description="Whether visitors may download it.")
    indexable: bool | None = Field(default=None, description="Whether search engines may list it.")


class ClipUnpublished(ClipLifecycle):
    """The public page is gone; the clip is kept."""

    TYPE: ClassVar[str] = "clip.unpublished.v1"


class ClipDeleted(ClipLifecycle):
    """The owner deleted the clip: nobody can see it any more. It can be restored until it is purged."""

    TYPE: ClassVar[str] = "clip.deleted.v1"

    deleted_at: Time = Field(description="When it was deleted.")
    expires_at: Time = Field(description="When it becomes due for the purge.")


class ClipRestored(ClipLifecycle):
    """The owner took a deletion back: the clip is what it was before."""

    TYPE: ClassVar[str] = "clip.restored.v1"

    status: Text = Field(description="What it is again: available, kept or published.")
    expires_at: Time | None = Field(description="When it expires; null: it is kept or published.")


class ClipRenamed(ClipLifecycle):
    """The owner gave the clip another title."""

    TYPE: ClassVar[str] = "clip.renamed.v1"

    title: Title = Field(description="The new title.")


# An event must fit into a Kafka message, however many clips an account has.
MAX_EXPIRING_CLIP_IDS = 1000


class ClipExpiring(EventData):
    """Clips of one account that expire on the same day (UTC), told once; some may have been kept since."""

    TYPE: ClassVar[str] = "clip.expiring.v1"
    TOPIC: ClassVar[str] = "clip-lifecycle"

    twitch_account_id: Identifier = Field(description="The account that owns the clips.")
    clip_ids: Annotated[tuple[UUID, ...], Field(min_length=1)] = Field(
        description=f"The clips, the first to expire first; no more than {MAX_EXPIRING_CLIP_IDS} are named."
    )
    expires_before: Time = Field(description="The end of that day.")
    clip_count: int | None = Field(default=None, ge=1, description="How many clips there are in all.")

    def key(self) -> str:
        """One account's notices stay in order."""
        return self.twitch_account_id


class ClipPurged(ClipLifecycle):
    """The clip is gone; its highlight can be clipped again."""

    TYPE: ClassVar[str] = "clip.purged.v1"

    purged_at: Time = Field(description="When it was purged.")
    reason: PurgeReason | None = Field(
        default=None, description="Why; null in events from before this field."
    )


class ReleaseReason(StrEnum):
    """Why no clip owns an object any more."""

    PURGED = "purged"
    REPLACED = "replaced"
    STALE = "stale"


class ObjectReleased(EventData):
    """An object that no clip owns any more: the janitor may delete it."""

    TYPE: ClassVar[str] = "clip.object-released.v1"
    TOPIC: ClassVar[str] = "clip-objects-released"

    bucket: BucketName = Field(description="The clips' bucket.")
    object_key: ObjectKey = Field(description="The object's key in it.")
    reason: ReleaseReason = Field(description="Why no clip owns it any more.")
    clip_id: UUID | None = Field(default=None, description="The clip that owned it, or should have.")

    def key(self) -> str:
        """Keep the releases of one clip together."""
        return str(self.clip_id) if self.clip_id else self.object_key


class DailyTick(EventData):
    """The scheduler's call to clean up. ``continuation`` counts the follow-ups of one tick, from 0."""

    TYPE: ClassVar[str] = "tick.daily.v1"
    TOPIC: ClassVar[str] = "daily-tick"

    continuation: int = Field(default=0, ge=0, description="How many ticks this one goes on after.")

    def key(self) -> None:
        """Any partition: ticks have no order to keep."""
        return


EVENT_TYPES: tuple[type[EventData], ...] = (
    HighlightDetected,
    EncodingRequested,
    ClipCreated,
    ClipSkipped,
    ClipAvailable,
    ClipKept,
    ClipUnkept,
    ClipPublished,
    ClipUnpublished,
    ClipDeleted,
    ClipRestored,
    ClipRenamed,
    ClipExpiring,
    ClipPurged,
    ObjectReleased,
    DailyTick,
)
