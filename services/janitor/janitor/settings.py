"""Every knob of the janitor, from the environment."""

from pydantic import AnyHttpUrl, Field, SecretStr

from clip_shared.settings import FreeStorageSettings, KafkaSettings, ServiceSettings


class SweepSettings(ServiceSettings, FreeStorageSettings):
    """What the orphan sweep needs. Without free storage there is nothing to delete: here it is required."""

    free_storage_bucket: str = Field(
        min_length=3, max_length=63, description="The clips' bucket; nothing is deleted anywhere else."
    )

    registry_url: AnyHttpUrl = Field(description="Base URL of the registry's internal API.")
    registry_token: SecretStr = Field(min_length=16, description="Bearer token of the registry's API.")

    # Clip-created events are kept for 7 days: whatever is older than that is recorded, or never will be.
    sweep_min_age_hours: float = Field(
        default=192,
        ge=1,
        le=24 * 365,
        description="Hours for which the orphan sweep leaves an object alone: longer than any job, and than"
        " any backlog of the registry.",
    )


class Settings(SweepSettings, KafkaSettings):
    """What the service needs."""

    expiration_batch_size: int = Field(
        default=500,
        ge=1,
        le=5000,
        description="Most clips that one call to the registry purges, or looks at for notices.",
    )
    tick_budget_seconds: float = Field(
        default=300, gt=0, le=3600, description="Seconds after which a tick hands over to a follow-up tick."
    )
