"""Certificates, and a real broker with TLS, logins and ACLs, for the tests of security."""

import ipaddress
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stream.brokers import ApacheKafka
from stream.brokers.jars import find_kafka, run
from stream.rights import Right

PASSWORD = "pass-word-of-a-test"
KEY_PASSWORD = "key-word-of-a-test"
USERS = ("scoring", "sink", "monitor", "init", "sender")

_KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional id": ResourceType.TRANSACTIONAL_ID,
}
_SECONDS = 20.0
_HERE = "127.0.0.1"


class Authority:
    """Who signs certificates: files in PEM, each with its key, under `folder`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.cafile = folder / f"{name}.pem"
        made = self._signed(self._name, self._key, timedelta(days=1), authority=True)
        self.cafile.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def certificate(
        self,
        name: str,
        *,
        host: str = _HERE,
        lasts: timedelta = timedelta(days=1),
        key_password: str | None = None,
    ) -> Path:
        """Make a certificate for `host` in the name of `name`, with its key in the same file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._signed(subject, key, lasts, host=host)
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if key_password is not None:
            encryption = serialization.BestAvailableEncryption(key_password.encode())
        # PKCS #8, which is the one form that Kafka reads.
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
        path = self._folder / f"{name}.pem"
        path.write_bytes(
            key.private_bytes(*form, encryption) + made.public_bytes(serialization.Encoding.PEM)
        )
        return path

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        lasts: timedelta,
        *,
        host: str | None = None,
        authority: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + lasts)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if authority:
            usage = x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            )
            builder = builder.add_extension(usage, critical=True)
        if host is not None:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_as_name(host)]), critical=False
            )
        return builder.sign(self._key, hashes.SHA256())


def _as_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


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
        made = self.admin.create_acls([_binding(user, right) for right in rights])
        for future in made.values():
            future.result(_SECONDS)

    def revoke(self, user: str, *rights: Right) -> None:
        """Let a user do something no more; with no rights, anything."""
        filters = [
            AclBindingFilter(
                _KINDS[right.kind],
                right.name,
                ResourcePatternType.ANY,
                f"User:{user}",
                None,
                AclOperation[right.operation.upper()],
                AclPermissionType.ANY,
            )
            for right in rights
        ] or [
            AclBindingFilter(
                ResourceType.ANY,
                None,
                ResourcePatternType.ANY,
                f"User:{user}",
                None,
                AclOperation.ANY,
                AclPermissionType.ANY,
            )
        ]
        for future in self.admin.delete_acls(filters).values():
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
def secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    """Start one from the jars; raises BrokerUnavailable."""
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
    with ApacheKafka(listeners, properties) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        wanted = [UserScramCredentialUpsertion(user, how, PASSWORD.encode()) for user in USERS]
        for future in admin.alter_user_scram_credentials(wanted).values():
            future.result(_SECONDS)
        yield SecuredKafka(broker, authority, admin)
