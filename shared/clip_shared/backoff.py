"""How long to wait before the next attempt: the one back-off of all services."""

import random

# Beyond it, a pause that doubles has long reached any sensible limit; without it, the power overflows.
MAX_DOUBLINGS = 30


def backoff_seconds(attempt: int, *, first: float, longest: float) -> float:
    """Return the seconds to wait after a failed attempt.

    The pause doubles with each attempt. Its second half is random, so that clients that failed together
    do not return together.

    Args:
        attempt: the number of the attempt that failed, from 1 on.
        first: the longest pause after attempt 1, in seconds.
        longest: the longest pause after any attempt, in seconds.
    """
    pause = min(longest, first * 2 ** min(attempt - 1, MAX_DOUBLINGS))
    return random.uniform(pause / 2, pause)  # noqa: S311 - jitter, not a secret
