"""The ledger's messages: what went in comes out, and damage is named."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.byte_strings import ByteStrings
from scoring.decision import BANDS, FEATURE_SOURCES, MISSING_SOURCE, OUTCOMES
from scoring.reasons import Reason
from sinks import ledger
from sinks.ledger import (
    LEDGER_SCHEMA,
    MAX_MESSAGE_BYTES,
    LedgerDamaged,
    LedgerRowTooLarge,
    decode,
    encode,
    encode_parts,
)
from sinks.ledger_rows import LedgerRows
from stream.contracts.codec import decision_record, decision_records
from tests.unit.sinks.decisions import START_US, a_batch

T = TypeVar("T")

# Written by the version that had no columns of age.
WITHOUT_AGE = Path(__file__).parent / "ledger_without_age.arrow"

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
reason = st.builds(Reason, text, text, st.floats(allow_nan=False), text)


def words_of(code: str) -> str:
    return f"the words of {code}"


def in_other_words(given: Reason) -> Reason:
    return Reason(given.code, given.feature, given.contribution, words_of(given.code))


@given(data=st.data(), rows=st.integers(1, 6), features=st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_every_column_survives_the_topic(data: st.DataObject, rows: int, features: int) -> None:
    def a_list(of: st.SearchStrategy[T]) -> list[T]:
        return data.draw(st.lists(of, min_size=rows, max_size=rows))

    batch = a_batch(
        rows,
        features=features,
        first_offset=data.draw(st.integers(0, 2**50)),
        missing=[row for row, gone in enumerate(a_list(st.booleans())) if gone],
        outcomes=a_list(st.integers(0, 2)),
        probabilities=a_list(st.floats(0, 1)),
        event_ids=a_list(text),
        applicant_ids=a_list(st.none() | text),
        ages_s=a_list(st.integers(-(10**6), 10**9)),
        stale=[row for row, old in enumerate(a_list(st.booleans())) if old],
        reasons=a_list(st.lists(reason, max_size=4).map(tuple)),
        release=data.draw(text),
    )

    (message,) = encode(batch)
    read = decode(message)

    assert message == as_message(pa.Table.from_batches([read.rows]))  # as pyarrow writes it
    assert read.release == batch.release
    assert read.feature_names == batch.feature_names
    rows_read = read.rows.to_pylist()
    assert [row["decision_id"] for row in rows_read] == [*batch.decision_ids]
    assert [row["event_id"] for row in rows_read] == batch.event_ids.texts()
    assert [row["applicant_id"] for row in rows_read] == batch.applicant_ids.texts()
    assert [row["origin_offset"] for row in rows_read] == batch.offsets.tolist()
    assert [row["outcome"] for row in rows_read] == [OUTCOMES[i] for i in batch.outcomes]
    assert [row["feature_source"] for row in rows_read] == [
        FEATURE_SOURCES[i] for i in batch.feature_sources
    ]
    ages = [None if np.isnan(age) else age for age in batch.features_age_s.tolist()]
    assert [row["features_age_s"] for row in rows_read] == ages
    assert [row["features_stale"] for row in rows_read] == batch.features_stale.tolist()
    assert [
        [(r["code"], r["feature"], r["contribution"]) for r in row["reasons"]] for row in rows_read
    ] == [[(r.code, r.feature, r.contribution) for r in row] for row in batch.reasons]
    np.testing.assert_array_equal(read.features(), batch.features)
    np.testing.assert_array_equal(read.default_probability(), batch.default_probability)


@given(data=st.data(), rows=st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_a_row_is_published_as_the_decision_was(data: st.DataObject, rows: int) -> None:
    def a_list(of: st.SearchStrategy[T]) -> list[T]:
        return data.draw(st.lists(of, min_size=rows, max_size=rows))

    batch = a_batch(
        rows,
        missing=[row for row, gone in enumerate(a_list(st.booleans())) if gone],
        decided_at_us=data.draw(st.integers(0, 2**52)),
        outcomes=a_list(st.integers(0, 2)),
        probabilities=a_list(st.floats(0, 1)),
        event_ids=a_list(text),
        applicant_ids=a_list(st.none() | text),
        ages_s=a_list(st.integers(-(10**6), 10**9)),
        stale=[row for row, old in enumerate(a_list(st.booleans())) if old],
        reasons=a_list(st.lists(reason.map(in_other_words), max_size=4).map(tuple)),
    )
    traces = a_list(st.none() | st.just(b"00-" + b"a" * 52))
    batch = replace(batch, traceparents=ByteStrings.of(traces))

    (message,) = encode(batch)
    read = decode(message)

    again = [
        decision_record(read.decision(row, words_of), digest or b"", traceparent)
        for row, (digest, traceparent) in enumerate(
            zip(batch.event_digests, batch.traceparents, strict=True)
        )
    ]
    assert again == list(decision_records(batch))


def test_the_columns_are_those_of_the_contract_and_times_are_in_utc() -> None:
    (message,) = encode(a_batch(1))

    rows = decode(message).rows

    assert rows.schema.names == LEDGER_SCHEMA.names
    assert rows.column("submitted_at")[0].value == START_US
    assert str(rows.schema.field("submitted_at").type) == "timestamp[us, tz=UTC]"
    assert str(rows.schema.field("produced_at").type) == "timestamp[ms, tz=UTC]"


def test_a_decision_without_features_has_no_probability_score_band_or_features() -> None:
    batch = a_batch(2, missing=[1])

    (message,) = encode(batch)
    known, unknown = decode(message).rows.to_pylist()

    assert (known["default_probability"], known["score"], known["risk_band"]) == (
        0.25,
        600,
        BANDS[0],
    )
    assert (unknown["default_probability"], unknown["score"], unknown["risk_band"]) == (None,) * 3
    assert unknown["features"] == []
    assert unknown["features_as_of"] is None
    assert unknown["feature_source"] == FEATURE_SOURCES[MISSING_SOURCE]


def test_a_message_of_the_version_before_is_read_with_its_age_and_nothing_stale() -> None:
    read = decode(WITHOUT_AGE.read_bytes())

    assert read.rows.schema.equals(LEDGER_SCHEMA, check_metadata=False)
    rows = read.rows.to_pylist()
    assert [row["outcome"] for row in rows] == ["approve", "refer", "decline"]
    assert [row["features_age_s"] for row in rows] == [0.0, None, 0.0]
    assert [row["features_stale"] for row in rows] == [False] * 3
    assert np.isnan(read.features()[1]).all()
    assert (read.release, read.feature_names) == ("release-a", ("feature_0", "feature_1"))


def test_columns_that_a_later_version_added_are_left_out() -> None:
    (message,) = encode(a_batch(2))
    with pa.ipc.open_stream(message) as reader:
        table = reader.read_all()
    later = table.append_column("a_later_one", pa.array([1, 2]))

    read = decode(as_message(later.select(sorted(later.column_names))))

    assert read.rows.equals(decode(message).rows)


@pytest.mark.parametrize("absent", ["features_age_s", "features_stale"])
def test_a_message_that_lacks_one_column_of_age_is_damaged(absent: str) -> None:
    (message,) = encode(a_batch(2))
    with pa.ipc.open_stream(message) as reader:
        table = reader.read_all()

    with pytest.raises(LedgerDamaged, match=f"column '{absent}' stands 0 times"):
        decode(as_message(table.drop_columns([absent])))


def as_message(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    message: bytes = sink.getvalue().to_pybytes()
    return message


@given(data=st.data(), rows=st.integers(1, 40), features=st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_a_message_takes_no_more_than_its_rows_say(
    data: st.DataObject, rows: int, features: int
) -> None:
    """Compiled code writes into what was set aside by that, without a look at its end."""
    reasons = data.draw(st.lists(st.lists(reason, max_size=4), min_size=rows, max_size=rows))
    batch = a_batch(
        rows,
        features=features,
        missing=data.draw(st.lists(st.integers(0, rows - 1), unique=True)),
        event_ids=[""] * rows,
        applicant_ids=data.draw(st.lists(st.none() | text, min_size=rows, max_size=rows)),
        reasons=[*map(tuple, reasons)],
        release=data.draw(text),
    )
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first + 1, rows))

    (message,) = encode(batch.rows(first, last))

    frame = ledger._frame(batch.release, batch.feature_names)
    assert len(message) <= LedgerRows(frame, batch).most_bytes(first, last)


def test_an_empty_batch_is_no_message() -> None:
    assert encode(a_batch(0)) == []


def test_a_large_poll_is_split_into_messages_that_a_broker_takes() -> None:
    batch = a_batch(8_000, features=60)
    batch.features[:] = np.random.default_rng(1).normal(size=batch.features.shape)

    messages = encode(batch)

    assert len(messages) > 1
    assert max(len(message) for message in messages) <= MAX_MESSAGE_BYTES
    read = [decode(message) for message in messages]
    offsets = np.concatenate([part.rows.column("origin_offset").to_numpy() for part in read])
    np.testing.assert_array_equal(offsets, batch.offsets)
    np.testing.assert_array_equal(
        np.concatenate([part.features() for part in read]), batch.features
    )


def test_one_decision_that_no_message_holds_is_named() -> None:
    batch = a_batch(1, features=300_000)
    batch.features[:] = np.random.default_rng(1).normal(size=batch.features.shape)

    with pytest.raises(LedgerRowTooLarge) as refused:
        encode(batch)

    assert refused.value.decision_id == batch.decision_ids[0]


@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_a_damaged_message_is_refused_or_reads_as_whole_rows(data: st.DataObject) -> None:
    (message,) = encode(a_batch(3, missing=[1]))
    kept = data.draw(st.integers(0, len(message)))
    damaged = bytearray(message[:kept])
    for at in data.draw(st.lists(st.integers(0, max(kept - 1, 0)), max_size=3 if kept else 0)):
        damaged[at] ^= data.draw(st.integers(1, 255))

    try:
        read = decode(bytes(damaged))
    except LedgerDamaged:
        return

    read.rows.validate(full=True)
    assert read.features().shape == (len(read), len(read.feature_names))


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"application_id": pa.array([1])}, "column 'decision_id' stands 0 times"),
        ({"decision_id": pa.array(["x"])}, "column 'decision_id' is not of the type"),
    ],
)
def test_an_arrow_message_of_other_columns_is_refused_by_name(
    columns: dict[str, pa.Array], reason: str
) -> None:
    with pytest.raises(LedgerDamaged, match=reason):
        decode(as_message(pa.table(columns)))


def test_bytes_that_are_no_arrow_are_refused() -> None:
    for value in (b"", b"{}", b"\xff\xff\xff\xff\x00\x00\x00\x00"):
        with pytest.raises(LedgerDamaged):
            decode(value)


def test_the_encoder_knows_every_word_of_the_core() -> None:
    assert all(len(words) < 128 for words in (OUTCOMES, BANDS, FEATURE_SOURCES))
    assert ledger.MAX_MESSAGE_BYTES < 900_000


def test_parts_of_a_batch_are_written_as_each_alone() -> None:
    why = Reason("R01", "feature_1", 0.5, "because")
    batch = a_batch(
        5,
        missing=[1],
        reasons=[(), (why,), (why, why), (), (why,)],
        applicant_ids=["a", None, "b", None, None],
    )
    cuts = [0, 0, 2, 5, 5]

    parts = encode_parts(batch, cuts)

    assert [len(messages) for messages in parts] == [0, 1, 1, 0]
    for messages, (first, last) in zip(parts, pairwise(cuts), strict=True):
        alone = [decode(message) for message in encode(batch.rows(first, last))]
        found = [decode(message) for message in messages]
        assert [one.rows.to_pylist() for one in found] == [one.rows.to_pylist() for one in alone]
        assert [one.feature_names for one in found] == [one.feature_names for one in alone]
        np.testing.assert_array_equal(
            np.concatenate([one.features() for one in found] or [batch.features[:0]]),
            batch.features[first:last],
        )
