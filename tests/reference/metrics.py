"""``docs/reference/metrics.md``: every metric that a service exports, from the services as they are built."""

import importlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from tests.reference.markdown import code, codes, document, table
from tests.reference.settings import SERVICES as SETTINGS

PREFIX = "clips_"
SERVICES: Mapping[str, str] = {
    "clip-cutter": "clip_cutter",
    "clip-registry": "clip_registry",
    "clip-gateway": "clip_gateway",
    "janitor": "janitor",
}
# Settings that build every service and connect to nothing.
ENVIRONMENT: Mapping[str, str] = {
    "KAFKA_BOOTSTRAP_SERVERS": "kafka.invalid:9092",
    "DATABASE_URL": "postgresql://clips@database.invalid/clips",
    "REGISTRY_URL": "http://registry.invalid",
    "REGISTRY_TOKEN": "a token for the reference",
    "REGISTRY_GATEWAY_TOKEN": "a token for the reference",
    "REGISTRY_JANITOR_TOKEN": "another token for the reference",
    "FREE_STORAGE_ENDPOINT": "http://storage.invalid",
    "FREE_STORAGE_BUCKET": "clips",
    "FREE_STORAGE_ACCESS_KEY": "key",
    "FREE_STORAGE_SECRET_KEY": "secret",
    "SOURCE_STORAGE_PROFILES": json.dumps({}),
    "PUBLIC_URL": "http://clips.invalid",
    "JWT_ALGORITHM": "RS256",
    "JWT_JWKS_URL": "http://issuer.invalid/keys",
    "JWT_ISSUER": "http://issuer.invalid",
    "JWT_AUDIENCE": "clips",
}
HEADS = ("metric", "type", "labels", "service", "meaning")
ABOUT = """\
Every service has its metrics at `/metrics` on its operations port (`OPERATIONS_PORT`), together with those of
the process (`process_…`, `python_…`). The series of a counter exist from the start, with the value 0, when
the values of its labels are known. The table has the names for queries; a histogram has the suffixes
`_bucket`, `_sum` and `_count`.

The orphan sweep is a command, not a service: `janitor sweep --metrics-file` writes its metrics
(`clips_sweep_…`) for node_exporter's textfile collector."""


@dataclass(frozen=True)
class Described:
    """A metric as a service declares it. ``name`` is its name in queries."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def page() -> str:
    """Return the page."""
    users: dict[Described, list[str]] = {}
    for service in SERVICES:
        for metric in metrics_of(service):
            users.setdefault(metric, []).append(service)
    rows = [
        (code(each.name), each.kind, codes(each.labels), _names(users[each]), each.meaning)
        for each in sorted(users, key=lambda each: each.name)
    ]
    return document("Metrics", ABOUT, table(HEADS, rows))


def _names(services: list[str]) -> str:
    return "all" if len(services) == len(SERVICES) else ", ".join(services)


def metrics_of(service: str) -> list[Described]:
    """Return every metric of a service, without those of the process."""
    described = [metric for collector in _collectors(registry_of(service)) for metric in describe(collector)]
    return [each for each in described if each.name.startswith(PREFIX)]


def registry_of(service: str) -> CollectorRegistry:
    """Return the metrics of a service that has not done any work."""
    package = SERVICES[service]
    with _environment():
        settings = SETTINGS[service]()
    app = importlib.import_module(f"{package}.app").build(settings)
    registry = app.state.metrics
    assert isinstance(registry, CollectorRegistry)
    return registry


@contextmanager
def _environment() -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _collectors(registry: CollectorRegistry) -> list[Any]:
    return list(registry._collector_to_names)


def describe(collector: Any) -> list[Described]:
    """Return the metrics of a collector. The collectors of the services list their labels themselves."""
    if isinstance(collector, MetricWrapperBase):
        (family,) = collector.describe()
        return [_described(family, tuple(collector._labelnames))]
    return [_described(family, tuple(getattr(family, "_labelnames", ()))) for family in collector.collect()]


def _described(family: Any, labels: tuple[str, ...]) -> Described:
    suffix = "_total" if family.type == "counter" else ""
    return Described(family.name + suffix, family.type, labels, family.documentation)
