"""Listing: every page size gives the same set, each line once, in byte order."""

import pytest
from botocore.exceptions import ClientError

from raw import Raw

KEYS = ["a", "a/", "a/b", "a/b/c", "a/d", "a-b", "b", "b//x", "b/y", "ch/1", "ch/2", "ch/3", "é/ü", "z z", "z+z", "z%z"]


@pytest.fixture
def filled(client, bucket):
    for key in KEYS:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    return bucket


def expected(prefix, delimiter, after=""):
    """What a listing must show: keys and common prefixes in byte order."""
    lines = []
    for key in sorted(KEYS, key=str.encode):
        if not key.startswith(prefix) or key.encode() <= after.encode() and after:
            continue
        rest = key[len(prefix) :]
        if delimiter and delimiter in rest:
            line = prefix + rest.split(delimiter, 1)[0] + delimiter
            if ("common", line) not in lines:
                lines.append(("common", line))
        else:
            lines.append(("key", key))
    return lines


def lines_of(page):
    lines = [("key", item["Key"]) for item in page.get("Contents", [])]
    return lines + [("common", item["Prefix"]) for item in page.get("CommonPrefixes", [])]


def ordered(lines):
    return sorted(lines, key=lambda line: (line[1].encode(), line[0]))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_every_page_size_gives_the_same_set(client, filled, version, size):
    """Pains: small pages lose keys; KeyCount leaves out common prefixes."""
    for prefix in ["", "a", "a/", "a/b", "b/", "ch", "c", "é/", "nothing", "z"]:
        for delimiter in ["", "/", "b", "//"]:
            wanted = ordered(expected(prefix, delimiter))
            seen, more = [], {}
            while True:
                if version == 2:
                    page = client.list_objects_v2(Bucket=filled, Prefix=prefix, Delimiter=delimiter, MaxKeys=size, **more)
                    assert page["KeyCount"] == len(lines_of(page))
                    more = {"ContinuationToken": page.get("NextContinuationToken")}
                else:
                    page = client.list_objects(Bucket=filled, Prefix=prefix, Delimiter=delimiter, MaxKeys=size, **more)
                    more = {"Marker": page.get("NextMarker")}
                assert len(lines_of(page)) <= size
                seen += lines_of(page)
                if not page["IsTruncated"]:
                    break
                assert len(seen) <= len(wanted), (prefix, delimiter, seen)
            assert ordered(seen) == wanted, (prefix, delimiter)


def test_start_after_and_marker(client, filled):
    for after in ["", "a", "a/b", "ch/1", "ch/zzz", "zzz"]:
        page = client.list_objects_v2(Bucket=filled, StartAfter=after)
        assert lines_of(page) == expected("", "", after), after
        page = client.list_objects(Bucket=filled, Marker=after)
        assert lines_of(page) == expected("", "", after), after


def test_keys_without_encoding_type_are_the_same(site, filled):
    raw = Raw.of(site)
    plain = raw.request("GET", f"/{filled}", "list-type=2").body.decode()
    assert "<Key>z+z</Key>" in plain and "<Key>z%z</Key>" in plain and "<Key>é/ü</Key>" in plain
    encoded = raw.request("GET", f"/{filled}", "encoding-type=url&list-type=2").body.decode()
    assert "<Key>z%2Bz</Key>" in encoded and "<Key>z%25z</Key>" in encoded and "<EncodingType>url</EncodingType>" in encoded


def test_owners_are_shown_when_asked(client, filled):
    assert "Owner" not in client.list_objects_v2(Bucket=filled)["Contents"][0]
    assert client.list_objects_v2(Bucket=filled, FetchOwner=True)["Contents"][0]["Owner"]["ID"]
    assert client.list_objects(Bucket=filled)["Contents"][0]["Owner"]["ID"]


def test_sizes_tags_and_times_are_those_of_the_objects(client, filled):
    for item in client.list_objects_v2(Bucket=filled)["Contents"]:
        head = client.head_object(Bucket=filled, Key=item["Key"])
        assert (item["Size"], item["ETag"]) == (head["ContentLength"], head["ETag"])
        assert abs((item["LastModified"] - head["LastModified"]).total_seconds()) < 1
        assert item["StorageClass"] == "STANDARD"


def test_bad_arguments(site, client, filled):
    raw = Raw.of(site)
    for query in [
        "list-type=2&max-keys=-1",
        "list-type=2&max-keys=many",
        "continuation-token=made%20up&list-type=2",
        "continuation-token=&list-type=2",
        "encoding-type=base64&list-type=2",
    ]:
        answer = raw.request("GET", f"/{filled}", query)
        assert (answer.status, answer.code) == (400, "InvalidArgument"), (query, answer)
    page = client.list_objects_v2(Bucket=filled, MaxKeys=0)
    assert (page["KeyCount"], page["IsTruncated"]) == (0, False)
    page = client.list_objects_v2(Bucket=filled, MaxKeys=5000)
    assert page["MaxKeys"] == 1000


def test_a_token_of_another_bucket_is_refused(client, filled):
    token = client.list_objects_v2(Bucket=filled, MaxKeys=1)["NextContinuationToken"]
    other = f"{filled}-2"
    client.create_bucket(Bucket=other)
    try:
        with pytest.raises(ClientError) as error:
            client.list_objects_v2(Bucket=other, ContinuationToken=token)
        assert error.value.response["Error"]["Code"] == "InvalidArgument"
    finally:
        client.delete_bucket(Bucket=other)


def test_pages_of_a_thousand(client, bucket):
    import concurrent.futures

    keys = [f"dir{n % 7}/k{n:05}" for n in range(1500)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=bucket, Key=key, Body=b""), keys))
    pages = list(client.get_paginator("list_objects_v2").paginate(Bucket=bucket))
    assert [len(page["Contents"]) for page in pages] == [1000, 500]
    assert [item["Key"] for page in pages for item in page["Contents"]] == sorted(keys)
    page = client.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [item["Prefix"] for item in page["CommonPrefixes"]] == [f"dir{n}/" for n in range(7)]


def test_lists_of_buckets_have_pages(client, bucket):
    seen, more = [], {}
    while True:
        page = client.list_buckets(MaxBuckets=1, **more)
        seen += [item["Name"] for item in page["Buckets"]]
        if "ContinuationToken" not in page:
            break
        more = {"ContinuationToken": page["ContinuationToken"]}
    assert seen == sorted(seen) and bucket in seen
