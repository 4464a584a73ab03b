"""Kafka clients, made and secured in one way from the settings."""

import ssl
from typing import Any

from aiokafka import AIOKafkaProducer, client
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    SaslAuthenticationFailed,
    UnsupportedForMessageFormatError,
)
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from clip_shared.bus.envelope import to_record
from clip_shared.bus.settings import KafkaSettings
from clip_shared.contracts.events import Event
from clip_shared.errors import PermanentError, RefusedRecord, TransientError
from clip_shared.refused_connections import Cause, OnRefused, certificate_cause

PRODUCER_REQUEST_TIMEOUT_MS = 15_000
# Above what a topic takes (``max.message.bytes``): the broker decides, by the compressed size.
MAX_REQUEST_BYTES = 4 * 1024 * 1024
# Answers of the broker about the record itself. All others are about its own state, or about our rights.
_REFUSALS = (
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnsupportedForMessageFormatError,
)


def producer(settings: KafkaSettings, *, client_id: str) -> AIOKafkaProducer:
    """Return a producer that reports success only when every in-sync replica has the record.

    It is not idempotent in Kafka's sense: aiokafka's idempotent producer sends nothing more to a partition
    after one refused record (aiokafka #1017). Order holds all the same, because a partition has one batch in
    flight; a repetition is harmless, because every consumer of ours is idempotent. It compresses with gzip,
    the codec that every Kafka client reads without further libraries.
    """
    return AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers.split(","),
        client_id=client_id,
        acks="all",
        enable_idempotence=False,
        compression_type="gzip",
        max_request_size=MAX_REQUEST_BYTES,
        request_timeout_ms=PRODUCER_REQUEST_TIMEOUT_MS,
        **client_security(settings),
    )


def watch_connections(client_id: str, on_refused: OnRefused) -> None:
    """Report refused connections of the clients with an id, from now on. Safe to repeat.

    aiokafka logs why it could not connect, and raises that it could not.
    """
    _on_refused[client_id] = on_refused
    client.create_conn = _create_connection


_on_refused: dict[str, OnRefused] = {}
_BAD_CREDENTIALS = (AuthenticationFailedError, SaslAuthenticationFailed)


async def _create_connection(*place: Any, client_id: str, **options: Any) -> AIOKafkaConnection:
    try:
        return await create_conn(*place, client_id=client_id, **options)
    except Exception as error:
        is_refused = isinstance(error, _BAD_CREDENTIALS)
        cause = Cause.CREDENTIALS if is_refused else certificate_cause(error)
        if cause is not None and client_id in _on_refused:
            _on_refused[client_id](cause)
        raise


def publishing_error(topic: str, error: Exception) -> PermanentError | TransientError:
    """Return RefusedRecord where Kafka refused the record itself, else TransientError."""
    if isinstance(error, _REFUSALS):
        return RefusedRecord(f"the bus refused a record for {topic}: {error!r}")
    return TransientError(f"the bus did not take a record for {topic}: {error!r}")


async def publish_once(settings: KafkaSettings, event: Event[Any]) -> None:
    """Publish one event from a command, which has no :class:`clip_shared.bus.bus.Bus`.

    Raises:
        TransientError: Kafka cannot be reached, or did not confirm it.
        RefusedRecord: Kafka will never take it.
    """
    record = to_record(event)
    sender = producer(settings, client_id=event.source)
    try:
        await sender.start()
        await sender.send_and_wait(record.topic, value=record.value, key=record.key, headers=record.headers)
    except KafkaError as error:
        raise publishing_error(f"{record.topic} at {settings.kafka_bootstrap_servers}", error) from error
    finally:
        await sender.stop()


def client_security(settings: KafkaSettings) -> dict[str, Any]:
    """Return the arguments that secure an aiokafka client."""
    if settings.kafka_security_protocol == "PLAINTEXT":
        return {}
    arguments: dict[str, Any] = {
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": _ssl_context(settings),
    }
    if settings.kafka_sasl_password is not None and settings.kafka_security_protocol.startswith("SASL"):
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
        }
    return arguments


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    if "SSL" not in settings.kafka_security_protocol.replace("SASL", ""):
        return None
    return ssl.create_default_context(cafile=settings.kafka_ssl_ca_file)


_SASL = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}


def consumer_security(settings: KafkaSettings) -> BaseSecurity | None:
    """Return what secures FastStream's broker; None: the connection is not secured."""
    if settings.kafka_security_protocol == "PLAINTEXT":
        return None
    context = _ssl_context(settings)
    username, password = settings.kafka_sasl_username, settings.kafka_sasl_password
    if username is None or password is None or not settings.kafka_security_protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=context, use_ssl=context is not None)
    return _SASL[settings.kafka_sasl_mechanism](
        username=username,
        password=password.get_secret_value(),
        ssl_context=context,
        use_ssl=context is not None,
    )
