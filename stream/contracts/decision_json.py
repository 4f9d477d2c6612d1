"""The decisions of a poll as JSON documents: byte for byte what msgspec makes of each, compiled."""

from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numba import types

from scoring.byte_strings import ByteStrings
from scoring.bytewise import decimals, words, writing
from scoring.bytewise.decimals import LONGEST_NUMBER, put_float, put_integer
from scoring.bytewise.strings import packed
from scoring.bytewise.words import put_byte
from scoring.bytewise.writing import (
    ESCAPED,
    LONGEST_INSTANT,
    UUID_LENGTH,
    put_instant,
    put_piece,
    put_text,
    put_uuid,
)
from scoring.compiled import (
    BYTES_OUT,
    DOUBLES,
    FLAGS,
    LONGS,
    LONGS_OUT,
    SMALLS,
    STRINGS,
    compiles,
)
from scoring.decision import (
    BANDS,
    FEATURE_SOURCES,
    MISSING_SOURCE,
    NO_TIME,
    OUTCOMES,
    DecisionBatch,
    instant,
)
from scoring.reasons import Vocabulary

# What stands in documents, by number: words, then what is between the values of a decision, in
# order, then what is around the parts of a reason.
_NULL, _FALSE, _TRUE = range(3)
_OUTCOME = 3
_BAND = _OUTCOME + len(OUTCOMES)
_SOURCE = _BAND + len(BANDS)
_FIELD = _SOURCE + len(FEATURE_SOURCES)
_BEGIN = b'{"decision_id":"'
_FIELDS = (
    _BEGIN,
    b'","event_id":"',
    b'","application_id":',
    b',"submitted_at":"',
    b'","decided_at":DECIDED_AT,"outcome":',
    b',"default_probability":',
    b',"score":',
    b',"risk_band":',
    b',"reasons":[',
    b',"contribution":',
    b'],"feature_source":',
    b',"features_as_of":',
    b',"release":RELEASE,"origin":{"topic":TOPIC,"partition":',
    b',"offset":',
    b'},"applicant_id":',
    b',"features_age_s":',
    b',"features_stale":',
    b"}",
)
_REASON = _FIELD + len(_FIELDS)

_COMMA, _QUOTE = 44, 34
_OTHER_BYTES = 16
"""Quotes and commas of a document that are in none of the pieces, at most, and of a reason."""

_encode = msgspec.json.Encoder().encode


def decision_documents(batch: DecisionBatch) -> ByteStrings:
    """Write each decision of a poll as the document of its topic."""
    pieces = ByteStrings.of([*_of_batch(batch), *_of_vocabulary(batch.reasons.vocabulary)])
    reasons, rows = batch.reasons, len(batch)
    found = np.empty(_room(batch, pieces.lengths), np.uint8)
    starts, lengths = np.empty(rows, np.int64), np.empty(rows, np.int64)
    _write(
        *(pieces.data, pieces.starts, pieces.lengths),
        len(reasons.vocabulary.words),
        packed(batch.decision_ids).data,
        *(batch.event_ids.data, batch.event_ids.starts, batch.event_ids.lengths),
        *(batch.applicant_ids.data, batch.applicant_ids.starts, batch.applicant_ids.lengths),
        *(batch.application_ids, batch.submitted_at_us, batch.features_as_of_us),
        *(batch.partitions.astype(np.int64), batch.offsets, batch.scores.astype(np.int64)),
        *(batch.default_probability, batch.features_age_s),
        *(batch.outcomes, batch.bands, batch.feature_sources, batch.features_stale),
        *(reasons.starts, reasons.words, reasons.features, reasons.contributions),
        *(found, starts, lengths),
    )
    return ByteStrings(found, starts, lengths)


def id_texts(documents: ByteStrings) -> ByteStrings:
    """Give the decisions' ids as they stand in their documents."""
    lengths = np.full(len(documents), UUID_LENGTH, np.int64)
    return ByteStrings(documents.data, documents.starts + len(_BEGIN), lengths)


def _of_batch(batch: DecisionBatch) -> list[bytes]:
    texts = {
        b"DECIDED_AT": instant(batch.decided_at_us),
        b"RELEASE": batch.release,
        b"TOPIC": batch.topic,
    }
    fields = b"\0".join(_FIELDS)
    for name, value in texts.items():
        fields = fields.replace(name, _encode(value), 1)
    words = [None, False, True, *OUTCOMES, *BANDS, *FEATURE_SOURCES]
    return [*map(_encode, words), *fields.split(b"\0")]


@lru_cache(maxsize=8)
def _of_vocabulary(vocabulary: Vocabulary) -> tuple[bytes, ...]:
    words, features = vocabulary
    return (
        *(b'{"code":' + _encode(word.code) + b',"feature":' for word in words),
        *(b',"text":' + _encode(word.text) + b"}" for word in words),
        *map(_encode, ("", *features)),
    )


