"""The same work by others: the same topic, events, table and model, each on one core, in turn."""

import asyncio
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
from aiokafka import TopicPartition
from rich.console import Console
from rich.table import Table

from scoring.byte_strings import ByteStrings
from sinks.door import SqlDoor
from stream.bench.machine import Machine, print_json, print_machine, this_machine
from stream.bench.made_up import PARTITIONS, SHAPE, MadeUp, made_up, settings_for
from stream.bench.stored import await_stored
from stream.bench.workers import pin, with_port, worker_of
from stream.brokers import ApacheKafka
from stream.demo.installation import free_ports
from stream.kafka.connection import Connection, connection_of
from stream.kafka.packing import OutColumns, PackedRecords, pack
from stream.kafka.publisher import Publisher
from stream.kafka.records import records_of
from stream.kafka.topics import create_topics
from stream.process.children import await_end
from stream.settings import KafkaSettings, Settings, Way

OURS, OURS_ONCE, ALONE = "creditstream", "creditstream, exactly once", "LightGBM alone"
OURS_STORED = "creditstream, with ClickHouse"
PEERS = (
    "faust",
    "faust-take",
    "aiokafka",
    "aiokafka-batched",
    "confluent",
    "confluent-batched",
    "quix",
    "quix-batched",
    "bytewax",
    "bytewax-batched",
)

_WARM_UP, _MOST = 2_000, 400_000
_WARM_UP_SECONDS = 1.0
_BATCH = 500
_CHUNK_BATCHES = 8
_PATIENCE_SECONDS = 180.0
_LOOK_SECONDS = 0.05
_PREDICTED_ROWS, _PREDICTED_SECONDS = 1_024, 2.0
_STOP_SECONDS = 10.0
_SETTLE_SECONDS = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Ran(msgspec.Struct, frozen=True):
    """
    One run of one contender: wall time, and events a processor second of its processes.

    With ClickHouse these are the scoring worker and the sink, which has the engine in it, on the
    same core, and the run ends when all is in its tables. `lost` counts the events that no
    committed record answers, `twice` the answers beyond one an event, both as read from the topics
    afterwards.
    """

    events: int
    events_per_second: float
    events_per_cpu_second: float
    lost: int = 0
    twice: int = 0


class PeersBench(msgspec.Struct, frozen=True):
    """
    What `creditstream bench peers` found, by contender, a figure for each round in turn.

    `times_slower` has the median over the rounds of our events a processor second to theirs.
    """

    machine: Machine
    model: str
    partitions: int
    runs: dict[str, list[Ran]]
    times_slower: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Contender:
    """What runs: its processes, the topics where its answers are, and its store, if it has one."""

    pids: Sequence[int]
    kafka: KafkaSettings
    answers: Sequence[str]
    store: SqlDoor | None = None

    def cpu_seconds(self) -> float:
        """Give the processor time of all its processes."""
        return sum(map(_cpu_seconds, self.pids))


def bench_peers(
    console: Console, others: str | None, rounds: int, seconds: float, only: Sequence[str] = ()
) -> PeersBench:
    """
    Let each contender do the same work for so many seconds a round, one after the other.

    `others` is the command that runs a peer (see bench/peers); without it, ours stand alone.
    Raises BrokerUnavailable where no Java is.
    """
    cores = sorted(os.sched_getaffinity(0))
    contenders = [OURS, OURS_ONCE, OURS_STORED, ALONE, *(PEERS if others else ())]
    chosen = [one for one in contenders if not only or one in only]
    runs: dict[str, list[Ran]] = {one: [] for one in chosen}
    os.sched_setaffinity(0, cores[1:] or cores)
    try:
        with tempfile.TemporaryDirectory(prefix="creditstream-peers-") as made:
            with console.status("training"):
                work = made_up(Path(made))
                batches = list(_batches(len(work.rows)))
            with ApacheKafka() as broker:
                for number in range(rounds):
                    for name in chosen:
                        with console.status(f"round {number + 1} of {rounds}: {name}"):
                            ran = _run(
                                name,
                                work,
                                batches,
                                broker.bootstrap_servers,
                                others,
                                cores,
                                seconds,
                            )
                        runs[name].append(ran)
    finally:
        os.sched_setaffinity(0, cores)
    rates = {name: [one.events_per_cpu_second for one in of] for name, of in runs.items()}
    slower = {
        name: round(median(ours / theirs for ours, theirs in zip(rates[OURS], of, strict=True)), 2)
        for name, of in rates.items()
        if OURS in rates
    }
    return PeersBench(this_machine(len(cores)), SHAPE, PARTITIONS, runs, slower)


