"""Which rights a client has at a broker with ACLs: asked before anything is read or written."""

import asyncio
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import stamina
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest

from stream.kafka.allowed_on_topics import AllowedOnTopics
from stream.kafka.connection import Connection
from stream.kafka.pinned import replace

_ASK_SECONDS = 5.0
# AclOperation's codes; a broker answers with a bit for each that is allowed.
_BITS = {"Read": 1 << 3, "Write": 1 << 4, "Describe": 1 << 8}
_NOT_TOLD = -(2**31)
_TRANSACTION = 1  # coordinators: 0 is a group's
# No producer has these: the broker looks at the rights, finds none, and does nothing.
_NO_PRODUCER, _NO_EPOCH = 1, 0


class Right(NamedTuple):
    """An operation on a resource, in the words of Kafka's ACLs."""

    operation: str
    kind: str
    name: str

    def __str__(self) -> str:
        star = "*" if self.kind == "transactional id" else ""
        return f"{self.operation} on {self.kind} {self.name}{star}"


class RightsMissing(Exception):
    """A client lacks rights; says which, on what, and who it is there."""

    def __init__(self, connection: Connection, missing: Iterable[Right]) -> None:
        self.missing = list(missing)
        user = connection.login and f"user {connection.login.username!r}"
        who = user or ("our certificate" if connection.tls else "nobody (no login is set)")
        msg = (
            f"at {connection.servers} {who} lacks: {', '.join(map(str, self.missing))}; "
            "docs/operating.md has the commands that give it"
        )
        super().__init__(msg)


async def check_rights(connection: Connection, needed: Collection[Right]) -> None:
    """
    See that all rights are there; raises RightsMissing, which names all that are not.

    A broker that does not tell (older than 2.3, or a mock) is believed to allow. Raises
    KafkaUnavailable, KafkaRefused.
    """
    missing: list[Right] = []
    async with (
        connection.errors_named(),
        asyncio.timeout(_ASK_SECONDS),
        connection.admin() as admin,
    ):
        async for attempt in stamina.retry_context(
            on=_passes, attempts=None, timeout=_ASK_SECONDS, wait_jitter=0.1
        ):
            with attempt:
                missing = [
                    *await _missing_on_topics(admin, _of_kind("topic", needed)),
                    *await _missing_on_groups(admin, _of_kind("group", needed)),
                    *await _missing_on_ids(admin, _of_kind("transactional id", needed)),
                ]
    if missing:
        raise RightsMissing(connection, missing)


def _of_kind(kind: str, rights: Collection[Right]) -> list[Right]:
    return [right for right in rights if right.kind == kind]


def _passes(error: Exception) -> bool:
    return isinstance(error, KafkaError) and error.retriable


def _lacks(right: Right, allowed: int) -> bool:
    return allowed != _NOT_TOLD and not allowed & _BITS[right.operation]


async def _missing_on_topics(admin: AIOKafkaAdminClient, needed: list[Right]) -> list[Right]:
    names = sorted({right.name for right in needed})
    try:
        answer = await admin._send_request(AllowedOnTopics(names))  # noqa: SLF001
    except (IncompatibleBrokerVersion, NotImplementedError):
        return []
    allowed = {
        topic["topic"]: _allowed(topic, TopicAuthorizationFailedError)
        for topic in answer.to_object()["topics"]
    }
    return [right for right in needed if _lacks(right, allowed.get(right.name, _NOT_TOLD))]


async def _missing_on_groups(admin: AIOKafkaAdminClient, needed: list[Right]) -> list[Right]:
    # aiokafka reads the answer as one of an older version, without the rights at its end.
    replace(DescribeGroupsRequest_v3, "RESPONSE_TYPE", DescribeGroupsResponse_v3)
    missing = []
    for right in needed:
        try:
            (answer,) = await admin.describe_consumer_groups(
                [right.name], include_authorized_operations=True
            )
        except GroupAuthorizationFailedError:
            missing.append(right)
            continue
        except (IncompatibleBrokerVersion, NotImplementedError):
            continue
        (group,) = answer.to_object()["groups"]
        if _lacks(right, _allowed(group, GroupAuthorizationFailedError)):
            missing.append(right)
    return missing


async def _missing_on_ids(admin: AIOKafkaAdminClient, needed: list[Right]) -> list[Right]:
    """Ask to write in a transaction of a producer that does not exist, which alters nothing."""
    refused = TransactionalIdAuthorizationFailed
    missing = []
    for right in needed:
        first = f"{right.name}0"
        asked = AddPartitionsToTxnRequest(first, _NO_PRODUCER, _NO_EPOCH, [("any", [0])])
        try:
            node = await admin.find_coordinator(first, _TRANSACTION)
            answer = await admin._send_request(asked, node)  # noqa: SLF001
        except refused:
            missing.append(right)
            continue
        except (IncompatibleBrokerVersion, NotImplementedError):
            continue
        codes = {code for _, partitions in answer.errors for _, code in partitions}
        if refused.errno in codes:
            missing.append(right)
    return missing


def _allowed(resource: dict[str, Any], refused: type[KafkaError]) -> int:
    if resource["error_code"] == refused.errno:
        return 0
    allowed: int = resource["authorized_operations"]
    return allowed
