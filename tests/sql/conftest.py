"""Fixtures of the SQL door's black-box tests: a running site, described by the file that
BENTENG_ENDPOINTS names (``endpoints.env`` of ``benteng dev``)."""

import os
import shutil
import subprocess
import uuid
from pathlib import Path

import boto3
import psycopg
import pytest
from botocore.config import Config


def read_endpoints() -> dict[str, str]:
    """The site's addresses and credentials."""
    path = os.environ.get("BENTENG_ENDPOINTS")
    if not path:
        pytest.skip("BENTENG_ENDPOINTS names no endpoints.env of a running site")
    lines = Path(path).read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {key: value.strip().strip("'\"") for key, value in pairs}


@pytest.fixture(scope="session")
def sql_site() -> dict[str, str]:
    return read_endpoints()


@pytest.fixture(scope="session")
def conninfo(sql_site) -> str:
    """How psycopg and psql find the door."""
    get = sql_site.__getitem__
    return psycopg.conninfo.make_conninfo(
        host=get("PGHOST"),
        port=get("PGPORT"),
        user=get("PGUSER"),
        password=get("PGPASSWORD"),
        dbname=get("PGDATABASE"),
        connect_timeout=30,
    )


@pytest.fixture
def connection(conninfo):
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield connection


@pytest.fixture
def run(connection):
    """Runs a statement and returns all its rows."""

    def run(sql, *params):
        return connection.execute(sql, params or None).fetchall()

    return run


@pytest.fixture
def fails(connection):
    """Runs a statement that must fail; returns its SQLSTATE and message."""

    def fails(sql, *params):
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(sql, params or None).fetchall()
        assert not connection.closed, f"the connection ended: {caught.value}"
        return caught.value.sqlstate, str(caught.value)

    return fails


@pytest.fixture(scope="session")
def sql_s3(sql_site):
    return boto3.client(
        "s3",
        endpoint_url=sql_site["AWS_ENDPOINT_URL"],
        aws_access_key_id=sql_site["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=sql_site["AWS_SECRET_ACCESS_KEY"],
        region_name=sql_site["AWS_REGION"],
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 3}),
    )


@pytest.fixture(scope="session")
def bucket(sql_s3):
    """A bucket of this run's own; emptied and removed afterwards."""
    name = f"sql-{uuid.uuid4().hex[:12]}"
    sql_s3.create_bucket(Bucket=name)
    yield name
    pages = sql_s3.get_paginator("list_objects_v2").paginate(Bucket=name)
    for page in pages:
        for line in page.get("Contents", []):
            sql_s3.delete_object(Bucket=name, Key=line["Key"])
    sql_s3.delete_bucket(Bucket=name)


@pytest.fixture(scope="session")
def put(sql_s3, bucket):
    """Stores an object and returns its URL."""

    def put(key: str, body: bytes) -> str:
        sql_s3.put_object(Bucket=bucket, Key=key, Body=body)
        return f"s3://{bucket}/{key}"

    return put


@pytest.fixture(scope="session")
def psql(sql_site):
    """Runs psql with the given commands; returns (exit code, stdout, stderr)."""
    binary = shutil.which("psql")
    if binary is None:
        pytest.skip("psql is not installed")

    def psql(*commands: str, **environment: str):
        env = {**os.environ, **{k: v for k, v in sql_site.items() if k.startswith("PG")}, **environment}
        arguments = [binary, "-X", "-w", "-v", "ON_ERROR_STOP=1", "-P", "pager=off"]
        for command in commands:
            arguments += ["-c", command]
        done = subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    return psql
