"""Secrets and certificates in files: read, or refused by the setting that named them."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from stream.kafka.connection import connection_of
from stream.settings import KafkaSettings, SettingsInvalid
from stream.settings.credentials import secret_of, tls_of
from tests.certificates import Authority

NAME = "CREDITSTREAM_KAFKA__SASL_PASSWORD"
PREFIX = "CREDITSTREAM_KAFKA__"


@pytest.mark.parametrize("text", ["päss word", "päss word\n", "päss word\r\n"])
def test_a_secret_is_the_text_of_its_file_without_the_end_of_the_line(
    text: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(text.encode())

    assert secret_of(SecretStr(""), file, NAME) == "päss word"


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file or directory"), (b"\n", "is empty"), (b"\xff", "is not UTF-8")],
)
def test_a_file_without_a_secret_is_refused_by_the_name_of_its_setting(
    content: bytes | None, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(SettingsInvalid, match=f"^{NAME}_FILE: {file}:? {said}$"):
        secret_of(SecretStr(""), file, NAME)


def test_a_certificate_whose_key_needs_another_password_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    locked = authority.certificate("us", key_password="the one")

    tls_of(PREFIX, authority.cafile, locked, None, "the one")
    for password in ("another", ""):  # none, for which OpenSSL would ask at the terminal
        with pytest.raises(SettingsInvalid, match=r"SSL_CERTFILE.*another key password"):
            tls_of(PREFIX, authority.cafile, locked, None, password)


def test_a_file_that_is_no_certificate_is_refused_by_the_name_of_its_setting(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    ours, nothing, missing = authority.certificate("us"), tmp_path / "nothing", tmp_path / "no"
    nothing.write_text("nothing")

    for cafile, certfile, keyfile, said in (
        (missing, None, None, f"SSL_CAFILE: {missing}: No such file or directory"),
        (nothing, None, None, f"SSL_CAFILE: {nothing}: it holds no certificate in PEM"),
        (None, missing, None, f"SSL_CERTFILE: {missing}: No such file or directory"),
        (None, ours, missing, f"SSL_KEYFILE: {missing}: No such file or directory"),
        (None, nothing, None, f"SSL_CERTFILE, …SSL_KEYFILE: {nothing}: no certificate"),
        (None, ours, nothing, f"SSL_CERTFILE, …SSL_KEYFILE: {ours}, {nothing}: no certificate"),
    ):
        with pytest.raises(SettingsInvalid) as refused:
            tls_of(PREFIX, cafile, certfile, keyfile)
        assert str(refused.value).startswith(PREFIX + said)


def test_a_connection_checks_who_answers_and_shows_no_secret(tmp_path: Path) -> None:
    kafka = KafkaSettings(
        security_protocol="SASL_SSL",
        sasl_username="u",
        sasl_password=SecretStr("hunter2"),
        ssl_cafile=Authority(tmp_path).cafile,
    )

    connection = connection_of(kafka)

    assert connection.tls is not None
    assert connection.tls.check_hostname
    assert connection.tls.verify_mode.name == "CERT_REQUIRED"
    assert connection.protocol == "SASL_SSL"
    shown = f"{kafka!r} {connection!r} {connection.credentials()!r}"
    assert "hunter2" not in shown
