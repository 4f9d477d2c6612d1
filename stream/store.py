"""Settings to ClickHouse: a store that is open."""

from sinks.store import Certificates, ClickHouse, open_store
from stream.settings import Settings
from stream.settings.credentials import secret_of, tls_of


def store_of(settings: Settings, *, read_only: bool = False) -> ClickHouse:
    """Open the store of the settings; raises StoreUnavailable, StoreRefused, SettingsInvalid."""
    store = settings.store
    prefix = "CREDITSTREAM_STORE__"
    if store.ssl_cafile or store.ssl_certfile:
        # The driver's errors do not name what is wrong with which file.
        tls_of(prefix, store.ssl_cafile, store.ssl_certfile, store.ssl_keyfile)
    return open_store(
        store.url,
        user=store.user,
        password=secret_of(store.password, store.password_file, f"{prefix}PASSWORD"),
        database=store.database,
        certificates=Certificates(store.ssl_cafile, store.ssl_certfile, store.ssl_keyfile),
        read_only=read_only,
    )
