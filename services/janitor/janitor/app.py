"""The one place where the parts of the janitor are put together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx
import structlog
from fastapi import FastAPI

from clip_shared.bus.bus import Bus
from clip_shared.contracts.events import ObjectReleased
from clip_shared.contracts.registry_calls import RegistryCalls
from clip_shared.contracts.service_names import JANITOR
from clip_shared.errors import TransientError
from clip_shared.http.operations import CHECK_TIMEOUT_SECONDS, create_app, metrics_registry
from clip_shared.refused_connections import RefusedConnections, System
from clip_shared.storage import FreeStorage
from janitor import handlers
from janitor.domain import PurgeLimit
from janitor.metrics import Metrics
from janitor.registry_client import Call, HttpRegistry, open_http
from janitor.settings import RegistrySettings, Settings
from janitor.storage import ClipBucket

log = structlog.get_logger()

# The bus's share of the grace period when the service stops.
BUS_SHARE = 0.8


def build(settings: Settings) -> FastAPI:
    """The service, not yet connected to anything."""
    prometheus = metrics_registry()
    refused = RefusedConnections(prometheus, [System.KAFKA, System.REGISTRY, System.STORAGE])
    bus = Bus(
        settings,
        service=JANITOR,
        registry=prometheus,
        on_refused=refused.of(System.KAFKA),
        grace_seconds=settings.shutdown_grace_seconds * BUS_SHARE,
    )
    http = http_of(settings)
    registry = HttpRegistry(http, RegistryCalls(prometheus, Call, refused.of(System.REGISTRY)))
    free_storage = FreeStorage(settings, refused.of(System.STORAGE))
    free_storage.show_configured(prometheus)
    storage = ClipBucket(free_storage.client(), free_storage.bucket)
    pace = handlers.Pace(
        settings.expiration_batch_size,
        settings.tick_budget_seconds,
        PurgeLimit(settings.purge_limit, settings.purge_limit_percent),
    )
    metrics = Metrics(prometheus)
    handlers.subscribe(bus, registry, storage, metrics, pace)
    metrics.show_oldest_release(partial(bus.backlog.oldest_event_seconds, ObjectReleased.TOPIC))

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with http:
            await _look_at(storage)
            yield

    checks = {"registry": registry.check, "storage": storage.check}
    return create_app(JANITOR, registry=prometheus, bus=bus, checks=checks, lifespan=lifespan)


async def _look_at(storage: ClipBucket) -> None:
    """Say at once what is wrong with the bucket. If it is out, readiness says so and work waits."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await storage.check()
    except (TransientError, TimeoutError) as error:
        log.warning("the storage does not answer", error=repr(error))


def http_of(settings: RegistrySettings) -> httpx.AsyncClient:
    """The client for the registry."""
    return open_http(str(settings.registry_url), settings.registry_token.get_secret_value())
