"""system.nodes, system.buckets, system.objects."""

import os
import subprocess

import psycopg
import pytest
from psycopg.conninfo import make_conninfo


def test_nodes(run):
    rows = run("SELECT id, name, state FROM system.nodes ORDER BY id")
    assert rows and all(state == "active" for _, _, state in rows)


def test_buckets_count_exactly(run, bucket, put):
    """Pain: object counts are off, and counting takes for ever."""
    before = run("SELECT objects, bytes FROM system.buckets WHERE name = %s", bucket)
    put("system/a", b"12345")
    after = run("SELECT objects, bytes FROM system.buckets WHERE name = %s", bucket)
    assert after == [(before[0][0] + 1, before[0][1] + 5)]


def test_objects_are_seen_at_once(run, bucket, put):
    put("system/nested/b.txt", b"abc")
    rows = run("SELECT key, size FROM system.objects WHERE bucket = %s AND key LIKE 'system/nested/%%'", bucket)
    assert rows == [("system/nested/b.txt", 3)]
    [(count,)] = run("SELECT count(*) FROM system.objects WHERE bucket = 'no-such-bucket'")
    assert count == 0


def test_information_schema_lists_the_tables(run):
    rows = run("SELECT table_name FROM information_schema.tables WHERE table_schema = 'system' ORDER BY 1")
    assert rows == [("buckets",), ("nodes",), ("objects",)]


def test_search_path_finds_them(connection):
    connection.execute("SET search_path = system")
    assert connection.execute("SELECT count(*) FROM nodes").fetchone()[0] >= 1


@pytest.fixture
def other_user(sql_site):
    """An analyst: it owns nothing here."""
    binary = os.environ.get("BENTENG_BINARY")
    if not binary:
        pytest.skip("BENTENG_BINARY names no binary to create users with")
    name, password = "sql-tester", "kata-sandi-uji-1"
    env = {**os.environ, **sql_site}

    def benteng(*arguments, text=None):
        return subprocess.run([binary, *arguments], env=env, input=text, capture_output=True, text=True, timeout=60)

    benteng("user", "create", name, "--role", "analis", "--password-stdin", text=password)
    return name, password


def test_others_see_only_what_is_theirs(conninfo, bucket, put, other_user):
    url = put("secret/x.csv", b"a\n1\n")
    name, password = other_user
    with psycopg.connect(make_conninfo(conninfo, user=name, password=password), autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM system.buckets").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM system.objects").fetchone() == (0,)
        for sql in ("SELECT * FROM system.nodes", f"SELECT * FROM read_csv('{url}')", f"SELECT * FROM read_csv('s3://{bucket}/*.csv')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(sql).fetchall()
