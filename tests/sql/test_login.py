"""Who gets in, and what the others are told."""

import socket
import struct
import time

import psycopg
import pytest
from psycopg.conninfo import make_conninfo


def test_right_password_opens_a_session(run):
    assert run("SELECT 1 + 1") == [(2,)]
    assert run("SELECT version()")[0][0].startswith("PostgreSQL 16.")


@pytest.mark.parametrize("change", [{"password": "wrong"}, {"user": "nobody-of-that-name"}])
def test_wrong_password_and_unknown_user_are_told_the_same(conninfo, change):
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(make_conninfo(conninfo, **change))
    assert "password authentication failed" in str(caught.value)


def test_unknown_users_take_as_long_as_known_ones(conninfo):
    def took(**change) -> float:
        least = 60.0
        for _ in range(7):
            begun = time.monotonic()
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(make_conninfo(conninfo, password="wrong", **change))
            least = min(least, time.monotonic() - begun)
        return least

    known, unknown = took(), took(user="nobody-of-that-name")
    # Both clients do the same key derivation: a server that skipped work would answer in a fraction.
    assert abs(known - unknown) < 0.5 * max(known, unknown) + 0.02


def test_another_database_does_not_exist(conninfo):
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(make_conninfo(conninfo, dbname="postgres"))
    assert "does not exist" in str(caught.value)


def test_unknown_setting_at_login_is_named(conninfo):
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(make_conninfo(conninfo, options="-c no_such_setting=1"))
    assert "no_such_setting" in str(caught.value)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 64,
        b"\xff" * 64,
        struct.pack("!ii", 2**31 - 1, 196608),
        struct.pack("!ii", 8, 80877103) * 10,
    ],
)
def test_garbage_ends_its_own_connection_only(sql_site, run, garbage):
    with socket.create_connection((sql_site["PGHOST"], int(sql_site["PGPORT"])), timeout=20) as client:
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass
    assert run("SELECT 1") == [(1,)]
