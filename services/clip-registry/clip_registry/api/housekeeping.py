"""Routes for the janitor: purges, expiry notices, and the question which objects are orphans."""

from typing import Annotated

from fastapi import APIRouter, Query

from clip_registry.api.parts import RegistryParts
from clip_registry.api.responses import INVALID
from clip_shared.contracts.registry_api import (
    ClipTime,
    DueClips,
    ExpirationRequest,
    ExpirationResult,
    ExpiryNoticeRequest,
    ExpiryNoticeResult,
    ObjectKeys,
    OrphanKeys,
)


def add_housekeeping_routes(router: APIRouter, parts: RegistryParts) -> None:
    """Add the routes for the janitor."""
    store, metrics = parts.store, parts.metrics

    @router.get("/v1/expirations", responses=INVALID)
    async def due(
        *,
        cutoff: Annotated[ClipTime | None, Query(description="Default and maximum: now.")] = None,
        detailed: Annotated[
            bool, Query(description="Count also by day and by account; slow when many clips are due.")
        ] = False,
    ) -> DueClips:
        """Count the clips that a purge would purge. Changes nothing."""
        return await store.due(cutoff, detailed=detailed)

    @router.post("/v1/expirations", responses=INVALID)
    async def expire(request: ExpirationRequest) -> ExpirationResult:
        """Purge clips that are due. Other transactions hold the rest if `expired` is 0 and `more` is true."""
        result = await store.purge(request.limit, request.cutoff)
        metrics.purged(result)
        return result

    @router.post("/v1/expiry-notices", responses=INVALID)
    async def notify(request: ExpiryNoticeRequest) -> ExpiryNoticeResult:
        """Tell accounts which of their clips expire soon: once for an account and a day."""
        result = await store.notices.send(request.limit, request.since)
        metrics.notified(result)
        return result

    @router.post("/v1/objects/unknown", responses=INVALID)
    async def unknown_objects(objects: ObjectKeys) -> OrphanKeys:
        """Return the objects that are orphans and that no presigned URL can show, in the order asked."""
        orphans = await store.orphans(objects.bucket, objects.keys)
        metrics.objects_asked(len(objects.keys), orphans=len(orphans))
        return OrphanKeys(keys=tuple(key for key in objects.keys if key in orphans))
