"""What a run of the chaos suite prints."""

from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.checker import Finding, Verdict, Violation


@dataclass
class Totals:
    """All rounds of a run."""

    broker: str
    session_seconds: float
    seeds: list[int] = field(default_factory=list)
    events: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    liveness_restarts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    recovery_seconds: list[float] = field(default_factory=list)
    replayed: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing was violated."""
        return bool(self.seeds) and not self.findings

    def add(self, seed: int, verdict: Verdict, recovery_seconds: float) -> None:
        """One more round."""
        self.seeds.append(seed)
        self.findings += verdict.findings
        self.ends = verdict.ends
        self.recovery_seconds.append(recovery_seconds)

    def summary(self) -> str:
        """For people."""
        p50, p99 = quantile(self.recovery_seconds, 0.5), quantile(self.recovery_seconds, 0.99)
        kinds: Counter[str] = Counter()
        for name, number in self.injected.items():
            kinds[name.partition(":")[0]] += number
        counts = Counter(each.violation for each in self.findings)
        duplicates = counts[Violation.DUPLICATE_EFFECT] + counts[Violation.TWO_ENDS]
        lines = [
            "",
            f"broker {self.broker}, session {self.session_seconds:g} s, seeds {_seeds(self.seeds)}",
            f"{len(self.seeds)} rounds, {self.events} events accepted, {sum(kinds.values())} faults injected:",
            *(f"  {number:4}  {kind}" for kind, number in sorted(kinds.items())),
            *([f"  not reached: {_counts(self.missed)}"] if self.missed else []),
            f"restarts after a death: {_counts(self.restarts)};"
            f" by the liveness probe: {_counts(self.liveness_restarts) or 'none'}",
            f"highlights ended as: {_counts(self.ends)}; dead-lettered releases replayed: {self.replayed}",
            f"recovery (healed to settled): p50 {p50:.1f} s, p99 {p99:.1f} s, longest"
            f" {max(self.recovery_seconds, default=0):.1f} s",
            f"lost {counts[Violation.LOST]}, duplicate effects {duplicates},"
            f" wrongly purged {counts[Violation.WRONGLY_PURGED]},"
            f" other violations {len(self.findings) - counts[Violation.LOST] - duplicates - counts[Violation.WRONGLY_PURGED]}",
        ]
        return "\n".join(lines)


def quantile(values: list[float], share: float) -> float:
    """The least value that so many of them do not exceed; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


def _seeds(seeds: list[int]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if seeds else "none"
