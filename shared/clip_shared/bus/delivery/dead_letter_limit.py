"""The limit of dead letters: how many a topic may have in a time window."""

import time
from collections import defaultdict, deque
from dataclasses import dataclass, field


@dataclass
class DeadLetterLimit:
    """At most ``limit`` dead letters of a topic within ``window_seconds``, or one batch more.

    A single bad message is dead-lettered at once. When every message fails, the service is broken (a bad
    deploy): the topic is held back until a repaired version handles it, and is not emptied into its dead
    letters.
    """

    limit: int
    window_seconds: float
    _times: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def allows(self, topic: str) -> bool:
        """Return whether another message of the topic may be dead-lettered now."""
        times, oldest = self._times[topic], time.monotonic() - self.window_seconds
        while times and times[0] <= oldest:
            times.popleft()
        return len(times) < self.limit

    def count(self, topic: str) -> None:
        """Count a dead letter of the topic."""
        self._times[topic].append(time.monotonic())
