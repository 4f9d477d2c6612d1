"""A real broker with TLS, logins and ACLs: who may come in, and what is said to who may not."""

import os
import subprocess
import uuid
from pathlib import Path
from typing import Literal

import pytest
from pydantic import SecretStr

from stream.kafka.connection import KafkaRefused, KafkaUnavailable, connection_of
from stream.kafka.packing import OutRecord
from stream.kafka.publisher import Publisher
from stream.kafka.records import records_of
from stream.kafka.rights import Right, RightsMissing, check_rights
from stream.kafka.roles import ROLES, Role, rights_of
from stream.kafka.topics import create_topics, describe_topics
from stream.process.supervisor import console_script
from stream.sending.files import FileRun, send_file
from stream.settings import EventSettings, KafkaSettings, Settings, environment_of
from tests.certificates import Authority
from tests.secured import KEY_PASSWORD, PASSWORD, SecuredKafka

pytestmark = pytest.mark.real_broker

SCRAM = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512"}
PLAIN = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}
CLEAR = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512"}
BY = {"SCRAM": SCRAM, "PLAIN": PLAIN, "CLEAR": CLEAR, "MUTUAL": {"security_protocol": "SSL"}}


def settings(secured: SecuredKafka, way: str, user: str, **others: object) -> KafkaSettings:
    """Give a user's settings for a listener, with topics of the test's own."""
    name = uuid.uuid4().hex[:8]
    topics = ("applications", "decisions", "ledger", "parked", "alarms")
    by: dict[str, object] = dict(BY.get(way, SCRAM))
    if str(by["security_protocol"]).startswith("SASL"):
        by |= {"sasl_username": user, "sasl_password": PASSWORD}
    if str(by["security_protocol"]).endswith("SSL"):
        by["ssl_cafile"] = secured.authority.cafile
    if way == "MUTUAL":
        by["ssl_certfile"] = secured.authority.certificate(user, key_password=KEY_PASSWORD)
        by["ssl_key_password"] = KEY_PASSWORD
    return KafkaSettings.model_validate(
        {
            "bootstrap_servers": secured.broker.addresses[way],
            "group_prefix": name,
            "partitions": 2,
            **{topic: f"{topic}.{name}" for topic in topics},
            **by,
            **others,
        }
    )


def plainly(secured: SecuredKafka, kafka: KafkaSettings) -> KafkaSettings:
    """Give the same topics by the listener that lets anybody do anything."""
    open_to_all = kafka.reset("security_", "sasl_", "ssl_")
    return open_to_all.model_copy(update={"bootstrap_servers": secured.broker.bootstrap_servers})


async def write_and_read(kafka: KafkaSettings) -> list[bytes]:
    connection = connection_of(kafka)
    async with Publisher(connection, client_id="test") as publisher:
        await publisher.publish(kafka.decisions, 0, [OutRecord(b"k", b"v", [], 1)])
    return [record.value for record in await records_of(connection, kafka.decisions)]


@pytest.mark.parametrize("way", BY)
async def test_a_user_comes_in_by_each_way_and_does_what_it_may(
    secured: SecuredKafka, way: str
) -> None:
    kafka = settings(secured, way, "scoring")
    await create_topics(plainly(secured, kafka))
    topic = kafka.decisions
    secured.grant("scoring", Right("Read", "topic", topic), Right("Write", "topic", topic))

    assert await write_and_read(kafka) == [b"v"]


async def refusal(kafka: KafkaSettings) -> str:
    with pytest.raises(KafkaRefused) as refused:
        await describe_topics(connection_of(kafka))
    return str(refused.value)


async def test_a_login_that_the_broker_refuses_is_named_without_its_password(
    secured: SecuredKafka,
) -> None:
    for way in ("SCRAM", "PLAIN", "CLEAR"):
        kafka = settings(secured, way, "scoring", sasl_password="wrong-word")

        said = await refusal(kafka)

        assert f"refuses user 'scoring' by {kafka.sasl_mechanism}" in said
        assert said.endswith("see CREDITSTREAM_KAFKA__SASL_USERNAME, …SASL_PASSWORD")
        assert "wrong-word" not in said
    unknown = settings(secured, "SCRAM", "scoring", sasl_mechanism="PLAIN")
    assert "does not know PLAIN: see CREDITSTREAM_KAFKA__SASL_MECHANISM" in await refusal(unknown)


