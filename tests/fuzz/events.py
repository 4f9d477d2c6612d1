"""
Fuzz the pipeline: records damaged by chance through decoding, deciding, writing and reading back.

    python -m tests.fuzz.events --count 1000000 --seed 1

Inputs are not chosen by coverage, which sees nothing of msgspec, Arrow and NumPy, where the work is
done; but by what came of them: an input that is parked by a new rule, or decided in a new way, is
damaged further. What fails is kept in a folder, record by record. Exit code 1: something failed.
"""

import argparse
import json
import re
import resource
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import lightgbm
import msgspec
import numpy as np

from features.definition import Attribute, FeatureDefinition, by_name
from features.home_credit.definition import DEFINITION as HOME_CREDIT
from features.schema import Feature, FeatureSchema
from features.table import FeatureTable
from models.policies import policy_text
from scoring.booster import BoosterScorer
from scoring.decision import FEATURE_SOURCES, OUTCOMES
from scoring.pipeline import Decided, Pipeline
from scoring.policy import Policy
from scoring.poll import Poll
from tests.builders import NOW_MS, a_pipeline, an_event
from tests.corpus import cases
from tests.fuzz.mutate import around, damaged
from tests.fuzz.oracle import check_alone, check_poll

ROWS = 64
LONGEST_POLL_S = 5.0
"""A poll of 64 records takes some 10 ms; nothing that stands in one may make it take this long."""
MOST_GROWTH_BYTES = 256 << 20
_MOST_KEPT = 3_000
_ALONE_EVERY = 16
_NUMBERS = re.compile(r"[0-9]+|'.*'|`.*`|\".*\"")


@dataclass
class Target:
    """A pipeline with the documents that are damaged for it, and what came of them so far."""

    name: str
    pipeline: Pipeline
    pool: list[bytes]
    ways: set[tuple[str, ...]] = field(default_factory=set)


@dataclass
class Tally:
    """What a run did."""

    inputs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    finds: int = 0
    longest_s: float = 0.0


def targets() -> list[Target]:
    """Pipelines of three kinds: plain attributes, features by name with texts as keys, rows."""
    hostile = [case.value for case in cases() if case.value is not None]
    named = by_name(FeatureSchema(tuple(Feature(name) for name in ("a", "b", "c é"))))
    texts = FeatureTable(named.schema, ["k-1", "7"], np.ones((2, 3), dtype=np.float32))
    events = [an_event(), an_event(application_id=8), an_event(application_id=9, attributes=None)]
    return [
        Target("taiwan_default", a_pipeline(), [*map(msgspec.json.encode, events), *hostile]),
        Target("by_name", _pipeline(named, texts), [*_events_of(named), *hostile]),
        Target("home_credit", _pipeline(HOME_CREDIT, None), [*_events_of(HOME_CREDIT), *hostile]),
    ]


def _events_of(definition: FeatureDefinition) -> list[bytes]:
    found = {one.name: _value_of(one) for one in definition.attributes}
    events = [an_event(attributes=found), an_event(attributes=found, applicant_id="k-1")]
    return [msgspec.json.encode(event) for event in events]


def _value_of(attribute: Attribute) -> Any:
    if attribute.fields:
        row = {one.name: _value_of(one) for one in attribute.fields}
        return row if attribute.kind == "object" else [row, row]
    if attribute.kind == "text":
        return attribute.categories[0] if attribute.categories else "x"
    low = attribute.minimum if attribute.minimum is not None else 1.0
    return float(low) if attribute.kind == "number" else int(low)


def _pipeline(definition: FeatureDefinition, table: FeatureTable | None) -> Pipeline:
    names = definition.schema.names
    random = np.random.default_rng(0)
    rows = random.normal(0, 100, (500, len(names))).astype(np.float32)
    label = (rows[:, 0] + random.normal(0, 50, 500) > 0).astype(int)
    # Names of our choosing would have blanks, which LightGBM writes as they are not.
    columns = [name.replace(" ", "_") for name in names]
    data = lightgbm.Dataset(rows, label, feature_name=columns)
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7}
    text = str(lightgbm.train(parameters, data, 10).model_to_string())
    schema = FeatureSchema(tuple(Feature(name) for name in columns))
    nothing = np.zeros((1, len(names)), dtype=np.float32)
    return Pipeline(
        release="r",
        definition=definition,
        table=table or FeatureTable(definition.schema, [7], nothing),
        scorer=BoosterScorer(text, schema),
        policy=Policy.parse(policy_text(definition.name, 0.3, 0.6), names),
    )


