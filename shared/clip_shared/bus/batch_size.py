"""How many messages a subscriber takes at once."""

from typing import Any


class BatchSize:
    """The size of one subscriber's batches: after a failure its messages come one by one for a while.

    A batch does not say which of its messages failed, or killed a process.

    Args:
        subscriber: FastStream's; one that takes single messages has no batches to split.
    """

    def __init__(self, subscriber: Any) -> None:
        self._subscriber = subscriber
        self._size: int | None = getattr(subscriber, "max_records", None)
        self._remaining = 0

    @property
    def is_split(self) -> bool:
        """Whether messages come one by one now."""
        return self._remaining > 0

    def split(self) -> None:
        """Take messages one by one until as many as a batch holds have been handled."""
        self._subscriber.max_records = 1
        self._remaining = self._size or 1

    def count(self, handled: int) -> None:
        """Count handled messages."""
        if self.is_split:
            self._remaining = max(0, self._remaining - handled)
            if not self.is_split:
                self._subscriber.max_records = self._size
