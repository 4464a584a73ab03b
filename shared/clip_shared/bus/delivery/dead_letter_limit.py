"""The limit of dead letters: how many a topic may have in a time window."""

import time
from collections import defaultdict, deque
from dataclasses import dataclass, field


@dataclass
class DeadLetterLimit:
    """At most ``limit`` dead letters of a topic within ``window_seconds``, or one batch more.

    A single poison message passes at once. When everything fails, the service is what is broken (a bad
    deploy): then the topic waits for a better one, and does not end among the dead letters.
    """

    limit: int
    window_seconds: float
    _times: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def allows(self, topic: str) -> bool:
        """Whether another message of the topic may be dead-lettered now."""
        times, oldest = self._times[topic], time.monotonic() - self.window_seconds
        while times and times[0] <= oldest:
            times.popleft()
        return len(times) < self.limit

    def count(self, topic: str) -> None:
        """Note a dead letter."""
        self._times[topic].append(time.monotonic())
