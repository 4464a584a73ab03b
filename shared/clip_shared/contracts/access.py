"""Which Kafka user reads and writes which topics."""

from dataclasses import dataclass

from clip_shared.contracts.service_names import CLIP_CUTTER, CLIP_REGISTRY, JANITOR


@dataclass(frozen=True)
class Access:
    """The topics that a Kafka user reads and writes."""

    user: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


ACCESS = (
    Access("platform", reads=("clip-lifecycle",), writes=("highlight-detected",)),
    # Cutters send each other what must be re-encoded: see docs/decisions/0031.
    Access(
        CLIP_CUTTER,
        reads=("highlight-detected", "highlight-encodings"),
        writes=("highlight-encodings", "clip-created", "clip-skipped"),
    ),
    Access(
        CLIP_REGISTRY,
        reads=("clip-created", "clip-skipped"),
        writes=("clip-lifecycle", "clip-objects-released"),
    ),
    # A tick that runs out of time sends a follow-up tick.
    Access(JANITOR, reads=("daily-tick", "clip-objects-released"), writes=("daily-tick",)),
    Access("scheduler", writes=("daily-tick",)),
)
