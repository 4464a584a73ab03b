"""Every error that Clips defines, and what delivery does with a message whose handler raises it.

::

    Exception
    ├── ClipsError
    │   ├── PermanentError            THE MESSAGE'S FAULT: it goes to <topic>.dlq at once
    │   │   ├── InvalidEvent          the message cannot be decoded, or breaks its contract
    │   │   ├── GivenUp               it failed for hours while other messages of its topic succeeded
    │   │   ├── RefusedRecord         Kafka will never take a record: too large, or an invalid timestamp
    │   │   ├── RepeatedCrash         the message has crashed its process several times
    │   │   └── TooManyOrphans        janitor: too many orphans; the registry may be of another bucket
    │   ├── TransientError            AN OUTAGE: redelivered after a pause, until the outage ends
    │   │   ├── HeldBack              a limit is reached: the message waits until the limit allows more
    │   │   ├── UnusableDatabase      registry: the database cannot be used as its settings say
    │   │   └── LockTimeout           registry: another transaction held a lock for too long
    │   ├── DeadlineExceeded          EITHER'S FAULT: redelivered once, then dead-lettered
    │   ├── ToolCrashed               cutter: ffmpeg crashed, or did not start
    │   ├── ToolLimited               cutter: a limit of ours (time, memory, file size) ended ffmpeg
    │   ├── SourceRefused             cutter: source storage refuses the request as malformed
    │   ├── Skipped                   cutter: the highlight becomes no clip; announced as clip-skipped
    │   ├── EncodingNeeded            cutter: the highlight is passed on to the lane of re-encodes
    │   ├── BadClip                   cutter: a cut clip must not be stored
    │   ├── ToolFailed                cutter: ffmpeg cannot read its input
    │   ├── InvalidProbeOutput        cutter: the answer of ffprobe is not about a media file
    │   ├── TookTooLong               cutter: ffmpeg reached its deadline
    │   ├── TooMuchOutput             cutter: ffmpeg wrote too much to its standard output
    │   ├── UnusableTool              cutter: ffmpeg is missing, or of an untested version; the start fails
    │   ├── MissingBytes              cutter: bytes of a VOD that have to be fetched before the index is read
    │   ├── BulkRefused               janitor: the storage has no DeleteObjects; objects are deleted singly
    │   ├── Unreadable                bus: a record batch does not unpack within its limit
    │   ├── Problem                   registry's API: an HTTP answer other than success
    │   ├── BadCursor                 registry's API: the cursor of a list is invalid; answered with 422
    │   └── Refused                   gateway: an HTTP answer of 4xx, with its reason
    ├── UnsupportedMedia              cutter: our readers leave a file (or a part of it) to ffmpeg
    │   └── InvalidBox                cutter: no box begins where a fragment should
    └── Unwritable                    cutter: the samples do not fit into an MP4

UnsupportedMedia and Unwritable are outside ClipsError: ``clip_cutter.containers`` imports nothing of Clips.

Delivery knows PermanentError, TransientError and DeadlineExceeded. Every other exception, one of ours or not,
is *unknown*: OUR FAULT, as far as anyone can tell. Its message is redelivered a few times and then
dead-lettered. A message that fails with a TransientError for ``GIVE_UP_AFTER_SECONDS`` while others of its
topic succeed does not meet an outage, and is dead-lettered with GivenUp. So every failure comes to an end.

``tests/unit/test_errors.py`` compares this tree with the classes that exist.
"""


class ClipsError(Exception):
    """Base of the errors that a Clips service raises on purpose."""


class PermanentError(ClipsError):
    """The message can never be handled: policy refuses it, or it is invalid."""


class InvalidEvent(PermanentError):
    """The message is not a valid event of the type that its topic carries."""


class GivenUp(PermanentError):
    """The message failed for too long, while other messages of its topic succeeded."""


class RefusedRecord(PermanentError):
    """Kafka refuses a record for its size or its timestamp, and would refuse it again."""


class RepeatedCrash(PermanentError):
    """The process that handled the message has crashed too often."""


class DeadlineExceeded(ClipsError):
    """Handling the message took longer than its deadline allows."""


class TransientError(ClipsError):
    """Something outside is down or slow: storage, the database, Kafka, another service."""


class HeldBack(TransientError):
    """A limit (of dead letters, of skips) is reached: the message waits until the limit allows more."""
