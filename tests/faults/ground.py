"""Broker and ClickHouse of the fault suite, and the lines to them that can be spoilt."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from stream.brokers import ApacheKafka
from tests.clickhouse import ChdbServer
from tests.faults.proxy import Proxy
from tests.secured import SecuredKafka, secured_kafka


@dataclass(frozen=True, slots=True)
class Ground:
    """A broker and a ClickHouse, and the lines by which workers reach them."""

    secured: SecuredKafka
    broker_line: Proxy
    store: ChdbServer
    store_line: Proxy

    @property
    def broker(self) -> ApacheKafka:
        """The broker; who does not come by a listener of `secured` may do anything."""
        return self.secured.broker

    def mend(self) -> None:
        """Take back all that was done to them."""
        self.broker_line.set("whole")
        self.store_line.set("whole")
        self.store.mend()


@contextmanager
def a_ground(folder: Path) -> Iterator[Ground]:
    """Start broker and ClickHouse, each behind a proxy."""
    with ExitStack() as stack:
        broker_line = stack.enter_context(Proxy())
        secured = stack.enter_context(secured_kafka(folder, broker_line.port))
        broker_line.target = secured.broker.proxied_port
        store = stack.enter_context(ChdbServer(folder))
        store_port = int(store.server.url.rpartition(":")[2])
        store_line = stack.enter_context(Proxy(store_port))
        yield Ground(secured, broker_line, store, store_line)
