"""The errors that decide what becomes of a message.

::

    ClipsError
    ├── PermanentError      trying again cannot help: the message goes to <topic>.dlq
    │   ├── InvalidEvent    the message cannot be decoded, or breaks its contract
    │   └── RepeatedDeath   handling it has killed its process again and again
    ├── TransientError      an outage: back off and redeliver, without end, never to the dead letters
    └── DeadlineExceeded    handling it took too long: once more, then to the dead letters

Any other exception is a surprise: it is tried again a few times and then dead-lettered, so that neither
a bug blocks a partition for ever nor a hiccup loses an event.
"""


class ClipsError(Exception):
    """Base of every error that a Clips service raises on purpose."""


class PermanentError(ClipsError):
    """The message can never be handled: refused by policy, or broken beyond repair."""


class InvalidEvent(PermanentError):
    """The message is not an event of the kind that its topic carries."""


class RepeatedDeath(PermanentError):
    """The process that handled the message has died of it too often."""


class DeadlineExceeded(ClipsError):
    """Handling the message took longer than it may."""


class TransientError(ClipsError):
    """Something outside is down or slow: storage, the database, the bus, another service."""
