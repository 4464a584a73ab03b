"""The janitor's rules: what may be deleted, and when failures mean an outage. Pure: no I/O, no clock."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from clip_shared.events import DailyTick, Event, ObjectReleased, event_id

SOURCE = "janitor"
# S3 error codes that speak of the server, not of the object.
SERVER_TROUBLE = {"InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown"}

Release = Event[ObjectReleased]


def follow_up(tick: Event[DailyTick]) -> Event[DailyTick]:
    """The tick that goes on where this one ran out of time. Told twice, it is told under the same id."""
    continuation = tick.data.continuation + 1
    return Event.new(
        DailyTick(continuation=continuation),
        source=SOURCE,
        id=event_id("tick", tick.id, str(continuation)),
        traceparent=tick.traceparent,
    )


class Refusal(StrEnum):
    """Why a release is not acted on."""

    FOREIGN_BUCKET = "foreign_bucket"
    UNSAFE_KEY = "unsafe_key"


@dataclass(frozen=True)
class Plan:
    """The releases to act on, by object key (one object may be released twice), and those to refuse."""

    by_key: Mapping[str, list[Release]]
    refused: list[tuple[Release, Refusal]]


def plan_deletion(releases: Iterable[Release], bucket: str) -> Plan:
    """Only objects in our own bucket may be touched, whatever a message says."""
    by_key: dict[str, list[Release]] = defaultdict(list)
    refused: list[tuple[Release, Refusal]] = []
    for release in releases:
        if release.data.bucket != bucket:
            refused.append((release, Refusal.FOREIGN_BUCKET))
        elif not _names_one_object(release.data.object_key):
            refused.append((release, Refusal.UNSAFE_KEY))
        else:
            by_key[release.data.object_key].append(release)
    return Plan(by_key, refused)


def _names_one_object(key: str) -> bool:
    """Whether no server can take the key for a folder, or for a way out of the bucket."""
    return not any(segment in {"", ".", ".."} for segment in key.split("/"))


CLIPS_PREFIX = "clips/"
# What the cutter writes: clips/{account}/{clip}/{event}, a video or a poster.
_CLIP_OBJECT = re.compile(
    rf"{CLIPS_PREFIX}[A-Za-z0-9_-]{{1,64}}/[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}"
    r"/[A-Za-z0-9_-]{1,64}\.(mp4|jpg)"
)


def is_clip_object(key: str) -> bool:
    """Whether the key is one that the cutter gives: the sweep touches nothing else."""
    return _CLIP_OBJECT.fullmatch(key) is not None


def is_too_much(orphans: int, examined: int) -> bool:
    """Whether so many orphans speak of a wrong registry rather than of orphans: more than half."""
    return 2 * orphans > examined


@dataclass(frozen=True)
class Failure:
    """Why the storage did not delete an object: S3's error code, and its words."""

    code: str
    message: str


def is_outage(asked: int, failures: Mapping[str, Failure]) -> bool:
    """Whether the storage is down rather than some objects stuck.

    Nothing at all could be deleted, and the server blames itself. A single stuck object looks the same
    for as long as it comes alone; with the next release that can be deleted it is found out.
    """
    return 0 < asked == len(failures) and all(each.code in SERVER_TROUBLE for each in failures.values())
