"""The wire contract: every event on the bus, as a frozen model.

A published version only ever gains optional fields; unknown fields are ignored. The JSON Schemas under
``shared/schemas/`` are generated from these models. A test fails when they differ, or when a change would
break a reader of an older version.

Bounds that a published schema does not state (a narrower schema would be a breaking change) are validators:
they refuse or strip here, at the edge, what no later step can store or compute with.

Envelope: CloudEvents 1.0 in Kafka's binary mode, see :mod:`clip_shared.bus.envelope`.
"""

import re
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Generic, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

# The namespace of every derived id (UUID version 5, RFC 9562 §5.5). Changing it changes every clip's id.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "clips")

# Above the longest VOD of any platform (Twitch ends one after 48 hours); below, every sum of times is exact.
MAX_SECONDS = 30 * 24 * 60 * 60
# Above the largest object of S3 (50 TB), below what a database's bigint holds.
MAX_OBJECT_BYTES = 2**50
MAX_KEY_BYTES = 1024  # S3's limit, in UTF-8
# C0, DEL and C1: PostgreSQL stores no NUL, and the others have no glyph.
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


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
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
    """Return the id of a highlight's clip: however often the highlight is cut, it is the same clip."""
    return uuid.uuid5(NAMESPACE, f"clip:{stream_highlight_id}")


def event_id(*parts: str) -> str:
    """Return an id that follows from ``parts``, so that an event that is sent again has the same id."""
    return str(uuid.uuid5(NAMESPACE, "\n".join(parts)))


class Contract(BaseModel):
    """Base of all wire models: immutable, and unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class EventData(Contract):
    """Base of the data of an event. A subclass names its type and its topic."""

    TYPE: ClassVar[str]
    TOPIC: ClassVar[str]

    def key(self) -> str | None:
        """Return the Kafka key: events with the same key stay in order. None: any partition."""
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
        """Wrap data in an envelope. The default id is random, the default time is now."""
        return cls(
            id=id or str(uuid.uuid4()),
            source=source,
            time=time or datetime.now(UTC),
            data=data,
            traceparent=traceparent,
        )


class HighlightKind(StrEnum):
    """How the detector found a highlight."""

    HEURISTIC = "heuristic"
    REFINED = "refined"


class CutMode(StrEnum):
    """How a clip was cut: packets copied behind an edit list, or re-encoded."""

    COPY = "copy"
    EXACT = "exact"


class TrackFate(StrEnum):
    """What the cutter did with the VOD's video, or with its audio."""

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

    EXPIRED = "expired"  # no owner kept it
    EVICTED = "evicted"  # the account had more than its limit
    DELETED = "deleted"  # by its owner
    ERASED = "erased"  # with its account
    TAKEN_DOWN = "taken_down"  # by the platform


class SourceObject(Contract):
    """A VOD: an object in a configured source-storage profile. Never a URL."""

    profile: Identifier = Field(description="A profile of the cutter's SOURCE_STORAGE_PROFILES.")
    bucket: BucketName = Field(description="A bucket that this profile allows.")
    key: ObjectKey = Field(description="The VOD's key in the bucket.")


class StoredObject(Contract):
    """A clip's video in the free bucket."""

    bucket: BucketName = Field(description="The clips' bucket.")
    key: ObjectKey = Field(description="clips/{twitch_account_id}/{clip_id}/{highlight_event_id}.mp4")
    size_bytes: ObjectSize = Field(description="Size of the video.")
    content_type: Text = Field(default="video/mp4", description="Media type of the video.")


class PosterObject(Contract):
    """A clip's poster (JPEG) in the free bucket."""

    bucket: BucketName = Field(description="The clips' bucket.")
    key: ObjectKey = Field(description="clips/{twitch_account_id}/{clip_id}/{highlight_event_id}.jpg")


class TrackReceipt(Contract):
    """What the cutter did with the video, or with the audio."""

    fate: TrackFate = Field(description="Copied, re-encoded, or left out.")
    reason: Text | None = Field(default=None, description="Why it was not copied; null when it was copied.")


