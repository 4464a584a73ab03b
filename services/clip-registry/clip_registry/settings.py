"""The settings of the registry, from environment variables."""

from typing import Annotated, Self

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, model_validator

from clip_registry.database.engine import Pooler
from clip_registry.database.url import DatabaseUrl
from clip_shared.bus.settings import KafkaSettings
from clip_shared.http.settings import ApiSettings, ServiceSettings

LONGEST_RETENTION_DAYS = 36_500


def _usable(url: SecretStr) -> SecretStr:
    DatabaseUrl.parse(url.get_secret_value())
    return url


class DatabaseSettings(ServiceSettings):
    """The settings of a command that only uses the database."""

    database_url: Annotated[SecretStr, AfterValidator(_usable)] = Field(
        description="postgresql://user:password@host:port/name. Several hosts are separated by commas; the"
        " usual parameters of libpq work."
    )
    database_pooler: Pooler = Field(
        default="none",
        description="The pooler before the database: `none`, or `transaction` for a transaction pooler like"
        " PgBouncer.",
    )


class RegistrySettings(DatabaseSettings, ApiSettings, KafkaSettings):
    """The settings of the service."""

    registry_gateway_token: SecretStr = Field(
        min_length=16, description="Bearer token of the gateway, to read and to change clips."
    )
    registry_janitor_token: SecretStr = Field(
        min_length=16,
        description="Bearer token of the janitor, for purges, expiry notices and the orphan sweep.",
    )
    free_storage_bucket: str | None = Field(
        default=None,
        min_length=3,
        max_length=63,
        description="The bucket for clips: a clip in another bucket is refused; unset: any bucket is right.",
    )
    clip_retention_days: float = Field(
        default=7,
        gt=0,
        le=LONGEST_RETENTION_DAYS,
        allow_inf_nan=False,
        validation_alias=AliasChoices("clip_retention_days", "vodmanager_generated_clip_retention_days"),
        description="Days until a clip expires unless its owner keeps it. Fractions are allowed.",
    )
    max_ephemeral_clips_per_account: int | None = Field(
        default=None, ge=1, description="The most unkept clips of an account; unset: no limit."
    )
    delete_undo_seconds: float = Field(
        default=600,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description="Seconds for which a deleted clip can be restored. After them it is due to be purged.",
    )
    expiring_notice_days: int = Field(
        default=1,
        ge=0,
        le=365,
        description="Days before the day (UTC) of expiry on which an account is told; 0: it is not told.",
    )
    release_delay_seconds: float = Field(
        default=3600,
        ge=0,
        le=86_400,
        description="Seconds for which an object stays after its clip got another video or expired. At least"
        " the gateway's PRESIGNED_URL_SECONDS, so that every URL works while a clip is watched.",
    )
    database_pool_size: int = Field(
        default=10, ge=2, le=200, description="The most connections for events and HTTP."
    )
    database_statement_timeout_seconds: float = Field(
        default=10, gt=0, le=600, description="Seconds after which a statement is cancelled."
    )
    metrics_refresh_seconds: float = Field(
        default=15, gt=0, description="Seconds between two counts for the metrics."
    )

    @model_validator(mode="after")
    def _tokens_differ(self) -> Self:
        if self.registry_gateway_token == self.registry_janitor_token:
            raise ValueError("REGISTRY_GATEWAY_TOKEN and REGISTRY_JANITOR_TOKEN must differ")
        return self
