"""The skip limit: how often VODs of one source profile may be announced as missing or unreadable.

A broken source profile, or a broken cutter, would announce it of every VOD, and no highlight would become a
clip.
"""

from collections import deque
from dataclasses import dataclass, field

from clip_cutter.announcements import HighlightEvent
from clip_cutter.domain.policy import Skipped
from clip_shared.bus.delivery.dead_letter_limit import DeadLetterLimit
from clip_shared.contracts.events import SkipReason
from clip_shared.errors import HeldBack

SUSPICIOUS = frozenset({SkipReason.SOURCE_MISSING, SkipReason.SOURCE_UNREADABLE})
REMEMBERED = 1000  # VODs and highlights: a redelivery counts once


@dataclass(frozen=True)
class SkipLimit:
    """Hold highlights back while their source profile has reached the limit.

    A missing VOD counts once for all of its highlights. An unreadable VOD counts once for each highlight: a
    broken ffmpeg fails on every highlight, also if they are all of one VOD.
    """

    limit: DeadLetterLimit
    _counted: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _held: dict[str, Skipped] = field(default_factory=dict)  # by event id

    def check_again(self, event: HighlightEvent) -> None:
        """Check a redelivered highlight before it is cut again.

        Raises:
            HeldBack: the highlight was held back before, and the limit is still reached.
        """
        if (skip := self._held.pop(event.id, None)) is not None:
            self.check(event, skip)

    def check(self, event: HighlightEvent, skip: Skipped) -> None:
        """Check the limit before a skip is announced.

        Raises:
            HeldBack: the source profile has reached the limit within the window.
        """
        profile = event.data.source.profile
        if self._is_new(event, skip) and not self.limit.allows(profile):
            self._hold(event, skip)
            raise HeldBack(
                f"source profile {profile!r} had {self.limit.limit} missing or unreadable VODs within"
                f" {self.limit.window_seconds:g} s: check its server, buckets and keys. This highlight would"
                f" be skipped with: {skip}"
            )

    def count(self, event: HighlightEvent, skip: Skipped) -> None:
        """Count a skip that was announced."""
        if self._is_new(event, skip):
            self.limit.count(event.data.source.profile)
            self._counted.append(_blamed(event, skip))

    def _is_new(self, event: HighlightEvent, skip: Skipped) -> bool:
        return skip.reason in SUSPICIOUS and _blamed(event, skip) not in self._counted

    def _hold(self, event: HighlightEvent, skip: Skipped) -> None:
        self._held[event.id] = skip
        if len(self._held) > REMEMBERED:  # some were redelivered to other processes
            del self._held[next(iter(self._held))]


def _blamed(event: HighlightEvent, skip: Skipped) -> str:
    """Return the key that a skip is counted by: the missing VOD, or the highlight's event id."""
    source = event.data.source
    is_missing = skip.reason is SkipReason.SOURCE_MISSING
    return f"{source.profile}/{source.bucket}/{source.key}" if is_missing else event.id
