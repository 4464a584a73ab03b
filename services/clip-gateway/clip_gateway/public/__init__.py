"""Published clips for visitors, without sign-in: pages, embedded players, media, oEmbed and feeds.

These routes read neither cookies nor tokens: a signed-in owner gets the same answer as every visitor.
"""

from http import HTTPStatus

from fastapi import APIRouter, Depends, FastAPI
from fastapi.middleware.gzip import GZipMiddleware

from clip_gateway import error_pages
from clip_gateway.error_pages import VisitorErrorPages
from clip_gateway.html.rendering import Renderer
from clip_gateway.parts import GatewayParts
from clip_gateway.public import feeds, media, oembed, shares
from clip_gateway.public.dependencies import PublicDependencies
from clip_shared import tracing

# Paths that begin with one of these go to this application.
PATHS = ("/s/", "/e/", "/m/", "/f/", "/oembed")


def create(parts: GatewayParts) -> FastAPI:
    """Create the application of the public pages."""
    app = FastAPI(
        title="clip-gateway public pages",
        openapi_url=None,
        redirect_slashes=False,
        telemetry=tracing.of_api(),
    )
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    renderer = Renderer(parts.addresses)
    app.include_router(_router(parts, renderer))
    error_pages.install(app, VisitorErrorPages(parts, renderer), invalid=HTTPStatus.BAD_REQUEST)
    return app


def _router(parts: GatewayParts, renderer: Renderer) -> APIRouter:
    dependencies = PublicDependencies(parts)
    router = APIRouter(dependencies=[Depends(dependencies.count_visit)])
    router.include_router(shares.create_router(parts, renderer, dependencies))
    router.include_router(media.create_router(parts, dependencies))
    router.include_router(oembed.create_router(parts, dependencies))
    router.include_router(feeds.create_router(parts, renderer))
    return router
