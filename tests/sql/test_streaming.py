"""Results and aggregations larger than memory, cursors, cancelling."""

import threading
import time

import psycopg
import pytest

ROWS = 3_000_000


def series(rows: int = ROWS) -> str:
    return f"generate_series(1, {rows}) AS g(n)"


def test_a_result_larger_than_memory_streams(conninfo):
    sql = f"SELECT n, repeat('x', 200) FROM {series()}"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        with connection.cursor() as cursor:
            rows = sum(1 for _ in cursor.stream(sql))
    assert rows == ROWS


def test_an_aggregation_larger_than_memory_spills_or_says_so(connection):
    sql = f"SELECT count(*) FROM (SELECT md5(n::text) AS k, count(*) FROM {series()} GROUP BY 1)"
    assert connection.execute(sql).fetchone() == (ROWS,)


def test_a_sort_larger_than_memory_spills(connection):
    sql = f"SELECT max(k) FROM (SELECT md5(n::text) || repeat('y', 100) AS k FROM {series()} ORDER BY k DESC OFFSET 10)"
    assert connection.execute(sql).fetchone()[0]


def test_what_cannot_spill_fails_alone(fails, run):
    # array_agg holds all it has seen; the pool refuses it or the answer is complete.
    sql = f"SELECT length(array_to_string(array_agg(repeat('z', 1000)), '')) FROM {series(500_000)}"
    code, text = fails(sql)
    assert code in ("53200", "22003", "54000"), text
    assert run("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT count(*) FROM {series(2_000_000)} JOIN generate_series(1, 2000000) AS h(m) ON g.n + h.m < 0",
        "SELECT count(*) FROM generate_series(1, 2000000) a CROSS JOIN generate_series(1, 2000000) b",
        f"SELECT n, pg_backend_pid() FROM {series(2_000_000_000)}",
        "SELECT sum(n) FROM generate_series(1, 200000000000) AS g(n)",
    ],
    ids=["nested loop", "cross join", "rows on their way", "long aggregation"],
)
def test_cancel_ends_the_query_itself(conninfo, run, sql):
    with psycopg.connect(conninfo, autocommit=True) as connection:
        timer = threading.Timer(2.0, connection.cancel)
        timer.start()
        begun = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            with connection.cursor() as cursor:
                for _ in cursor.stream(sql):
                    pass
        assert time.monotonic() - begun < 20
        timer.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)
    # The threads are free again: other queries are not held up.
    begun = time.monotonic()
    assert run(f"SELECT count(*) FROM {series(1000)}") == [(1000,)]
    assert time.monotonic() - begun < 10


def test_statement_timeout(connection, fails):
    connection.execute("SET statement_timeout = '1s'")
    begun = time.monotonic()
    code, text = fails("SELECT count(*) FROM generate_series(1, 2000000) a CROSS JOIN generate_series(1, 2000000) b")
    assert code == "57014" and "timeout" in text
    assert time.monotonic() - begun < 15


def test_a_client_that_vanishes_frees_its_query(conninfo, run):
    gone = [psycopg.connect(conninfo, autocommit=True) for _ in range(4)]
    for connection in gone:
        connection.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 2000000) a CROSS JOIN generate_series(1, 2000000) b")
        connection.pgconn.flush()
    time.sleep(1)
    for connection in gone:
        connection.close()
    begun = time.monotonic()
    assert run(f"SELECT count(*) FROM {series(1000)}") == [(1000,)]
    assert time.monotonic() - begun < 20


def test_named_cursor_fetches_page_by_page(conninfo):
    with psycopg.connect(conninfo) as connection:
        with connection.cursor(name="pages") as cursor:
            cursor.itersize = 1000
            cursor.execute(f"SELECT n FROM {series(10_500)}")
            assert [row[0] for row in cursor.fetchmany(3)] == [1, 2, 3]
            assert sum(1 for _ in cursor) == 10_497


def test_prepared_statements_in_text_and_binary(connection):
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            for n in range(8):
                row = cursor.execute(
                    "SELECT %s::int + 1, %s::text, %s::float8, %s::bool, %s::date, %s",
                    (n, "teks", n / 2, n % 2 == 0, "2026-01-31", "plain"),
                    prepare=True,
                ).fetchone()
                assert row[:4] == (n + 1, "teks", n / 2, n % 2 == 0)
                assert (str(row[4]), row[5]) == ("2026-01-31", "plain")
