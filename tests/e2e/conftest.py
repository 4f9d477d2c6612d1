"""What every end-to-end test begins with: prepared data, and settings with names of their own."""

import asyncio
import uuid
from pathlib import Path

import pytest

from models.prepare import prepare
from models.prepared import Prepared
from stream.kafka.topics import create_topics
from stream.settings import Settings, read_settings
from tests.builders import a_release

EXAMPLE = Path(__file__).parents[2] / "examples" / "taiwan_default"


@pytest.fixture(scope="package")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(EXAMPLE, tmp_path_factory.mktemp("data"))


@pytest.fixture
def settings(real_broker: str, prepared: Prepared, tmp_path: Path) -> Settings:
    name = uuid.uuid4().hex[:8]
    topics = {
        f"kafka.{topic}": f"{topic}.{name}"
        for topic in ("applications", "decisions", "ledger", "parked", "alarms")
    }
    settings = read_settings(
        topics
        | {
            "kafka.bootstrap_servers": real_broker,
            "kafka.group_prefix": name,
            "kafka.session_timeout": "6",
            "kafka.max_poll_records": "500",
            "release": str(a_release(tmp_path / "releases")),
            "features": str(prepared.features),
            "store.url": f"chdb://{tmp_path / 'chdb'}",
            "store.insert_seconds": "0.2",
            "monitor.checkpoint": str(tmp_path / "monitor"),
        }
    )
    asyncio.run(create_topics(settings.kafka))
    return settings
