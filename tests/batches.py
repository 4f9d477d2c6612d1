"""Kafka's record batches with what a client in Python cannot write: header names of any bytes."""

import struct
from collections.abc import Sequence

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c_py

RawHeaders = Sequence[tuple[bytes, bytes | None]]

_CRC, _ATTRIBUTES = 17, 21
_COUNT = 57


class RawBatch(BatchBuilder):  # type: ignore[misc] # untyped library
    """A batch whose records' headers have the names that are given, byte for byte."""

    def __init__(self) -> None:
        super().__init__(10_000_000, 0, is_transactional=False)
        self._names: list[tuple[bytes, bytes]] = []

    def add(
        self, key: bytes | None, value: bytes | None, headers: RawHeaders, timestamp: int
    ) -> None:
        """Append a record."""
        named = []
        for name, content in headers:
            try:
                stand_in = name.decode()
            except UnicodeDecodeError:
                # As long, and found again.
                stand_in = f"{len(self._names):~>{len(name)}}"
                self._names.append((stand_in.encode(), name))
            named.append((stand_in, content))
        assert self.append(key=key, value=value, timestamp=timestamp, headers=named) is not None

    def _build(self) -> bytearray:
        built = bytearray(super()._build())
        for stand_in, name in self._names:
            at = built.find(stand_in, _COUNT)
            assert built.count(stand_in) == 1
            built[at : at + len(name)] = name
        struct.pack_into(">I", built, _CRC, calc_crc32c_py(bytes(built[_ATTRIBUTES:])))
        return built
