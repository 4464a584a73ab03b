"""How to reach Kafka, and the limits of delivery, read from the environment."""

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from clip_shared.settings import EnvironmentSettings


class KafkaSettings(EnvironmentSettings):
    """How to reach Kafka, and how many messages may be dead-lettered."""

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
    # At least the default minimum of brokers, at most what the time limits of the bus are made for.
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
