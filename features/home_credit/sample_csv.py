"""CSV as the competition's files write it: `202500.0`, quotes around commas alone, empty nulls."""

import pyarrow as pa
import pyarrow.compute as pc


def header(schema: pa.Schema) -> bytes:
    """Give the line of the names."""
    return (",".join(schema.names) + "\n").encode()


def lines(table: pa.Table) -> bytes:
    """Give the lines of a table's rows; floats read back to the same bits."""
    if table.num_rows == 0:
        return b""
    texts = [_texts(column.combine_chunks()) for column in table.columns]
    texts[-1] = _joined([texts[-1], "\n"], "")
    joined = _joined(texts, ",")
    return "".join(joined.to_pylist()).encode()


def _texts(column: pa.Array) -> pa.Array:
    texts = column.cast(pa.string())
    if pa.types.is_floating(column.type):
        whole = pc.invert(pc.match_substring_regex(texts, "[.e]"))
        return pc.if_else(whole, _joined([texts, ".0"], ""), texts)
    if pa.types.is_string(column.type):
        comma = pc.match_substring(texts, ",")
        return pc.if_else(comma, _joined(['"', texts, '"'], ""), texts)
    return texts


def _joined(parts: list[pa.Array | str], separator: str) -> pa.Array:
    return pc.binary_join_element_wise(
        *parts, separator, null_handling="replace", null_replacement=""
    )
