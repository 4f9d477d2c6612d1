"""All settings in one, with the sections that are small."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from stream.settings.kafka import KafkaSettings
from stream.settings.section import PREFIX, Section
from stream.settings.store import StoreSettings

ENV_FILE = ".env"


Way = Literal["at_least_once", "exactly_once"]
"""How decisions are delivered to Kafka."""


class StatusSettings(Section):
    """Where the status service listens."""

    host: str = Field("127.0.0.1", description="It has no login: see docs/monitoring.md.")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(8010, description="0: no service.")


class SwapSettings(Section):
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


class EventSettings(Section):
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


class ParkingSettings(Section):
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


class MonitorSettings(Section):
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
        env_file=ENV_FILE,
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
    delivery: Way | None = Field(
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
