"""The settings of the gateway, from environment variables."""

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

# RFC 7518 §3.2: a key for HS256 must be at least as long as its hash.
SHORTEST_SECRET_BYTES = 32
# The longest life that AWS Signature Version 4 allows.
LONGEST_PRESIGN_SECONDS = 7 * 24 * 60 * 60
# Browsers accept a cookie with this prefix only over TLS, for one host, and for all of its paths.
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
    """The gateway's settings. The free storage is required: the gateway signs URLs of its objects."""

    free_storage_bucket: str = Field(min_length=3, max_length=63, description="Bucket of the clips.")
    presigned_url_seconds: int = Field(
        default=900,
        ge=1,
        le=LONGEST_PRESIGN_SECONDS,
        description="Longest life of a presigned URL in seconds; a URL never outlives its clip.",
    )

    public_url: AnyHttpUrl = Field(
        description="Address of this gateway in browsers; every link that it hands out begins with it."
        " Scheme and host, no path. With https, cookies are bound to this host and to TLS."
    )
    environment: Literal["production", "development"] = Field(
        default="production",
        description="`development` serves the API's documentation at /docs, and allows DEVELOPMENT_SIGN_IN.",
    )
    login_url: LinkUrl | None = Field(
        default=None, description="Where a guest signs in; gets `?next=` with the path to return to."
    )
    logout_url: LinkUrl | None = Field(
        default=None, description="Where a browser goes after sign-out; unset: to the first page."
    )
    development_sign_in: bool = Field(
        default=False,
        description="Serve a page that signs in to any account without a password."
        " Needs ENVIRONMENT=development.",
    )
    embed_origins: Annotated[tuple[Origin, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(), description="Sites that may embed published clips: origins, comma-separated."
    )
    presigns_per_minute: int = Field(
        default=120, ge=1, le=100_000, description="Most presigned URLs of one account in a minute."
    )
    visits_per_minute: int = Field(
        default=300,
        ge=1,
        le=100_000,
        description="Most requests of one address to the public pages in a minute.",
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_split)] = Field(
        default=(),
        description="Proxies whose X-Forwarded-For header names the client:"
        " addresses or networks, comma-separated."
        " Unset: the header is ignored, and VISITS_PER_MINUTE counts the address of the connection.",
    )

    registry_url: AnyHttpUrl = Field(description="Base URL of the registry's internal API.")
    registry_token: SecretStr = Field(
        min_length=16, description="Bearer token of the registry's API: its REGISTRY_GATEWAY_TOKEN."
    )

    jwt_algorithm: Literal["RS256", "ES256", "EdDSA", "HS256"] = Field(
        default="RS256", description="Algorithm of sign-in tokens; tokens with another algorithm are refused."
    )
    jwt_secret: SecretStr | None = Field(
        default=None, description=f"Key of HS256 tokens, at least {SHORTEST_SECRET_BYTES} bytes."
    )
    jwt_jwks_url: AnyHttpUrl | None = Field(
        default=None, description="URL of the public keys (JWKS) of RS256, ES256 or EdDSA tokens."
    )
    jwt_issuer: str = Field(min_length=1, description="Required `iss` of sign-in tokens.")
    jwt_audience: str = Field(min_length=1, description="Required `aud` of sign-in tokens.")
    jwt_account_claim: str = Field(
        default="sub",
        min_length=1,
        max_length=200,
        description="Claim of sign-in tokens that holds the account's id.",
    )
    session_cookie_name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Cookie that may carry the sign-in token in place of a bearer header;"
        " unset: `__Host-clips_session` if PUBLIC_URL is https, else `clips_session`.",
    )

    @property
    def speaks_tls(self) -> bool:
        """Whether browsers use TLS to reach the gateway."""
        return self.public_url.scheme == "https"

    @property
    def cookie_name(self) -> str:
        """Name of the cookie that may carry the sign-in token."""
        return self.session_cookie_name or f"{HOST_COOKIE_PREFIX if self.speaks_tls else ''}clips_session"

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, url: AnyHttpUrl) -> AnyHttpUrl:
        # Pages link to each other by absolute paths, and the cookie is for the whole host.
        if (url.path or "/") != "/" or url.query or url.fragment or url.username or url.password:
            raise ValueError("must be a scheme and a host, optionally with a port, and nothing more")
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
    def _development_sign_in_is_only_for_development(self) -> Self:
        if not self.development_sign_in:
            return self
        if self.environment != "development":
            raise ValueError("DEVELOPMENT_SIGN_IN needs ENVIRONMENT=development: it needs no password")
        if self.jwt_algorithm != "HS256":
            raise ValueError("DEVELOPMENT_SIGN_IN needs JWT_ALGORITHM=HS256: it signs with JWT_SECRET")
        return self

    @model_validator(mode="after")
    def _public_path_is_the_servers_own(self) -> Self:
        # The signature covers the path: behind a proxy that removes a prefix, every URL answers 403.
        public = self.free_storage_public_endpoint
        if public is not None and _path(public) != _path(self.free_storage_endpoint):
            raise ValueError(
                "FREE_STORAGE_PUBLIC_ENDPOINT must have the path of FREE_STORAGE_ENDPOINT:"
                " a proxy may change the host in front of the S3 server, but not the path"
            )
        return self
