"""Failures in a row: since when something has done nothing but fail."""

import time
from dataclasses import dataclass

# Attempts that fail come more often than this: failures further apart are not of one trouble.
SAME_TROUBLE_SECONDS = 60.0


@dataclass
class Trouble:
    """Failures without a success between them. Times are of the monotonic clock."""

    _first: float = float("-inf")
    _latest: float = float("-inf")
    error: BaseException | None = None

    def failed(self, error: BaseException) -> None:
        """Note a failure."""
        now = time.monotonic()
        if now - self._latest > SAME_TROUBLE_SECONDS:
            self._first = now
        self._latest, self.error = now, error

    def succeeded(self) -> None:
        """Note a success: the trouble is over."""
        self._latest = float("-inf")

    def seconds(self) -> float:
        """Return for how long there has been nothing but failures; 0 where there is no trouble now."""
        now = time.monotonic()
        return 0.0 if now - self._latest > SAME_TROUBLE_SECONDS else now - self._first
