"""A real broker with TLS, logins and ACLs, for the tests of security."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from stream.brokers import ApacheKafka
from stream.brokers.jars import find_kafka, run
from stream.kafka.rights import Right
from tests.certificates import Authority

PASSWORD = "pass-word-of-a-test"
KEY_PASSWORD = "key-word-of-a-test"
USERS = ("scoring", "sink", "monitor", "init", "sender")

_KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional id": ResourceType.TRANSACTIONAL_ID,
}
_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class SecuredKafka:
    """
    A broker with a listener for each way to come in, and ACLs; `broker` lets anybody do anything.

    `SCRAM`, `PLAIN` and `CLEAR` (SCRAM without TLS) ask for one of `USERS` and `PASSWORD`, `MUTUAL`
    for a certificate in the name of one; `EXPIRED` and `ELSEWHERE` have a certificate of that kind.
    """

    broker: ApacheKafka
    authority: Authority
    admin: AdminClient

    def grant(self, user: str, *rights: Right) -> None:
        """Let a user do something."""
        wanted = [_binding(user, right) for right in rights]
        for future in self.admin.create_acls(wanted).values():
            future.result(_SECONDS)
        self._wait_until(lambda: set(wanted) <= self._granted(user))

    def revoke(self, user: str, *rights: Right) -> None:
        """Let a user do something no more; with no rights, anything."""
        unwanted = {_binding(user, right) for right in rights} or self._granted(user)
        filters = [
            AclBindingFilter(
                one.restype,
                one.name,
                one.resource_pattern_type,
                one.principal,
                one.host,
                one.operation,
                one.permission_type,
            )
            for one in unwanted
        ]
        for future in self.admin.delete_acls(filters).values() if filters else ():
            future.result(_SECONDS)
        self._wait_until(lambda: not unwanted & self._granted(user))

    def _granted(self, user: str) -> set[AclBinding]:
        anything = AclBindingFilter(
            ResourceType.ANY,
            None,  # type: ignore[arg-type] # any
            ResourcePatternType.ANY,
            f"User:{user}",
            None,  # type: ignore[arg-type] # any
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        return set(self.admin.describe_acls(anything).result(_SECONDS))

    def _wait_until(self, reached: Callable[[], bool]) -> None:
        """Wait for the broker, which hears of a change a moment after its controller."""
        deadline = time.monotonic() + _SECONDS
        while not reached():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def set_password(self, user: str, password: str) -> None:
        """Let a user come in by SCRAM with this password alone."""
        how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        wanted = UserScramCredentialUpsertion(user, how, password.encode())
        for future in self.admin.alter_user_scram_credentials([wanted]).values():
            future.result(_SECONDS)

    def run_kafka_acls(self, line: str) -> str:
        """Run a line of `kafka-acls.sh`, with this broker's address in place of its own."""
        kafka = find_kafka()
        program, *arguments = shlex.split(line)
        assert program == "kafka-acls.sh"
        at = arguments.index("--bootstrap-server")
        arguments[at + 1] = self.broker.bootstrap_servers
        command = [kafka.java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        tool = ["-cp", f"{kafka.jars}/*", "org.apache.kafka.tools.AclCommand"]
        return run([*command, *tool, *arguments])


def _binding(user: str, right: Right) -> AclBinding:
    prefixed = right.kind == "transactional id"
    return AclBinding(
        _KINDS[right.kind],
        right.name,
        ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        AclOperation[right.operation.upper()],
        AclPermissionType.ALLOW,
    )


@contextmanager
def secured_kafka(folder: Path, proxy_port: int | None = None) -> Iterator[SecuredKafka]:
    """Start one from the jars, perhaps behind a proxy, too; raises BrokerUnavailable."""
    authority = Authority(folder)
    expired = authority.certificate("expired", lasts=timedelta(days=-1))
    elsewhere = authority.certificate("elsewhere", host="kafka.example.com")
    module = "org.apache.kafka.common.security"
    scram = f"{module}.scram.ScramLoginModule required;"
    users = " ".join(f'user_{user}="{PASSWORD}"' for user in USERS)
    listeners = {
        "SCRAM": "SASL_SSL",
        "PLAIN": "SASL_SSL",
        "CLEAR": "SASL_PLAINTEXT",
        "MUTUAL": "SSL",
        "EXPIRED": "SSL",
        "ELSEWHERE": "SSL",
    }
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(authority.certificate("broker")),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.cafile),
        "ssl.principal.mapping.rules": "RULE:^CN=(.*?)$/$1/",
        "listener.name.mutual.ssl.client.auth": "required",
        **{
            f"listener.name.{name}.ssl.keystore.{what}": value
            for name, path in (("expired", expired), ("elsewhere", elsewhere))
            for what, value in (("type", "PEM"), ("location", str(path)))
        },
        **{
            f"listener.name.{name}.{what}": value
            for name in ("scram", "clear")
            for what, value in (
                ("sasl.enabled.mechanisms", "SCRAM-SHA-512"),
                ("scram-sha-512.sasl.jaas.config", scram),
            )
        },
        "listener.name.plain.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.plain.plain.sasl.jaas.config": f"{module}.plain.PlainLoginModule required "
        f"{users};",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # who comes by the listener that asks for nothing
    }
    with ApacheKafka(proxy_port, listeners, properties) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        secured = SecuredKafka(broker, authority, admin)
        for user in USERS:
            secured.set_password(user, PASSWORD)
        yield secured
