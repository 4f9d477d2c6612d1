"""Applications to model input: from the feature table, or computed from the event itself."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.definition import FeatureDefinition
from features.table import FeatureTable
from scoring.bytewise.strings import in_one_width, or_number
from scoring.decision import FEATURE_SOURCES, NO_TIME
from scoring.decode import Decoded
from scoring.freshness import Freshness

_TABLE, _COMPUTED, _MISSING = range(len(FEATURE_SOURCES))


@dataclass(frozen=True, slots=True)
class Enriched:
    """
    Model input of n applications.

    `features` is float32 of shape (n, features), NaN in a row without any; `sources` are uint8
    indices into FEATURE_SOURCES; `as_of_us` are microseconds since 1970, or NO_TIME; `recomputed`,
    bool[n], are the rows that the table has too, but stale.
    """

    features: NDArray[np.float32]
    sources: NDArray[np.uint8]
    as_of_us: NDArray[np.int64]
    recomputed: NDArray[np.bool_]


def enrich(
    decoded: Decoded,
    table: FeatureTable,
    definition: FeatureDefinition,
    freshness: Freshness | None = None,
) -> Enriched:
    """
    Give each application its feature row.

    An applicant whom the table knows has the table's row, whatever the event says; one whom it
    does not know has the row computed from the event's attributes, as of its submission. So has
    one whose row is stale, where `freshness` recomputes it and the event carries attributes.
    """
    count = len(decoded.positions)
    submitted_at_us = decoded.submitted_at_us
    rows = table.rows(_keys(decoded, table))
    known = rows >= 0
    features = np.full((count, len(table.schema.names)), np.nan, dtype=np.float32)
    features[known] = table.matrix[rows[known]]
    sources = np.where(known, _TABLE, _MISSING).astype(np.uint8)
    as_of_us = np.full(count, NO_TIME, dtype=np.int64)
    if table.as_of is not None:
        as_of_us[known] = table.as_of_us(rows[known])
    wanted = ~known
    if freshness is not None and freshness.stale == "recompute":
        wanted |= freshness.is_stale(sources, submitted_at_us, as_of_us)
    computed = np.flatnonzero(wanted & decoded.attributes.carried) if wanted.any() else rows[:0]
    if computed.size:
        features[computed] = definition.compute(decoded.attributes.columns(computed))
        sources[computed] = _COMPUTED
        as_of_us[computed] = submitted_at_us[computed]
    return Enriched(features, sources, as_of_us, known & (sources == _COMPUTED))


def _keys(decoded: Decoded, table: FeatureTable) -> NDArray[np.generic]:
    if table.keys_are_text:
        return in_one_width(or_number(decoded.applicant_ids, decoded.application_ids))
    return decoded.application_ids
