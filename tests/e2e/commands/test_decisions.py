"""Decisions, shown and reproduced by their ids."""

import json
import uuid
from pathlib import Path

import pyarrow as pa
import pytest

from features.taiwan_default import DEFINITION
from models.prepared import KEY
from stream.demo.installation import Installation
from tests.e2e.commands.asked import (
    DECIDED,
    answer,
    count,
    refusal,
    rows,
    send,
)
from tests.e2e.running import wait_until

KINDS = {
    "approve": "outcome = 'approve' AND feature_source = 'table'",
    "refer": "outcome = 'refer' AND feature_source = 'computed'",
    "decline": "outcome = 'decline'",
    "missing": "feature_source = 'missing' AND event_id = 'odd-[/b][red]'",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_decision_is_shown_and_reproduced_by_its_id(
    installation: Installation, kind: str
) -> None:
    query = f"SELECT * FROM decisions WHERE {KINDS[kind]} ORDER BY decided_at LIMIT 1"
    (decision,) = rows(installation, query)
    identity = decision["decision_id"]

    shown = answer(installation, "decision", "show", identity)
    document = json.loads(answer(installation, "decision", "show", identity, "--json"))
    reproduced = answer(installation, "decision", "reproduce", identity.upper())

    outcome = decision["outcome"]
    assert shown.splitlines()[0] == f"{outcome}   application {decision[KEY]}"
    assert f"event {decision['event_id']} of {decision['source']}, " in shown
    for name in (*DECIDED, "decision_id", "event_id", "release"):
        assert document[name] == decision[name]
    for reason in decision["reasons"]:
        named = ", ".join(filter(None, (reason["code"], reason["feature"])))
        assert f"({named})" in shown
        assert f"{reason['code']} {reason['feature']}" in reproduced
    assert bool(decision["reasons"]) == (outcome != "approve")
    last = f"{outcome} reproduced by release {decision['release']}, bit for bit"
    assert reproduced.splitlines()[-1] == last
    if kind == "missing":
        assert document["features"] == []
        assert "log-odds" not in shown
    else:
        assert len(document["features"]) == len(DEFINITION.schema.names)
        assert f"default probability {decision['default_probability']:.4%}" in shown
        assert "log-odds of default" in shown


@pytest.mark.parametrize("command", ["show", "reproduce"])
def test_a_decision_that_is_not_there_is_an_error_that_names_the_id(
    installation: Installation, command: str
) -> None:
    unknown = str(uuid.uuid4())

    line = refusal(installation, "decision", command, unknown)

    assert line.startswith(f"error: no decision has the id {unknown} in chdb://")


def test_a_decision_whose_release_is_gone_says_which(
    installation: Installation, tmp_path: Path
) -> None:
    (decision,) = rows(installation, "SELECT decision_id, release FROM decisions LIMIT 1")
    elsewhere = ("--set", f"release={tmp_path}")

    line = refusal(installation, "decision", "reproduce", decision["decision_id"], *elsewhere)

    assert f"{tmp_path / decision['release']}: manifest.json: is missing" in line


def test_an_id_that_two_applications_share_is_said_to_be_theirs(
    installation: Installation, tmp_path: Path
) -> None:
    shared = pa.table({KEY: [88_000_011, 88_000_012], "event_id": ["shared-1", "shared-1"]})
    send(installation, shared, "shared", tmp_path / "shared.csv")
    wait_until(lambda: count(installation, "shared") == 2, 30, "both decided")
    query = "SELECT DISTINCT decision_id FROM decisions WHERE event_id = 'shared-1'"
    (decision,) = rows(installation, query)

    line = refusal(installation, "decision", "show", decision["decision_id"])

    assert "applications 88000011, 88000012 share the id" in line