async def test_a_certificate_that_does_not_hold_is_named_with_the_reason(
    secured: SecuredKafka, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other").cafile
    for way, changed, reason in (
        ("SCRAM", {"ssl_cafile": other}, "unable to get local issuer certificate"),
        ("SCRAM", {"ssl_cafile": None}, "unable to get local issuer certificate"),
        ("EXPIRED", {}, "certificate has expired"),
        ("ELSEWHERE", {}, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
    ):
        kafka = settings(secured, way, "scoring", **changed)

        said = await refusal(kafka)

        assert said == (
            f"the certificate of {kafka.bootstrap_servers} is refused ({reason}): "
            "see CREDITSTREAM_KAFKA__SSL_CAFILE"
        )


async def test_a_broker_that_asks_for_a_certificate_says_no_to_who_has_none(
    secured: SecuredKafka, tmp_path: Path
) -> None:
    none = settings(secured, "MUTUAL", "scoring", ssl_certfile=None, ssl_key_password="")
    foreign = Authority(tmp_path, "foreign").certificate("scoring")
    others = settings(secured, "MUTUAL", "scoring", ssl_certfile=foreign, ssl_key_password="")

    for kafka in (none, others):
        said = await refusal(kafka)
        assert "refuses our certificate" in said
        assert "see CREDITSTREAM_KAFKA__SSL_CERTFILE" in said


async def test_a_listener_that_speaks_otherwise_is_named_with_the_setting(
    secured: SecuredKafka,
) -> None:
    tls = settings(secured, "SCRAM", "scoring")
    plain = tls.reset("security_", "sasl_", "ssl_")
    clear = settings(secured, "CLEAR", "scoring")
    open_to_all = secured.broker.bootstrap_servers

    said = await refusal(clear.model_copy(update={"bootstrap_servers": open_to_all}))
    assert "asks for no user: see CREDITSTREAM_KAFKA__SECURITY_PROTOCOL" in said
    for kafka, servers in (
        (tls, open_to_all),
        (plain, tls.bootstrap_servers),
        (plain, clear.bootstrap_servers),
    ):
        spoken = f"does it speak CREDITSTREAM_KAFKA__SECURITY_PROTOCOL={kafka.security_protocol}"
        with pytest.raises(KafkaUnavailable, match=spoken):
            await describe_topics(
                connection_of(kafka.model_copy(update={"bootstrap_servers": servers}))
            )


@pytest.mark.parametrize(
    ("role", "delivery"),
    [
        ("scoring", "exactly_once"),
        ("scoring", "at_least_once"),
        ("sink", "exactly_once"),
        ("monitor", "exactly_once"),
    ],
)
async def test_a_right_that_is_missing_is_named_and_no_other(
    secured: SecuredKafka, role: Role, delivery: Literal["exactly_once", "at_least_once"]
) -> None:
    kafka = settings(secured, "SCRAM", role)
    await create_topics(plainly(secured, kafka))
    needed = rights_of(Settings(kafka=kafka, delivery=delivery), role)
    connection = connection_of(kafka)

    with pytest.raises(RightsMissing) as lacking:
        await check_rights(connection, needed)
    assert sorted(lacking.value.missing) == sorted(needed)

    secured.grant(role, *needed)
    await check_rights(connection, needed)

    for right in needed:
        secured.revoke(role, right)
        with pytest.raises(RightsMissing) as lacking:
            await check_rights(connection, needed)
        assert lacking.value.missing == [right]
        assert f"user '{role}' lacks: {right.operation} on {right.kind} {right.name}" in str(
            lacking.value
        )
        secured.grant(role, right)


async def test_who_may_not_create_topics_is_told_which(secured: SecuredKafka) -> None:
    kafka = settings(secured, "SCRAM", "init")

    with pytest.raises(RightsMissing, match=f"Create on topic {kafka.applications}"):
        await create_topics(kafka)
    secured.grant("init", *(Right("Create", "topic", topic) for topic in kafka.topics))

    assert sorted(await create_topics(kafka)) == sorted(kafka.topics)


async def test_who_may_not_send_applications_is_told_so(
    secured: SecuredKafka, tmp_path: Path
) -> None:
    kafka = settings(secured, "SCRAM", "sender")
    await create_topics(plainly(secured, kafka))
    file = tmp_path / "applications.csv"
    file.write_text("application_id\n7\n8\n")
    run = FileRun.of(file, "application_id", EventSettings())

    with pytest.raises(RightsMissing, match=f"Write on topic {kafka.applications}; "):
        await send_file(kafka, file, "application_id", run)
    secured.grant("sender", Right("Write", "topic", kafka.applications))

    assert await send_file(kafka, file, "application_id", run) == 2


@pytest.mark.parametrize("by_file", [True, False])
def test_a_worker_with_a_wrong_password_ends_at_once_and_nowhere_shows_it(
    secured: SecuredKafka, tmp_path: Path, by_file: bool
) -> None:
    secret = "wrong-pass-word"
    file = tmp_path / "password"
    file.write_text(f"{secret}\n")
    given = {"sasl_password": SecretStr(""), "sasl_password_file": file}
    kafka = settings(secured, "PLAIN", "scoring", sasl_password=secret)
    kafka = kafka.model_copy(update=given if by_file else {})

    ended = [
        subprocess.run(
            [console_script(), *command],
            env=os.environ | environment_of(Settings(kafka=kafka)),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for command in (["worker", "--agents", "scoring"], ["doctor"])
    ]

    said = "refuses user 'scoring' by PLAIN"
    worker, doctor = ended
    assert worker.returncode == 77
    assert said in worker.stderr.splitlines()[-1]
    assert "Traceback" not in worker.stderr
    assert doctor.returncode == 1
    assert said in doctor.stdout
    assert all(secret not in one.stdout + one.stderr for one in ended)


async def test_a_broker_without_acls_allows_everything(mock_broker: str, real_broker: str) -> None:
    for servers in (mock_broker, real_broker):
        kafka = KafkaSettings(bootstrap_servers=servers, group_prefix=uuid.uuid4().hex)
        for role in ROLES:
            await check_rights(connection_of(kafka), rights_of(Settings(kafka=kafka), role))
