"""Every setting: environment `CREDITSTREAM_*`, an `.env` file, `--set`; each with its default."""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "CREDITSTREAM_"
_ENV_FILE = ".env"


class SettingsInvalid(Exception):
    """A setting is unknown or has a value that is not allowed; says which and what is."""


def _with_real_ports(addresses: str) -> str:
    """Refuse a port that no socket has, in a URL or in one of several host:port by comma."""
    for address in addresses.split(","):
        _ = urlsplit(address if "://" in address else f"//{address}").port
    return addresses


_Addresses = Annotated[str, AfterValidator(_with_real_ports)]
_Topic = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
_MECHANISMS = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
_NO_SECRET = SecretStr("")


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )

    def reset(self, *beginnings: str) -> Self:
        """Give the section with the defaults of those settings whose names begin so."""
        fields = type(self).model_fields
        names = [name for name in fields if name.startswith(beginnings)]
        return self.model_copy(update={name: fields[name].default for name in names})


def _given(section: _Section, name: str) -> str | None:
    """Say which of a setting and its file is given; None: neither."""
    for one in (name, f"{name}_file"):
        value = getattr(section, one, None)
        if value is not None and value != _NO_SECRET:
            return one
    return None


def _one_secret(section: _Section, path: str, *names: str) -> None:
    for name in names:
        if _given(section, name) == name and getattr(section, f"{name}_file") is not None:
            one, other = _variable(f"{path}.{name}"), _variable(f"{path}.{name}_file")
            msg = f"{one} and {other} are both set: set one of them"
            raise ValueError(msg)


def _need(section: _Section, path: str, by: str, *names: str) -> None:
    for name in names:
        if _given(section, name) is None:
            has_file = f"{name}_file" in type(section).model_fields
            or_file = " (or …_FILE)" if has_file else ""
            msg = f"{by} needs {_variable(f'{path}.{name}')}{or_file}"
            raise ValueError(msg)


def _forbid(section: _Section, path: str, how: str, *names: str) -> None:
    for name in names:
        if given := _given(section, name):
            msg = f"{_variable(f'{path}.{given}')} is set, and not used {how}"
            raise ValueError(msg)


