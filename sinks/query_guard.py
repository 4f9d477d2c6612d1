"""Which queries a reader may run: ClickHouse's `readonly` does not keep the embedded engine in."""

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

# Read-only, an engine in process still writes files for INTO OUTFILE, reads any file through the
# function `file`, this process's variables through the table function `python`, and kills queries.
_FIRST_WORDS = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "EXPLAIN", "EXISTS"})
TABLE_FUNCTIONS = frozenset(
    {
        "format",
        "generate_series",
        "generateseries",
        "merge",
        "null",
        "numbers",
        "numbers_mt",
        "sqlstandardvalues",
        "values",
        "view",
        "zeros",
        "zeros_mt",
    }
)
"""Table functions that touch nothing but tables, in lower case; all others are refused."""

FORBIDDEN_FUNCTIONS_SQL = (
    "SELECT (SELECT groupArray(lower(name)) FROM system.table_functions) AS table_functions, "
    "(SELECT groupArray(lower(name)) FROM system.functions "
    "WHERE categories IN ('AI', 'Introspection')) AS functions"
)
"""Asks an engine for its table functions, and for its functions that reach beyond tables."""

CANONICAL_SQL = "SELECT formatQuerySingleLine({sql:String}) AS sql"
"""Has an engine parse a query and write it back: one statement, no comments, quotes in one way."""

# In canonical form a string stands in single quotes, and only an odd identifier in back quotes.
_WORD = re.compile(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|\w+|[^\w\s]", re.DOTALL)


class QueryForbidden(Exception):
    """A query would do more than read tables; says what."""


@dataclass(frozen=True, slots=True)
class QueryGuard:
    """Tells reading from doing; knows an engine's functions by their names in lower case."""

    table_functions: AbstractSet[str]
    functions: AbstractSet[str]

    def check(self, canonical: str) -> None:
        """
        Let pass a query that only reads tables; raise QueryForbidden for any other.

        `canonical` is the query as the engine wrote it back, and must be what is then run.

        >>> guard = QueryGuard({"url"}, set())
        >>> guard.check("SELECT count() FROM decisions")
        >>> guard.check("SELECT * FROM `url`('http://a')")
        Traceback (most recent call last):
            ...
        sinks.query_guard.QueryForbidden: the table function url is not for readers
        """
        words = _WORD.findall(canonical)
        first = next((word for word in words if word != "("), "")
        if first not in _FIRST_WORDS:
            msg = f"a query begins with one of {', '.join(sorted(_FIRST_WORDS))}, not {first!r}"
            raise QueryForbidden(msg)
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if word == "INTO" and following.upper() == "OUTFILE":
                msg = "INTO OUTFILE is not for readers"
                raise QueryForbidden(msg)
            name = word.strip("`").lower()
            # A function may be passed by its bare name (`arrayMap(file, …)`, `* APPLY file`).
            if name == "file" or name in self.functions:
                msg = f"the function {name} is not for readers"
                raise QueryForbidden(msg)
            if following == "(" and name in self.table_functions - TABLE_FUNCTIONS:
                msg = f"the table function {name} is not for readers"
                raise QueryForbidden(msg)
