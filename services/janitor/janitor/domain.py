"""The janitor's rules: what may be deleted, and when failures mean an outage. Pure: no I/O, no clock."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from clip_shared.contracts.clip_keys import is_clip_key
from clip_shared.contracts.events import DailyTick, Event, ObjectReleased, event_id
from clip_shared.contracts.service_names import JANITOR

CLIPS_PREFIX = "clips/"

# S3 error codes by what they speak of: the server, or our keys, clock and bucket. AccessDenied may speak of
# what we may do in the bucket, or of one object (a legal hold).
_DENIED = "AccessDenied"
_SERVER_TROUBLE = frozenset(
    {"InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown"}
)
_OUR_SETTINGS = frozenset(
    {
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "NoSuchBucket",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
# The only ones that speak of an object: it is locked, archived, or has a name that the server will not have.
_STUCK_OBJECT = frozenset(
    {"InvalidArgument", "InvalidObjectState", "InvalidRequest", "KeyTooLongError", "MethodNotAllowed"}
)
_BULK_UNKNOWN = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.LENGTH_REQUIRED,
        HTTPStatus.NOT_IMPLEMENTED,
    }
)
_REFUSED = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})

Release = Event[ObjectReleased]


def follow_up(tick: Event[DailyTick]) -> Event[DailyTick]:
    """The tick that goes on where this one ran out of time. Told twice, it is told under the same id."""
    continuation = tick.data.continuation + 1
    return Event.new(
        DailyTick(continuation=continuation),
        source=JANITOR,
        id=event_id("tick", tick.id, str(continuation)),
        traceparent=tick.traceparent,
    )


class Refusal(StrEnum):
    """Why a release is not acted on."""

    FOREIGN_BUCKET = "foreign_bucket"
    NOT_A_CLIP = "not_a_clip"


@dataclass(frozen=True)
class Plan:
    """The releases to act on, by object key (one object may be released twice), and those to refuse."""

    by_key: Mapping[str, list[Release]]
    refused: list[tuple[Release, Refusal]]


def plan_deletion(releases: Iterable[Release], bucket: str) -> Plan:
    """Only clips in our own bucket may be touched, whatever a message says."""
    by_key: dict[str, list[Release]] = defaultdict(list)
    refused: list[tuple[Release, Refusal]] = []
    for release in releases:
        if release.data.bucket != bucket:
            refused.append((release, Refusal.FOREIGN_BUCKET))
        elif not is_clip_key(release.data.object_key):
            refused.append((release, Refusal.NOT_A_CLIP))
        else:
            by_key[release.data.object_key].append(release)
    return Plan(by_key, refused)


def is_too_much(orphans: int, examined: int, limit_percent: float) -> bool:
    """Whether so many orphans speak of a wrong registry rather than of orphans."""
    return 100 * orphans > limit_percent * examined


class TickEnd(StrEnum):
    """How a tick ended."""

    FINISHED = "finished"
    OUT_OF_TIME = "out_of_time"
    REFUSED = "refused"  # too much was due at once


@dataclass(frozen=True)
class PurgeLimit:
    """How many clips may be purged at once: any share of up to ``clips``, and ``percent`` of more."""

    clips: int
    percent: float

    def forbids(self, due: int, ephemeral: int) -> bool:
        """Whether so many due clips speak of a restored database or a wrong clock rather than of expiry."""
        return due > self.clips and 100 * due > self.percent * ephemeral


@dataclass(frozen=True)
class Failure:
    """Why the storage did not delete an object: S3's error code, and its words."""

    code: str
    message: str


def is_outage(asked: int, failures: Mapping[str, Failure]) -> bool:
    """Whether the storage is down: nothing could be deleted, and no answer may speak of an object."""
    of_objects = _STUCK_OBJECT | {_DENIED}
    return asked == len(failures) and all(each.code not in of_objects for each in failures.values())


def are_stuck(asked: int, failures: Mapping[str, Failure]) -> bool:
    """Whether failures are facts about objects: others could be deleted, and every code speaks of an object.

    Busy servers and missing permissions fail for a few keys of many, too: those will be deleted later.
    """
    return len(failures) < asked and all(each.code in _STUCK_OBJECT for each in failures.values())


def is_bulk_refused(status: int, code: str) -> bool:
    """Whether an answer to DeleteObjects means that the server does not know it, or not as we send it."""
    return status in _BULK_UNKNOWN and code not in _SERVER_TROUBLE | _OUR_SETTINGS


def is_question_refused(status: int, code: str) -> bool:
    """Whether an answer to a question about the bucket means that it is not answered, here or to us.

    An answer without a code of S3 comes from something else, a proxy for example: that is an outage.
    """
    if status in {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}:
        return True
    is_of_s3 = code != "" and not code.isdigit()
    return status in _REFUSED and is_of_s3 and code not in _SERVER_TROUBLE | _OUR_SETTINGS