def fuzz(count: int, seed: int, finds: Path | None = None) -> Tally:
    """Give so many records to the pipelines in turn; what fails goes into the folder `finds`."""
    random, tally, of_kinds = Random(seed), Tally(), targets()
    number = 0
    while tally.inputs < count:
        target = of_kinds[(0, 1, 0, 2)[number % 4]]
        poll = _poll(random, target)
        began = time.perf_counter()
        try:
            decided = _checked(target, poll, alone=number % _ALONE_EVERY == 0)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a find
            tally.finds += 1
            _keep(target, poll, error, finds)
        else:
            _learn(target, poll, decided, tally)
        tally.longest_s = max(tally.longest_s, time.perf_counter() - began)
        tally.inputs += len(poll)
        number += 1
    return tally


def _poll(random: Random, target: Target) -> Poll:
    values: list[bytes | None] = [damaged(random, target.pool) for _ in range(ROWS)]
    if random.random() < 0.1:
        values[random.randrange(ROWS)] = None
    beside = [around(random) for _ in range(ROWS)]
    return Poll(
        topic="applications",
        partition=0,
        offsets=range(ROWS),
        produced_at_ms=[time_ms for _, _, time_ms in beside],
        keys=[key for key, _, _ in beside],
        values=values,
        headers=[headers for _, headers, _ in beside],
    )


def _checked(target: Target, poll: Poll, *, alone: bool) -> Decided:
    signal.setitimer(signal.ITIMER_REAL, LONGEST_POLL_S)
    try:
        decided = check_poll(target.pipeline, poll)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if alone:
        check_alone(target.pipeline, poll, decided)
    return decided


def _learn(target: Target, poll: Poll, decided: Decided, tally: Tally) -> None:
    """Count how the records ended; keep the documents that ended in a way not seen before."""
    batch = decided.batch
    ends = [
        (int(offset), ("decided", FEATURE_SOURCES[source], OUTCOMES[outcome]))
        for offset, source, outcome in zip(
            batch.offsets, batch.feature_sources, batch.outcomes, strict=True
        )
    ]
    ends += [
        (one.position, (one.code, _NUMBERS.sub("#", one.path), _NUMBERS.sub("#", one.rule)))
        for one in decided.rejections
    ]
    for at, way in ends:
        tally.ends[way[0]] += 1
        value = poll.values[at]
        if way not in target.ways and value is not None and len(target.pool) < _MOST_KEPT:
            target.ways.add(way)
            target.pool.append(value)


def _keep(target: Target, poll: Poll, error: Exception, folder: Path | None) -> None:
    """Find the records that fail alone, or else keep them all."""
    failing = []
    for at in range(len(poll)):
        one = Poll(
            *(poll.topic, 0, [0], [poll.produced_at_ms[at]], [poll.keys[at]], [poll.values[at]]),
            [poll.headers[at]],
        )
        try:
            _checked(target, one, alone=False)
        except Exception:  # noqa: BLE001 - as above
            failing.append(at)
    said = f"{target.name}: {type(error).__name__}: {error}"
    print(f"{said[:300]} (records that fail alone: {failing})", file=sys.stderr)  # noqa: T201
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for at in failing or range(len(poll)):
        name = f"{target.name}-{time.time_ns()}-{at}"
        (folder / name).write_bytes(poll.values[at] or b"")
        beside = (said, poll.produced_at_ms[at], poll.keys[at], poll.headers[at])
        (folder / f"{name}.txt").write_text(repr(beside))


class TooLong(Exception):
    """A poll took longer than any may."""


def _too_long(*_: object) -> None:
    raise TooLong


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--count", type=int, default=100_000, help="records, at least")
    parser.add_argument("--seed", type=int, default=NOW_MS)
    parser.add_argument("--finds", type=Path, default=Path(".creditstream/fuzz"))
    given = parser.parse_args()
    signal.signal(signal.SIGALRM, _too_long)
    fuzz(
        min(20_000, given.count), given.seed + 1
    )  # what every run holds: models, tables, caches of the libraries
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    tally = fuzz(given.count, given.seed, given.finds)
    seconds = time.monotonic() - began
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    told = {
        "inputs": tally.inputs,
        "seconds": round(seconds, 1),
        "inputs_a_second": round(tally.inputs / seconds),
        "ends": dict(tally.ends),
        "finds": tally.finds,
        "longest_poll_s": round(tally.longest_s, 3),
        "memory_growth_mb": growth >> 20,
    }
    print(json.dumps(told))  # noqa: T201 - its report
    return int(tally.finds > 0 or growth > MOST_GROWTH_BYTES)


if __name__ == "__main__":
    sys.exit(main())