class CutReceipt(Contract):
    """What the cutter was asked to do, and what it did. Times are seconds from the start of the VOD."""

    mode: CutMode = Field(description="copy: packets copied behind an edit list; exact: re-encoded.")
    requested_start_seconds: Seconds = Field(description="Start that the highlight asked for.")
    requested_end_seconds: Seconds = Field(description="End that the highlight asked for.")
    actual_start_seconds: Seconds = Field(description="Start of the clip.")
    actual_end_seconds: Seconds = Field(description="End of the clip.")
    audio_video_skew_ms: Finite | None = Field(
        default=None, description="Start of the audio minus start of the video, in ms; null without audio."
    )
    fallback_reason: Text | None = Field(
        default=None, description="Why the clip was re-encoded after a copy failed; null when no copy failed."
    )
    video: TrackReceipt | None = Field(
        default=None,
        description="What the cutter did with the video; null in older receipts.",
    )
    audio: TrackReceipt | None = Field(
        default=None,
        description="What the cutter did with the audio; null in older receipts.",
    )
    remark: Text | None = Field(
        default=None, description="A defect of the VOD that viewers may notice, such as a missing end."
    )


class Highlight(Contract):
    """The ids that every event about a highlight has."""

    stream_highlight_id: Identifier = Field(description="The highlight. One highlight is one clip.")
    twitch_account_id: Identifier = Field(description="The account that owns the VOD and its clips.")
    source_vod_id: Identifier = Field(description="The VOD.")


class HighlightDetected(Highlight, EventData):
    """A part of a VOD that a detector found worth a clip."""

    TYPE: ClassVar[str] = "highlight.detected.v1"
    TOPIC: ClassVar[str] = "highlight-detected"

    source: SourceObject = Field(description="The VOD: where it is stored.")
    start_seconds: Seconds = Field(description="Start of the window, in seconds from the start of the VOD.")
    end_seconds: Seconds = Field(description="End of the window, in seconds from the start of the VOD.")
    kind: HighlightKind = Field(description="How the detector found the highlight.")
    title: Title = Field(description="The clip's title, for people.")
    score: Score | None = Field(default=None, description="How good the highlight is; higher is better.")
    rank: int | None = Field(default=None, ge=1, description="Place among the VOD's highlights; 1 is best.")
    is_clipable: bool = Field(default=True, description="false: skipped, with the reason not_clipable.")

    def key(self) -> str:
        """Keep the events of one highlight in order."""
        return self.stream_highlight_id


class EncodingRequested(HighlightDetected):
    """A highlight whose clip must be re-encoded. Id and time are those of the highlight's own event."""

    TYPE: ClassVar[str] = "highlight.encoding-requested.v1"
    TOPIC: ClassVar[str] = "highlight-encodings"

    reason: Text = Field(description="Why its video cannot be copied.")


