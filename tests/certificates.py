"""Certificates of a test's own, for 127.0.0.1 or for somewhere else."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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
