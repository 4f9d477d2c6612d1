"""Digests of many short strings: SHA-1 for the names of decisions, BLAKE2b for events."""

from typing import Any

import numpy as np
from numba import types

from scoring.byte_strings import ByteStrings
from scoring.bytewise import decimals, words
from scoring.bytewise.decimals import put_integer
from scoring.bytewise.words import byte_at, copy_bytes, put_byte, word_at
from scoring.compiled import BYTES, BYTES_OUT, STRINGS, compiles, part

_ID_BYTES, _DIGEST_BYTES = 16, 8
_SHA_BLOCK, _BLAKE_BLOCK = 64, 128
_LOW = np.uint64(0xFFFFFFFF)
_CONTINUES = 0x80
"""What the first two bits of a byte are that goes on with a character of UTF-8."""

# The fractional parts of the first eight primes' square roots (RFC 7693).
_BLAKE_START = np.array(
    [
        0x6A09E667F3BCC908,
        0xBB67AE8584CAA73B,
        0x3C6EF372FE94F82B,
        0xA54FF53A5F1D36F1,
        0x510E527FADE682D1,
        0x9B05688C2B3E6C1F,
        0x1F83D9ABFB41BD6B,
        0x5BE0CD19137E2179,
    ],
    dtype=np.uint64,
)
_V0, _V1, _V2, _V3, _V4, _V5, _V6, _V7 = _BLAKE_START
_KEYLESS = np.uint64(0x01010000 ^ _DIGEST_BYTES)


def decision_ids(sources: ByteStrings, event_ids: ByteStrings, namespace: bytes) -> ByteStrings:
    """
    Name the decisions on n events as `scoring.decision.decision_id` does: 16 bytes each.

    Sources and ids are UTF-8 and none is null.
    """
    found = np.empty((len(event_ids), _ID_BYTES), np.uint8)
    longest = int((sources.lengths + event_ids.lengths).max(initial=0))
    block = np.zeros(longest + len(namespace) + 2 * _SHA_BLOCK, np.uint8)
    _name_decisions(
        sources.data,
        sources.starts,
        sources.lengths,
        event_ids.data,
        event_ids.starts,
        event_ids.lengths,
        np.frombuffer(namespace, np.uint8),
        block,
        found.reshape(-1),
    )
    return ByteStrings.of_width(found)


def event_digests(values: ByteStrings) -> ByteStrings:
    """Name the contents of n events as `scoring.recent.event_digest` does: 8 bytes each."""
    found = np.empty((len(values), _DIGEST_BYTES), np.uint8)
    block = np.zeros(_BLAKE_BLOCK, np.uint8)
    _digest_events(values.data, values.starts, values.lengths, block, found.reshape(-1))
    return ByteStrings.of_width(found)


@part
def _turned(word: Any, bits: Any) -> Any:
    return ((word << np.uint64(bits)) | (word >> np.uint64(32 - bits))) & _LOW


@part
def _big_endian(block: Any, at: Any) -> Any:
    high = (byte_at(block, at) << 24) | (byte_at(block, at + 1) << 16)
    return np.uint64(high | (byte_at(block, at + 2) << 8) | byte_at(block, at + 3))


@part
def _sha1(message: Any, blocks: Any, schedule: Any) -> Any:
    """Digest whole, padded blocks (FIPS 180-4): the first four of five words of 32 bits."""
    h0, h1, h2 = np.uint64(0x67452301), np.uint64(0xEFCDAB89), np.uint64(0x98BADCFE)
    h3, h4 = np.uint64(0x10325476), np.uint64(0xC3D2E1F0)
    for number in range(blocks):
        for t in range(16):
            schedule[t] = _big_endian(message, number * _SHA_BLOCK + 4 * t)
        for t in range(16, 80):
            mixed = schedule[t - 3] ^ schedule[t - 8] ^ schedule[t - 14] ^ schedule[t - 16]
            schedule[t] = _turned(mixed, 1)
        a, b, c, d, e = h0, h1, h2, h3, h4
        for t in range(20):
            f = ((b & c) | (~b & d)) & _LOW
            a, b, c, d, e = _step(a, b, c, d, e, f, np.uint64(0x5A827999), schedule[t])
        for t in range(20, 40):
            a, b, c, d, e = _step(a, b, c, d, e, b ^ c ^ d, np.uint64(0x6ED9EBA1), schedule[t])
        for t in range(40, 60):
            f = (b & c) | (b & d) | (c & d)
            a, b, c, d, e = _step(a, b, c, d, e, f, np.uint64(0x8F1BBCDC), schedule[t])
        for t in range(60, 80):
            a, b, c, d, e = _step(a, b, c, d, e, b ^ c ^ d, np.uint64(0xCA62C1D6), schedule[t])
        h0, h1, h2 = (h0 + a) & _LOW, (h1 + b) & _LOW, (h2 + c) & _LOW
        h3, h4 = (h3 + d) & _LOW, (h4 + e) & _LOW
    return h0, h1, h2, h3


