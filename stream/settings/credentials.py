"""Secrets and certificates from their files; whoever asks says which setting named the file."""

import ssl
from pathlib import Path

from pydantic import SecretStr

from stream.settings.section import SettingsInvalid

_LARGEST = 65_536


def secret_of(value: SecretStr, file: Path | None, variable: str) -> str:
    """
    Give a secret: itself, or the text of its file without the end of a line.

    Raises SettingsInvalid, naming `variable`_FILE, never the secret.
    """
    if file is None:
        return value.get_secret_value()
    name = f"{variable}_FILE"
    try:
        with file.open("rb") as opened:
            text = opened.read(_LARGEST).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        msg = f"{name}: {file} is not UTF-8"
        raise SettingsInvalid(msg) from None
    except OSError as error:
        msg = f"{name}: {file}: {error.strerror}"
        raise SettingsInvalid(msg) from None
    if not text:
        msg = f"{name}: {file} is empty"
        raise SettingsInvalid(msg)
    return text


def tls_of(
    prefix: str,
    cafile: Path | None,
    certfile: Path | None,
    keyfile: Path | None,
    key_password: str = "",
) -> ssl.SSLContext:
    """
    Make what encrypts connections: it checks who answers, by certificate and by host name.

    `prefix` begins the names of the settings, as CREDITSTREAM_KAFKA__. Raises SettingsInvalid,
    naming the setting and its file.
    """
    context = ssl.create_default_context()
    if cafile is not None:
        # Those whom the system trusts are then trusted no more.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        name = f"{prefix}SSL_CAFILE"
        try:
            context.load_verify_locations(cafile)
        except OSError as error:  # ssl.SSLError is one
            msg = f"{name}: {cafile}: {_cause(error, 'it holds no certificate in PEM')}"
            raise SettingsInvalid(msg) from None
    if certfile is not None:
        if not certfile.is_file():
            msg = f"{prefix}SSL_CERTFILE: {certfile}: No such file or directory"
            raise SettingsInvalid(msg)
        if keyfile is not None and not keyfile.is_file():
            msg = f"{prefix}SSL_KEYFILE: {keyfile}: No such file or directory"
            raise SettingsInvalid(msg)
        try:
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(certfile, keyfile, lambda: key_password)
        except OSError as error:
            files = f"{certfile}, {keyfile}" if keyfile else str(certfile)
            cause = _cause(error, "no certificate and its key in PEM, or another key password")
            msg = f"{prefix}SSL_CERTFILE, …SSL_KEYFILE: {files}: {cause}"
            raise SettingsInvalid(msg) from None
    return context


def _cause(error: OSError, unreadable: str) -> str:
    return unreadable if isinstance(error, ssl.SSLError) else error.strerror or str(error)
