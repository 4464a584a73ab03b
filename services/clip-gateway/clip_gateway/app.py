"""Builds the gateway: every adapter from the settings, and the applications from the adapters."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import structlog
from fastapi import FastAPI

from clip_gateway import api, asgi
from clip_gateway.addresses import SIGN_IN_PAGE, PublicAddresses
from clip_gateway.api.openapi_document import describe
from clip_gateway.auth import KeySource, SessionCookie, SignIn, TokenIssuer, TokenVerifier
from clip_gateway.jwks import Jwks
from clip_gateway.metrics import GatewayMetrics
from clip_gateway.parts import GatewayParts
from clip_gateway.presign import Presigner
from clip_gateway.rate_limits import RateLimits
from clip_gateway.registry import CALLS, HttpGatewayRegistry
from clip_gateway.settings import GatewaySettings
from clip_shared.contracts.registry_client import RegistryClient
from clip_shared.contracts.registry_metrics import RegistryCallMetrics
from clip_shared.contracts.service_names import CLIP_GATEWAY
from clip_shared.http.operations import create_app, metrics_registry
from clip_shared.refused_connections import OnRefused, RefusedConnections, System
from clip_shared.storage import FreeStorage

log = structlog.get_logger()


def build(settings: GatewaySettings) -> FastAPI:
    """Build the service. It opens connections when its lifespan starts.

    The parts are in ``app.state.parts``, for tests.
    """
    prometheus = metrics_registry()
    metrics = GatewayMetrics(prometheus)
    sign_in_http = httpx.AsyncClient()
    refusals = RefusedConnections(prometheus, [System.REGISTRY, System.JWKS])
    registry_client = RegistryClient(
        str(settings.registry_url),
        settings.registry_token.get_secret_value(),
        RegistryCallMetrics(prometheus, CALLS, refusals.of(System.REGISTRY)),
    )
    registry = HttpGatewayRegistry(registry_client)
    jwks = _jwks(settings, sign_in_http, metrics, refusals.of(System.JWKS))
    free_storage = FreeStorage(settings)
    free_storage.show_configured(prometheus)
    presigner = _presigner(free_storage, settings, metrics)
    addresses = _public_addresses(settings, presigner)

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async with registry_client, sign_in_http, _kept_fresh(jwks):
            yield

    parts = GatewayParts(
        registry=registry,
        presigner=presigner,
        sign_in=_sign_in(settings, addresses, jwks),
        limits=RateLimits(
            presigns_per_minute=settings.presigns_per_minute, visits_per_minute=settings.visits_per_minute
        ),
        metrics=metrics,
        addresses=addresses,
        trusted_proxies=settings.trusted_proxies,
        is_development=settings.environment == "development",
        token_issuer=_token_issuer(settings) if settings.development_sign_in else None,
    )
    if settings.development_sign_in:
        log.warning("DEVELOPMENT_SIGN_IN is on: anyone can sign in to every account without a password")
    checks = {"registry": registry.check, **({"sign-in": jwks.check} if jwks else {})}
    app = create_app(
        CLIP_GATEWAY, registry=prometheus, checks=checks, lifespan=lifespan, api=asgi.create(parts)
    )
    app.state.parts = parts
    return app


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


def _presigner(free_storage: FreeStorage, settings: GatewaySettings, metrics: GatewayMetrics) -> Presigner:
    return Presigner(
        free_storage.public_client(),
        free_storage.bucket,
        longest_seconds=settings.presigned_url_seconds,
        on_signed=metrics.signed,
    )


def _public_addresses(settings: GatewaySettings, presigner: Presigner) -> PublicAddresses:
    return PublicAddresses(
        public_url=str(settings.public_url).rstrip("/"),
        media_origin=presigner.origin,
        login_url=SIGN_IN_PAGE if settings.development_sign_in else settings.login_url,
        logout_url=settings.logout_url,
        embed_origins=settings.embed_origins,
    )


def _jwks(
    settings: GatewaySettings, http: httpx.AsyncClient, metrics: GatewayMetrics, on_refused: OnRefused
) -> Jwks | None:
    if settings.jwt_algorithm == "HS256":
        return None
    jwks = Jwks(
        http,
        str(settings.jwt_jwks_url),
        settings.jwt_algorithm,
        on_failed=metrics.keys_not_fetched,
        on_refused=on_refused,
    )
    metrics.show_keys(jwks.age_seconds)
    return jwks


def _sign_in(settings: GatewaySettings, addresses: PublicAddresses, jwks: Jwks | None) -> SignIn:
    verifier = TokenVerifier(
        algorithm=settings.jwt_algorithm,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        key_for=jwks.key_for if jwks else _secret(settings),
        account_claim=settings.jwt_account_claim,
    )
    return SignIn(
        verifier, SessionCookie(name=settings.cookie_name, secure=addresses.speaks_tls), addresses.origin
    )


def _token_issuer(settings: GatewaySettings) -> TokenIssuer:
    return TokenIssuer(
        secret=settings.jwt_secret.get_secret_value() if settings.jwt_secret else "",
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        account_claim=settings.jwt_account_claim,
    )


def _secret(settings: GatewaySettings) -> KeySource:
    secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else ""

    async def the_secret(_key_id: str | None) -> str:
        return secret

    return the_secret


def api_document() -> dict[str, Any]:
    """Return the OpenAPI document of the JSON API, as it is in production."""
    anywhere = "https://clips.example"
    settings = GatewaySettings.model_validate(
        {
            "free_storage_bucket": "clips",
            "free_storage_access_key": "not used",
            "free_storage_secret_key": "not used",
            "public_url": anywhere,
            "registry_url": anywhere,
            "registry_token": "not used in the document",
            "jwt_jwks_url": anywhere,
            "jwt_issuer": anywhere,
            "jwt_audience": "clips",
        }
    )
    parts: GatewayParts = build(settings).state.parts
    return describe(api.create(parts), parts.sign_in.cookie_name)
