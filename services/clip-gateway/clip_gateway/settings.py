"""Every knob of the gateway, from the environment."""

from ipaddress import ip_network
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode

from clip_shared.http.settings import ApiSettings
from clip_shared.storage import FreeStorageSettings

# RFC 7518 §3.2: an HS256 key must be at least as long as the hash.
SHORTEST_SECRET_BYTES = 32
# The longest that signature version 4 allows.
LONGEST_PRESIGN_SECONDS = 7 * 24 * 60 * 60
# Browsers take a cookie with this prefix only over TLS, for one host alone, and for all of its paths.
HOST_COOKIE_PREFIX = "__Host-"

# An absolute URL, or a path on this host.
LinkUrl = Annotated[str, StringConstraints(pattern=r"^(https?://[^\s]+|/[^/\s][^\s]*)$", max_length=500)]
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[a-z0-9.-]+(:[0-9]{1,5})?$")]


def _network(value: str) -> str:
    ip_network(value)
    return value


Network = Annotated[str, AfterValidator(_network)]


def _split(value: object) -> object:
    return (
        tuple(filter(None, (each.strip() for each in value.split(",")))) if isinstance(value, str) else value
    )


def _path(url: AnyHttpUrl | None) -> str:
    return (url.path or "").rstrip("/") if url is not None else ""


class GatewaySettings(ApiSettings, FreeStorageSettings):
    """What the service needs. Without the free storage there is nothing to watch: it is required here."""

    free_storage_bucket: str = Field(min_length=3, max_length=63, description="The clips' bucket.")
    presigned_url_seconds: int = Field(
        default=900,
        ge=1,
        le=LONGEST_PRESIGN_SECONDS,
        description="Most seconds that a presigned URL lives; never longer than its clip.",
    )

    public_url: AnyHttpUrl = Field(
        description="Where browsers reach this gateway: every link that we give away begins with it."
        " Scheme and host, no path. With https, cookies are bound to this host and to TLS."
    )
    environment: Literal["production", "development"] = Field(
        default="production", description="development allows what production must not have."
    )
    login_url: LinkUrl | None = Field(
        default=None, description="Where a guest signs in; gets ?next= with the path to come back to."
    )
    logout_url: LinkUrl | None = Field(default=None, description="Where someone goes who has signed out.")
    development_sign_in: bool = Field(
        default=False, description="Serve a page that signs anybody in. Needs ENVIRONMENT=development."
    )
    embed_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(), description="Sites that may embed published clips: origins, comma-separated."
    )
    presigns_per_minute: int = Field(
        default=120, ge=1, le=100_000, description="Most presigned URLs for one account in a minute."
    )
    visits_per_minute: int = Field(
        default=300,
        ge=1,
        le=100_000,
        description="Most requests of one address to the public pages in a minute.",
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(),
        description="Proxies whose X-Forwarded-For says who asks: addresses or networks, comma-separated."
        " Unset: nobody's, and the limit for one address counts the connection's.",
    )

    registry_url: AnyHttpUrl = Field(description="Base URL of the registry's internal API.")
    registry_token: SecretStr = Field(
        min_length=16, description="Bearer token of the registry's API: its REGISTRY_GATEWAY_TOKEN."
    )

    jwt_algorithm: Literal["RS256", "ES256", "EdDSA", "HS256"] = Field(
        default="RS256", description="The one algorithm that sign-in tokens are signed with."
    )
    jwt_secret: SecretStr | None = Field(
        default=None, description=f"Key of HS256 tokens, at least {SHORTEST_SECRET_BYTES} bytes."
    )
    jwt_jwks_url: AnyHttpUrl | None = Field(
        default=None, description="Where the public keys of RS256, ES256 or EdDSA tokens are."
    )
    jwt_issuer: str = Field(min_length=1, description="Required `iss` of sign-in tokens.")
    jwt_audience: str = Field(min_length=1, description="Required `aud` of sign-in tokens.")
    jwt_account_claim: str = Field(
        default="sub",
        min_length=1,
        max_length=200,
        description="The claim of sign-in tokens that holds the account's id.",
    )
    session_cookie_name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Cookie that may carry the sign-in token in place of a bearer header;"
        " unset: `__Host-clips_session` where PUBLIC_URL is https, else `clips_session`.",
    )

    @property
    def speaks_tls(self) -> bool:
        """Whether browsers reach us over TLS."""
        return self.public_url.scheme == "https"

    @property
    def cookie_name(self) -> str:
        """The cookie that may carry the sign-in token."""
        return self.session_cookie_name or f"{HOST_COOKIE_PREFIX if self.speaks_tls else ''}clips_session"

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, url: AnyHttpUrl) -> AnyHttpUrl:
        # Pages name each other by their paths on the host, and browsers keep cookies for all of it.
        if (url.path or "/") != "/" or url.query or url.fragment or url.username or url.password:
            raise ValueError("must be a scheme and a host, with a port or without, and nothing else")
        return url

    @model_validator(mode="after")
    def _has_the_key_of_its_algorithm(self) -> Self:
        if self.jwt_algorithm != "HS256":
            if self.jwt_jwks_url is None:
                raise ValueError(f"JWT_ALGORITHM={self.jwt_algorithm} needs JWT_JWKS_URL")
        elif self.jwt_secret is None:
            raise ValueError("JWT_ALGORITHM=HS256 needs JWT_SECRET")
        elif len(self.jwt_secret.get_secret_value().encode()) < SHORTEST_SECRET_BYTES:
            raise ValueError(f"JWT_SECRET must be at least {SHORTEST_SECRET_BYTES} bytes long for HS256")
        return self

    @model_validator(mode="after")
    def _browsers_take_the_cookie(self) -> Self:
        if self.cookie_name.startswith(("__Host-", "__Secure-")) and not self.speaks_tls:
            raise ValueError(f"SESSION_COOKIE_NAME={self.cookie_name} needs a PUBLIC_URL with https")
        return self

    @model_validator(mode="after")
    def _signs_in_strangers_only_in_development(self) -> Self:
        if not self.development_sign_in:
            return self
        if self.environment != "development":
            raise ValueError("DEVELOPMENT_SIGN_IN needs ENVIRONMENT=development: it signs anybody in")
        if self.jwt_algorithm != "HS256":
            raise ValueError("DEVELOPMENT_SIGN_IN needs JWT_ALGORITHM=HS256: it signs with JWT_SECRET")
        return self

    @model_validator(mode="after")
    def _public_path_is_the_servers_own(self) -> Self:
        # The path is signed too. A proxy that takes a prefix off makes every URL 403.
        public = self.free_storage_public_endpoint
        if public is not None and _path(public) != _path(self.free_storage_endpoint):
            raise ValueError(
                "FREE_STORAGE_PUBLIC_ENDPOINT must have the path of FREE_STORAGE_ENDPOINT:"
                " a proxy may change the host in front of the S3 server, but not the path"
            )
        return self
