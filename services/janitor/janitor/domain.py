"""The janitor's rules: what may be deleted, and which failures are an outage. Pure: no I/O, no clock."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from clip_shared.contracts.clip_keys import is_clip_key
from clip_shared.contracts.events import DailyTick, Event, ObjectReleased, event_id
from clip_shared.contracts.service_names import JANITOR

CLIPS_PREFIX = "clips/"

# S3 error codes by their subject: the server; our keys, clock and bucket; one object. AccessDenied has two
# subjects: what we may do in the bucket, or one object (a legal hold).
_DENIED = "AccessDenied"
_SERVER_PROBLEMS = frozenset(
    {"InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown"}
)
_SETTING_PROBLEMS = frozenset(
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
# The object is locked, archived, or has a name that the server does not accept.
_OBJECT_PROBLEMS = frozenset(
    {"InvalidArgument", "InvalidObjectState", "InvalidRequest", "KeyTooLongError", "MethodNotAllowed"}
)
_BULK_REFUSED = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.LENGTH_REQUIRED,
        HTTPStatus.NOT_IMPLEMENTED,
    }
)
_REFUSED = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})

Release = Event[ObjectReleased]


def follow_up_tick(tick: Event[DailyTick]) -> Event[DailyTick]:
    """Return the tick that continues one that ran out of time. For the same tick it has the same id."""
    continuation = tick.data.continuation + 1
    return Event.new(
        DailyTick(continuation=continuation),
        source=JANITOR,
        id=event_id("tick", tick.id, str(continuation)),
        traceparent=tick.traceparent,
    )


class DeletionRefusal(StrEnum):
    """Why the object of a release is not deleted."""

    FOREIGN_BUCKET = "foreign_bucket"
    NOT_A_CLIP = "not_a_clip"


@dataclass(frozen=True)
class DeletionPlan:
    """The releases to carry out, by object key (an object may be released twice), and those to refuse."""

    by_key: Mapping[str, list[Release]]
    refused: list[tuple[Release, DeletionRefusal]]


def plan_deletion(releases: Iterable[Release], bucket: str) -> DeletionPlan:
    """Plan to delete objects of clips in ``bucket``, and refuse the other releases."""
    by_key: dict[str, list[Release]] = defaultdict(list)
    refused: list[tuple[Release, DeletionRefusal]] = []
    for release in releases:
        if release.data.bucket != bucket:
            refused.append((release, DeletionRefusal.FOREIGN_BUCKET))
        elif not is_clip_key(release.data.object_key):
            refused.append((release, DeletionRefusal.NOT_A_CLIP))
        else:
            by_key[release.data.object_key].append(release)
    return DeletionPlan(by_key, refused)


def are_too_many_orphans(orphans: int, examined: int, limit_percent: float) -> bool:
    """Return whether the share of orphans is so large that the registry is more likely the wrong one."""
    return 100 * orphans > limit_percent * examined


class TickOutcome(StrEnum):
    """How a tick ended."""

    FINISHED = "finished"
    OUT_OF_TIME = "out_of_time"
    REFUSED = "refused"  # too many clips were due at once

    @classmethod
    def of(cls, *, is_refused: bool, is_done: bool) -> "TickOutcome":
        """Return the outcome of a tick that did all its work, or had to leave some to a follow-up."""
        if is_refused:
            return cls.REFUSED
        return cls.FINISHED if is_done else cls.OUT_OF_TIME


@dataclass(frozen=True)
class PurgeLimit:
    """How many clips may be purged at once: up to ``clips`` any share, above that ``percent`` of all."""

    clips: int
    percent: float

    def forbids(self, due: int, ephemeral: int) -> bool:
        """Return whether more of the ``ephemeral`` (unkept) clips are due than expiry explains.

        A restored database or a wrong clock is a more likely reason.
        """
        return due > self.clips and 100 * due > self.percent * ephemeral


@dataclass(frozen=True)
class DeletionFailure:
    """Why the storage did not delete an object: S3's error code and message."""

    code: str
    message: str


def is_outage(asked: int, failures: Mapping[str, DeletionFailure]) -> bool:
    """Return whether the storage is down: no object was deleted, and no error code is about an object."""
    about_objects = _OBJECT_PROBLEMS | {_DENIED}
    return asked == len(failures) and all(each.code not in about_objects for each in failures.values())


def are_stuck(asked: int, failures: Mapping[str, DeletionFailure]) -> bool:
    """Return whether the failures will stay: other objects were deleted, and every code is about an object.

    A busy server and a missing permission can fail for a few keys of many, too: those are deleted later.
    """
    return len(failures) < asked and all(each.code in _OBJECT_PROBLEMS for each in failures.values())


def is_bulk_refused(status: int, code: str) -> bool:
    """Return whether an answer to DeleteObjects means that the server does not support it as we send it."""
    return status in _BULK_REFUSED and code not in _SERVER_PROBLEMS | _SETTING_PROBLEMS


def is_question_refused(status: int, code: str) -> bool:
    """Return whether the server never answers a question about the bucket, or never answers it to us.

    An answer without an error code of S3 comes from a proxy, for example: that is an outage.
    """
    if status in {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}:
        return True
    is_of_s3 = code != "" and not code.isdigit()
    return status in _REFUSED and is_of_s3 and code not in _SERVER_PROBLEMS | _SETTING_PROBLEMS
