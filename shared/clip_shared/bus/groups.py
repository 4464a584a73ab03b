"""The consumer groups of a service: joined in the background, and left within a grace period."""

import asyncio
import time
from functools import partial
from typing import Any, cast

import structlog
from faststream.kafka import KafkaBroker

from clip_shared.bus import fetching
from clip_shared.bus.closing import CLOSE_SECONDS, within
from clip_shared.bus.rebalance import JOIN_SECONDS, wait_until_idle
from clip_shared.errors import TransientError

log = structlog.get_logger()

REJOIN_SECONDS = 15.0
CANCEL_SECONDS = 5.0


class ConsumerGroups:
    """The consumers of FastStream's broker, each in the group of its topic."""

    def __init__(self, broker: KafkaBroker) -> None:
        self._broker = broker
        self._joining: asyncio.Task[None] | None = None
        self._joining_since = 0.0
        self._error: Exception | None = None

    def start(self) -> None:
        """Begin to join, and do not wait: after a crash, that takes as long as the dead member's session."""
        self._joining_since = time.monotonic()
        self._joining = asyncio.create_task(self._join())

    async def _join(self) -> None:
        """Join; after a failure try again: until then the service is not ready."""
        await self._broker.connect()
        config = self._broker.config.broker_config
        config.builder = partial(fetching.Consumer, **cast("partial[Any]", config.builder).keywords)
        while True:
            try:
                await self._broker.start()
            except Exception as error:
                self._error = error
                log.exception("cannot join the consumer groups")
                await asyncio.gather(*(each.stop() for each in self._broker.subscribers))
                await asyncio.sleep(REJOIN_SECONDS)
            else:
                self._error = None
                return

    async def stop_joining(self) -> None:
        """End an attempt to join."""
        if self._joining is not None:
            self._joining.cancel()
            await asyncio.wait([self._joining], timeout=CLOSE_SECONDS)

    async def leave(self, *, grace_seconds: float) -> None:
        """Wait up to ``grace_seconds`` for the handlers at work, cancel them, and leave the groups."""
        await within(grace_seconds + CLOSE_SECONDS, self._broker.stop(), "leave the consumer groups")
        for subscriber in self._broker.subscribers:
            # What outlived the grace period was cancelled: give its clean-up (ffmpeg, scratch) a moment.
            await wait_until_idle(subscriber, CANCEL_SECONDS)

    @property
    def has_stopped_consumer(self) -> bool:
        """Whether a consumer that had joined runs no longer."""
        has_joined = self._joining is not None and self._joining.done()
        return has_joined and any(not each.running for each in self._broker.subscribers)

    def failing_seconds(self) -> float:
        """Return how long a consumer has failed at every fetch, where a restart may help; 0: none fails."""
        # Where Kafka does not allow us to read, a restart does not help: readiness says so.
        failing = [each for each in self.consumers() if not each.is_refused]
        return max((each.failures.seconds() for each in failing), default=0.0)

    def shortfalls(self) -> list[str]:
        """Return why single consumers cannot fetch.

        Raises:
            TransientError: the groups cannot be joined, or every consumer fails.
        """
        if self._error is not None:
            raise TransientError(f"cannot join the consumer groups: {self._error!r}")
        if (seconds := self._joining_seconds()) > JOIN_SECONDS:
            raise TransientError(f"has waited for its consumer groups for {seconds:.0f} s")
        consumers = self.consumers()
        found = [f"cannot fetch: {each.failures.error!r}" for each in consumers if each.failures.seconds()]
        if found and len(found) == len(consumers):
            raise TransientError("; ".join(found))
        return found

    def _joining_seconds(self) -> float:
        is_joining = self._joining is not None and not self._joining.done()
        return time.monotonic() - self._joining_since if is_joining else 0.0

    def consumers(self) -> list[fetching.Consumer]:
        """Return the consumers that exist now; before the join there are none."""
        found = (cast("Any", each).consumer for each in self._broker.subscribers)
        return [each for each in found if isinstance(each, fetching.Consumer)]
