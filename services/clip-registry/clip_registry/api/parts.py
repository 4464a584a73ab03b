"""What the routes of the internal API work with."""

from dataclasses import dataclass

from clip_registry.clips.store import ClipStore
from clip_registry.metrics import RegistryMetrics


@dataclass(frozen=True, kw_only=True)
class RegistryParts:
    """The adapters of one registry, built once in :mod:`clip_registry.app`."""

    store: ClipStore
    metrics: RegistryMetrics
