"""What the guard lets pass, given queries as the engine writes them back."""

import pytest

from sinks.query_guard import QueryForbidden, QueryGuard

GUARD = QueryGuard(
    table_functions={"url", "file", "python", "numbers", "s3", "values"},
    functions={"aigenerate", "addresstoline"},
)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count() FROM decisions",
        "SELECT 'file(x) INTO OUTFILE', `it's`, 'x' FROM decisions",
        "SELECT url, values FROM clicks",
        "SELECT * FROM numbers(3)",
        "SELECT * FROM `values`('a Int8', 1)",
        "WITH a AS (SELECT 1 AS x) SELECT x FROM a",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "DESCRIBE TABLE decisions",
    ],
)
def test_a_query_that_reads_tables_passes(sql: str) -> None:
    GUARD.check(sql)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("DROP TABLE decisions", "'DROP'"),
        ("KILL QUERY WHERE 1", "'KILL'"),
        ("", "''"),
        ("SELECT 1 INTO OUTFILE 'x'", "INTO OUTFILE"),
        ("SELECT file('/etc/passwd')", "function file"),
        ("SELECT `it's`, file('a'), 'x'", "function file"),
        ("SELECT arrayMap(file, ['/etc/passwd'])", "function file"),
        ("SELECT * APPLY file FROM t", "function file"),
        ("SELECT 'a\\'', file('/etc/passwd'), 'b'", "function file"),
        ("SELECT aiGenerate('x')", "function aigenerate"),
        ("SELECT * FROM Python(secret)", "table function python"),
        ("SELECT * FROM `url`('http://a')", "table function url"),
        ("SELECT 1 WHERE 1 IN (SELECT * FROM s3('http://a'))", "table function s3"),
    ],
)
def test_a_query_that_does_more_is_refused_by_name(sql: str, reason: str) -> None:
    with pytest.raises(QueryForbidden, match=reason):
        GUARD.check(sql)
