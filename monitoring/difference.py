"""What can be wrong between the applications and what became of them, by name."""

from typing import Literal, get_args

Kind = Literal[
    "missing",
    "twice",
    "conflict",
    "both",
    "unknown",
    "not_in_ledger",
    "not_on_decisions",
    "differs_in_ledger",
    "not_in_clickhouse",
    "only_in_clickhouse",
    "differs_in_clickhouse",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

MEANING: dict[Kind, str] = {
    "missing": "an application without decision or parked event, which was not sent again either",
    "twice": "decided or parked more than once, exactly once",
    "conflict": "decided more than once, with different answers",
    "both": "decided and parked",
    "unknown": "a record on an output topic that answers no application of the range",
    "not_in_ledger": "a decision without its ledger row",
    "not_on_decisions": "a ledger row without its decision",
    "differs_in_ledger": "the ledger row says other things than the decision",
    "not_in_clickhouse": "on the topics, but no row of ClickHouse's",
    "only_in_clickhouse": "a row of ClickHouse's, but not on the topics",
    "differs_in_clickhouse": "the row of ClickHouse's says other things than the topics",
}
"""Each kind in words."""
