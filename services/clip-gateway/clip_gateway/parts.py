"""What the routes are made with."""

from dataclasses import dataclass

from clip_gateway.auth import SignIn, TokenIssuer
from clip_gateway.metrics import Metrics
from clip_gateway.presign import Presigner
from clip_gateway.rate_limits import RateLimits
from clip_gateway.registry_client import Registry
from clip_gateway.site import Site


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The adapters and settings of one gateway, built once in :mod:`clip_gateway.app`.

    ``token_issuer`` is there in development alone: our own sign-in page signs tokens with it.
    """

    registry: Registry
    presigner: Presigner
    sign_in: SignIn
    limits: RateLimits
    metrics: Metrics
    site: Site
    token_issuer: TokenIssuer | None = None