class KafkaSettings(_Section):
    """Where Kafka is, and what the topics are called."""

    bootstrap_servers: _Addresses = Field(
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
    sasl_password: SecretStr = Field(_NO_SECRET, description="Of that user; never shown.")
    sasl_password_file: Path | None = Field(None, description="A file that holds it instead.")
    ssl_cafile: Path | None = Field(
        None, description="Whom to trust, PEM; not set: whom the system trusts."
    )
    ssl_certfile: Path | None = Field(None, description="Our certificate (mutual TLS), PEM.")
    ssl_keyfile: Path | None = Field(
        None, description="Its private key, PEM; not set: in the same file."
    )
    ssl_key_password: SecretStr = Field(_NO_SECRET, description="Of that key; never shown.")
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
        _one_secret(self, "kafka", "sasl_password", "ssl_key_password")
        if self.with_sasl:
            _need(self, "kafka", self.security_protocol, "sasl_username", "sasl_password")
        else:
            _forbid(
                self, "kafka", f"with {self.security_protocol}", "sasl_username", "sasl_password"
            )
        if not self.with_tls:
            _forbid(self, "kafka", f"with {self.security_protocol}", "ssl_cafile", "ssl_certfile")
        if self.ssl_certfile is None:
            _forbid(self, "kafka", "without …SSL_CERTFILE", "ssl_keyfile", "ssl_key_password")
        return self


class StoreSettings(_Section):
    """Where ClickHouse is."""

    url: _Addresses = Field(
        "http://127.0.0.1:8123",
        pattern="^(https?://[^@/?#]+/?|chdb://.+)$",
        description="http(s)://host:port without user and password, or chdb:///path (embedded).",
    )
    door: _Addresses = Field(
        "http://127.0.0.1:8011", description="The status service of who hosts an embedded store."
    )
    user: str = Field("default", description="Of a ClickHouse server.")
    password: SecretStr = Field(_NO_SECRET, description="Of that user; never shown.")
    password_file: Path | None = Field(None, description="A file that holds it instead.")
    database: str = Field("creditstream", description="Created where it is missing.")
    ssl_cafile: Path | None = Field(
        None, description="Whom to trust, PEM; not set: whom the system trusts."
    )
    ssl_certfile: Path | None = Field(
        None, description="Our certificate, PEM; without a password it tells the user, too."
    )
    ssl_keyfile: Path | None = Field(
        None, description="Its private key, PEM, without a password; not set: in the same file."
    )

    @model_validator(mode="after")
    def _security_agrees(self) -> Self:
        """Refuse what would silently not be used."""
        _one_secret(self, "store", "password")
        if self.url.startswith("http:"):
            _forbid(self, "store", "with http:", "ssl_cafile", "ssl_certfile", "ssl_keyfile")
        if self.ssl_certfile is None:
            _forbid(self, "store", "without …SSL_CERTFILE", "ssl_keyfile")
        return self


class StatusSettings(_Section):
    """Where the status service listens."""

    host: str = Field("127.0.0.1", description="It has no login: see docs/monitoring.md.")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(8010, description="0: no service.")


class SwapSettings(_Section):
    """How far a new feature table may differ from the old one and still take its place."""

    rows_lost: Annotated[float, Field(ge=0, le=1)] = Field(
        0.10, description="Share of its rows that the feature table may lose."
    )
    rows_gained: Annotated[float, Field(ge=0, le=1_000)] = Field(
        0.50, description="Share of its rows that it may gain."
    )
    missing_change: Annotated[float, Field(ge=0, le=1)] = Field(
        0.05, description="How far the missing share of any column may move, up or down."
    )
    as_of_may_go_back: bool = Field(
        False, description="Whether an older feature table may be taken over: a roll back."
    )


class EventSettings(_Section):
    """What an application event may look like."""

    max_bytes: Annotated[int, Field(ge=1_024, le=10_000_000)] = Field(
        65_536, description="A larger one is parked."
    )
    max_depth: Annotated[int, Field(ge=2, le=100)] = Field(
        16, description="One nested deeper is parked."
    )
    max_age_days: Annotated[float, Field(gt=0, le=36_500)] = Field(
        400.0, description="How long before its Kafka timestamp it may have been submitted."
    )
    max_ahead_seconds: Annotated[float, Field(ge=0, le=31_536_000)] = Field(
        300.0, description="How long after its Kafka timestamp it may say it was submitted."
    )


class ParkingSettings(_Section):
    """How much may be parked before a scoring worker ends instead: see docs/operating.md."""

    longest_run: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        500, description="Events of a partition parked one after the other, at most; 0: no limit."
    )
    largest_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="Share of a partition's last events parked, at most; 1: no limit."
    )
    window: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1_000, description="How many last events that share is of."
    )
    counts: Literal["release", "all"] = Field(
        "release", description="Count what another release might have decided, or all parked."
    )


class MonitorSettings(_Section):
    """Where the drift monitor and the reports keep their files."""

    checkpoint: Path = Field(
        Path(".creditstream/monitor.checkpoint"), description="The drift monitor's state."
    )
    reports: Path = Field(Path(".creditstream/reports"), description="Reports, a folder a day.")


