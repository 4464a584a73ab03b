"""What everybody may see: published clips as pages, players, media, oEmbed and feeds, without sign-in.

Nothing here reads a cookie or a token: everybody gets the same answer.
"""

from fastapi import APIRouter, Depends, FastAPI
from fastapi.middleware.gzip import GZipMiddleware

from clip_gateway.html.rendering import Renderer
from clip_gateway.parts import GatewayParts
from clip_gateway.public import errors, feeds, media, oembed, shares
from clip_gateway.public.dependencies import PublicDependencies
from clip_shared import tracing

# Whatever begins with one of these is answered by this application.
PATHS = ("/s/", "/e/", "/m/", "/f/", "/oembed")


def create(parts: GatewayParts) -> FastAPI:
    """The application of everything that needs no sign-in. Its errors are pages of its own."""
    app = FastAPI(
        title="clip-gateway public pages",
        openapi_url=None,
        redirect_slashes=False,
        telemetry=tracing.of_api(),
    )
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    renderer = Renderer(parts.addresses)
    app.include_router(_router(parts, renderer))
    errors.install(app, parts, renderer)
    return app


def _router(parts: GatewayParts, renderer: Renderer) -> APIRouter:
    visits = PublicDependencies(parts)
    router = APIRouter(dependencies=[Depends(visits.count)])
    router.include_router(shares.create_router(parts, renderer, visits))
    router.include_router(media.create_router(parts, visits))
    router.include_router(oembed.create_router(parts, visits))
    router.include_router(feeds.create_router(parts, renderer))
    return router
