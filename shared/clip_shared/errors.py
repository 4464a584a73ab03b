"""The errors that decide what becomes of a message.

::

    ClipsError
    ├── PermanentError      trying again cannot help: the message goes to <topic>.dlq
    │   ├── InvalidEvent    the message cannot be decoded, or breaks its contract
    │   ├── GivenUp         it failed for hours while other messages of its topic succeeded
    │   ├── RefusedRecord   the bus will never take a record: it is too large, or its timestamp is invalid
    │   └── RepeatedDeath   handling it has killed its process again and again
    ├── TransientError      an outage: redelivered after a pause, until the outage ends
    │   └── HeldBack        a limit is reached: the message waits until there is room again
    └── DeadlineExceeded    handling it took too long: once more, then to the dead letters

Any other exception is *unknown*: the message is tried again a few times and then dead-lettered. A message
that goes on failing with a TransientError while others of its topic succeed is not meeting an outage: it is
dead-lettered after ``GIVE_UP_AFTER_SECONDS``. So every failure has one end.
"""


class ClipsError(Exception):
    """Base of every error that a Clips service raises on purpose."""


class PermanentError(ClipsError):
    """The message can never be handled: refused by policy, or broken beyond repair."""


class InvalidEvent(PermanentError):
    """The message is not an event of the kind that its topic carries."""


class GivenUp(PermanentError):
    """The message failed for too long to be meeting an outage."""


class RefusedRecord(PermanentError):
    """Kafka refused a record for what it is, and would refuse it again."""


class RepeatedDeath(PermanentError):
    """The process that handled the message has died of it too often."""


class DeadlineExceeded(ClipsError):
    """Handling the message took longer than it may."""


class TransientError(ClipsError):
    """Something outside is down or slow: storage, the database, the bus, another service."""


class HeldBack(TransientError):
    """A limit (of dead letters, of skips) is reached: the message is delivered again when there is room."""
