"""The events that the platform sent, and the answers that accounts got: what the checker compares with."""

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from clip_shared.contracts.events import clip_id_for
from tests.chaos.plan import BELOW_HANDLERS, Send

KEEPING = {"keep", "publish", "unpublish"}
LETTING_GO = {"unkeep", "delete"}


@dataclass
class LastAnswer:
    """The last answer to an account about its clip.

    ``kept``: the answer was that the clip is kept (or published), and no unkeep or delete was sent after it.
    """

    account: str
    kept: bool = False
    _before_delete: bool = False

    def asked(self, action: str) -> None:
        """Note a request. From now on, an unkeep or delete can take effect, even without an answer."""
        if action == "delete":
            self._before_delete = self.kept
        if action in LETTING_GO:
            self.kept = False

    def answered(self, action: str) -> None:
        """Note the answer that an action is done."""
        if action in KEEPING or (action == "restore" and self._before_delete):
            self.kept = True


@dataclass
class Ledger:
    """Events that the broker acknowledged, by their id, and answers to accounts, by clip.

    ``positions``: the partition and offset of each event in ``highlight-detected``.
    """

    accepted: dict[str, Send] = field(default_factory=dict)
    positions: dict[str, tuple[int, int]] = field(default_factory=dict)
    answers: dict[UUID, LastAnswer] = field(default_factory=dict)

    def accept(self, send: Send, partition: int, offset: int) -> None:
        """Note that the broker has acknowledged an event, and its position."""
        self.accepted[send.event] = send
        self.positions[send.event] = (partition, offset)

    @property
    def kinds(self) -> Counter[str]:
        """The number of events by codec and by flaw."""
        names = [name for each in self.accepted.values() for name in (each.codec, each.flaw) if name]
        return Counter(names)

    @property
    def unreadable(self) -> list[Send]:
        """The events that no handler can read."""
        return [each for each in self.accepted.values() if each.flaw in BELOW_HANDLERS]

    def answer_about(self, highlight: str, account: str) -> LastAnswer:
        """Return the entry of a highlight's clip."""
        return self.answers.setdefault(clip_id_for(highlight), LastAnswer(account))
