"""Every metric in the code: named as Prometheus wants it, described, and with labels that stay few."""

import re

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.reference.metrics import SERVICES, Described, metrics_of, registry_of

# Each has few values, all of them known from the code or from the deployment.
BOUNDED = {
    "action",  # of owners
    "answer",
    "call",  # of the registry's API
    "day",  # 0 to 6
    "end",  # of a tick
    "how",  # a VOD was opened
    "kind",  # of a transition
    "method",  # of HTTP; any other is "other"
    "mode",  # of a cut
    "outcome",
    "partition",  # those of a topic that are assigned to the process
    "reason",
    "route",  # templates of the gateway's routes; any other is "unmatched"
    "service",
    "state",  # of a connection
    "status",  # of HTTP, or of a clip
    "system",
    "topic",  # those that the service reads
    "version",  # the one that runs
    "view",  # what a presigned URL shows
}
BASE_UNITS = re.compile(r"_(seconds|bytes)(_total)?$")
OTHER_UNITS = re.compile(r"_(ms|milliseconds|minutes|hours|days|kb|mb|mib|percent)(_|$)")

ALL = [(service, metric) for service in SERVICES for metric in metrics_of(service)]
each_metric = pytest.mark.parametrize(
    ("service", "metric"), ALL, ids=[f"{service}-{metric.name}" for service, metric in ALL]
)


@each_metric
def test_a_name_is_prometheus_own(service: str, metric: Described) -> None:
    assert re.fullmatch(r"clips_[a-z]+(_[a-z]+)*", metric.name), service
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not OTHER_UNITS.search(metric.name)
    if metric.kind == "histogram":
        assert BASE_UNITS.search(metric.name)


@each_metric
def test_a_help_text_stands_alone(service: str, metric: Described) -> None:
    assert metric.meaning.endswith("."), service
    assert len(metric.meaning) >= 25
    assert not re.search(r"\b(their|them|it|they)\b", metric.meaning.split()[0], re.IGNORECASE)


@each_metric
def test_labels_are_few(service: str, metric: Described) -> None:
    assert set(metric.labels) <= BOUNDED, service


@pytest.mark.parametrize("service", SERVICES)
def test_the_same_name_means_the_same_everywhere(service: str) -> None:
    mine = {each.name: each for each in metrics_of(service)}
    for other in SERVICES:
        for metric in metrics_of(other):
            assert mine.get(metric.name, metric) == metric


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_shows_at_once_is_what_it_declares(service: str) -> None:
    shown = text_string_to_metric_families(generate_latest(registry_of(service)).decode())
    declared = {each.name.removesuffix("_total") for each in metrics_of(service)}
    # The client shows as a metric of its own when each counter and histogram was made.
    made = {f"{each}_created" for each in declared}
    assert {each.name for each in shown if each.name.startswith("clips_")} - made == declared