@part
def _step(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, k: Any, w: Any) -> Any:
    return (_turned(a, 5) + f + e + k + w) & _LOW, a, _turned(b, 30), c, d


@part
def _characters(data: Any, start: Any, length: Any) -> Any:
    """Count the characters of UTF-8."""
    count = 0
    for at in range(start, start + length):
        count += (byte_at(data, at) & 0xC0) != _CONTINUES
    return count


@compiles(
    types.void(*STRINGS, *STRINGS, BYTES, BYTES_OUT, BYTES_OUT),
    words,
    decimals,
)
def _name_decisions(
    sources: Any,
    source_starts: Any,
    source_lengths: Any,
    ids: Any,
    id_starts: Any,
    id_lengths: Any,
    namespace: Any,
    block: Any,
    found: Any,
) -> None:
    schedule = np.empty(80, np.uint64)
    for row in range(len(id_starts)):
        source_start, source_length = source_starts[row], source_lengths[row]
        copy_bytes(block, 0, namespace, 0, len(namespace))
        characters = _characters(sources, source_start, source_length)
        end = put_integer(block, np.int64(len(namespace)), characters)
        put_byte(block, end, 58)
        copy_bytes(block, end + 1, sources, source_start, source_length)
        end += 1 + source_length
        copy_bytes(block, end, ids, id_starts[row], id_lengths[row])
        end += id_lengths[row]
        blocks = (end + 8) // _SHA_BLOCK + 1
        put_byte(block, end, 0x80)
        for at in range(end + 1, blocks * _SHA_BLOCK):
            put_byte(block, at, 0)
        bits = 8 * end
        for at in range(4):
            put_byte(block, blocks * _SHA_BLOCK - 1 - at, bits >> (8 * at))
        digest = _sha1(block, blocks, schedule)
        for word in range(4):
            for at in range(4):
                byte = np.int64(digest[word] >> np.uint64(24 - 8 * at))
                put_byte(found, row * _ID_BYTES + 4 * word + at, byte)
        version, variant = row * _ID_BYTES + 6, row * _ID_BYTES + 8
        put_byte(found, version, (byte_at(found, version) & 0x0F) | 0x50)
        put_byte(found, variant, (byte_at(found, variant) & 0x3F) | 0x80)


@part
def _rotated(word: Any, bits: Any) -> Any:
    return (word >> np.uint64(bits)) | (word << np.uint64(64 - bits))


