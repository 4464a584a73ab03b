"""The objects that every route of the gateway is created with."""

from dataclasses import dataclass

from clip_gateway.addresses import PublicAddresses
from clip_gateway.auth import SignIn, TokenIssuer
from clip_gateway.metrics import GatewayMetrics
from clip_gateway.presign import Presigner
from clip_gateway.rate_limits import RateLimits
from clip_gateway.registry import GatewayRegistry


@dataclass(frozen=True, kw_only=True)
class GatewayParts:
    """The adapters and settings of one gateway, built once in :mod:`clip_gateway.app`.

    Attributes:
        trusted_proxies: addresses and networks of proxies whose X-Forwarded-For header is believed.
        is_development: serve the API's documentation at ``/docs``.
        token_issuer: signs the tokens of the development sign-in page; None: the page is not served.
    """

    registry: GatewayRegistry
    presigner: Presigner
    sign_in: SignIn
    limits: RateLimits
    metrics: GatewayMetrics
    addresses: PublicAddresses
    trusted_proxies: tuple[str, ...] = ()
    is_development: bool = False
    token_issuer: TokenIssuer | None = None
