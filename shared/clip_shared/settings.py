"""Settings that several services share, read from the environment alone and checked at start-up."""

import sys
from typing import Annotated, Literal, NoReturn, Self, TypeVar

from pydantic import AnyHttpUrl, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Loaded = TypeVar("Loaded", bound=BaseSettings)

Addressing = Literal["path", "virtual"]
"""Where the bucket's name stands in the URLs of an S3 server: in the path, or before the server's name."""

Port = Annotated[int, Field(ge=1, le=65535)]


class EnvironmentSettings(BaseSettings):
    """Base of all settings: read from the environment, immutable; an empty variable counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True, extra="ignore")


class ServiceSettings(EnvironmentSettings):
    """What every service needs to run at all."""

    http_host: str = Field(default="0.0.0.0", description="Address that the ports listen on.")  # noqa: S104 - in a container
    operations_port: Port = Field(
        default=8081, description="Port of metrics and health. Never let the public reach it."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least level logged."
    )
    shutdown_grace_seconds: float = Field(
        default=25, gt=0, le=3600, description="Seconds that running work may take to end after SIGTERM."
    )
    otel_exporter_otlp_endpoint: AnyHttpUrl | None = Field(
        default=None,
        description="Where traces go: base URL of a collector that speaks OTLP over HTTP;"
        " unset: nothing is traced.",
    )
    otel_traces_sampler_arg: float = Field(
        default=1, ge=0, le=1, description="Share of traces that is recorded, from 0 to 1."
    )


class ApiSettings(ServiceSettings):
    """What a service with an HTTP API needs beside."""

    http_port: Port = Field(default=8080, description="Port of the API.")
    http_max_connections: int = Field(
        default=500,
        ge=10,
        le=50_000,
        description="Most connections to the API; one more takes the place of the one idle longest.",
    )
    shutdown_delay_seconds: float = Field(
        default=5,
        ge=0,
        le=600,
        description="Seconds after SIGTERM for which the API still takes requests while readiness says no:"
        " as long as load balancers need to notice.",
    )

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.http_port == self.operations_port:
            raise ValueError("HTTP_PORT and OPERATIONS_PORT must differ")
        return self


class KafkaSettings(EnvironmentSettings):
    """How to reach the bus, and how much of it may go to the dead letters."""

    kafka_bootstrap_servers: str = Field(
        min_length=1, description="host:port of Kafka brokers, comma-separated."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How the connection is secured."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="How the client signs in (SASL protocols)."
    )
    kafka_sasl_username: str | None = Field(default=None, description="User name (SASL protocols).")
    kafka_sasl_password: SecretStr | None = Field(default=None, description="Password (SASL protocols).")
    kafka_ssl_ca_file: str | None = Field(
        default=None, description="CA certificates, PEM; unset: the system's."
    )
    # At least what brokers allow unless told, at most what the bus's own time limits are made for.
    kafka_session_timeout_seconds: int = Field(
        default=30,
        ge=6,
        le=30,
        description="Seconds after which others get the partitions of a consumer that fell silent (6 to 30).",
    )
    dead_letter_limit: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="Most messages of a topic that one process dead-letters within the window;"
        " at more it holds the topic back.",
    )
    dead_letter_window_seconds: float = Field(
        default=600, gt=0, le=86_400, description="The window of that limit, in seconds."
    )
    give_up_after_seconds: float = Field(
        default=21_600,
        gt=0,
        le=604_800,
        description="Seconds for which a message may fail while others of its topic succeed;"
        " then it is dead-lettered.",
    )

    @model_validator(mode="after")
    def _sasl_needs_credentials(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol} needs"
                " KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
            )
        return self


class FreeStorageSettings(EnvironmentSettings):
    """The platform's own bucket for clips. Without FREE_STORAGE_BUCKET, storage is not configured."""

    free_storage_endpoint: AnyHttpUrl | None = Field(
        default=None, description="S3 endpoint, as services reach it; unset: AWS."
    )
    free_storage_public_endpoint: AnyHttpUrl | None = Field(
        default=None, description="S3 endpoint as browsers reach it; unset: the same."
    )
    free_storage_region: str = Field(
        default="us-east-1", min_length=1, description="S3 region for signatures."
    )
    free_storage_addressing: Addressing = Field(
        default="path",
        description="Place of the bucket's name in URLs: path (server/bucket) or virtual (bucket.server).",
    )
    free_storage_bucket: str | None = Field(
        default=None,
        min_length=3,
        max_length=63,
        description="The clips' bucket; unset: storage is not configured.",
    )
    free_storage_access_key: str | None = Field(
        default=None,
        min_length=1,
        description="S3 access key; unset: the usual chain of AWS signs (environment, profile, workload"
        " identity, instance metadata).",
    )
    free_storage_secret_key: SecretStr | None = Field(
        default=None, min_length=1, description="S3 secret key, together with the access key."
    )

    @model_validator(mode="after")
    def _whole_or_absent(self) -> Self:
        require_both_keys("FREE_STORAGE", self.free_storage_access_key, self.free_storage_secret_key)
        if self.free_storage_bucket is None and (
            self.free_storage_endpoint or self.free_storage_public_endpoint or self.free_storage_access_key
        ):
            raise ValueError("free storage is half configured: FREE_STORAGE_BUCKET is missing")
        return self


def require_both_keys(name: str, access_key: str | None, secret_key: SecretStr | None) -> None:
    """Raise ValueError where one of a pair of S3 keys is given without the other."""
    if (access_key is None) != (secret_key is None):
        raise ValueError(f"{name}: an access key and a secret key go together, or neither is set")


def load_settings(settings_class: type[Loaded]) -> Loaded:
    """Read settings from the environment, or leave with exit code 2 and every problem on standard error."""
    try:
        return settings_class()
    except ValidationError as error:
        _refuse(error)


def _refuse(error: ValidationError) -> NoReturn:
    lines = ["The settings cannot be used:"]
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        place = "__".join(str(part) for part in detail["loc"]).upper()
        lines.append(f"  {place}: {detail['msg']}" if place else f"  {detail['msg']}")
    sys.stderr.write("\n".join(lines) + "\n")
    sys.exit(2)
