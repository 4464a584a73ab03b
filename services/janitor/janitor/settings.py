"""Every setting of the janitor, from the environment."""

from pydantic import AnyHttpUrl, Field, SecretStr

from clip_shared.bus.settings import KafkaSettings
from clip_shared.http.settings import ServiceSettings
from clip_shared.storage import FreeStorageSettings


class RegistryClientSettings(ServiceSettings):
    """Where the registry is."""

    registry_url: AnyHttpUrl = Field(description="Base URL of the registry's internal API.")
    registry_token: SecretStr = Field(
        min_length=16, description="Bearer token of the registry's API: its REGISTRY_JANITOR_TOKEN."
    )


class SweepSettings(RegistryClientSettings, FreeStorageSettings):
    """What the orphan sweep needs. It needs a bucket: free storage must be configured here."""

    free_storage_bucket: str = Field(
        min_length=3, max_length=63, description="The clips' bucket; objects of no other bucket are deleted."
    )

    # Clip-created events are kept for 7 days: an object that is older is recorded by then, or never will be.
    sweep_min_age_hours: float = Field(
        default=192,
        ge=1,
        le=24 * 365,
        description="Age in hours below which the orphan sweep leaves an object alone: longer than any job"
        " and any backlog of the registry.",
    )
    # Objects of that age belong to kept clips for the most part.
    sweep_limit_percent: float = Field(
        default=2,
        ge=0,
        le=100,
        description="Orphans in percent of the examined objects above which the sweep deletes nothing, unless"
        " --force is given.",
    )


class TickSettings(RegistryClientSettings):
    """What a tick needs."""

    expiration_batch_size: int = Field(
        default=500,
        ge=1,
        le=5000,
        description="Most clips that one call to the registry purges, or looks at for notices.",
    )
    purge_limit: int = Field(
        default=1000,
        ge=0,
        description="Due clips up to which a tick purges any share of the unkept clips. Above it,"
        " PURGE_LIMIT_PERCENT decides.",
    )
    # With 7 days of retention an eighth is due each day, and after three missed ticks a third.
    purge_limit_percent: float = Field(
        default=30,
        ge=0,
        le=100,
        description="Due clips in percent of all unkept clips above which a tick purges nothing, if they are"
        " more than PURGE_LIMIT: a restored database or a wrong clock is then more likely than expiry.",
    )


class JanitorSettings(TickSettings, SweepSettings, KafkaSettings):
    """What the service needs."""

    tick_budget_seconds: float = Field(
        default=300, gt=0, le=3600, description="Seconds after which a tick hands over to a follow-up tick."
    )
