"""The one place where the parts of the gateway are put together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from clip_gateway import api
from clip_gateway.auth import KeySource, SignIn, TokenVerifier
from clip_gateway.jwks import Jwks
from clip_gateway.metrics import Metrics
from clip_gateway.presign import Presigner
from clip_gateway.registry_client import HttpRegistry, open_http
from clip_gateway.settings import Settings
from clip_shared.service import create_app, metrics_registry
from clip_shared.storage import free_storage_client

NAME = "clip-gateway"


def build(settings: Settings) -> FastAPI:
    """The service, not yet connected to anything."""
    prometheus = metrics_registry()
    metrics = Metrics(prometheus)
    registry_http = open_http(str(settings.registry_url), settings.registry_token.get_secret_value())
    sign_in_http = httpx.AsyncClient()
    registry = HttpRegistry(registry_http)
    jwks = Jwks(sign_in_http, str(settings.jwt_jwks_url)) if settings.jwt_algorithm == "RS256" else None

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with registry_http, sign_in_http, _kept_fresh(jwks):
            yield

    sign_in = _sign_in(settings, jwks)
    public = api.create(registry, _presigner(settings), sign_in, metrics)
    checks = {"registry": registry.check, **({"sign-in": jwks.check} if jwks else {})}
    return create_app(NAME, registry=prometheus, checks=checks, lifespan=lifespan, api=public)


@asynccontextmanager
async def _kept_fresh(jwks: Jwks | None) -> AsyncIterator[None]:
    if jwks is None:
        yield
        return
    fetching = asyncio.create_task(jwks.keep_fresh())
    try:
        yield
    finally:
        fetching.cancel()
        await asyncio.wait([fetching])


def _presigner(settings: Settings) -> Presigner:
    # The host is part of a signature: it must be the one that browsers reach.
    public = settings.free_storage_public_endpoint
    client = free_storage_client(settings, endpoint=str(public) if public else None)
    return Presigner(client, settings.free_storage_bucket, longest_seconds=settings.presigned_url_seconds)


def _sign_in(settings: Settings, jwks: Jwks | None) -> SignIn:
    verifier = TokenVerifier(
        algorithm=settings.jwt_algorithm,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        key_for=jwks.key_for if jwks else _secret(settings),
    )
    return SignIn(verifier, settings.session_cookie_name)


def _secret(settings: Settings) -> KeySource:
    secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else ""

    async def the_secret(_key_id: str | None) -> str:
        return secret

    return the_secret
