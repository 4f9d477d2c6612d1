"""What happens in one simulated run: events and faults, all drawn from the seed."""

from collections.abc import Callable
from typing import Any

import msgspec

from scoring.poll import Headers
from tests.builders import an_event
from tests.simulation.broker import Unwritten
from tests.simulation.group import SESSION_SECONDS
from tests.simulation.installation import APPLICANTS, RELEASES, Installation, Worker
from tests.simulation.loop import Process
from tests.simulation.world import World

_POISON: tuple[bytes | None, ...] = (None, b"", b"not json", b"\xff\xfe", b"[" * 40, b"{}")
_MOST_WORKERS = 4


class Story:
    """
    The faults of one run.

    Of the kinds there are, each run has some; most are over by themselves, the rest with `heal`.
    """

    def __init__(self, world: World, installation: Installation) -> None:
        self._world = world
        self._random = world.random
        self._installation = installation
        kinds: dict[str, Callable[[], None]] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "stop": self._stop,
            "more or fewer": self._more_or_fewer,
            "cut": self._cut,
            "broker away": self._broker_away,
            "slow": lambda: self._for_a_while(world.weather, "slow", 0.5, 6.0),
            "lost before": lambda: self._for_a_while(world.weather, "lost_before", 0.4, 5.0),
            "lost after": lambda: self._for_a_while(world.weather, "lost_after", 0.4, 5.0),
            "no coordinator": lambda: self._for_a_while(world.weather, "no_coordinator", 0.6, 5.0),
            "late markers": lambda: self._for_a_while(world.weather, "late_markers", 0.7, 8.0),
            "slow threads": lambda: self._for_a_while(world, "slow_threads", 0.5, 8.0),
            "swap": self._swap,
            "clock": self._jump,
            "store away": lambda: self._for_a_while(installation.store.weather, "away", True, 12.0),
            "store refuses": lambda: self._for_a_while(
                installation.store.weather, "refuses", True, 4.0
            ),
            "store loses": lambda: self._for_a_while(
                installation.store.weather, "lost_before", 0.5, 8.0
            ),
            "store's answers": lambda: self._for_a_while(
                installation.store.weather, "lost_after", 0.6, 10.0
            ),
            "store late": lambda: self._for_a_while(installation.store.weather, "late", 0.5, 10.0),
        }
        random = self._random
        share = random.choice([0.1, 0.25, 0.5, 1.0])
        self.kinds = {name: work for name, work in kinds.items() if random.random() < share}
        self.seconds = random.uniform(4.0, 20.0)
        # Few polls of several events each: a poll costs more than an event.
        self._bursts = [random.uniform(0.0, self.seconds) for _ in range(random.randint(2, 6))]

    def begin(self) -> None:
        """Schedule all of it."""
        self._send_events()
        random = self._random
        names = list(self.kinds)
        if not names:
            return
        for _ in range(random.randint(1, 3 + 2 * len(names))):
            # Most strike where there is work to strike.
            at = random.uniform(0.0, self.seconds)
            if random.random() < 0.7:
                at = random.choice(self._bursts) + random.expovariate(1 / 0.05)
            at = min(at, self.seconds)  # what strikes later is never healed
            self._world.loop.later(at, self._happen, random.choice(names))

    def heal(self) -> None:
        """End whatever still goes on; workers that are away come back."""
        world, installation = self._world, self._installation
        world.note("all faults end")
        if world.weather.away:
            self._broker_back()
        world.weather.lost_before = world.weather.lost_after = 0.0
        world.weather.slow = world.weather.no_coordinator = world.slow_threads = 0.0
        world.weather.late_markers = 0.0
        store = installation.store.weather
        store.away = store.refuses = False
        store.lost_before = store.lost_after = store.late = 0.0
        for worker in installation.workers:
            if worker.process is not None:
                worker.process.cut = False
                worker.process.steps_left = None
                self._thaw(worker.process)
        for role in ("scoring", "sink"):
            of_role = installation.of_role(role)
            if not any(worker.wanted for worker in of_role):
                of_role[0].wanted = True
            for worker in of_role:
                worker.start()

    def _happen(self, name: str) -> None:
        self.kinds[name]()

    def _send_events(self) -> None:
        random, sent = self._random, list[tuple[int, str, bytes]]()
        for number in range(random.randint(10, 40)):
            at = random.choice(self._bursts) + random.expovariate(1 / 0.01)
            applicant = random.randint(1, APPLICANTS + 2)
            value: bytes | None
            drawn = random.random()
            if drawn < 0.08:
                value = random.choice(_POISON)
            elif drawn < 0.22 and sent:
                applicant, name, value = random.choice(sent)
                if random.random() < 0.4:
                    value += b" "
            else:
                name = f"e-{number}"
                value = msgspec.json.encode(an_event(event_id=name, application_id=applicant))
                sent.append((applicant, name, value))
            self._world.loop.later(at, self._send, applicant, value)
            if random.random() < 0.05:  # the answer was lost: it sends again
                self._world.loop.later(at + random.uniform(0.0, 3.0), self._send, applicant, value)

    def _send(self, applicant: int, value: bytes | None) -> None:
        world, installation = self._world, self._installation
        partition = applicant % installation.broker.partitions
        headers: Headers = []
        record = Unwritten(str(applicant).encode(), value, headers, world.wall_ns() // 1_000_000)
        installation.broker.append((installation.kafka.applications, partition), record)

    def _worker(self) -> Worker:
        return self._random.choice(self._installation.workers)

    def _kill(self) -> None:
        steps = self._random.choice([1, 3, 10, 30, 100])
        self._worker().kill(self._random.randint(1, steps), self._random.uniform(0.1, 3.0))

    def _freeze(self) -> None:
        worker = self._worker()
        process = worker.process
        if process is None or process.dead or process.frozen is not None:
            return
        seconds = self._random.choice([0.5, SESSION_SECONDS, 2.5 * SESSION_SECONDS])
        seconds *= self._random.uniform(0.5, 1.5)

        def freeze() -> None:
            self._world.note(f"{process.name} freezes")
            self._world.loop.freeze(process)
            self._world.loop.later(seconds, self._thaw, process)

        process.at_last_step = freeze
        process.steps_left = self._random.randint(1, 60)

    def _thaw(self, process: Process) -> None:
        if process.frozen is not None:
            self._world.note(f"{process.name} thaws")
            self._world.loop.thaw(process)

    def _stop(self) -> None:
        self._worker().stop(self._random.uniform(0.1, 3.0))

    def _more_or_fewer(self) -> None:
        installation = self._installation
        scoring = installation.of_role("scoring")
        if len(scoring) < _MOST_WORKERS and self._random.random() < 0.5:
            installation.add("scoring")
            return
        worker = self._random.choice(scoring)
        worker.wanted = not worker.wanted
        if worker.wanted:
            worker.start()
        else:
            worker.stop(1.0)

    def _cut(self) -> None:
        process = self._worker().process
        if process is not None:
            self._world.note(f"{process.name} is cut off")
            process.cut = True

            def mend() -> None:
                process.cut = False

            self._world.loop.later(self._random.uniform(0.5, 2.5 * SESSION_SECONDS), mend)

    def _broker_away(self) -> None:
        if not self._world.weather.away:
            self._world.note("the broker is away")
            self._world.weather.away = True
            self._world.loop.later(self._random.uniform(0.3, 15.0), self._broker_back)

    def _broker_back(self) -> None:
        self._world.weather.away = False
        self._world.note("the broker is there")
        self._installation.scoring.excuse()
        self._installation.sink.excuse()

    def _swap(self) -> None:
        self._installation.swap(self._random.choice(RELEASES))

    def _jump(self) -> None:
        seconds = self._random.choice([-3600, -60, -1, 1, 60, 3600])
        self._world.note(f"the clock jumps by {seconds} s")
        self._world.clock_jump_ns += seconds * 1_000_000_000

    def _for_a_while(self, owner: Any, name: str, value: object, longest: float) -> None:
        calm = type(value)()  # False, 0.0
        self._world.note(f"{name} is {value}")
        setattr(owner, name, value)

        def end() -> None:
            setattr(owner, name, calm)

        self._world.loop.later(self._random.uniform(0.1, longest), end)
