"""What the platform sent and was told: the truth that the system is held against."""

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from clip_shared.contracts.events import clip_id_for
from tests.chaos.plan import BELOW_HANDLERS, Send

KEEPING = {"keep", "publish", "unpublish"}
LETTING_GO = {"unkeep", "delete"}


@dataclass
class LastAnswer:
    """What an account was last told about its clip.

    ``kept``: it was told that the clip is kept (or published), and never again asked to let go of it.
    """

    account: str
    kept: bool = False
    _before_delete: bool = False

    def asked(self, action: str) -> None:
        """Asked, and perhaps never answered: from here on, letting go may take effect."""
        if action == "delete":
            self._before_delete = self.kept
        if action in LETTING_GO:
            self.kept = False

    def answered(self, action: str) -> None:
        """Told that it is done."""
        if action in KEEPING or (action == "restore" and self._before_delete):
            self.kept = True


@dataclass
class Ledger:
    """Events that the broker acknowledged, by their id, and answers to accounts, by clip.

    ``positions``: where an event stands, as (partition, offset) of ``highlight-detected``.
    """

    accepted: dict[str, Send] = field(default_factory=dict)
    positions: dict[str, tuple[int, int]] = field(default_factory=dict)
    told: dict[UUID, LastAnswer] = field(default_factory=dict)

    def accept(self, send: Send, partition: int, offset: int) -> None:
        """Note that the broker has an event, and where."""
        self.accepted[send.event] = send
        self.positions[send.event] = (partition, offset)

    @property
    def kinds(self) -> Counter[str]:
        """How many of the events have which codec, flaw or strangeness."""
        names = [name for each in self.accepted.values() for name in (each.codec, each.flaw) if name]
        return Counter(names)

    @property
    def poison(self) -> list[Send]:
        """What no handler could read."""
        return [each for each in self.accepted.values() if each.flaw in BELOW_HANDLERS]

    def told_of(self, highlight: str, account: str) -> LastAnswer:
        """The entry of a highlight's clip."""
        return self.told.setdefault(clip_id_for(highlight), LastAnswer(account))
