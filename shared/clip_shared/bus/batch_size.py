"""How many messages a batch subscriber takes at once."""

from typing import Any


class BatchSize:
    """The size of one subscriber's batches: after a failure, messages are delivered singly for a while.

    A batch that failed does not say which of its messages failed.

    Args:
        subscriber: FastStream's.
    """

    def __init__(self, subscriber: Any) -> None:
        self._subscriber = subscriber
        self._size: int | None = getattr(subscriber, "max_records", None)
        self._remaining = 0

    def split(self) -> None:
        """Take messages singly until as many as a full batch have been handled."""
        self._subscriber.max_records = 1
        self._remaining = self._size or 1

    def count(self, handled: int) -> None:
        """Count handled messages, and take full batches again when they are enough."""
        if self._remaining > 0:
            self._remaining = max(0, self._remaining - handled)
            if self._remaining == 0:
                self._subscriber.max_records = self._size