def _batches(applicants: int) -> Iterator[PackedRecords]:
    """Make batches of events, all different, of applicants whom the table knows."""
    random = np.random.default_rng(1)
    now = datetime.now(UTC)
    for _ in range((2 * _WARM_UP + 2 * _MOST) // _BATCH):
        picked = random.integers(1, applicants, _BATCH, endpoint=True).tolist()
        values = [
            msgspec.json.encode(
                {
                    "event_id": random.bytes(16).hex(),
                    "application_id": key,
                    "submitted_at": now,
                    "applicant_id": f"A-{key:08}",
                }
            )
            for key in picked
        ]
        keys = [f"A-{key:08}".encode() for key in picked]
        records = OutColumns(
            ByteStrings.of(keys), ByteStrings.of(values), [], [], int(now.timestamp() * 1e3)
        )
        yield from pack("applications", records)


def _run(
    name: str,
    work: MadeUp,
    batches: Sequence[PackedRecords],
    servers: str,
    others: str | None,
    cores: Sequence[int],
    seconds: float,
) -> Ran:
    if name == ALONE:
        return _predict_alone(work, cores[0])
    way: Way = "exactly_once" if name == OURS_ONCE else "at_least_once"
    settings = settings_for(work, servers, way)
    if name in (OURS, OURS_ONCE, OURS_STORED):
        starting = _ours(settings, work.folder, cores[0], stored=name == OURS_STORED)
    else:
        assert others is not None
        starting = _peer(name, shlex.split(others), settings.kafka, work, cores[0])
    with starting as contender:
        return asyncio.run(_measure(contender, batches, seconds))


@contextmanager
def _ours(settings: Settings, folder: Path, core: int, *, stored: bool) -> Iterator[_Contender]:
    kafka = settings.kafka
    with ExitStack() as stack:
        workers = [stack.enter_context(worker_of(folder, settings, core))]
        door = None
        if stored:
            (port,) = free_ports(1)
            url = f"chdb://{folder / f'clickhouse-{kafka.group_prefix}'}"
            store = settings.store.model_copy(update={"url": url})
            of_sink = with_port(settings.model_copy(update={"store": store}), port)
            workers.append(stack.enter_context(worker_of(folder, of_sink, core, "sink")))
            door = SqlDoor(workers[-1].url)
        yield _Contender([one.pid for one in workers], kafka, (kafka.decisions, kafka.parked), door)


@contextmanager
def _peer(
    name: str, command: Sequence[str], kafka: KafkaSettings, work: MadeUp, core: int
) -> Iterator[_Contender]:
    asyncio.run(create_topics(kafka))
    given = {
        "servers": kafka.bootstrap_servers,
        "applications": kafka.applications,
        "decisions": kafka.decisions,
        "group": f"{kafka.group_prefix}-{name}",
        "model": work.model,
        "table": work.table,
    }
    options = [part for key, value in given.items() for part in (f"--{key}", str(value))]
    log = work.folder / f"{name}.log"
    with log.open("ab") as said:
        process = subprocess.Popen(  # noqa: S603 - what the user names
            [*command, name, *options], stdout=said, stderr=said
        )
    pin(process.pid, {core})
    try:
        yield _Contender([process.pid], kafka, [kafka.decisions])
    except TimeoutError:
        tail = log.read_text(errors="replace")[-2_000:]
        msg = f"{name} gave no answers (exit code {process.poll()}); it said: {tail}"
        raise PeerFailed(msg) from None
    finally:
        process.send_signal(signal.SIGTERM)
        await_end(process, _STOP_SECONDS)


class PeerFailed(Exception):
    """A peer does not do its work: says what it said."""


async def _measure(contender: _Contender, batches: Sequence[PackedRecords], seconds: float) -> Ran:
    connection = connection_of(contender.kafka)
    topics = [TopicPartition(t, p) for t in contender.answers for p in range(PARTITIONS)]
    async with Publisher(connection, client_id="bench") as publisher, connection.consumer() as ends:

        async def send(first: int, events: int) -> None:
            """Send batches in turn, from the first on."""
            wanted = range(first // _BATCH, (first + events) // _BATCH)
            for number in range(wanted.start, wanted.stop, _CHUNK_BATCHES * PARTITIONS):
                async with asyncio.TaskGroup() as sending:
                    for partition in range(PARTITIONS):
                        at = range(number + partition, wanted.stop, PARTITIONS)[:_CHUNK_BATCHES]
                        own = [batches[one] for one in at]
                        sending.create_task(
                            publisher.publish(contender.kafka.applications, partition, own)
                        )

        async def answered(events: int) -> float:
            """Wait for so many answers in all; give when they were there."""
            async with asyncio.timeout(patience):
                done = 0
                while done < events:
                    done = sum((await ends.end_offsets(topics)).values())
                    await asyncio.sleep(0 if done >= events else _LOOK_SECONDS)
            return time.perf_counter()

        async def stored(events: int) -> float:
            """Wait for so many in ClickHouse, where there is one; give when they were there."""
            if contender.store is not None:
                await await_stored(contender.store, contender.kafka.applications, events, patience)
            return time.perf_counter()

        async def run(first: int, events: int) -> tuple[Ran, float]:
            """Have so many events done, from the first on; give how many were answered a second."""
            cpu_before, started = contender.cpu_seconds(), time.perf_counter()
            async with asyncio.TaskGroup() as group:
                group.create_task(send(first, events))
                rate = events / (await answered(first + events) - started)
            took_s = await stored(first + events) - started
            cpu_s = max(contender.cpu_seconds() - cpu_before, 1 / _TICKS)
            return Ran(events, round(events / took_s, 1), round(events / cpu_s, 1)), rate

        patience = _PATIENCE_SECONDS + 10 * seconds
        done, rate = 0, 0.0
        # How many it does in a while is known once it has begun, and better once it is warm.
        for lasting in (0.0, 0.0, _WARM_UP_SECONDS, seconds):
            events = int(min(max(rate * lasting, _WARM_UP), _MOST)) // _BATCH * _BATCH
            ran, rate = await run(done, events)
            done += events
    lost, twice = await _checked(connection, contender.answers, done)
    return msgspec.structs.replace(ran, lost=lost, twice=twice)


async def _checked(connection: Connection, topics: Sequence[str], events: int) -> tuple[int, int]:
    """
    Count the events that have no answer and the answers that stand again, by reading them.

    The ends of topics do not tell: markers of transactions have offsets, too. Answers may still
    come for a while.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        answers = [
            record.value for topic in topics for record in await records_of(connection, topic)
        ]
        distinct = len({msgspec.json.decode(answer, type=_Answer).event_id for answer in answers})
        if distinct >= events or time.monotonic() > deadline:
            return events - distinct, len(answers) - distinct
        await asyncio.sleep(_LOOK_SECONDS)


class _Answer(msgspec.Struct):
    event_id: str


def _cpu_seconds(pid: int) -> float:
    """Give the processor time of a process, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _predict_alone(work: MadeUp, core: int) -> Ran:
    """Predict the table's rows by LightGBM on one thread and nothing else."""
    import lightgbm

    booster = lightgbm.Booster(model_file=str(work.model))
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        rows, done = work.rows, 0
        booster.predict(rows[:_PREDICTED_ROWS], num_threads=1)
        started, cpu_before = time.perf_counter(), time.process_time()
        while time.perf_counter() - started < _PREDICTED_SECONDS:
            at = done % (len(rows) - _PREDICTED_ROWS)
            booster.predict(rows[at : at + _PREDICTED_ROWS], num_threads=1)
            done += _PREDICTED_ROWS
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_before
    finally:
        os.sched_setaffinity(0, before)
    return Ran(done, round(done / seconds, 1), round(done / cpu_s, 1))


def print_bench(result: PeersBench, *, as_json: bool) -> None:
    """Print a measurement: a table for people, one JSON document for machines."""
    if as_json:
        print_json(result)
        return
    console = Console()
    print_machine(console, result.machine)
    shown = Table("contender", "events/s", "events/processor second", "ours is so many times")
    for name, runs in result.runs.items():
        rates = [
            f"{median(getattr(run, rate) for run in runs):,.0f}"
            for rate in ("events_per_second", "events_per_cpu_second")
        ]
        slower = result.times_slower.get(name)
        shown.add_row(name, *rates, "" if slower is None else f"{slower:.2f}")
    console.print(shown)
