"""Routes that read a single clip: by its id, or by its share slug."""

from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter

from clip_registry.api.parts import RegistryParts
from clip_registry.api.responses import INVALID_OR_NOT_FOUND, SLUG, found_clip, refusals
from clip_shared.contracts.registry_api import ClipRecord
from clip_shared.http.problems import Problem


def add_clip_routes(router: APIRouter, parts: RegistryParts) -> None:
    """Add the routes that read a single clip."""
    store = parts.store

    @router.get("/v1/clips/{clip_id}", responses=INVALID_OR_NOT_FOUND)
    async def get_clip(clip_id: UUID) -> ClipRecord:
        """Return a clip, also one that is purged."""
        return found_clip(await store.get(clip_id))

    @router.get("/v1/shares/{slug}", responses=refusals(HTTPStatus.NOT_FOUND, HTTPStatus.GONE))
    async def shared(slug: str) -> ClipRecord:
        """Return the published clip under a share slug."""
        is_slug = SLUG.fullmatch(slug) is not None
        clip = await store.get_shared(slug) if is_slug else None
        if clip is None and is_slug and await store.was_shared(slug):
            raise Problem(HTTPStatus.GONE, "The clip is not public any more.")
        return found_clip(clip)
