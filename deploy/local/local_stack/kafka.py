"""Which Kafka broker a stack runs on: the environment variable ``KAFKA`` says it, for everything here.

``embedded`` (the default) comes as a wheel; ``apache`` is Apache Kafka, where Java and Maven are.
"""

import os
from collections.abc import Mapping
from enum import StrEnum

from local_stack.apache_kafka import ApacheKafka
from local_stack.embedded_kafka import EmbeddedKafka
from local_stack.kafka_jars import BrokerUnavailable, bring_jars, find_java
from local_stack.site import Site

VARIABLE = "KAFKA"

Kafka = EmbeddedKafka | ApacheKafka


class Broker(StrEnum):
    """The values of ``KAFKA``."""

    EMBEDDED = "embedded"
    APACHE = "apache"


def chosen_broker() -> Broker:
    """The broker that the environment asks for.

    Raises:
        BrokerUnavailable: there is no such broker.
    """
    wish = os.environ.get(VARIABLE) or Broker.EMBEDDED
    try:
        return Broker(wish)
    except ValueError as error:
        raise BrokerUnavailable(f"{VARIABLE}={wish}: choose one of {', '.join(Broker)}") from error


def bring_broker() -> None:
    """See to it that the chosen broker can be started; for Apache Kafka, this may be a download.

    Raises:
        BrokerUnavailable: it cannot; the message says what to do.
    """
    if chosen_broker() is Broker.APACHE:
        find_java()
        bring_jars()


def kafka(site: Site) -> Kafka:
    """The chosen broker, on a site; raises as :func:`bring_broker` does."""
    return ApacheKafka(site) if chosen_broker() is Broker.APACHE else EmbeddedKafka(site)


def is_embedded(environment: Mapping[str, str]) -> bool:
    """Whether services with this environment are on the embedded broker, and have to make up for it."""
    return environment["KAFKA_ENABLE_IDEMPOTENCE"] == "false"
