"""The printed report of a run of the chaos suite."""

import math
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.checker import CheckResult, Finding, Violation

MAX_SHOWN = 30  # findings


@dataclass
class Totals:
    """The totals of all rounds of a run."""

    session_seconds: int
    seeds: list[int] = field(default_factory=list)
    events: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    liveness_restarts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    recovery_seconds: list[float] = field(default_factory=list)
    unanswered_seconds: float = 0.0
    replayed: int = 0
    replayed_events: int = 0
    swept: int = 0
    re_encoded: int = 0
    unfinished: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether no rule was violated."""
        return bool(self.seeds) and not self.findings

    def add(self, seed: int, result: CheckResult, recovery_seconds: float) -> None:
        """Add a round."""
        self.seeds.append(seed)
        self.findings += result.findings
        self.ends = result.ends
        self.recovery_seconds.append(recovery_seconds)

    def summary(self) -> str:
        """Return the report of the run."""
        faults = self.by_kind(self.injected)
        return "\n".join(
            [
                "",
                f"{len(self.seeds)} rounds, session {self.session_seconds} s, {_seeds(self.seeds)}",
                f"events accepted: {self.events}; their highlights are: {_counts(self.ends)}",
                f"of the events: {_counts(self.kinds)}",
                f"faults injected: {sum(faults.values())}",
                *(f"  {number:4}  {kind}" for kind, number in sorted(faults.items())),
                f"faults that did not take place: {_counts(self.missed)}",
                f"restarts after a crash: {_counts(self.restarts)}",
                f"restarts by the liveness probe: {_counts(self.liveness_restarts)}",
                f"dead-lettered releases replayed: {self.replayed};"
                f" events that the broker refused to the outbox: {self.replayed_events};"
                f" orphans deleted by the sweep: {self.swept}",
                f"clips whose video was re-encoded: {self.re_encoded};"
                f" unfinished uploads in parts: {self.unfinished}",
                f"waited until highlights that cannot succeed gave up: {self.unanswered_seconds:.0f} s",
                f"recovery, from healed to settled: p50 {quantile(self.recovery_seconds, 0.5):.1f} s,"
                f" p99 {quantile(self.recovery_seconds, 0.99):.1f} s",
                *(f"{name}: {number}" for name, number in self.violations().items()),
                *(f"VIOLATION {each.violation}: {each.what}" for each in self.findings[:MAX_SHOWN]),
            ]
        )

    def violations(self) -> dict[str, int]:
        """Return the figures that must be 0."""
        counts = Counter(each.violation for each in self.findings)
        figures = {
            "lost": counts.pop(Violation.LOST, 0),
            "duplicate effects": counts.pop(Violation.DUPLICATE_EFFECT, 0)
            + counts.pop(Violation.TWO_ENDS, 0),
            "wrongly purged": counts.pop(Violation.WRONGLY_PURGED, 0),
            "stuck partitions": counts.pop(Violation.STUCK_PARTITION, 0),
        }
        return {**figures, "other violations": counts.total()}

    @staticmethod
    def by_kind(faults: Counter[str]) -> Counter[str]:
        """Return the number of faults by their kind, without their target."""
        kinds: Counter[str] = Counter()
        for name, number in faults.items():
            kinds[name.partition(":")[0]] += number
        return kinds


def quantile(values: list[float], share: float) -> float:
    """Return the least value that this share of the values does not exceed; 0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "none"


def _seeds(seeds: list[int]) -> str:
    return f"seeds {seeds[0]} to {seeds[-1]}" if seeds else "no seed"
