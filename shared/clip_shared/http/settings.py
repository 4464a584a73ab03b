"""The ports, logs and traces of a service, read from the environment."""

from typing import Annotated, Literal, Self

from pydantic import AnyHttpUrl, Field, model_validator

from clip_shared.settings import EnvironmentSettings

Port = Annotated[int, Field(ge=1, le=65535)]


class ServiceSettings(EnvironmentSettings):
    """What every service needs."""

    http_host: str = Field(default="0.0.0.0", description="Address that the ports listen on.")  # noqa: S104 - in a container
    operations_port: Port = Field(
        default=8081, description="Port of metrics and health. Keep it out of public reach."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lowest level that is logged."
    )
    shutdown_grace_seconds: float = Field(
        default=25, gt=0, le=3600, description="Seconds after SIGTERM for running work to end."
    )
    otel_exporter_otlp_endpoint: AnyHttpUrl | None = Field(
        default=None,
        description="Base URL of the collector for traces (OTLP over HTTP); unset: nothing is traced.",
    )
    otel_traces_sampler_arg: float = Field(
        default=1, ge=0, le=1, description="Share of traces that is recorded, from 0 to 1."
    )


class ApiSettings(ServiceSettings):
    """What a service with an HTTP API needs."""

    http_port: Port = Field(default=8080, description="Port of the API.")
    http_max_connections: int = Field(
        default=500,
        ge=10,
        le=50_000,
        description="Most connections to the API; one more replaces the connection that is idle longest.",
    )
    shutdown_delay_seconds: float = Field(
        default=5,
        ge=0,
        le=600,
        description="Seconds after SIGTERM for which the API still takes requests while readiness fails:"
        " as long as load balancers need to notice it.",
    )

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.http_port == self.operations_port:
            raise ValueError("HTTP_PORT and OPERATIONS_PORT must differ")
        return self
