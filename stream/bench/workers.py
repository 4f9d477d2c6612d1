"""Workers that are measured: where they run, on which topics, and what they use."""

import asyncio
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from stream.demo.installation import Installation, await_ready
from stream.kafka.roles import Role
from stream.kafka.topics import create_topics
from stream.process.supervisor import RoleProcess
from stream.settings import Settings, Way


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used."""

    cpu_seconds: float
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class RunningWorker:
    """A worker that is ready: its process, and the address of its status service."""

    pid: int
    url: str


def settings_at(running: Installation, servers: str, way: Way) -> Settings:
    """Give an example's settings for topics and groups of their own, at its brokers or others."""
    name = f"{way}.{uuid.uuid4().hex[:8]}"
    of_example = running.settings["scoring"]
    topics = ("applications", "decisions", "ledger", "parked", "alarms")
    others = {} if servers == of_example.kafka.bootstrap_servers else {"fetch_max_wait_ms": 100}
    kafka = of_example.kafka.model_copy(
        update={
            "bootstrap_servers": servers,
            "group_prefix": name,
            **{topic: f"{topic}.{name}" for topic in topics},
            **others,
        }
    )
    return of_example.model_copy(update={"kafka": kafka, "delivery": way})


def with_port(settings: Settings, port: int) -> Settings:
    """Give the same settings with another port of the status service."""
    return settings.model_copy(update={"status": settings.status.model_copy(update={"port": port})})


@contextmanager
def worker_of(
    folder: Path, settings: Settings, core: int, role: Role = "scoring"
) -> Iterator[RunningWorker]:
    """
    Run a worker on one core, on topics that are made for it where they are not there yet.

    Its log is in the `folder`.
    """
    asyncio.run(create_topics(settings.kafka))
    worker = RoleProcess(settings, role, folder / f"{role}-{settings.status.port}.log")
    worker.start()
    try:
        found = RunningWorker(worker.pid, f"http://127.0.0.1:{settings.status.port}")
        await_ready({role: found.url}, folder)
        pin(worker.pid, {core})
        yield found
    finally:
        worker.stop()
        worker.wait()


def usage_at(url: str) -> Usage:
    """Ask a worker's status service for its processor time and memory."""
    text = httpx.get(f"{url}/metrics", timeout=10.0).text
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return Usage(found["process_cpu_seconds_total"], int(found["process_resident_memory_bytes"]))


def pin(pid: int, cores: set[int]) -> None:
    """Let a process, all its threads, run on these cores alone."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)