@part
def _mixed(a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Any:
    a = a + b + x
    d = _rotated(d ^ a, 32)
    c = c + d
    b = _rotated(b ^ c, 24)
    a = a + b + y
    d = _rotated(d ^ a, 16)
    c = c + d
    b = _rotated(b ^ c, 63)
    return a, b, c, d


@part
def _round(v: Any, m: Any) -> Any:
    """Mix sixteen words with a message's, which come in the round's order (RFC 7693)."""
    a0, b0, c0, d0 = _mixed(v[0], v[4], v[8], v[12], m[0], m[1])
    a1, b1, c1, d1 = _mixed(v[1], v[5], v[9], v[13], m[2], m[3])
    a2, b2, c2, d2 = _mixed(v[2], v[6], v[10], v[14], m[4], m[5])
    a3, b3, c3, d3 = _mixed(v[3], v[7], v[11], v[15], m[6], m[7])
    a0, b1, c2, d3 = _mixed(a0, b1, c2, d3, m[8], m[9])
    a1, b2, c3, d0 = _mixed(a1, b2, c3, d0, m[10], m[11])
    a2, b3, c0, d1 = _mixed(a2, b3, c0, d1, m[12], m[13])
    a3, b0, c1, d2 = _mixed(a3, b0, c1, d2, m[14], m[15])
    return a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3


@part
def _compressed(state: Any, data: Any, at: Any, counted: Any, last: Any) -> None:
    """Mix a block of 128 bytes into the state; so many bytes are counted with it."""
    a, b = word_at(data, at), word_at(data, at + 8)
    c, d = word_at(data, at + 16), word_at(data, at + 24)
    e, f = word_at(data, at + 32), word_at(data, at + 40)
    g, h = word_at(data, at + 48), word_at(data, at + 56)
    i, j = word_at(data, at + 64), word_at(data, at + 72)
    k, q = word_at(data, at + 80), word_at(data, at + 88)
    m, n = word_at(data, at + 96), word_at(data, at + 104)
    o, p = word_at(data, at + 112), word_at(data, at + 120)
    upper = (state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7])
    lower = (_V0, _V1, _V2, _V3, _V4 ^ np.uint64(counted), _V5, ~_V6 if last else _V6, _V7)
    v = upper + lower
    v = _round(v, (a, b, c, d, e, f, g, h, i, j, k, q, m, n, o, p))
    v = _round(v, (o, k, e, i, j, p, n, g, b, m, a, c, q, h, f, d))
    v = _round(v, (q, i, m, a, f, c, p, n, k, o, d, g, h, b, j, e))
    v = _round(v, (h, j, d, b, n, m, q, o, c, g, f, k, e, a, p, i))
    v = _round(v, (j, a, f, h, c, e, k, p, o, b, q, m, g, i, d, n))
    v = _round(v, (c, m, g, k, a, q, i, d, e, n, h, f, p, o, b, j))
    v = _round(v, (m, f, b, p, o, n, e, k, a, h, g, d, j, c, i, q))
    v = _round(v, (n, q, h, o, m, b, d, j, f, a, p, e, i, g, c, k))
    v = _round(v, (g, p, o, j, q, d, a, i, m, c, n, h, b, e, k, f))
    v = _round(v, (k, c, i, e, h, g, b, f, p, q, j, o, d, m, n, a))
    v = _round(v, (a, b, c, d, e, f, g, h, i, j, k, q, m, n, o, p))
    v = _round(v, (o, k, e, i, j, p, n, g, b, m, a, c, q, h, f, d))
    state[0] ^= v[0] ^ v[8]
    state[1] ^= v[1] ^ v[9]
    state[2] ^= v[2] ^ v[10]
    state[3] ^= v[3] ^ v[11]
    state[4] ^= v[4] ^ v[12]
    state[5] ^= v[5] ^ v[13]
    state[6] ^= v[6] ^ v[14]
    state[7] ^= v[7] ^ v[15]


@compiles(types.void(*STRINGS, BYTES_OUT, BYTES_OUT), words)
def _digest_events(data: Any, starts: Any, lengths: Any, block: Any, found: Any) -> None:
    state = np.empty(8, np.uint64)
    for row in range(len(starts)):
        for word in range(8):
            state[word] = _BLAKE_START[word]
        state[0] ^= _KEYLESS
        start, length = starts[row], max(lengths[row], 0)
        done = 0
        while length - done > _BLAKE_BLOCK:
            _compressed(state, data, start + done, done + _BLAKE_BLOCK, False)
            done += _BLAKE_BLOCK
        rest = length - done
        copy_bytes(block, 0, data, start + done, rest)
        for at in range(rest, _BLAKE_BLOCK):
            put_byte(block, at, 0)
        _compressed(state, block, 0, length, True)
        for at in range(_DIGEST_BYTES):
            byte = np.int64(state[0] >> np.uint64(8 * at))
            put_byte(found, row * _DIGEST_BYTES + at, byte)
