"""psql itself: its backslash commands are long queries over pg_catalog."""

import pytest


def check(psql, command: str, *expected: str):
    code, out, err = psql(command)
    assert code == 0, err
    for text in expected:
        assert text in out, f"{command} shows no {text}:\n{out}"
    return out


@pytest.mark.parametrize(
    "command, expected",
    [
        (r"\l", ["benteng"]),
        (r"\dn", ["system", "public"]),
        (r"\dt system.*", ["buckets", "nodes", "objects"]),
        (r"\d system.buckets", ["owner", "created"]),
        (r"\dv", []),
        (r"\di", []),
        (r"\dx", []),
        (r"\conninfo", ["benteng"]),
        (r"\encoding", ["UTF8"]),
    ],
)
def test_backslash_commands(psql, command, expected):
    check(psql, command, *expected)


def test_several_statements_of_one_text(psql):
    out = check(psql, "SELECT 1 AS satu; SELECT 2 AS dua", "satu", "dua")
    assert out.index("satu") < out.index("dua")


def test_headings_and_empty_results(psql):
    check(psql, "SELECT 1, count(*) FROM system.nodes", "?column?", "count")
    check(psql, "SELECT name FROM system.nodes WHERE false", "(0 rows)")


def test_errors_have_code_and_exit_status(psql):
    code, _, err = psql(r"\set VERBOSITY verbose", "SELECT * FROM no_such_table")
    assert code == 1 and "42P01" in err


def test_fetch_count_pages_through_a_cursor(psql):
    code, out, err = psql(r"\set FETCH_COUNT 500", "SELECT n FROM generate_series(1, 2100) AS g(n)")
    assert code == 0, err
    assert "2100" in out
