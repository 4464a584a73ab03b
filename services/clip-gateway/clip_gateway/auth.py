"""Sign-in: which account a token belongs to, and whether a request with a cookie comes from our own pages."""

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

# Largest difference between the clocks of the sign-in service and of this machine (`exp`, `nbf`, `iat`).
LEEWAY_SECONDS = 60
LONGEST_TOKEN = 8192
REQUIRED_CLAIMS = ("exp", "iss", "aud", "sub")

KeySource = Callable[[str | None], Awaitable[PyJWK | str]]
"""Returns the key for a key id; None: the token has no key id. Raises Refused if the key is unknown."""

_ACCOUNT_ID: TypeAdapter[str] = TypeAdapter(Identifier)


@dataclass(frozen=True)
class Caller:
    """The account that sent a request.

    ``by_cookie``: the token came in a cookie, which browsers add to requests that other sites start.
    """

    account_id: str
    by_cookie: bool


class TokenVerifier:
    """Verifies sign-in tokens (JWT) of one issuer for one audience, signed with one algorithm.

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
        """Return the id of the account that a token was issued to.

        Raises:
            Refused: the token has expired (EXPIRED_TOKEN), or is not valid here (INVALID_TOKEN).
            TransientError: the issuer's keys cannot be fetched.
        """
        if len(token) > LONGEST_TOKEN:
            raise Refused(Refusal.INVALID_TOKEN)
        try:
            header = jwt.get_unverified_header(token)
            # Checked before the key is looked up: a token with another algorithm must not cause a fetch.
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
        # RecursionError: the JSON is nested too deep for Python's parser.
        except (jwt.PyJWTError, ValidationError, RecursionError) as error:
            raise Refused(Refusal.INVALID_TOKEN) from error


@dataclass(frozen=True, kw_only=True)
class TokenIssuer:
    """Signs tokens that a :class:`TokenVerifier` with the same settings accepts. Only for development."""

    secret: str
    issuer: str
    audience: str
    account_claim: str = "sub"
    lifetime: timedelta = timedelta(hours=12)

    def token_for(self, account_id: str) -> str:
        """Return a token (HS256) that signs in to an account.

        Raises:
            ValueError: the text is not a valid account id.
        """
        _ACCOUNT_ID.validate_python(account_id)
        claims = {"sub": account_id, "iss": self.issuer, "aud": self.audience}
        expiry = {"exp": datetime.now(UTC) + self.lifetime}
        return jwt.encode(
            {**claims, **expiry, self.account_claim: account_id}, self.secret, algorithm="HS256"
        )


@dataclass(frozen=True, kw_only=True)
class SessionCookie:
    """The cookie that carries the token, if there is no bearer header."""

    name: str
    secure: bool

    def read(self, request: Request) -> str | None:
        """Return the token in the cookie; None: the request has no such cookie.

        Browsers let only our host set a cookie whose name begins with ``__Host-``. A name with a no-break
        space before it is a different name for them, and other hosts may set it. Starlette strips that space
        too and would accept the foreign cookie: so the header is parsed here.
        """
        found = None
        for header in request.headers.getlist("cookie"):
            for pair in header.split(";"):
                name, _, value = pair.partition("=")
                if name.strip(" \t") == self.name:
                    found = value.strip(' \t"')
        return found

    def set(self, response: Response, token: str, lifetime: timedelta) -> None:
        """Store a token in the browser: for this host only, and not readable by scripts."""
        seconds = int(lifetime.total_seconds())
        response.set_cookie(
            self.name, token, max_age=seconds, path="/", secure=self.secure, httponly=True, samesite="lax"
        )

    def forget(self, response: Response) -> None:
        """Remove the cookie. A cookie that the sign-in service set for a whole domain stays."""
        response.delete_cookie(self.name, path="/", secure=self.secure, httponly=True, samesite="lax")


class SignIn:
    """FastAPI dependencies that identify the caller, by a bearer header or else by the cookie.

    ``public_origin`` is the scheme and host of this gateway in browsers.
    """

    def __init__(self, verifier: TokenVerifier, cookie: SessionCookie, public_origin: str) -> None:
        self._verifier = verifier
        self._public_origin = public_origin
        self.cookie = cookie

    @property
    def cookie_name(self) -> str:
        """Name of the cookie that may carry the token."""
        return self.cookie.name

    async def reader(self, request: Request) -> Caller:
        """Return the caller of a request that reads.

        Raises:
            Refused: the request has no token (NOT_SIGNED_IN), or its token is expired or not valid.
            TransientError: the keys of the sign-in service cannot be fetched.
        """
        scheme, bearer = get_authorization_scheme_param(request.headers.get("authorization"))
        by_cookie = scheme.lower() != "bearer"
        token = self.cookie.read(request) if by_cookie else bearer
        if not token:
            raise Refused(Refusal.NOT_SIGNED_IN)
        return Caller(await self._verifier.account_of(token), by_cookie)

    async def writer(self, request: Request) -> Caller:
        """Return the caller of a request that changes something.

        Raises:
            Refused: as for ``reader``; or another site may have forged the request (CROSS_ORIGIN).
        """
        caller = await self.reader(request)
        if caller.by_cookie:
            await self.own_page(request)
        return caller

    async def own_page(self, request: Request) -> None:
        """Require that one of our own pages sent the request.

        Raises:
            Refused: CROSS_ORIGIN: another site may have forged the request.
        """
        if not is_from_own_page(request.headers, self._public_origin):
            raise Refused(Refusal.CROSS_ORIGIN)


def is_from_own_page(headers: Mapping[str, str], public_origin: str) -> bool:
    """Return whether the browser says that a page of our scheme and host made the request.

    If the header Sec-Fetch-Site is present, it decides: scripts cannot set it. Browsers do not send it over
    plain HTTP, and did not before 2023: then the header Origin must name our scheme and host.
    """
    fetch_site = headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site == "same-origin"
    return headers.get("origin", "").lower() == public_origin
