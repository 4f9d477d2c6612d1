"""Look-alike data: the competition's seven tables for made-up applicants, block by block.

No row is real. Columns keep the marginals of the reference and the relations that a credit
analyst expects; docs/home_credit.md says what is like the real data and what is not.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from features.home_credit.reference import reference
from features.home_credit.sample_application import draw_applicants, draw_application
from features.home_credit.sample_bureau import draw_bureau
from features.home_credit.sample_cards import draw_cards
from features.home_credit.sample_contracts import draw_instalments, draw_pos
from features.home_credit.sample_draw import Coded, Column, Columns, Ints
from features.home_credit.sample_label import Seen, default_probability, draw_label
from features.home_credit.sample_previous import draw_previous

FIRST_ID = 100_002
BLOCK = 10_000
"""Applicants that are made at once; their rows lie together in every table."""
_TRAIN_SHARE = 307_511 / 356_255
_FIRST_BUREAU, _FIRST_PREVIOUS = 5_000_000, 1_000_001

TRAIN, TEST = "application_train", "application_test"
HISTORY = tuple(name for name in reference() if name != "application")
TABLES = (TRAIN, TEST, *HISTORY)

Block = dict[str, pa.Table]


def schema_of(table: str) -> pa.Schema:
    """Give the Arrow schema of one of TABLES; the test part of the applications has no TARGET."""
    name = "application" if table in (TRAIN, TEST) else table
    kinds = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}
    return pa.schema(
        [
            (column.name, kinds[column.kind])
            for column in reference()[name].columns
            if not (table == TEST and column.name == "TARGET")
        ]
    )


def sample(applications: int, seed: int) -> Iterator[Block]:
    """
    Make the tables of that many applicants, at most BLOCK at a time: all of TABLES in each.

    The same number, seed and library versions give the same rows.
    """
    seeds = np.random.SeedSequence(seed).spawn(-(-applications // BLOCK))
    bureau_id, previous_id = _FIRST_BUREAU, _FIRST_PREVIOUS
    for index, child in enumerate(seeds):
        start = index * BLOCK
        ids = np.arange(start, min(start + BLOCK, applications)) + FIRST_ID
        block, bureau_id, previous_id = _block(
            np.random.default_rng(child), ids, bureau_id, previous_id
        )
        yield block


def _block(
    random: np.random.Generator, ids: Ints, bureau_id: int, previous_id: int
) -> tuple[Block, int, int]:
    who = draw_applicants(random, ids)
    form, sources = draw_application(random, who)
    bureau, bureau_balance, loans, bureau_id = draw_bureau(random, who, bureau_id)
    previous, contracts, refused, previous_id = draw_previous(random, who, previous_id)
    instalments, late = draw_instalments(random, who, contracts)
    seen = Seen(form, sources, loans, refused, late)
    label = draw_label(random, default_probability(who, seen))
    labelled: Columns = {"SK_ID_CURR": form["SK_ID_CURR"], "TARGET": label, **form}
    train = random.random(len(ids)) < _TRAIN_SHARE
    history = {
        "bureau": bureau,
        "bureau_balance": bureau_balance,
        "previous_application": previous,
        "POS_CASH_balance": draw_pos(random, who, contracts),
        "installments_payments": instalments,
        "credit_card_balance": draw_cards(random, who, contracts),
    }
    tables = {
        TRAIN: _table(TRAIN, labelled, np.flatnonzero(train)),
        TEST: _table(TEST, form, np.flatnonzero(~train)),
    }
    for name, columns in history.items():
        # The competition's rows are in no order.
        rows = random.permutation(_rows(columns))
        tables[name] = _table(name, columns, rows)
    return tables, bureau_id, previous_id


def _rows(columns: Columns) -> int:
    first = next(iter(columns.values()))
    return len(first.codes if isinstance(first, Coded) else first)


def _table(name: str, columns: Columns, rows: Ints) -> pa.Table:
    schema = schema_of(name)
    arrays = [_array(columns[field.name][rows], field.type) for field in schema]
    return pa.table(arrays, schema=schema)


def _array(column: Column, kind: pa.DataType) -> pa.Array:
    if isinstance(column, Coded):
        codes = pa.array(column.codes, mask=column.codes < 0)
        return pa.DictionaryArray.from_arrays(codes, list(column.names)).cast(kind)
    return pa.array(column, type=kind, from_pandas=True)
