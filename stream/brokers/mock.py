"""librdkafka's mock cluster, for first runs and quick tests."""

import sys
import tempfile
from pathlib import Path
from typing import Self

from stream.brokers.guarded import Broker, BrokerUnavailable, GuardedProcess

_PROGRAM = Path(__file__).with_name("mock_cluster.py")
_READY_SECONDS = 30.0


class MockBroker(Broker):
    """
    One mock broker in a process of its own: a real socket, and nothing more than pip needs.

    It keeps about 5 MB a partition, in memory only. Topics appear when first used, with four
    partitions. Its transactions and its timing prove nothing.
    """

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: GuardedProcess | None = None

    def start(self) -> Self:
        """Start it; raises BrokerUnavailable, usually because the extra `demo` is missing."""
        self._folder = tempfile.TemporaryDirectory(prefix="creditstream-mock-")
        folder = Path(self._folder.name)
        command = [sys.executable, "-I", str(_PROGRAM)]
        try:
            self._process = GuardedProcess("the mock broker", command, folder, folder / "log")
            ready = self._process.await_line(r"^serving (\S+)$", _READY_SECONDS)
        except BrokerUnavailable as error:
            self.stop()
            if "No module named 'confluent_kafka'" not in str(error):
                raise
            msg = "the mock broker needs confluent-kafka: install creditstream[demo]"
            raise BrokerUnavailable(msg) from None
        self.bootstrap_servers = ready[1]
        return self

    def stop(self) -> None:
        """End it, and with it every record it holds."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()