class Settings(BaseSettings):
    """All settings of a creditstream process; frozen once read."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=_ENV_FILE,
        env_ignore_empty=True,
        extra="ignore",  # other programs' keys in .env; ours are checked by name below
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    release: Path = Field(
        Path(".creditstream/releases"), description="A release, or a folder of one."
    )
    features: Path = Field(
        Path(".creditstream/features.parquet"),
        description="The feature table: a Parquet file, a link to one, or a folder of them.",
    )
    features_max_mb: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        8_192, description="A feature table that takes more MiB of memory as it loads is refused."
    )
    features_cache: bool = Field(
        True, description="Keep the table as `<features>.matrix` beside it, for workers to share."
    )
    delivery: Literal["exactly_once", "at_least_once"] | None = Field(
        None,
        description="Of decisions, to Kafka; not set: exactly once where the broker can do it.",
    )
    reasons: Literal["stream", "on_demand"] = Field(
        "stream",
        description="Explain refer and decline in the stream, or only when asked for by id.",
    )
    stall_seconds: Annotated[float, Field(gt=0)] = Field(
        60.0, description="No progress with lag for this long ends the process."
    )
    swap_seconds: Annotated[float, Field(ge=0.1)] = Field(
        5.0, description="How often a worker looks for another release or feature table."
    )
    start_seconds: Annotated[float, Field(ge=0)] = Field(
        60.0, description="How long a worker waits at start for Kafka and ClickHouse."
    )
    reconcile_minutes: Annotated[float, Field(ge=0, le=10_080)] = Field(
        60.0, description="How often a sink reconciles its partitions; 0: never."
    )
    log_json: bool | None = Field(
        None, description="Log as JSON lines; not set: where no terminal is."
    )
    kafka: KafkaSettings = KafkaSettings()
    store: StoreSettings = StoreSettings()
    status: StatusSettings = StatusSettings()
    swap: SwapSettings = SwapSettings()
    events: EventSettings = EventSettings()
    parking: ParkingSettings = ParkingSettings()
    monitor: MonitorSettings = MonitorSettings()


def read_settings(assignments: Mapping[str, str] | None = None) -> Settings:
    """
    Read the environment and `.env`; `assignments` ("kafka.partitions": "8") win over both.

    Raises SettingsInvalid, naming the setting, its value where that is no secret, and what is
    allowed.
    """
    known = {_variable(path): path for path, _ in _leaves(Settings)}
    try:
        written = dotenv_values(_ENV_FILE)
    except UnicodeDecodeError as error:
        msg = f"{_ENV_FILE} is not UTF-8: {error}"
        raise SettingsInvalid(msg) from None
    for name in (*os.environ, *written):
        if name.startswith(PREFIX) and name.upper() not in known:
            _refuse_unknown(name, list(known))
    values: dict[str, Any] = {}
    for path, value in (assignments or {}).items():
        if path not in known.values():
            _refuse_unknown(path, list(known.values()))
        node = values
        *sections, leaf = path.split(".")
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = value
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(step) for step in first["loc"])
        # A section as a whole may hold the password, and so may an address.
        secret = path in secret_settings() or "@" in str(first["input"])
        plain = path in known.values() and not secret
        shown = f", not {first['input']!r}" if plain else ""
        msg = f"setting {_variable(path)} ({path}): {first['msg']}{shown}"
        raise SettingsInvalid(msg) from None


def secret_settings() -> frozenset[str]:
    """Give the settings that hold a secret, as `kafka.sasl_password`."""
    return frozenset(path for path, info in _leaves(Settings) if info.annotation is SecretStr)


def described_settings() -> Iterator[tuple[str, str, str]]:
    """Give each setting's variable, default and meaning."""
    for path, info in _leaves(Settings):
        default = info.default
        shown = "" if isinstance(default, SecretStr) or default is None else str(default)
        yield _variable(path), shown, info.description or ""


def environment_of(settings: Settings) -> dict[str, str]:
    """Turn settings back into environment variables, for a child process."""
    environment = {}
    for path, _ in _leaves(Settings):
        node: Any = settings
        for step in path.split("."):
            node = getattr(node, step)
        if isinstance(node, SecretStr):
            node = node.get_secret_value()
        if node is not None and node != "":
            environment[_variable(path)] = str(node)
    return environment


def _leaves(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, info in model.model_fields.items():
        here = f"{path}.{name}" if path else name
        if isinstance(info.annotation, type) and issubclass(info.annotation, _Section):
            yield from _leaves(info.annotation, here)
        else:
            yield here, info


def _variable(path: str) -> str:
    return PREFIX + path.replace(".", "__").upper()


def _refuse_unknown(name: str, known: list[str]) -> None:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    hint = f"did you mean {close[0]}?" if close else "docs/operating.md has all"
    msg = f"unknown setting {name}: {hint}"
    raise SettingsInvalid(msg)
