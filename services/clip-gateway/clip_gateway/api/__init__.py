"""The JSON API for streamers and their programs. Its errors are problems (RFC 9457)."""

from http import HTTPStatus

from fastapi import FastAPI

from clip_gateway.api import account, actions, clips, docs_page, refusals
from clip_gateway.parts import GatewayParts
from clip_shared.contracts.service_names import CLIP_GATEWAY
from clip_shared.http.api import create_api
from clip_shared.http.openapi import errors


def create(parts: GatewayParts) -> FastAPI:
    """Create the application of every path under ``/v1``. All its routes need a sign-in."""
    app = create_api(CLIP_GATEWAY, errors(HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE))
    app.include_router(clips.create_router(parts))
    app.include_router(actions.create_router(parts))
    app.include_router(account.create_usage_router(parts))
    app.include_router(account.create_vods_router(parts))
    app.include_router(account.create_feed_router(parts))
    if parts.is_development:
        app.include_router(docs_page.create_router(app, parts))
    refusals.install(app, parts.metrics)
    return app
