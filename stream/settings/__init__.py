"""Every setting: environment `CREDITSTREAM_*`, an `.env` file, `--set`; each with its default."""

from stream.settings.everything import (
    EventSettings,
    MonitorSettings,
    ParkingSettings,
    Settings,
    StatusSettings,
    SwapSettings,
    Way,
)
from stream.settings.kafka import KafkaSettings
from stream.settings.reading import (
    described_settings,
    environment_of,
    read_settings,
    secret_settings,
)
from stream.settings.section import PREFIX, SettingsInvalid
from stream.settings.store import StoreSettings

__all__ = [
    "PREFIX",
    "EventSettings",
    "KafkaSettings",
    "MonitorSettings",
    "ParkingSettings",
    "Settings",
    "SettingsInvalid",
    "StatusSettings",
    "StoreSettings",
    "SwapSettings",
    "Way",
    "described_settings",
    "environment_of",
    "read_settings",
    "secret_settings",
]
