"""Every client of Kafka is made here, so that none lacks security; what is wrong is named."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest
from faust.auth import Credentials, SASLCredentials, SSLCredentials

from stream.settings import KafkaSettings
from stream.settings.credentials import secret_of, tls_of

_PREFIX = "CREDITSTREAM_KAFKA__"
_SERVERS = f"{_PREFIX}BOOTSTRAP_SERVERS"
_LOGIN_MS = 5_000


class KafkaUnavailable(Exception):
    """No broker answers, or it lacks topics; says which, and what to do."""


class KafkaRefused(Exception):
    """A broker or this client does not accept who the other is; trying again changes nothing."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user, as SASL tells it."""

    mechanism: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Connection:
    """
    The brokers' addresses, and how they are spoken to: in the clear unless `login` or `tls` is set.

    `servers` is comma-separated host:port.
    """

    servers: str
    login: Login | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def protocol(self) -> str:
        """Kafka's name of the security protocol."""
        return ("SASL_" if self.login else "") + ("SSL" if self.tls else "PLAINTEXT")

    def producer(self, **options: Any) -> AIOKafkaProducer:
        """Make a producer, not yet started."""
        return AIOKafkaProducer(**self._options(), **options)

    def consumer(self, *topics: str, **options: Any) -> AIOKafkaConsumer:
        """Make a consumer, not yet started."""
        return AIOKafkaConsumer(*topics, **self._options(), **options)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """Give a started client for administration."""
        admin = AIOKafkaAdminClient(**self._options())
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    def credentials(self) -> Credentials | None:
        """Give the same for Faust, which makes its clients itself."""
        if self.login:
            return SASLCredentials(
                username=self.login.username,
                password=self.login.password,
                mechanism=self.login.mechanism,
                ssl_context=self.tls,
            )
        return SSLCredentials(self.tls) if self.tls else None

    @asynccontextmanager
    async def errors_named(self) -> AsyncIterator[None]:
        """Turn Kafka's errors into KafkaRefused and KafkaUnavailable, naming the broker."""
        try:
            yield
        except (KafkaError, TimeoutError, OSError) as error:
            cause = str(error) or type(error).__name__
            away = isinstance(error, (KafkaConnectionError, TimeoutError, OSError))
            if isinstance(error, KafkaConnectionError):
                # aiokafka says why it could not start to its log alone.
                cause = await self._ask_why() or cause
            said = "no broker at" if away else "trouble with the broker at"
            msg = f"{said} {self.servers} ({cause}); set {_SERVERS}"
            raise KafkaUnavailable(msg) from None

    async def _ask_why(self) -> str:
        """Log in at one broker after the other; raises KafkaRefused where one says no."""
        options = self._options()
        cause = ""
        for host, port, _ in collect_hosts(options.pop("bootstrap_servers")):
            try:
                conn = await create_conn(host, port, request_timeout_ms=_LOGIN_MS, **options)
                try:
                    # Before it knows who asks, a broker tells its versions, but this to nobody.
                    await conn.send(MetadataRequest([]))
                finally:
                    conn.close()
            except (KafkaError, OSError) as error:
                if said := self._refusal(f"{host}:{port}", error):
                    raise KafkaRefused(said) from None
                if isinstance(error, (KafkaConnectionError, ConnectionResetError, ssl.SSLError)):
                    by = f"{_PREFIX}SECURITY_PROTOCOL={self.protocol}"
                    cause = f"{host}:{port} closed the connection; does it speak {by}?"
            else:
                return ""
        return cause

    def _refusal(self, address: str, error: Exception) -> str:
        """Say who refuses whom, and which setting it is of; nothing where it may pass."""
        broken = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
        if isinstance(broken, ssl.SSLError):
            return _tls_refusal(address, broken)
        by = self.login.mechanism if self.login else ""
        user = self.login.username if self.login else ""
        said = {
            SaslAuthenticationFailed: f"refuses user {user!r} by {by}: see {_PREFIX}SASL_USERNAME, "
            f"…SASL_PASSWORD",
            UnsupportedSaslMechanismError: f"does not know {by}: see {_PREFIX}SASL_MECHANISM",
            IllegalSaslStateError: f"asks for no user: see {_PREFIX}SECURITY_PROTOCOL",
        }.get(type(error))
        return f"{address} {said}" if said else ""

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": self.protocol,
            "ssl_context": self.tls,
        }
        if self.login:
            options |= {
                "sasl_mechanism": self.login.mechanism,
                "sasl_plain_username": self.login.username,
                "sasl_plain_password": self.login.password,
            }
        return options


def _tls_refusal(address: str, error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".")
        return f"the certificate of {address} is refused ({why}): see {_PREFIX}SSL_CAFILE"
    reason = error.reason or ""
    if not reason or "EOF" in reason:
        return ""
    if "ALERT" in reason:
        return f"{address} refuses our certificate ({reason}): see {_PREFIX}SSL_CERTFILE"
    return f"{address} does not speak TLS ({reason}): see {_PREFIX}SECURITY_PROTOCOL"


@cache
def connection_of(kafka: KafkaSettings) -> Connection:
    """
    Give the connection of the settings; their files are read once in a process.

    Raises SettingsInvalid, naming the setting and its file.
    """
    login, tls = None, None
    if kafka.with_sasl:
        password = secret_of(
            kafka.sasl_password, kafka.sasl_password_file, f"{_PREFIX}SASL_PASSWORD"
        )
        assert kafka.sasl_username is not None
        login = Login(kafka.sasl_mechanism, kafka.sasl_username, password)
    if kafka.with_tls:
        key_password = secret_of(
            kafka.ssl_key_password, kafka.ssl_key_password_file, f"{_PREFIX}SSL_KEY_PASSWORD"
        )
        tls = tls_of(_PREFIX, kafka.ssl_cafile, kafka.ssl_certfile, kafka.ssl_keyfile, key_password)
    return Connection(kafka.bootstrap_servers, login, tls)
