"""
The peer of `creditstream features build`: the same features, written straightforwardly in pandas.

    python bench/pandas_build.py TABLES OUT.parquet

TABLES is a folder of the seven tables in Parquet. It checks nothing, sums floating-point numbers in
whatever order they come, and is no part of creditstream: it is here to be measured against.
"""

import re
import sys
import time
from pathlib import Path

import pandas as pd

HISTORY = {
    "bureau": (
        "BUREAU",
        {
            "AMT_ANNUITY": ["sum"],
            "AMT_CREDIT_SUM": ["max", "mean", "sum"],
            "AMT_CREDIT_SUM_DEBT": ["mean", "sum"],
            "AMT_CREDIT_SUM_LIMIT": ["mean", "sum"],
            "AMT_CREDIT_SUM_OVERDUE": ["mean", "sum"],
            "CNT_CREDIT_PROLONG": ["sum"],
            "CREDIT_DAY_OVERDUE": ["mean", "sum"],
            "DAYS_CREDIT": ["max", "mean", "min"],
            "DAYS_CREDIT_ENDDATE": ["max", "mean", "min"],
            "DAYS_CREDIT_UPDATE": ["max", "mean", "min"],
            "SK_ID_BUREAU": ["count"],
        },
    ),
    "previous_application": (
        "PREV",
        {
            "AMT_ANNUITY": ["max", "mean", "min"],
            "AMT_APPLICATION": ["max", "mean", "min", "sum"],
            "AMT_CREDIT": ["mean"],
            "AMT_DOWN_PAYMENT": ["max", "mean", "min", "sum"],
            "AMT_GOODS_PRICE": ["mean", "min"],
            "CNT_PAYMENT": ["max", "mean", "min", "sum"],
            "DAYS_DECISION": ["max", "mean", "min"],
            "DAYS_FIRST_DRAWING": ["max", "mean", "min"],
            "DAYS_FIRST_DUE": ["max", "mean", "min"],
            "DAYS_LAST_DUE": ["max", "mean", "min"],
            "DAYS_TERMINATION": ["max", "mean", "min"],
            "NFLAG_INSURED_ON_APPROVAL": ["mean", "sum"],
            "RATE_DOWN_PAYMENT": ["max"],
            "SK_ID_PREV": ["count"],
        },
    ),
    "POS_CASH_balance": (
        "POS",
        {
            "CNT_INSTALMENT": ["max", "mean", "min", "sum"],
            "CNT_INSTALMENT_FUTURE": ["min"],
            "MONTHS_BALANCE": ["max", "mean", "min"],
            "SK_DPD": ["max", "mean", "min"],
            "SK_DPD_DEF": ["max", "min"],
            "SK_ID_PREV": ["count"],
        },
    ),
    "installments_payments": (
        "INST",
        {
            "AMT_INSTALMENT": ["max", "mean", "min", "sum"],
            "AMT_PAYMENT": ["min"],
            "DAYS_INSTALMENT": ["max", "mean", "min"],
            "NUM_INSTALMENT_NUMBER": ["max", "min"],
            "NUM_INSTALMENT_VERSION": ["nunique"],
            "SK_ID_PREV": ["count"],
            "PAYMENT_DIFF": ["max", "mean", "min", "sum"],
            "PAYMENT_RATIO": ["max", "mean", "min"],
            "DPD": ["max", "mean", "min"],
            "IS_LATE": ["mean", "sum"],
        },
    ),
}
COUNTED = {
    "bureau": ("CREDIT_ACTIVE", "BUREAU_CREDIT"),
    "previous_application": ("NAME_CONTRACT_STATUS", "PREV_STATUS"),
}


def read(tables: Path, name: str) -> pd.DataFrame:
    """Read a table, or the parts of the application."""
    paths = sorted(tables.glob(f"{name}*.parquet"))
    return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)


