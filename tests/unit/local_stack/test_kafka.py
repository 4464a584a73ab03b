"""The choice of the broker, and the jars that are locked for it."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.deployment import services

import local_stack
from local_stack.kafka import Broker, chosen_broker, is_embedded
from local_stack.kafka_jars import BrokerUnavailable

FOLDER = Path(local_stack.__file__).parent
POM = "{http://maven.apache.org/POM/4.0.0}"


@pytest.mark.parametrize(
    ("value", "broker"),
    [
        (None, Broker.EMBEDDED),
        ("", Broker.EMBEDDED),
        ("embedded", Broker.EMBEDDED),
        ("apache", Broker.APACHE),
    ],
)
def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch, value: str | None, broker: Broker) -> None:
    monkeypatch.delenv("KAFKA", raising=False)
    if value is not None:
        monkeypatch.setenv("KAFKA", value)
    assert chosen_broker() is broker


def test_a_broker_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA", "Apache")
    with pytest.raises(BrokerUnavailable, match="KAFKA=Apache: choose one of embedded, apache"):
        chosen_broker()


def test_only_on_the_embedded_broker_is_there_something_to_make_up_for() -> None:
    assert is_embedded({"KAFKA_ENABLE_IDEMPOTENCE": "false"})
    assert not is_embedded({"KAFKA_ENABLE_IDEMPOTENCE": "true"})


def test_apache_kafka_is_the_one_of_the_containers() -> None:
    pom = ElementTree.parse(FOLDER / "apache_kafka.pom.xml")  # noqa: S314 - a file of our own
    versions = {
        str(each.findtext(f"{POM}artifactId")): each.findtext(f"{POM}version")
        for each in pom.iter(f"{POM}dependency")
    }
    assert services()["kafka"]["image"] == f"apache/kafka:{versions['kafka_2.13']}"
    locked = (FOLDER / "apache_kafka.sha256").read_text()
    for name, version in versions.items():
        assert re.search(rf"^[0-9a-f]{{64}}  {name}-{version}\.jar$", locked, re.MULTILINE), name
