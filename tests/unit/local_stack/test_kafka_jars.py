"""The jars that are locked for the broker."""

import re
from pathlib import Path

from tests.support.deployment import services

import local_stack
from local_stack.servers.kafka_jars import KAFKA_VERSION

LOCKED = (Path(local_stack.__file__).parent / "servers" / "apache_kafka.sha256").read_text()


def test_the_broker_is_the_one_of_the_containers() -> None:
    assert services()["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_its_jars_are_those_of_its_version() -> None:
    kafka = re.findall(r"^[0-9a-f]{64}  org\.apache\.kafka:[a-z0-9_.-]+:(.+)$", LOCKED, re.MULTILINE)
    assert len(kafka) > 10
    assert set(kafka) == {KAFKA_VERSION}
