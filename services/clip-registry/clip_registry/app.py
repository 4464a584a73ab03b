"""The registry, composed: settings in, the parts built and connected, an application out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from fastapi import FastAPI

from clip_registry.api.parts import RegistryParts
from clip_registry.api.routes import ApiClient, create_router
from clip_registry.clips.store import ClipStore
from clip_registry.database.engine import open_engine
from clip_registry.handlers import RegistryHandlers, subscribe
from clip_registry.metrics import RegistryMetrics
from clip_registry.outbox.outbox import Outbox
from clip_registry.settings import RegistrySettings
from clip_registry.timers.metrics_snapshot import keep_counting
from clip_registry.timers.trimming import keep_trimming
from clip_shared.bus.bus import Bus
from clip_shared.bus.clients import watch_connections
from clip_shared.contracts.service_names import CLIP_REGISTRY
from clip_shared.http.api import create_api
from clip_shared.http.openapi import document
from clip_shared.http.operations import create_app, metrics_registry
from clip_shared.refused_connections import RefusedConnections, System

INFO = {
    "title": "The registry's internal API",
    "version": "1",
    "description": (
        "For the gateway and the janitor, each with a token of its own. Errors are problems (RFC 9457)."
        " Every route that answers `GET` answers `HEAD`."
    ),
}
# Shares of the grace period at a stop: first for the consumers, then for the relay of the events they wrote.
BUS_SHARE = 0.5
OUTBOX_SHARE = 0.3


def build(settings: RegistrySettings) -> FastAPI:
    """Build the service. It connects when its lifespan begins."""
    registry = metrics_registry()
    metrics = RegistryMetrics(registry)
    grace = settings.shutdown_grace_seconds
    refusals = RefusedConnections(registry, [System.KAFKA, System.DATABASE])
    bus = Bus(
        settings,
        service=CLIP_REGISTRY,
        registry=registry,
        on_refused=refusals.of(System.KAFKA),
        grace_seconds=grace * BUS_SHARE,
    )
    watch_connections(Outbox.CLIENT_ID, refusals.of(System.KAFKA))
    engine, relay_engine = (
        open_engine(
            settings.database_url.get_secret_value(),
            pool_size=size,
            statement_timeout_seconds=settings.database_statement_timeout_seconds,
            pooler=settings.database_pooler,
            on_refused=refusals.of(System.DATABASE),
        )
        for size in (settings.database_pool_size, Outbox.CONNECTIONS)
    )
    outbox = Outbox(
        relay_engine,
        settings,
        grace_seconds=grace * OUTBOX_SHARE,
        listens=settings.database_pooler == "none",
    )
    metrics.show_connections(engine.pool)
    store = ClipStore(
        engine,
        outbox,
        retention=timedelta(days=settings.clip_retention_days),
        undo=timedelta(seconds=settings.delete_undo_seconds),
        cap=settings.max_ephemeral_clips_per_account,
        notice_days=settings.expiring_notice_days,
        release_delay=timedelta(seconds=settings.release_delay_seconds),
    )
    handlers = RegistryHandlers(store=store, metrics=metrics, bucket=settings.free_storage_bucket)
    subscribe(bus, handlers)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        timers = [
            asyncio.create_task(each)
            for each in (
                keep_counting(engine, metrics.show, every_seconds=settings.metrics_refresh_seconds),
                keep_trimming(engine, metrics.trimmed),
            )
        ]
        try:
            await outbox.start()
            yield
        finally:
            for timer in timers:
                timer.cancel()
                with suppress(asyncio.CancelledError):
                    await timer
            await outbox.stop()
            await engine.dispose()
            await relay_engine.dispose()

    async def check_alive() -> None:
        await bus.check_alive()
        await outbox.check_alive()

    tokens = {
        ApiClient.GATEWAY: settings.registry_gateway_token,
        ApiClient.JANITOR: settings.registry_janitor_token,
    }
    internal = create_api(CLIP_REGISTRY, responses={})
    internal.include_router(create_router(RegistryParts(store=store, metrics=metrics), tokens))
    return create_app(
        CLIP_REGISTRY,
        registry=registry,
        bus=bus,
        checks={"database": store.check, "outbox": outbox.check},
        check_alive=check_alive,
        lifespan=lifespan,
        api=internal,
    )


def api_document() -> dict[str, Any]:
    """Return the OpenAPI document of the internal API. It depends on no setting."""
    settings = RegistrySettings.model_validate(
        {
            "database_url": "postgresql://clips@database.example/clips",
            "kafka_bootstrap_servers": "kafka.example:9092",
            "registry_gateway_token": "a token of the gateway",
            "registry_janitor_token": "a token of the janitor",
        }
    )
    return {**document(build(settings).state.api), "info": INFO}
