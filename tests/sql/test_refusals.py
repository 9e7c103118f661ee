"""SQL that reaches for the node's files, for other hosts or for other sessions; SQL that
would write; SQL that is none."""

import pathlib

import psycopg
import pytest


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '/etc/passwd'",
        'SELECT * FROM "/etc/passwd"',
        "SELECT * FROM 'file:///etc/passwd'",
        "SELECT * FROM 'http://127.0.0.1:1/x.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_csv('file:///etc/passwd', header => false)",
        "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
        "SELECT * FROM read_json('https://example.com/x.json')",
        "SELECT * FROM read_csv('../../etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/benteng-was-here'",
        "COPY (SELECT 1) TO 'file:///tmp/benteng-was-here' STORED AS CSV",
        "COPY system.nodes TO '/tmp/benteng-was-here'",
        "COPY system.nodes FROM '/etc/passwd'",
        "COPY (SELECT 1) TO 's3://elsewhere/x.csv'",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION 'http://127.0.0.1:1/x'",
        "LOAD '/tmp/benteng-was-here.so'",
        "SELECT * FROM read_parquet('gs://bucket/x.parquet')",
        "SELECT * FROM read_csv(['s3://bucket/x.csv', '/etc/passwd'])",
        "WITH x AS (SELECT * FROM '/etc/passwd') SELECT * FROM x",
        "SELECT (SELECT count(*) FROM '/etc/passwd')",
        "SET datafusion.runtime.memory_limit = '100G'",
        "SET datafusion.execution.batch_size = 1",
    ],
)
def test_the_nodes_files_and_other_hosts_are_out_of_reach(fails, sql):
    code, text = fails(sql)
    assert code == "42501", text
    assert not list(pathlib.Path("/tmp").glob("benteng-was-here*"))


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/benteng-was-here'", "0A000"),
        ("PREPARE p AS COPY (SELECT 1) TO '/tmp/benteng-was-here'", "0A000"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE c AS '/tmp/benteng-was-here.so'", "0A000"),
        ("SELECT pg_read_file('/etc/passwd')", "42883"),
        ("SELECT * FROM pg_ls_dir('/')", "42883"),
        ("SELECT * FROM dblink('host=127.0.0.1', 'SELECT 1')", "42883"),
        # A host in the place of the bucket is none; a key stays a key.
        ("SELECT * FROM read_parquet('s3://127.0.0.1:1/x.parquet')", "22023"),
        ("SELECT * FROM read_parquet('s3://name:word@host/x.parquet')", "22023"),
        ("SELECT * FROM read_csv('s3://bucket/../../etc/passwd')", "22023"),
    ],
)
def test_ways_around_end_nowhere(fails, sql, code):
    got, text = fails(sql)
    assert got == code, text
    assert not list(pathlib.Path("/tmp").glob("benteng-was-here*"))


def test_copy_program_is_refused(fails):
    assert fails("COPY (SELECT 1) TO PROGRAM 'touch /tmp/benteng-was-here'")[0] in ("42501", "42601")


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (x int)",
        "CREATE TABLE t AS SELECT 1",
        "INSERT INTO system.buckets VALUES (1)",
        "DELETE FROM system.objects",
        "UPDATE system.nodes SET name = 'x'",
        "DROP TABLE system.nodes",
        "DROP SCHEMA system CASCADE",
        "SELECT 1 INTO t",
    ],
)
def test_writes_are_refused_with_a_word_on_what_to_use(fails, sql):
    code, text = fails(sql)
    assert code == "0A000", text
    assert "S3" in text or "not supported" in text


@pytest.mark.parametrize(
    "sql, code",
    [
        ("SELEC 1", "42601"),
        ("SELECT 1 FROM", "42601"),
        ("SELECT 'open", "42601"),
        ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "54001"),
        ("SELECT 1" + " + 1" * 20000, "54001"),
        ("SELECT * FROM no_such_table", "42P01"),
        ("SELECT no_such_column FROM system.nodes", "42703"),
        ("SELECT no_such_function(1)", "42883"),
        ("SELECT 1 / 0", "22012"),
        ("SELECT 'x'::int", "22P02"),
        ("SELECT name, count(*) FROM system.nodes", "42803"),
        ("SET no_such_setting = 1", "42704"),
        ("SET client_encoding = 'KLINGON'", "22023"),
        ("FETCH 1 FROM no_such_cursor", "34000"),
    ],
)
def test_errors_carry_their_sqlstate(fails, run, sql, code):
    got, text = fails(sql)
    assert got == code, text
    assert run("SELECT 1") == [(1,)], "the session goes on"


def test_settings_stay_with_their_session(conninfo, run):
    with psycopg.connect(conninfo, autocommit=True) as other:
        other.execute("SET timezone = 'Asia/Makassar'")
        assert other.execute("SHOW timezone").fetchone() == ("Asia/Makassar",)
        assert run("SHOW timezone") == [("UTC",)]


def test_transactions_are_honest(conninfo):
    with psycopg.connect(conninfo) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM no_such_table")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        connection.execute("SET timezone = 'Asia/Makassar'")
        connection.rollback()
        assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
