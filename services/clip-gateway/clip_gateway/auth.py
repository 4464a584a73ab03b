"""Sign-in: whose token it is, and whether a request that a browser sent on its own was meant."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt
from fastapi import Request, Response
from fastapi.security.utils import get_authorization_scheme_param
from jwt import PyJWK
from pydantic import TypeAdapter, ValidationError

from clip_gateway.domain import Refusal, Refused
from clip_shared.contracts.events import Identifier

# Clocks of the sign-in service and of this machine may differ by this much (`exp`, `nbf` and `iat`).
LEEWAY_SECONDS = 60
LONGEST_TOKEN = 8192
REQUIRED_CLAIMS = ("exp", "iss", "aud", "sub")

KeySource = Callable[[str | None], Awaitable[PyJWK | str]]
"""The key for a key id (None: the token names none). Raises Refused when there is no such key."""

_ACCOUNT_ID: TypeAdapter[str] = TypeAdapter(Identifier)


@dataclass(frozen=True)
class Caller:
    """Who asks. ``by_cookie``: a browser may have sent the token without the person's doing."""

    account_id: str
    by_cookie: bool


class TokenVerifier:
    """Reads sign-in tokens (JWT) of one issuer for one audience, signed with one algorithm.

    ``account_claim`` is the claim that holds the account's id.
    """

    def __init__(
        self, *, algorithm: str, issuer: str, audience: str, key_for: KeySource, account_claim: str = "sub"
    ) -> None:
        self._algorithm = algorithm
        self._issuer = issuer
        self._audience = audience
        self._key_for = key_for
        self._account_claim = account_claim
        self._required = [*{*REQUIRED_CLAIMS, account_claim}]

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
                options={"require": self._required, "enforce_minimum_key_length": True},
            )
            return _ACCOUNT_ID.validate_python(claims[self._account_claim])
        except jwt.ExpiredSignatureError as error:
            raise Refused(Refusal.EXPIRED_TOKEN) from error
        # RecursionError: JSON that is nested too deep for Python's parser.
        except (jwt.PyJWTError, ValidationError, RecursionError) as error:
            raise Refused(Refusal.INVALID_TOKEN) from error


@dataclass(frozen=True, kw_only=True)
class TokenIssuer:
    """Signs tokens that a :class:`TokenVerifier` with the same settings takes. For development alone."""

    secret: str
    issuer: str
    audience: str
    account_claim: str = "sub"
    lifetime: timedelta = timedelta(hours=12)

    def token_for(self, account_id: str) -> str:
        """A token (HS256) that signs in as an account.

        Raises:
            ValueError: no account can have this id.
        """
        _ACCOUNT_ID.validate_python(account_id)
        claims = {"sub": account_id, "iss": self.issuer, "aud": self.audience}
        expiry = {"exp": datetime.now(UTC) + self.lifetime}
        return jwt.encode(
            {**claims, **expiry, self.account_claim: account_id}, self.secret, algorithm="HS256"
        )


@dataclass(frozen=True, kw_only=True)
class SessionCookie:
    """The cookie that may carry the token in place of a bearer header."""

    name: str
    secure: bool

    def read(self, request: Request) -> str | None:
        """The token that the browser keeps.

        Browsers let no host but ours set a name with the prefix ``__Host-``, and take one with a no-break
        space before it for another name. Starlette strips every kind of space: so it is compared here.
        """
        found = None
        for header in request.headers.getlist("cookie"):
            for pair in header.split(";"):
                name, _, value = pair.partition("=")
                if name.strip(" \t") == self.name:
                    found = value.strip(' \t"')
        return found

    def set(self, response: Response, token: str, lifetime: timedelta) -> None:
        """Have the browser keep a token: for this host alone, out of reach of scripts."""
        seconds = int(lifetime.total_seconds())
        response.set_cookie(
            self.name, token, max_age=seconds, path="/", secure=self.secure, httponly=True, samesite="lax"
        )

    def forget(self, response: Response) -> None:
        """Have the browser forget it. One that was set for a whole domain stays: its setter removes it."""
        response.delete_cookie(self.name, path="/", secure=self.secure, httponly=True, samesite="lax")


class SignIn:
    """FastAPI dependencies that say who the caller is, from a bearer header or else a cookie.

    ``public_origin`` is the scheme and host that browsers know us by.
    """

    def __init__(self, verifier: TokenVerifier, cookie: SessionCookie, public_origin: str) -> None:
        self._verifier = verifier
        self._public_origin = public_origin
        self.cookie = cookie

    @property
    def cookie_name(self) -> str:
        """The cookie that may carry the token."""
        return self.cookie.name

    async def reader(self, request: Request) -> Caller:
        """Who asks to see something.

        Raises:
            Refused: nobody, or somebody whose token is not good.
        """
        scheme, bearer = get_authorization_scheme_param(request.headers.get("authorization"))
        by_cookie = scheme.lower() != "bearer"
        token = self.cookie.read(request) if by_cookie else bearer
        if not token:
            raise Refused(Refusal.NOT_SIGNED_IN)
        return Caller(await self._verifier.account_of(token), by_cookie)

    async def writer(self, request: Request) -> Caller:
        """Who asks to change something.

        Raises:
            Refused: as for ``reader``; or the request may have been forged by another site.
        """
        caller = await self.reader(request)
        if caller.by_cookie:
            await self.own_page(request)
        return caller

    async def own_page(self, request: Request) -> None:
        """Let a page of ours ask, and no other site.

        Raises:
            Refused: the request may have been forged by another site.
        """
        if not is_from_own_page(request.headers, self._public_origin):
            raise Refused(Refusal.CROSS_ORIGIN)


def is_from_own_page(headers: Mapping[str, str], public_origin: str) -> bool:
    """Whether a browser vouches that a page of this very scheme and host made the request.

    Sec-Fetch-Site, which pages cannot set, decides where it is sent. Browsers leave it out on plain HTTP and
    before 2023: there Origin must be ours.
    """
    fetch_site = headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site == "same-origin"
    return headers.get("origin", "").lower() == public_origin