def history(tables: Path, name: str) -> pd.DataFrame:
    """Aggregate a history table by applicant."""
    rows = read(tables, name)
    if name == "installments_payments":
        rows["PAYMENT_DIFF"] = rows.AMT_PAYMENT - rows.AMT_INSTALMENT
        rows["PAYMENT_RATIO"] = rows.AMT_PAYMENT / (rows.AMT_INSTALMENT + 1)
        rows["DPD"] = rows.DAYS_ENTRY_PAYMENT - rows.DAYS_INSTALMENT
        rows["IS_LATE"] = (rows.DPD > 0).astype("float32").where(rows.DPD.notna())
    prefix, wanted = HISTORY[name]
    found = rows.groupby("SK_ID_CURR").agg(wanted)
    found.columns = [f"{prefix}_{column}_{how.upper()}" for column, how in found.columns]
    if name in COUNTED:
        column, called = COUNTED[name]
        counts = pd.crosstab(rows.SK_ID_CURR, rows[column])
        counts.columns = [
            f"{called}_{str(category).upper().replace(' ', '_')}_COUNT"
            for category in counts.columns
        ]
        found = found.join(counts)
    return found


def build(tables: Path) -> pd.DataFrame:
    """Make a row for each application: its columns one-hot, ratios, and the aggregates."""
    rows = read(tables, "application")
    rows["DAYS_EMPLOYED"] = rows.DAYS_EMPLOYED.where(rows.DAYS_EMPLOYED != 365_243)
    sources = rows[["EXT_SOURCE_1", "EXT_SOURCE_2", "EXT_SOURCE_3"]]
    for how in ("min", "max", "mean"):
        rows[f"EXT_SOURCE_{how.upper()}"] = sources.agg(how, axis=1)
    documents = [name for name in rows if name.startswith("FLAG_DOCUMENT_")]
    rows["TOTAL_DOCUMENTS_PROVIDED"] = rows[documents].sum(axis=1)
    rows["HAS_CHILDREN"] = (rows.CNT_CHILDREN > 0).astype("int8")
    rows["DEBT_TO_INCOME_RATIO"] = rows.AMT_CREDIT / (rows.AMT_INCOME_TOTAL + 1e-5)
    rows["CREDIT_TO_GOODS_RATIO"] = rows.AMT_CREDIT / (rows.AMT_GOODS_PRICE + 1e-5)
    rows["INCOME_PER_PERSON"] = rows.AMT_INCOME_TOTAL / (rows.CNT_FAM_MEMBERS + 1e-5)
    rows = pd.get_dummies(rows, dtype="float32")
    rows.columns = [re.sub("[^A-Za-z0-9]+", "_", name) for name in rows]
    for name in HISTORY:
        rows = rows.merge(history(tables, name), on="SK_ID_CURR", how="left")
    rows["BUREAU_DEBT_TO_CREDIT_RATIO"] = rows.BUREAU_AMT_CREDIT_SUM_DEBT_SUM / (
        rows.BUREAU_AMT_CREDIT_SUM_SUM + 1
    )
    rows["PREV_APPROVAL_RATE"] = rows.PREV_STATUS_APPROVED_COUNT / (rows.PREV_SK_ID_PREV_COUNT + 1)
    rows["PREV_APP_CREDIT_RATIO"] = rows.PREV_AMT_APPLICATION_MEAN / (rows.PREV_AMT_CREDIT_MEAN + 1)
    return rows.sort_values("SK_ID_CURR")


if __name__ == "__main__":
    started = time.perf_counter()
    built = build(Path(sys.argv[1]))
    numbers = built.select_dtypes("number").drop(columns="SK_ID_CURR").astype("float32")
    numbers.insert(0, "SK_ID_CURR", built.SK_ID_CURR)
    numbers.to_parquet(sys.argv[2])
    sys.stdout.write(f"{len(built):,} rows in {time.perf_counter() - started:.1f} s\n")
