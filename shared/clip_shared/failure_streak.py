"""Failures in a row: how long something has failed without a success."""

import time
from dataclasses import dataclass

# Attempts follow each other faster than this: failures further apart are not of one streak.
SAME_STREAK_SECONDS = 60.0


@dataclass
class FailureStreak:
    """Failures without a success between them. Times are of the monotonic clock.

    ``error``: the latest failure.
    """

    _first: float = float("-inf")
    _latest: float = float("-inf")
    error: BaseException | None = None

    def failed(self, error: BaseException) -> None:
        """Note a failure."""
        now = time.monotonic()
        if now - self._latest > SAME_STREAK_SECONDS:
            self._first = now
        self._latest, self.error = now, error

    def succeeded(self) -> None:
        """Note a success, which ends the streak."""
        self._latest = float("-inf")

    def seconds(self) -> float:
        """Return the time since the first failure of the streak; 0 if there is no streak now."""
        now = time.monotonic()
        return 0.0 if now - self._latest > SAME_STREAK_SECONDS else now - self._first