def _room(batch: DecisionBatch, lengths: Any) -> int:
    """Give how many bytes the documents take, at most."""
    reasons, number = batch.reasons, len(batch.reasons.vocabulary.words)
    heads, features = _REASON + reasons.words, _REASON + 2 * number + 1 + reasons.features
    of_reasons = lengths[heads] + lengths[heads + number] + lengths[features]
    each_reason = int(lengths[_FIELD + 9]) + LONGEST_NUMBER + _OTHER_BYTES
    each = int(lengths[_FIELD:_REASON].sum()) + 3 * int(lengths[:_FIELD].max())
    each += UUID_LENGTH + 2 * LONGEST_INSTANT + 6 * LONGEST_NUMBER + _OTHER_BYTES
    texts = batch.event_ids.size() + batch.applicant_ids.size()
    within = int(of_reasons.sum()) + each_reason * len(reasons.words)
    return each * len(batch) + ESCAPED * texts + within


@compiles(
    types.void(
        *STRINGS,
        types.int64,
        STRINGS[0],
        *STRINGS,
        *STRINGS,
        *(LONGS, LONGS, LONGS),
        *(LONGS, LONGS, LONGS),
        *(DOUBLES, DOUBLES),
        *(SMALLS, SMALLS, SMALLS, FLAGS),
        *(LONGS, LONGS, LONGS, DOUBLES),
        *(BYTES_OUT, LONGS_OUT, LONGS_OUT),
    ),
    words,
    decimals,
    writing,
)
def _write(
    pieces: Any,
    starts: Any,
    lengths: Any,
    all_words: Any,
    ids: Any,
    event_ids: Any,
    event_starts: Any,
    event_lengths: Any,
    applicant_ids: Any,
    applicant_starts: Any,
    applicant_lengths: Any,
    application_ids: Any,
    submitted_at_us: Any,
    as_of_us: Any,
    partitions: Any,
    offsets: Any,
    scores: Any,
    probabilities: Any,
    ages_s: Any,
    outcomes: Any,
    bands: Any,
    sources: Any,
    stale: Any,
    reason_starts: Any,
    reason_words: Any,
    reason_features: Any,
    contributions: Any,
    out: Any,
    out_starts: Any,
    out_lengths: Any,
) -> None:
    at = np.int64(0)
    for row in range(len(offsets)):
        out_starts[row] = at
        missing = sources[row] == MISSING_SOURCE
        at = put_piece(out, at, pieces, starts, lengths, _FIELD)
        at = put_uuid(out, at, ids, 16 * row)
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 1)
        at = put_text(out, at, event_ids, event_starts[row], event_lengths[row])
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 2)
        at = put_integer(out, at, application_ids[row])
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 3)
        at = put_instant(out, at, submitted_at_us[row])
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 4)
        at = put_piece(out, at, pieces, starts, lengths, _OUTCOME + outcomes[row])
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 5)
        at = put_float(out, at, np.nan if missing else probabilities[row])
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 6)
        if missing:
            at = put_piece(out, at, pieces, starts, lengths, _NULL)
        else:
            at = put_integer(out, at, scores[row])
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 7)
        band = _NULL if missing else _BAND + bands[row]
        at = put_piece(out, at, pieces, starts, lengths, band)
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 8)
        for number in range(reason_starts[row], reason_starts[row + 1]):
            if number > reason_starts[row]:
                put_byte(out, at, _COMMA)
                at += 1
            head = _REASON + reason_words[number]
            feature = _REASON + 2 * all_words + 1 + reason_features[number]
            at = put_piece(out, at, pieces, starts, lengths, head)
            at = put_piece(out, at, pieces, starts, lengths, feature)
            at = put_piece(out, at, pieces, starts, lengths, _FIELD + 9)
            at = put_float(out, at, contributions[number])
            at = put_piece(out, at, pieces, starts, lengths, head + all_words)
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 10)
        at = put_piece(out, at, pieces, starts, lengths, _SOURCE + sources[row])
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 11)
        if as_of_us[row] == NO_TIME:
            at = put_piece(out, at, pieces, starts, lengths, _NULL)
        else:
            put_byte(out, at, _QUOTE)
            at = put_instant(out, at + 1, as_of_us[row])
            put_byte(out, at, _QUOTE)
            at += 1
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 12)
        at = put_integer(out, at, partitions[row])
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 13)
        at = put_integer(out, at, offsets[row])
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 14)
        if applicant_lengths[row] < 0:
            at = put_piece(out, at, pieces, starts, lengths, _NULL)
        else:
            put_byte(out, at, _QUOTE)
            start, length = applicant_starts[row], applicant_lengths[row]
            at = put_text(out, at + 1, applicant_ids, start, length)
            put_byte(out, at, _QUOTE)
            at += 1
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 15)
        at = put_float(out, at, ages_s[row])
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 16)
        at = put_piece(out, at, pieces, starts, lengths, _TRUE if stale[row] else _FALSE)
        at = put_piece(out, at, pieces, starts, lengths, _FIELD + 17)
        out_lengths[row] = at - out_starts[row]
