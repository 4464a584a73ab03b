"""The parts of a gateway under test. It accepts the HS256 tokens of :mod:`tests.unit.clip_gateway.tokens`."""

from typing import Any

from prometheus_client import CollectorRegistry

from clip_gateway.addresses import PublicAddresses
from clip_gateway.auth import SessionCookie, SignIn, TokenVerifier
from clip_gateway.metrics import GatewayMetrics
from clip_gateway.parts import GatewayParts
from clip_gateway.presign import Presigner
from clip_gateway.rate_limits import RateLimits
from clip_gateway.registry import GatewayRegistry
from tests.unit.clip_gateway.tokens import AUDIENCE, ISSUER, SECRET

COOKIE = "clips_session"


def gateway_parts(
    registry: GatewayRegistry, presigner: Presigner, addresses: PublicAddresses, **changes: Any
) -> GatewayParts:
    """Return parts with limits that no test reaches; ``changes`` replace fields of GatewayParts."""

    async def secret(_key_id: str | None) -> str:
        return SECRET

    verifier = TokenVerifier(algorithm="HS256", issuer=ISSUER, audience=AUDIENCE, key_for=secret)
    fields: dict[str, Any] = {
        "registry": registry,
        "presigner": presigner,
        "sign_in": SignIn(verifier, SessionCookie(name=COOKIE, secure=False), addresses.origin),
        "limits": RateLimits(presigns_per_minute=100_000, visits_per_minute=100_000),
        "metrics": GatewayMetrics(CollectorRegistry()),
        "addresses": addresses,
    }
    return GatewayParts(**{**fields, **changes})
