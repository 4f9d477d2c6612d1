"""Workers at a broker with TLS, logins and ACLs, with no more rights than the docs give them."""

import asyncio
import re
import time
from pathlib import Path

import httpx
import psutil
import pytest

from models.prepared import Prepared
from sinks.door import SqlDoor
from stream.asking.doctor import examine
from stream.asking.questions import status_of
from stream.kafka.connection import connection_of
from stream.kafka.publisher import Publisher
from stream.kafka.rights import Right
from stream.kafka.topics import create_topics
from stream.sending.simulator import send_all
from stream.settings import KafkaSettings, Settings, read_settings
from tests.builders import a_release
from tests.committed import committed
from tests.e2e.installation import (
    DISTINCT,
    PATIENCE_S,
    Running,
    applications,
    free_port,
    installed,
    wait_for,
)
from tests.secured import PASSWORD, SecuredKafka

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
EVENTS = 300
OTHER_PASSWORD = "other-word-of-a-test"


@pytest.fixture
def settings(secured: SecuredKafka, prepared: Prepared, tmp_path: Path) -> Settings:
    """Settings with the default names of topics and groups, the password in a file, and no user."""
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    return read_settings(
        {
            "kafka.bootstrap_servers": secured.broker.addresses["SCRAM"],
            "kafka.security_protocol": "SASL_SSL",
            "kafka.sasl_username": "nobody",
            "kafka.sasl_password_file": str(password),
            "kafka.ssl_cafile": str(secured.authority.cafile),
            "kafka.session_timeout": "6",
            "release": str(a_release(tmp_path / "releases")),
            "features": str(prepared.features),
            "store.url": f"chdb://{tmp_path / 'chdb'}",
            "status.port": str(free_port()),
            "monitor.checkpoint": str(tmp_path / "monitor"),
        }
    )


def of_user(settings: Settings, user: str) -> Settings:
    kafka = settings.kafka.model_copy(update={"sasl_username": user})
    return settings.model_copy(update={"kafka": kafka})


def grants() -> list[str]:
    """Give the commands of docs/operating.md."""
    found = re.findall(r"^    (kafka-acls\.sh .*)$", OPERATING.read_text("utf-8"), re.MULTILINE)
    assert len(found) == 14
    return found


async def send(kafka: KafkaSettings, prepared: Prepared, first: int, count: int) -> None:
    async with Publisher(connection_of(kafka), client_id="test") as publisher:
        records = applications(prepared, first + count)[first:]
        await send_all(publisher, kafka.applications, kafka.partitions, records)


def everything_said(running: list[Running], folder: Path) -> str:
    """Give what processes write, answer and are called by, and those that they started."""
    said = [log.read_text() for log in folder.glob("*.log")]
    for one in running:
        said.append(httpx.get(f"{one.url}/status").text)
        family = psutil.Process(one.process.pid)
        said += [" ".join(p.cmdline()) for p in (family, *family.children(recursive=True))]
    return "\n".join(said)


@pytest.mark.real_broker
@pytest.mark.slow
@pytest.mark.timeout(450)
def test_workers_decide_with_the_rights_of_the_docs_and_name_one_that_is_taken_away(
    settings: Settings,
    secured: SecuredKafka,
    prepared: Prepared,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for line in grants():
        secured.run_kafka_acls(line)
    asyncio.run(create_topics(of_user(settings, "init").kafka))
    sender, scoring = of_user(settings, "sender").kafka, of_user(settings, "scoring")
    plain = settings.kafka.reset("security_", "sasl_", "ssl_")
    at = {"bootstrap_servers": secured.broker.bootstrap_servers}
    by_operator = plain.model_copy(update=at)  # with all rights
    written = Right("Write", "topic", settings.kafka.decisions)

    with (
        installed(of_user(settings, "sink"), "sink") as (sink,),
        installed(of_user(settings, "monitor"), "monitor") as (monitor,),
        installed(scoring, "scoring") as (worker,),
    ):
        running, processes = [sink, monitor, worker], [sink.process, monitor.process]
        door = SqlDoor(sink.url)
        asyncio.run(send(sender, prepared, 0, EVENTS))
        wait_for(door, DISTINCT, EVENTS, [*processes, worker.process])
        for one in running:
            wait_until_ready(one)
        said = everything_said(running, tmp_path)

        secured.revoke("scoring", written)
        asyncio.run(send(sender, prepared, EVENTS, 10))
        log = next(tmp_path.glob("*.scoring.log"))
        deadline = time.monotonic() + PATIENCE_S
        lacks = f"at {settings.kafka.bootstrap_servers} user 'scoring' lacks: {written}; "
        while lacks not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            worker.process.look_after()
            time.sleep(0.2)
        examine(scoring, ["scoring"])
        by_doctor = capsys.readouterr().out
        secured.grant("scoring", written)
        wait_for(door, DISTINCT, EVENTS + 10, [*processes, worker.process])
        examine(scoring, ["scoring"])
        by_doctor_again = capsys.readouterr().out

        # Another password, while the worker goes on by the connections that it has.
        starts = worker.process.starts
        (tmp_path / "password").write_text(f"{OTHER_PASSWORD}\n")
        secured.set_password("scoring", OTHER_PASSWORD)
        deadline = time.monotonic() + PATIENCE_S
        while worker.process.starts == starts:
            assert time.monotonic() < deadline, log.read_text()
            worker.process.look_after()
            time.sleep(0.2)
        asyncio.run(send(by_operator, prepared, EVENTS + 10, 10))
        wait_for(door, DISTINCT, EVENTS + 20, [*processes, worker.process])

    assert [one.process.starts for one in (sink, monitor)] == [1, 1]
    for kept in tmp_path.glob("*.log"):
        assert "worker.stop_overdue" not in kept.read_text()
    said += log.read_text() + by_doctor + by_doctor_again
    assert "refuses user 'scoring' by SCRAM-SHA-512" in said
    assert "worker.starting" in said
    assert PASSWORD not in said
    assert OTHER_PASSWORD not in said
    assert f"lacks: {written}; " in by_doctor
    assert "lacks" not in by_doctor_again
    assert "4 topics at 127.0.0.1" in by_doctor_again
    # Each once, although the worker was ended twice in between.
    values = asyncio.run(committed(by_operator, by_operator.decisions, EVENTS + 20))
    assert len(values) == EVENTS + 20


def wait_until_ready(one: Running) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (status := status_of(one.url)) is None or status["not_ready"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
