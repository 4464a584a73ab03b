"""Sign-in: whose token it is, and whether a request that a browser sent on its own was meant."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import jwt
from fastapi import Request
from fastapi.security.utils import get_authorization_scheme_param
from jwt import PyJWK
from pydantic import TypeAdapter, ValidationError

from clip_gateway.domain import Refusal, Refused
from clip_shared.events import Identifier

# Clocks of the sign-in service and of this machine may differ by this much (`exp`, `nbf` and `iat`).
LEEWAY_SECONDS = 60
LONGEST_TOKEN = 8192
REQUIRED_CLAIMS = ["exp", "iss", "aud", "sub"]

KeySource = Callable[[str | None], Awaitable[PyJWK | str]]
"""The key for a key id (None: the token names none). Raises Refused when there is no such key."""

_ACCOUNT_ID: TypeAdapter[str] = TypeAdapter(Identifier)


@dataclass(frozen=True)
class Caller:
    """Who asks. ``by_cookie``: a browser may have sent the token without the person's doing."""

    account_id: str
    by_cookie: bool


class TokenVerifier:
    """Reads sign-in tokens (JWT) of one issuer for one audience, signed with one algorithm."""

    def __init__(self, *, algorithm: str, issuer: str, audience: str, key_for: KeySource) -> None:
        self._algorithm = algorithm
        self._issuer = issuer
        self._audience = audience
        self._key_for = key_for

    async def account_of(self, token: str) -> str:
        """The account that a token was issued to.

        Raises:
            Refused: the token is expired, or not one of ours in any way.
            TransientError: the issuer's keys cannot be fetched.
        """
        if len(token) > LONGEST_TOKEN:
            raise Refused(Refusal.INVALID_TOKEN)
        try:
            header = jwt.get_unverified_header(token)
            # Before any key is looked up: a token of another kind must not cause a fetch.
            if header.get("alg") != self._algorithm:
                raise Refused(Refusal.INVALID_TOKEN)
            claims = jwt.decode(
                token,
                await self._key_for(header.get("kid")),
                algorithms=[self._algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED_CLAIMS, "enforce_minimum_key_length": True},
            )
            return _ACCOUNT_ID.validate_python(claims["sub"])
        except jwt.ExpiredSignatureError as error:
            raise Refused(Refusal.EXPIRED_TOKEN) from error
        # RecursionError: JSON that is nested too deep for Python's parser.
        except (jwt.PyJWTError, ValidationError, RecursionError) as error:
            raise Refused(Refusal.INVALID_TOKEN) from error


class SignIn:
    """FastAPI dependencies that say who the caller is, from a bearer header or else a cookie."""

    def __init__(self, verifier: TokenVerifier, cookie_name: str) -> None:
        self._verifier = verifier
        self.cookie_name = cookie_name

    async def reader(self, request: Request) -> Caller:
        """Who asks to see something.

        Raises:
            Refused: nobody, or somebody whose token is not good.
        """
        scheme, bearer = get_authorization_scheme_param(request.headers.get("authorization"))
        by_cookie = scheme.lower() != "bearer"
        token = request.cookies.get(self.cookie_name) if by_cookie else bearer
        if not token:
            raise Refused(Refusal.NOT_SIGNED_IN)
        return Caller(await self._verifier.account_of(token), by_cookie)

    async def writer(self, request: Request) -> Caller:
        """Who asks to change something.

        Raises:
            Refused: as for ``reader``; or the request may have been forged by another site.
        """
        caller = await self.reader(request)
        if caller.by_cookie and not from_same_origin(request.headers):
            raise Refused(Refusal.CROSS_ORIGIN)
        return caller


def from_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a browser vouches that a page of this very host made the request.

    Sec-Fetch-Site, which pages cannot set, decides where it is sent; it holds behind proxies that change
    the host. Browsers leave it out on plain HTTP and before 2023: there Origin must name our host.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin, host = headers.get("origin", ""), headers.get("host", "")
    return bool(origin and host) and origin.lower().partition("://")[2] == host.lower()
