"""The one place where the parts of the janitor are put together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import structlog
from fastapi import FastAPI

from clip_shared.bus.bus import Bus
from clip_shared.contracts.events import ObjectReleased
from clip_shared.contracts.registry_client import RegistryClient
from clip_shared.contracts.registry_metrics import RegistryCallMetrics
from clip_shared.contracts.service_names import JANITOR
from clip_shared.errors import TransientError
from clip_shared.http.operations import CHECK_TIMEOUT_SECONDS, create_app, metrics_registry
from clip_shared.refused_connections import RefusedConnections, System
from clip_shared.storage import FreeStorage
from janitor.domain import PurgeLimit
from janitor.handlers import JanitorHandlers, subscribe
from janitor.metrics import JanitorMetrics
from janitor.registry import CALLS, HttpJanitorRegistry
from janitor.settings import JanitorSettings, RegistryClientSettings
from janitor.storage import ClipBucket
from janitor.tick import TickLimits

log = structlog.get_logger()

# The bus's share of the grace period when the service stops.
BUS_SHARE = 0.8


def build(settings: JanitorSettings) -> FastAPI:
    """Build the service. It is not yet connected to anything."""
    prometheus = metrics_registry()
    metrics = JanitorMetrics(prometheus)
    refused = RefusedConnections(prometheus, [System.KAFKA, System.REGISTRY, System.STORAGE])
    bus = Bus(
        settings,
        service=JANITOR,
        registry=prometheus,
        on_refused=refused.of(System.KAFKA),
        grace_seconds=settings.shutdown_grace_seconds * BUS_SHARE,
    )
    registry_client = registry_client_of(
        settings, RegistryCallMetrics(prometheus, CALLS, refused.of(System.REGISTRY))
    )
    registry = HttpJanitorRegistry(registry_client)
    free_storage = FreeStorage(settings, refused.of(System.STORAGE))
    free_storage.show_configured(prometheus)
    bucket = ClipBucket(free_storage.client(), free_storage.bucket)
    limits = TickLimits(
        settings.expiration_batch_size,
        settings.tick_budget_seconds,
        PurgeLimit(settings.purge_limit, settings.purge_limit_percent),
    )
    subscribe(bus, JanitorHandlers(registry, bucket, metrics, limits, publish=bus.publish))
    metrics.show_failed_deletion(lambda: bucket.deletion_problem is not None)
    metrics.show_oldest_release(partial(bus.backlog.oldest_event_seconds, ObjectReleased.TOPIC))

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with registry_client:
            await _log_bucket_problem(bucket)
            yield

    checks = {"registry": registry.check, "storage": bucket.check}
    return create_app(JANITOR, registry=prometheus, bus=bus, checks=checks, lifespan=lifespan)


async def _log_bucket_problem(bucket: ClipBucket) -> None:
    """Log at the start what is wrong with the bucket. During an outage readiness fails, and work waits."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await bucket.check()
    except (TransientError, TimeoutError) as error:
        log.warning("the storage does not answer", error=repr(error))


def registry_client_of(
    settings: RegistryClientSettings, metrics: RegistryCallMetrics | None = None
) -> RegistryClient:
    """Return the connections to the registry: enter them before use."""
    return RegistryClient(str(settings.registry_url), settings.registry_token.get_secret_value(), metrics)
