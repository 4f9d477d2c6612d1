"""What of the corpus is parked goes into ClickHouse and comes out again."""

from dataclasses import replace

import numpy as np

from features.taiwan_default import DEFINITION
from scoring.decision import instant
from scoring.decode import ApplicationDecoder, EventLimits
from sinks import ledger
from sinks.migrations import migrate
from sinks.parked import ParkedEvent
from tests.builders import NOW_MS
from tests.corpus import a_poll_of, cases
from tests.integration.sinks.conftest import Open
from tests.integration.sinks.stored import Inserts
from tests.unit.sinks.decisions import a_batch


def test_each_parked_record_of_the_corpus_is_stored_once(opened: Open) -> None:
    store = opened()
    migrate(store)
    poll = a_poll_of(cases())
    decoded = ApplicationDecoder(DEFINITION, EventLimits()).decode(poll)
    events = [
        ParkedEvent.of(
            poll,
            rejection,
            stage="decode",
            parked_at=instant(NOW_MS * 1000),
            release="r",
            largest=2_000_000,
        )
        for rejection in decoded.rejections
    ]
    Inserts(store).insert_parked(events)

    rows = store.query("SELECT * FROM parked ORDER BY origin_offset").to_pylist()
    found = [(row["origin_offset"], row["code"], row["path"]) for row in rows]
    assert found == [(event.offset, event.code, event.path) for event in events]


def test_decisions_of_very_many_months_are_stored(opened: Open) -> None:
    store = opened()
    migrate(store)
    months = np.arange("1970-01", "2200-01", dtype="datetime64[M]").astype("datetime64[us]")
    batch = replace(a_batch(len(months)), submitted_at_us=months.astype(np.int64))

    Inserts(store).insert_ledger(ledger.encode(batch))

    assert store.query("SELECT count() AS n FROM decisions")["n"].to_pylist() == [len(months)]
