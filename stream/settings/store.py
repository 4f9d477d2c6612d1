"""ClickHouse's section: where it is, and who we are there."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from stream.settings.section import NO_SECRET, Addresses, Section, forbid, one_secret


class StoreSettings(Section):
    """Where ClickHouse is."""

    url: Addresses = Field(
        "http://127.0.0.1:8123",
        pattern="^(https?://[^@/?#]+/?|chdb://.+)$",
        description="http(s)://host:port without user and password, or chdb:///path (embedded).",
    )
    door: Addresses = Field(
        "http://127.0.0.1:8011", description="The status service of who hosts an embedded store."
    )
    user: str = Field("default", description="Of a ClickHouse server.")
    password: SecretStr = Field(NO_SECRET, description="Of that user; never shown.")
    password_file: Path | None = Field(None, description="A file that holds it instead.")
    database: str = Field("creditstream", description="Created where it is missing.")
    insert_seconds: Annotated[float, Field(ge=0, le=10)] = Field(
        1.0, description="Between two inserts into a table, unless 8 MiB of records wait."
    )
    ssl_cafile: Path | None = Field(
        None, description="Whom to trust, PEM; not set: whom the system trusts."
    )
    ssl_certfile: Path | None = Field(
        None, description="Our certificate, PEM; without a password it tells the user, too."
    )
    ssl_keyfile: Path | None = Field(
        None, description="Its private key, PEM, without a password; not set: in the same file."
    )

    @model_validator(mode="after")
    def _security_agrees(self) -> Self:
        """Refuse what would silently not be used."""
        one_secret(self, "store", "password")
        if self.url.startswith("http:"):
            forbid(self, "store", "with http:", "ssl_cafile", "ssl_certfile", "ssl_keyfile")
        if self.ssl_certfile is None:
            forbid(self, "store", "without …SSL_CERTFILE", "ssl_keyfile")
        return self
