"""Every knob of the gateway, from the environment."""

from typing import Literal, Self

from pydantic import AnyHttpUrl, Field, SecretStr, model_validator

from clip_shared.settings import ApiSettings, FreeStorageSettings

# RFC 7518 §3.2: an HS256 key must be at least as long as the hash.
SHORTEST_SECRET_BYTES = 32
# The longest that signature version 4 allows.
LONGEST_PRESIGN_SECONDS = 7 * 24 * 60 * 60


def _path(url: AnyHttpUrl | None) -> str:
    return (url.path or "").rstrip("/") if url is not None else ""


class Settings(ApiSettings, FreeStorageSettings):
    """What the service needs. Without the free storage there is nothing to watch: it is required here."""

    free_storage_bucket: str = Field(min_length=3, max_length=63, description="The clips' bucket.")
    presigned_url_seconds: int = Field(
        default=900,
        ge=1,
        le=LONGEST_PRESIGN_SECONDS,
        description="Most seconds that a presigned URL lives; never longer than its clip.",
    )

    registry_url: AnyHttpUrl = Field(description="Base URL of the registry's internal API.")
    registry_token: SecretStr = Field(min_length=16, description="Bearer token of the registry's API.")

    jwt_algorithm: Literal["HS256", "RS256"] = Field(
        default="RS256", description="The one algorithm that sign-in tokens are signed with."
    )
    jwt_secret: SecretStr | None = Field(
        default=None, description=f"Key of HS256 tokens, at least {SHORTEST_SECRET_BYTES} bytes."
    )
    jwt_jwks_url: AnyHttpUrl | None = Field(
        default=None, description="Where the public keys of RS256 tokens are."
    )
    jwt_issuer: str = Field(min_length=1, description="Required `iss` of sign-in tokens.")
    jwt_audience: str = Field(min_length=1, description="Required `aud` of sign-in tokens.")
    session_cookie_name: str = Field(
        default="clips_session",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Cookie that may carry the sign-in token in place of a bearer header.",
    )

    @model_validator(mode="after")
    def _has_the_key_of_its_algorithm(self) -> Self:
        if self.jwt_algorithm == "RS256":
            if self.jwt_jwks_url is None:
                raise ValueError("JWT_ALGORITHM=RS256 needs JWT_JWKS_URL")
        elif self.jwt_secret is None:
            raise ValueError("JWT_ALGORITHM=HS256 needs JWT_SECRET")
        elif len(self.jwt_secret.get_secret_value().encode()) < SHORTEST_SECRET_BYTES:
            raise ValueError(f"JWT_SECRET must be at least {SHORTEST_SECRET_BYTES} bytes long for HS256")
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
