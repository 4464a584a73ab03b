"""Every knob of the registry, from the environment."""

from typing import Annotated

from pydantic import AfterValidator, AliasChoices, Field, SecretStr
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from clip_shared.settings import ApiSettings, KafkaSettings, ServiceSettings

LONGEST_RETENTION_DAYS = 36_500


def _for_asyncpg(url: SecretStr) -> SecretStr:
    try:
        parsed = make_url(url.get_secret_value())
    except ArgumentError:
        raise ValueError("not a database URL") from None  # the cause would show the password
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise ValueError("must be a postgresql:// URL")
    query = {"ssl" if name == "sslmode" else name: value for name, value in parsed.query.items()}
    changed = parsed.set(drivername="postgresql+asyncpg", query=query)
    return SecretStr(changed.render_as_string(hide_password=False))


class DatabaseSettings(ServiceSettings):
    """What a command on the database needs."""

    database_url: Annotated[SecretStr, AfterValidator(_for_asyncpg)] = Field(
        description="postgresql://user:password@host:port/name; libpq's sslmode is understood."
    )


class Settings(DatabaseSettings, ApiSettings, KafkaSettings):
    """What the service needs."""

    registry_token: SecretStr = Field(
        min_length=16, description="Bearer token of the internal API, shared with gateway and janitor."
    )
    clip_retention_days: float = Field(
        default=7,
        gt=0,
        le=LONGEST_RETENTION_DAYS,
        allow_inf_nan=False,
        validation_alias=AliasChoices("clip_retention_days", "vodmanager_generated_clip_retention_days"),
        description="Days that a clip lives unless somebody keeps it. Fractions are fine.",
    )
    max_ephemeral_clips_per_account: int | None = Field(
        default=None, ge=1, description="Most unkept clips per account; unset: no limit."
    )
    expiring_notice_days: int = Field(
        default=1,
        ge=0,
        le=365,
        description="Days before the day (UTC) of expiry that an account is told; 0: it is not told.",
    )
    database_pool_size: int = Field(
        default=10, ge=2, le=200, description="Most connections for events and HTTP."
    )
    database_statement_timeout_seconds: float = Field(
        default=10, gt=0, le=600, description="Seconds after which a statement is cancelled."
    )
    metrics_refresh_seconds: float = Field(
        default=15, gt=0, description="Seconds between two counts for the metrics."
    )
