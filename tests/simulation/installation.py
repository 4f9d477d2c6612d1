"""The workers of a simulated installation, which are started, frozen, killed and started again."""

from collections.abc import Awaitable, Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from features.taiwan_default import DEFINITION
from models.policies import policy_text
from monitoring.metrics import Metrics
from scoring.pipeline import Pipeline
from scoring.policy import Policy
from sinks.clickhouse import ClickHouseSink
from stream.agents.parking import parking
from stream.agents.scoring import scoring_agent
from stream.agents.sink import sink_agent
from stream.delivery.at_least_once import AtLeastOnce
from stream.delivery.exactly_once import ExactlyOnce
from stream.settings import KafkaSettings
from tests.builders import a_table
from tests.simulation.broker import Broker
from tests.simulation.clickhouse import SimulatedStore
from tests.simulation.clients import SimulatedConnection
from tests.simulation.consumer import SimulatedApp
from tests.simulation.group import Group
from tests.simulation.loop import Process
from tests.simulation.world import World

APPLICANTS = 12
RELEASES = ("first", "second")
SCORING, SINK = "creditstream-scoring", "creditstream-sink"


class CheapScorer:
    """Scores by two features and a constant of its own; what it adds up to explains it."""

    scored_by = "kernel"

    def __init__(self, constant: float) -> None:
        self._constant = constant

    def default_probability(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Score float32[n, features]: float64[n]."""
        raw = self._constant + matrix[:, 0].astype(np.float64) * 1e-6
        return np.asarray(1.0 / (1.0 + np.exp(-raw)), dtype=np.float64)

    def contributions(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Give the constant as the mean, and nothing but the first feature's part."""
        found = np.zeros((len(matrix), matrix.shape[1] + 1))
        found[:, 0] = matrix[:, 0].astype(np.float64) * 1e-6
        found[:, -1] = self._constant
        return found


@cache
def pipeline_of(release: str) -> Pipeline:
    """Give a release's pipeline: the two decide differently."""
    constant = {"first": -1.4, "second": 0.6}[release]
    return Pipeline(
        release=release,
        definition=DEFINITION,
        table=a_table(*range(1, APPLICANTS + 1)),
        scorer=CheapScorer(constant),
        policy=Policy.parse(policy_text(DEFINITION.name, 0.3, 0.5), DEFINITION.schema.names),
    )


@cache
def metrics() -> Metrics:
    """Give the metrics, which all simulated processes share: nobody reads them."""
    return Metrics.create()


class Worker:
    """One worker, with whatever process runs it at present."""

    def __init__(self, installation: "Installation", name: str, role: str) -> None:
        self.name = name
        self.role = role
        self.wanted = True
        self.starts = 0
        self.process: Process | None = None
        self.app: SimulatedApp | None = None
        self._installation = installation

    @property
    def alive(self) -> bool:
        """Whether a process of it is there, perhaps a frozen one."""
        return self.process is not None and not self.process.dead

    def start(self) -> None:
        """Start a process, unless there is one or none is wanted."""
        if self.alive or not self.wanted:
            return
        installation = self._installation
        self.starts += 1
        self.process = Process(f"{self.name}.{self.starts}")
        installation.world.note(f"{self.process.name} starts")
        run = self._score if self.role == "scoring" else self._sink
        installation.world.loop.spawn(self.process, self._main(self.process, run))

    def kill(self, after_steps: int, again_in: float) -> None:
        """End its process without a word, after some more steps of it; start another later."""
        process = self.process
        if process is None or process.dead:
            return

        def die() -> None:
            if not process.dead:
                process.dead = True
                self._installation.world.note(f"{process.name} is killed")
                self._installation.world.loop.later(again_in, self.start)

        process.at_last_step, process.steps_left = die, after_steps
        # It may stand still, and then takes no more steps.
        self._installation.world.loop.later(1.0, die)

    def stop(self, again_in: float) -> None:
        """Ask its process to end."""
        if self.alive and self.app is not None:
            self._installation.world.note(f"{self.name} is asked to end")
            self.app.ended.set()
            self._installation.world.loop.later(again_in, self.start)

    async def _main(self, process: Process, run: Callable[[], Awaitable[None]]) -> None:
        world = self._installation.world
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - a supervisor does not ask
            world.note(f"{process.name} ends of {error!r}")
        finally:
            if not process.dead and self.process is process:
                process.dead = True
                world.note(f"{process.name} has ended")
                world.loop.later(world.random.uniform(0.2, 2.0), self.start)

    async def _score(self) -> None:
        installation = self._installation
        kafka = installation.kafka
        delivery: ExactlyOnce | AtLeastOnce
        if installation.exactly_once:
            delivery = ExactlyOnce(kafka, SCORING, installation.connection)
        else:
            delivery = AtLeastOnce(kafka, SCORING, connection=installation.connection)
        app = self._app(installation.scoring, delivery)
        agent = scoring_agent(
            kafka,
            delivery,
            lambda: pipeline_of(installation.release_at(self.name)),
            metrics(),
            installation.world.wall_ns,
        )
        await app.run([agent(app.polls(kafka.applications))])

    async def _sink(self) -> None:
        installation = self._installation
        kafka = installation.kafka
        app = self._app(installation.sink, None)
        topics = {"decision_ledger": kafka.ledger, "parked_events": kafka.parked}
        sink = ClickHouseSink(installation.store)
        park = parking(kafka, metrics(), installation.connection)
        waiting: dict[str, str] = {}
        await app.run(
            [
                sink_agent(table, sink, park, metrics(), waiting)(app.polls(topic))
                for table, topic in topics.items()
            ]
        )

    def _app(self, group: Group, owner: ExactlyOnce | AtLeastOnce | None) -> SimulatedApp:
        installation = self._installation
        self.app = SimulatedApp(
            installation.world, installation.broker, group, owner, installation.commit_seconds
        )
        return self.app


class Installation:
    """Broker, ClickHouse and workers."""

    def __init__(
        self, world: World, *, partitions: int, exactly_once: bool, resend_window: int
    ) -> None:
        self.world = world
        self.exactly_once = exactly_once
        self.commit_seconds = world.random.choice([0.25, 0.5, 2.0])
        self.kafka = KafkaSettings(partitions=partitions, resend_window=resend_window)
        kafka = self.kafka
        topics = kafka.applications, kafka.decisions, kafka.ledger, kafka.parked
        self.broker = Broker(world, topics, partitions)
        self.connection = SimulatedConnection("simulated:1", world=world, broker=self.broker)
        self.scoring = Group(world, self.broker, SCORING, (kafka.applications,))
        self.sink = Group(world, self.broker, SINK, (kafka.ledger, kafka.parked))
        self.store = SimulatedStore(world)
        self.workers: list[Worker] = []
        self._releases: dict[str, str] = {}
        self.release = RELEASES[0]

    def add(self, role: str) -> Worker:
        """Add a worker and start it."""
        number = sum(worker.role == role for worker in self.workers)
        worker = Worker(self, f"{role}-{number}", role)
        self.workers.append(worker)
        self._releases[worker.name] = self.release
        worker.start()
        return worker

    def of_role(self, role: str) -> list[Worker]:
        """Give the workers of a role."""
        return [worker for worker in self.workers if worker.role == role]

    def release_at(self, worker: str) -> str:
        """Say which release a worker decides by at present."""
        return self._releases[worker]

    def swap(self, release: str) -> None:
        """Put another release in place; each worker sees it at its own time."""
        self.release = release
        self.world.note(f"release {release} is put in place")
        for worker in self.workers:
            delay = self.world.random.uniform(0.0, 2.0)
            self.world.loop.later(delay, self._see, worker.name, release)

    def _see(self, worker: str, release: str) -> None:
        self._releases[worker] = release

    def drained(self) -> bool:
        """Whether every group has read all that there is to read."""
        kafka = self.kafka
        groups = {SCORING: (kafka.applications,), SINK: (kafka.ledger, kafka.parked)}
        for group, topics in groups.items():
            for topic in topics:
                for number in range(self.broker.partitions):
                    place = topic, number
                    log = self.broker.logs[place]
                    records, _ = log.committed_records(
                        self.broker.committed_offset(group, place) or 0, 1
                    )
                    if records or log.stable_end < log.end:
                        return False
        return True
