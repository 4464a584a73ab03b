"""Every client is secured as the settings say, and no client sends credentials that were not asked for."""

import ssl
from typing import Any

import pytest
from faststream.kafka.security import parse_security

from clip_shared.bus.clients import client_security, consumer_security
from clip_shared.bus.settings import KafkaSettings


def settings(protocol: str, **more: Any) -> KafkaSettings:
    return KafkaSettings.model_validate(
        {
            "kafka_bootstrap_servers": "localhost:9092",
            "kafka_security_protocol": protocol,
            "kafka_sasl_username": "clips",
            "kafka_sasl_password": "a-password",
            **more,
        }
    )


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize(("protocol", "encrypted"), [("SASL_SSL", True), ("SASL_PLAINTEXT", False)])
def test_sasl(protocol: str, encrypted: bool, mechanism: str) -> None:
    given = settings(protocol, kafka_sasl_mechanism=mechanism)
    for arguments in (client_security(given), parse_security(consumer_security(given))):
        assert arguments["security_protocol"] == protocol
        assert arguments["sasl_mechanism"] == mechanism
        assert (arguments["sasl_plain_username"], arguments["sasl_plain_password"]) == ("clips", "a-password")
        assert isinstance(arguments["ssl_context"], ssl.SSLContext) is encrypted


def test_encryption_alone_sends_no_credentials() -> None:
    for arguments in (client_security(settings("SSL")), parse_security(consumer_security(settings("SSL")))):
        assert arguments["security_protocol"] == "SSL"
        assert isinstance(arguments["ssl_context"], ssl.SSLContext)
        assert "sasl_mechanism" not in arguments


def test_plaintext_needs_nothing() -> None:
    assert client_security(settings("PLAINTEXT")) == {}
    assert consumer_security(settings("PLAINTEXT")) is None
