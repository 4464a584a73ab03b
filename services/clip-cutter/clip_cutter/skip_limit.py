"""A limit on skips that a broken profile, or a broken service, would announce of every VOD."""

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
    """Holds highlights back where too many of one profile would be skipped because of their VODs.

    A missing VOD counts once however many highlights it has. An unreadable one counts for each highlight: a
    broken tool shows on one VOD as well.
    """

    limit: DeadLetterLimit
    _counted: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _held: dict[str, Skipped] = field(default_factory=dict)  # by event

    def check_again(self, event: HighlightEvent) -> None:
        """Ask before the work is done for a highlight that may have been held back.

        Raises:
            HeldBack: it was, and would be again.
        """
        if (skip := self._held.pop(event.id, None)) is not None:
            self.check(event, skip)

    def check(self, event: HighlightEvent, skip: Skipped) -> None:
        """Ask before a skip is announced.

        Raises:
            HeldBack: the profile had too many of them within the window.
        """
        profile = event.data.source.profile
        if self._is_new(event, skip) and not self.limit.allows(profile):
            self._hold(event, skip)
            raise HeldBack(
                f"{profile!r} had {self.limit.limit} missing VODs, and highlights of unreadable ones,"
                f" within {self.limit.window_seconds:g} s; of this one it would be said: {skip}"
            )

    def count(self, event: HighlightEvent, skip: Skipped) -> None:
        """Note an announced skip."""
        if self._is_new(event, skip):
            self.limit.count(event.data.source.profile)
            self._counted.append(_blamed(event, skip))

    def _is_new(self, event: HighlightEvent, skip: Skipped) -> bool:
        return skip.reason in SUSPICIOUS and _blamed(event, skip) not in self._counted

    def _hold(self, event: HighlightEvent, skip: Skipped) -> None:
        self._held[event.id] = skip
        if len(self._held) > REMEMBERED:  # others took some of them over
            del self._held[next(iter(self._held))]


def _blamed(event: HighlightEvent, skip: Skipped) -> str:
    """What a skip counts against: the VOD that is missing, or the highlight."""
    source = event.data.source
    is_missing = skip.reason is SkipReason.SOURCE_MISSING
    return f"{source.profile}/{source.bucket}/{source.key}" if is_missing else event.id