class HighlightOutcome(Highlight, EventData):
    """What both outcomes of a highlight (created, skipped) say about its event."""

    kind: HighlightKind = Field(description="How the detector found the highlight.")
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
    poster: PosterObject | None = Field(default=None, description="The poster.")
    duration_seconds: PositiveSeconds = Field(description="Length of the clip.")
    cut_receipt: CutReceipt = Field(description="What the cutter was asked to do, and what it did.")
    source: SourceObject | None = Field(
        default=None, description="The VOD that it was cut from; null in events older than this field."
    )
    origin: ClipOrigin | None = Field(
        default=None, description="Who asked for the cut; null in events older than this field: a detector."
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
    """A change of a clip. ``version`` grows with every change: a reader may drop an older version."""

    TOPIC: ClassVar[str] = "clip-lifecycle"

    clip_id: UUID = Field(description="Follows from stream_highlight_id (UUID version 5).")
    version: Annotated[int, Field(ge=1)] = Field(
        description="Grows with every change of the clip: drop an event with a version below your last."
    )

    def key(self) -> str:
        """Keep the events of one clip in order."""
        return str(self.clip_id)


class ClipAvailable(ClipLifecycle):
    """The clip can be watched until ``expires_at``; null: for as long as it is kept or published."""

    TYPE: ClassVar[str] = "clip.available.v1"

    title: Title = Field(description="The clip's title.")
    kind: HighlightKind = Field(description="How the detector found the highlight.")
    duration_seconds: PositiveSeconds = Field(description="Length of the clip.")
    expires_at: Time | None = Field(description="When it expires; null: it is kept or published.")


class ClipKept(ClipLifecycle):
    """The streamer kept the clip: it no longer expires."""

    TYPE: ClassVar[str] = "clip.kept.v1"

    kept_at: Time = Field(description="When it was kept.")
    kept_by: Identifier = Field(description="The account that kept it.")


class ClipUnkept(ClipLifecycle):
    """The streamer no longer keeps the clip: a full new retention begins."""

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
    """The clip has no public page any more; it is kept."""

    TYPE: ClassVar[str] = "clip.unpublished.v1"


class ClipDeleted(ClipLifecycle):
    """The owner deleted the clip: nobody can see it any more. It can be restored until it is purged."""

    TYPE: ClassVar[str] = "clip.deleted.v1"

    deleted_at: Time = Field(description="When it was deleted.")
    expires_at: Time = Field(description="When it becomes due to be purged.")


class ClipRestored(ClipLifecycle):
    """The owner restored the deleted clip: it has the status that it had before."""

    TYPE: ClassVar[str] = "clip.restored.v1"

    status: Text = Field(description="The clip's status: available, kept or published.")
    expires_at: Time | None = Field(description="When it expires; null: it is kept or published.")


class ClipRenamed(ClipLifecycle):
    """The owner gave the clip another title."""

    TYPE: ClassVar[str] = "clip.renamed.v1"

    title: Title = Field(description="The new title.")


# An event must fit into a Kafka message, however many clips an account has.
MAX_EXPIRING_CLIP_IDS = 1000


class ClipExpiring(EventData):
    """An account's clips that expire on the same day (UTC). Sent once; some may be kept meanwhile."""

    TYPE: ClassVar[str] = "clip.expiring.v1"
    TOPIC: ClassVar[str] = "clip-lifecycle"

    twitch_account_id: Identifier = Field(description="The account that owns the clips.")
    clip_ids: Annotated[tuple[UUID, ...], Field(min_length=1)] = Field(
        description=f"The clips, in the order of their expiry; at most {MAX_EXPIRING_CLIP_IDS}."
    )
    expires_before: Time = Field(description="The end of this day.")
    clip_count: int | None = Field(default=None, ge=1, description="Number of clips that expire on this day.")

    def key(self) -> str:
        """Keep the notices of one account in order."""
        return self.twitch_account_id


class ClipPurged(ClipLifecycle):
    """The clip is purged: its objects are released. Its highlight can become a clip again."""

    TYPE: ClassVar[str] = "clip.purged.v1"

    purged_at: Time = Field(description="When it was purged.")
    reason: PurgeReason | None = Field(default=None, description="Why; null in events older than this field.")


class ReleaseReason(StrEnum):
    """Why no clip owns the object any more."""

    PURGED = "purged"
    REPLACED = "replaced"
    STALE = "stale"


class ObjectReleased(EventData):
    """An object that no clip owns any more: the janitor may delete it."""

    TYPE: ClassVar[str] = "clip.object-released.v1"
    TOPIC: ClassVar[str] = "clip-objects-released"

    bucket: BucketName = Field(description="The clips' bucket.")
    object_key: ObjectKey = Field(description="The object's key in the bucket.")
    reason: ReleaseReason = Field(description="Why no clip owns it any more.")
    clip_id: UUID | None = Field(default=None, description="The clip that owned it, or was to own it.")

    def key(self) -> str:
        """Keep the releases of one clip together."""
        return str(self.clip_id) if self.clip_id else self.object_key


class DailyTick(EventData):
    """The order to purge what is due. ``continuation`` counts the follow-up ticks, from 0."""

    TYPE: ClassVar[str] = "tick.daily.v1"
    TOPIC: ClassVar[str] = "daily-tick"

    continuation: int = Field(
        default=0, ge=0, description="Number of the follow-up tick; 0: the scheduler sent it."
    )

    def key(self) -> None:
        """Return None: ticks need no order."""
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
