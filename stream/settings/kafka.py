"""Kafka's section: where it is, what the topics are called, and who we are there."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from stream.settings.section import NO_SECRET, Addresses, Section, forbid, need, one_secret

_Topic = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
_MECHANISMS = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class KafkaSettings(Section):
    """Where Kafka is, and what the topics are called."""

    bootstrap_servers: Addresses = Field(
        "127.0.0.1:9092",
        pattern=r"^[^,\s]+:\d+(,[^,\s]+:\d+)*$",
        description="Comma-separated host:port.",
    )
    group_prefix: str = Field("creditstream", description="Consumer groups: PREFIX-ROLE.")
    applications: _Topic = Field("credit.applications.v1", description="Topic read by scoring.")
    decisions: _Topic = Field("credit.decisions.v1", description="Topic of decisions, JSON.")
    ledger: _Topic = Field("credit.ledger.v1", description="Topic of decisions, Arrow.")
    parked: _Topic = Field("credit.parked.v1", description="Topic of what cannot be decided.")
    alarms: _Topic = Field("credit.alarms.v1", description="Topic of drift alarms.")
    partitions: Annotated[int, Field(ge=1, le=10_000)] = Field(
        4, description="Of each topic, alike; as many workers can share the work."
    )
    replication: Annotated[int, Field(ge=1, le=32)] = Field(
        1, description="Copies of each topic that `init` creates; 3 in production."
    )
    parked_max_bytes: Annotated[int, Field(ge=100_000, le=50_000_000)] = Field(
        2_000_000, description="An event above it is parked by head and digest."
    )
    resend_window: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        10_000,
        description="An event sent again within so many of its partition is not decided again.",
    )
    max_poll_records: Annotated[int, Field(ge=1, le=100_000)] = Field(
        2_000, description="Records decided together, at most."
    )
    fetch_max_wait_ms: Annotated[int, Field(ge=1, le=100)] = Field(
        100, description="How long the broker may hold a fetch; 10 suits the mock broker."
    )
    session_timeout: Annotated[float, Field(ge=1, le=300)] = Field(
        10.0, description="Seconds after which a silent worker's partitions go to others."
    )
    commit_interval: Annotated[float, Field(gt=0, le=60)] = Field(
        0.5, description="Seconds between two commits of finished polls."
    )
    group_instance_id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")] | None = Field(
        None,
        description="Static membership: a name that this process alone has in its group, for ever.",
    )
    records_gone: Literal["stop", "skip"] = Field(
        "stop",
        description="Where the next record to read was removed: end, or go on at what is there.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="As Kafka's `security.protocol`; SASL_SSL in production."
    )
    sasl_mechanism: _MECHANISMS = Field("SCRAM-SHA-512", description="How a user is told, by SASL.")
    sasl_username: str | None = Field(None, min_length=1, description="The user, by SASL.")
    sasl_password: SecretStr = Field(NO_SECRET, description="Of that user; never shown.")
    sasl_password_file: Path | None = Field(None, description="A file that holds it instead.")
    ssl_cafile: Path | None = Field(
        None, description="Whom to trust, PEM; not set: whom the system trusts."
    )
    ssl_certfile: Path | None = Field(None, description="Our certificate (mutual TLS), PEM.")
    ssl_keyfile: Path | None = Field(
        None, description="Its private key, PEM; not set: in the same file."
    )
    ssl_key_password: SecretStr = Field(NO_SECRET, description="Of that key; never shown.")
    ssl_key_password_file: Path | None = Field(None, description="A file that holds it instead.")

    @property
    def with_sasl(self) -> bool:
        """Whether a user is told by SASL."""
        return self.security_protocol.startswith("SASL_")

    @property
    def with_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics."""
        return self.applications, self.decisions, self.ledger, self.parked, self.alarms

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        """Refuse a topic of two uses: decisions read as applications would go round for ever."""
        for topic in self.topics:
            if self.topics.count(topic) > 1:
                msg = f"topic {topic!r} has two uses: each of the five topics has its own name"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _security_agrees(self) -> Self:
        """Refuse a login or a certificate that would be missing, or silently not be used."""
        one_secret(self, "kafka", "sasl_password", "ssl_key_password")
        if self.with_sasl:
            need(self, "kafka", self.security_protocol, "sasl_username", "sasl_password")
        else:
            forbid(
                self, "kafka", f"with {self.security_protocol}", "sasl_username", "sasl_password"
            )
        if not self.with_tls:
            forbid(self, "kafka", f"with {self.security_protocol}", "ssl_cafile", "ssl_certfile")
        if self.ssl_certfile is None:
            forbid(self, "kafka", "without …SSL_CERTFILE", "ssl_keyfile", "ssl_key_password")
        return self
