"""Conditional reads and writes: one winner, and the others are told."""

import concurrent.futures
import datetime

import pytest
from botocore.exceptions import ClientError

OTHER = '"00000000000000000000000000000000"'
LONG_AGO = datetime.datetime(2001, 1, 1, tzinfo=datetime.timezone.utc)
FAR_AHEAD = datetime.datetime(2099, 1, 1, tzinfo=datetime.timezone.utc)


def outcome(call):
    """The status of a call, and its code if it failed."""
    try:
        return call()["ResponseMetadata"]["HTTPStatusCode"], ""
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]


def test_reads(client, bucket):
    tag = client.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    for conditions, status in [
        (dict(IfMatch=tag), 200),
        (dict(IfMatch=tag.strip('"')), 200),
        (dict(IfMatch="*"), 200),
        (dict(IfMatch=OTHER), 412),
        (dict(IfMatch=f"{OTHER}, {tag}"), 200),
        (dict(IfNoneMatch=tag), 304),
        (dict(IfNoneMatch="*"), 304),
        (dict(IfNoneMatch=OTHER), 200),
        (dict(IfModifiedSince=LONG_AGO), 200),
        (dict(IfUnmodifiedSince=LONG_AGO), 412),
        (dict(IfUnmodifiedSince=FAR_AHEAD), 200),
        # The tag decides where both are given (RFC 9110 §13.2.2).
        (dict(IfMatch=tag, IfUnmodifiedSince=LONG_AGO), 200),
        (dict(IfNoneMatch=OTHER, IfModifiedSince=FAR_AHEAD), 200),
    ]:
        for call in (client.get_object, client.head_object):
            got, _ = outcome(lambda: call(Bucket=bucket, Key="k", **conditions))
            assert got == status, (call, conditions)
    now = client.head_object(Bucket=bucket, Key="k")["LastModified"]
    assert outcome(lambda: client.get_object(Bucket=bucket, Key="k", IfModifiedSince=now))[0] == 304


def test_a_304_names_the_tag(client, bucket):
    tag = client.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=bucket, Key="k", IfNoneMatch=tag)
    assert error.value.response["ResponseMetadata"]["HTTPHeaders"]["etag"] == tag


def test_writes(client, bucket):
    """Pain: conditions are looked at before the write, or not at all; If-Match on nothing is 404."""
    put = lambda **conditions: outcome(lambda: client.put_object(Bucket=bucket, Key="k", Body=b"x", **conditions))
    assert put(IfMatch=OTHER) == (404, "NoSuchKey")
    assert put(IfNoneMatch="*") == (200, "")
    assert put(IfNoneMatch="*") == (412, "PreconditionFailed")
    tag = client.head_object(Bucket=bucket, Key="k")["ETag"]
    assert put(IfMatch=OTHER) == (412, "PreconditionFailed")
    assert put(IfMatch=tag) == (200, "")
    client.delete_object(Bucket=bucket, Key="k")
    assert put(IfNoneMatch="*") == (200, "")


def test_a_failed_condition_leaves_no_trace(client, bucket):
    client.put_object(Bucket=bucket, Key="k", Body=b"old", Metadata={"a": "1"})
    for size in (10, 9 << 20):
        got = outcome(lambda: client.put_object(Bucket=bucket, Key="k", Body=b"y" * size, IfNoneMatch="*"))
        assert got == (412, "PreconditionFailed")
        now = client.get_object(Bucket=bucket, Key="k")
        assert (now["Body"].read(), now["Metadata"]) == (b"old", {"a": "1"})


def test_deletes(client, bucket):
    tag = client.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    assert outcome(lambda: client.delete_object(Bucket=bucket, Key="k", IfMatch=OTHER))[0] == 412
    assert outcome(lambda: client.delete_object(Bucket=bucket, Key="k", IfMatch=tag))[0] == 204


def test_copies(client, bucket):
    tag = client.put_object(Bucket=bucket, Key="from", Body=b"x")["ETag"]
    source = {"Bucket": bucket, "Key": "from"}
    for conditions, status in [
        (dict(CopySourceIfMatch=tag), 200),
        (dict(CopySourceIfMatch=OTHER), 412),
        (dict(CopySourceIfNoneMatch=tag), 412),
        (dict(CopySourceIfNoneMatch=OTHER), 200),
        (dict(CopySourceIfModifiedSince=LONG_AGO), 200),
        (dict(CopySourceIfUnmodifiedSince=LONG_AGO), 412),
        (dict(IfNoneMatch="*"), 412),
    ]:
        got, _ = outcome(lambda: client.copy_object(Bucket=bucket, Key="to", CopySource=source, **conditions))
        assert got == status, conditions


@pytest.mark.parametrize("size", [10, 100_000])
def test_i2_of_many_creators_one_wins(clients, bucket, size):
    """Pain: `If-None-Match: *` is ignored, and two Terraform runs hold one lock."""
    def attempt(n):
        client = clients[n % len(clients)]
        body = bytes([n]) * size
        return n, outcome(lambda: client.put_object(Bucket=bucket, Key="lock", Body=body, IfNoneMatch="*"))

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        results = dict(pool.map(attempt, range(12)))
    winners = [n for n, (status, _) in results.items() if status == 200]
    assert len(winners) == 1, results
    assert all(status in (200, 412) for status, _ in results.values()), results
    assert clients[0].get_object(Bucket=bucket, Key="lock")["Body"].read() == bytes([winners[0]]) * size


def test_i2_compare_and_swap_loses_no_update(clients, bucket):
    clients[0].put_object(Bucket=bucket, Key="counter", Body=b"0")

    def add(n):
        client = clients[n % len(clients)]
        while True:
            got = client.get_object(Bucket=bucket, Key="counter")
            value = int(got["Body"].read()) + 1
            status, _ = outcome(
                lambda: client.put_object(Bucket=bucket, Key="counter", Body=str(value).encode(), IfMatch=got["ETag"])
            )
            if status == 200:
                return
            assert status == 412, status

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(12)))
    assert clients[0].get_object(Bucket=bucket, Key="counter")["Body"].read() == b"12"
