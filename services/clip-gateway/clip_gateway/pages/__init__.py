"""The pages for streamers: HTML from templates. Everything works without JavaScript."""

from http import HTTPStatus

from fastapi import FastAPI
from fastapi.middleware.gzip import GZipMiddleware

from clip_gateway import error_pages
from clip_gateway.error_pages import StreamerErrorPages
from clip_gateway.html.rendering import Renderer
from clip_gateway.pages import forms, gallery, player, sign_in
from clip_gateway.parts import GatewayParts
from clip_shared import tracing


def create(parts: GatewayParts) -> FastAPI:
    """Create the application of the pages that need a sign-in, and of the static files."""
    app = FastAPI(
        title="clip-gateway pages",
        openapi_url=None,
        redirect_slashes=False,
        telemetry=tracing.of_api(exclude="/static/"),
    )
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    renderer = Renderer(parts.addresses)
    app.mount("/static", renderer.static_files())
    app.include_router(gallery.create_router(parts, renderer))
    app.include_router(player.create_router(parts, renderer))
    app.include_router(forms.create_router(parts, renderer))
    app.include_router(sign_in.create_router(parts, renderer))
    error_pages.install(app, StreamerErrorPages(parts, renderer), invalid=HTTPStatus.UNPROCESSABLE_ENTITY)
    return app
