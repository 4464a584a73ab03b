"""The producer of a service: it publishes records, and says for how long it could not."""

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.errors import BrokerResponseError, KafkaError
from opentelemetry.trace import use_span

from clip_shared import tracing
from clip_shared.bus.clients import producer, publishing_error
from clip_shared.bus.closing import CLOSE_SECONDS, within
from clip_shared.bus.delivery.deadline import extend_deadline
from clip_shared.bus.envelope import OutgoingRecord
from clip_shared.bus.settings import KafkaSettings
from clip_shared.errors import TransientError
from clip_shared.failure_streak import FailureStreak

# Above the producer's own time limit for a request.
PUBLISH_SECONDS = 20.0
ANSWER_SECONDS = 2.0


class Publisher:
    """A producer that is connected between ``start`` and ``stop``."""

    def __init__(self, settings: KafkaSettings, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._failures = FailureStreak()

    async def start(self) -> None:
        """Connect.

        Raises:
            TransientError: Kafka cannot be reached.
        """
        self._producer = producer(self._settings, client_id=self._client_id)
        try:
            await self._producer.start()
        except KafkaError as error:
            await self.stop()
            servers = self._settings.kafka_bootstrap_servers
            raise TransientError(f"cannot connect to Kafka at {servers}: {error}") from error

    async def stop(self) -> None:
        """Send what is pending and close the connections, within ``CLOSE_SECONDS``."""
        if self._producer is not None:
            await within(CLOSE_SECONDS, self._producer.stop(), "close the producer")
            self._producer = None

    async def publish(self, record: OutgoingRecord) -> None:
        """Publish a record and wait until Kafka has it on every in-sync replica.

        It has time of its own: a handler's deadline is extended by it.

        Raises:
            TransientError: Kafka did not confirm it; it may or may not have arrived.
            RefusedRecord: Kafka will never take it.
        """
        if self._producer is None:
            raise TransientError("the bus is not connected")
        extend_deadline(PUBLISH_SECONDS + 1)
        span = tracing.sending(record.topic, record.headers)
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                with use_span(span, end_on_exit=True):
                    await self._producer.send_and_wait(
                        record.topic, value=record.value, key=record.key, headers=record.headers
                    )
        except (KafkaError, TimeoutError) as error:
            # An answer of the broker proves that the producer works.
            if not isinstance(error, BrokerResponseError):
                self._failures.failed(error)
            raise publishing_error(record.topic, error) from error
        self._failures.succeeded()

    def failing_seconds(self) -> float:
        """Return how long every record has failed; 0 if the last one was published, or refused by Kafka."""
        return self._failures.seconds()

    async def is_answered(self) -> bool:
        """Return whether Kafka answers within ``ANSWER_SECONDS``."""
        if self._producer is None:
            return False
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return bool(await self._producer.client.force_metadata_update())
        except TimeoutError:
            return False
