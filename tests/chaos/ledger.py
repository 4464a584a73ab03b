"""What the platform sent and was told: the truth that the system is held against."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from clip_shared.events import clip_id_for
from tests.chaos.plan import Send

KEEPING = {"keep", "publish", "unpublish"}


@dataclass
class Told:
    """What an account was last told about its clip.

    ``kept``: it was told that the clip is kept (or published), and never again asked to let go of it.
    """

    account: str
    kept: bool = False

    def asked(self, action: str) -> None:
        """Asked, and perhaps never answered: from here on, letting go may take effect."""
        if action == "unkeep":
            self.kept = False

    def answered(self, action: str) -> None:
        """Told that it is done."""
        if action in KEEPING:
            self.kept = True


@dataclass
class Ledger:
    """Events that the broker acknowledged, by their id, and answers to accounts, by clip."""

    accepted: dict[str, Send] = field(default_factory=dict)
    told: dict[UUID, Told] = field(default_factory=dict)

    @property
    def highlights(self) -> Iterator[str]:
        """Every highlight of which an event was accepted."""
        return iter({each.highlight for each in self.accepted.values()})

    def told_of(self, highlight: str, account: str) -> Told:
        """The entry of a highlight's clip."""
        return self.told.setdefault(clip_id_for(highlight), Told(account))
