"""ClickHouse over TLS: with a certificate on either side, and a clear word where one is wrong."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest
from pydantic import SecretStr

from sinks.migrations import migrate
from sinks.store import Certificates, StoreRefused, StoreUnavailable, open_store
from stream.settings import Settings, SettingsInvalid, StoreSettings
from stream.store import store_of
from tests.certificates import Authority
from tests.clickhouse import ChdbServer, Server
from tests.integration.sinks.stored import rows


@dataclass(frozen=True, slots=True)
class Secured:
    """A server that speaks https and asks for a certificate, and who signs them."""

    server: Server
    authority: Authority

    @property
    def certificate(self) -> Path:
        """Give a certificate in the name of the server's user."""
        return self.authority.certificate(self.server.user)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    with ChdbServer(folder, authority.certificate("server"), authority.cafile) as running:
        yield Secured(running.server, authority)


@pytest.mark.parametrize("with_password", [True, False])
def test_a_user_comes_in_by_a_certificate_with_a_password_or_without(
    secured: Secured, tmp_path: Path, with_password: bool
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{secured.server.password}\n")
    given = StoreSettings(
        url=secured.server.url,
        user=secured.server.user,
        database=f"with_password_{with_password}",
        password_file=file if with_password else None,
        ssl_cafile=secured.authority.cafile,
        ssl_certfile=secured.certificate,
    )

    store = store_of(Settings(store=given))
    try:
        migrate(store)
        assert rows(store, "SELECT count() AS n FROM decisions") == [{"n": 0}]
    finally:
        store.close()


def refusal(url: str, certificates: Certificates) -> str:
    with pytest.raises(StoreRefused) as refused:
        open_store(url, user="u", password="hunter2", database="d", certificates=certificates)
    said = str(refused.value)
    assert "hunter2" not in said
    assert "\n" not in said
    return said.removeprefix(f"cannot open the store {url}: ")


@contextmanager
def listening(certificate: Path) -> Iterator[str]:
    """Shake hands with a certificate, and hang up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # the client hangs up
                context.wrap_socket(self.request, server_side=True).close()

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_servers_certificate_that_does_not_hold_is_told_with_the_reason(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    for certificate, cafile, reason in (
        (authority.certificate("server"), other.cafile, "unable to get local issuer certificate"),
        (
            authority.certificate("expired", lasts=timedelta(days=-1)),
            authority.cafile,
            "certificate has expired",
        ),
        (
            authority.certificate("elsewhere", host="clickhouse.example.com"),
            authority.cafile,
            "IP address mismatch, certificate is not valid for '127.0.0.1'",
        ),
    ):
        with listening(certificate) as url:
            said = refusal(url, Certificates(cafile))

        assert said == f"its certificate is refused ({reason})"


def test_a_server_that_asks_for_a_certificate_says_no_to_who_has_none(
    secured: Secured, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path).certificate("foreign")
    for certfile in (None, foreign):
        certificates = Certificates(secured.authority.cafile, certfile)
        with pytest.raises((StoreRefused, StoreUnavailable)) as refused:
            open_store(
                secured.server.url,
                user=secured.server.user,
                password=secured.server.password,
                database="d",
                certificates=certificates,
            )

        # Its word may be lost: it hangs up on what the client already says.
        said = str(refused.value).partition(f"{secured.server.url}: ")[2]
        assert said.startswith(("it refuses our certificate (", "it hung up; does it ask for our"))


def test_a_server_without_tls_is_told_from_one_that_is_away(chdb_server: ChdbServer) -> None:
    url = chdb_server.server.url.replace("http:", "https:")

    assert refusal(url, Certificates()).startswith("it does not speak TLS")


def test_a_file_that_holds_no_certificate_is_named_by_its_setting(tmp_path: Path) -> None:
    nothing = tmp_path / "ca.pem"
    given = StoreSettings(url="https://127.0.0.1:1", ssl_cafile=nothing, password=SecretStr("x"))

    with pytest.raises(SettingsInvalid, match=f"STORE__SSL_CAFILE: {nothing}: No such file"):
        store_of(Settings(store=given))
    nothing.write_text("nothing")
    with pytest.raises(SettingsInvalid, match=r"STORE__SSL_CAFILE: .*no certificate in PEM"):
        store_of(Settings(store=given))
