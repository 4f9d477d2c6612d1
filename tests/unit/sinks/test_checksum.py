"""Hashes of decisions and parked events: of all that they say, from whichever topic."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from scoring.byte_strings import ByteStrings
from scoring.decision import Decision, Origin
from scoring.reasons import Reason
from sinks.checksum import LedgerHashes, answer_hash, parked_hash
from sinks.ledger import decode, encode
from tests.integration.sinks.stored import parked
from tests.unit.sinks.decisions import a_batch

REASONS = (Reason("R07", "feature_1", 0.5, "Too little income"), Reason("R02", "", -0.25, "é"))


def decided() -> tuple[list[Decision], LedgerHashes]:
    batch = a_batch(
        3, missing=[1], reasons=[REASONS, (), ()], applicant_ids=["ada", None, "é"], ages_s=30
    )
    (message,) = encode(batch)
    return list(batch.decisions()), LedgerHashes(decode(message))


def test_a_decision_and_its_ledger_row_have_one_hash() -> None:
    decisions, hashes = decided()

    assert hashes.answers.tolist() == [answer_hash(one) for one in decisions]
    assert len({*hashes.answers.tolist(), *hashes.rows.tolist()}) == 6


@pytest.mark.parametrize(
    "change",
    [
        {"decision_id": "c1378255-143e-589a-8a24-e9aacd32fdd2"},
        {"event_id": "other"},
        {"application_id": 1},
        {"submitted_at": datetime(2026, 1, 2, tzinfo=UTC)},
        {"outcome": "decline"},
        {"default_probability": 0.2500000000000001},
        {"default_probability": None},
        {"score": 601},
        {"score": None},
        {"risk_band": "high"},
        {"risk_band": None},
        {"reasons": REASONS[:1]},
        {"reasons": (msgspec.structs.replace(REASONS[0], contribution=0.75), REASONS[1])},
        {"feature_source": "computed"},
        {"features_as_of": None},
        {"release": "other"},
        {"origin": Origin("credit.applications.v1", 0, 1)},
        {"applicant_id": "bob"},
        {"applicant_id": None},
        {"features_age_s": None},
        {"features_stale": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_is_changed_in_a_decision_changes_its_hash(change: dict[str, Any]) -> None:
    (decision, *_), _ = decided()

    assert answer_hash(msgspec.structs.replace(decision, **change)) != answer_hash(decision)


def test_the_hash_of_a_row_has_the_time_and_the_features_in_it_too() -> None:
    batch = a_batch(1)
    features = batch.features.copy()
    features[0, 1] = np.nextafter(features[0, 1], np.float32(9))
    others = [
        replace(batch, decided_at_us=batch.decided_at_us + 1),
        replace(batch, produced_at_ms=batch.produced_at_ms + 1),
        replace(batch, sources=ByteStrings.of([b"other"])),
        replace(batch, features=features),
    ]

    hashes = [LedgerHashes(decode(*encode(one))) for one in (batch, *others)]

    assert len({int(one.answers[0]) for one in hashes}) == 1
    assert len({int(one.rows[0]) for one in hashes}) == 5


def test_a_decision_whose_id_is_none_has_no_hash() -> None:
    (decision, *_), _ = decided()

    with pytest.raises(ValueError, match="is no UUID"):
        answer_hash(msgspec.structs.replace(decision, decision_id="00"))


def test_whatever_is_changed_in_a_parked_event_changes_its_hash() -> None:
    event = parked(3)
    changes: list[dict[str, Any]] = [
        {"key": None},
        {"key": b""},
        {"value": None},
        {"value": b"x"},
        {"code": "malformed"},
        {"path": "$"},
        {"shown": ""},
        {"rule": ""},
        {"release": ""},
        {"offset": 4},
        {"produced_at_ms": 1},
        {"parked_at": datetime(2026, 1, 2, tzinfo=UTC)},
    ]

    assert len({parked_hash(event), *(parked_hash(replace(event, **one)) for one in changes)}) == 13
