"""Records out of the batches that they were packed into, as a reader of the topic finds them."""

from aiokafka.record.memory_records import MemoryRecords

from stream.kafka.packing import OutRecord, PackedBatch, PackedRecords
from stream.kafka.publisher import Output


def records_in(output: Output) -> list[OutRecord]:
    """Give an output's records one by one."""
    found: list[OutRecord] = []
    for one in output.records:
        if isinstance(one, OutRecord):
            found.append(one)
        else:
            found += unpacked(one)
    return found


def unpacked(records: PackedRecords) -> list[OutRecord]:
    """Read a batch as aiokafka does."""
    content = PackedBatch(records, transactional=False)._build()
    batch = MemoryRecords(bytes(content)).next_batch()
    assert batch is not None
    assert batch.validate_crc()
    return [OutRecord(one.key, one.value, list(one.headers), one.timestamp) for one in batch]
