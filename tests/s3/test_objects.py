"""Objects: what is put is what is got, with everything that was said about it."""

import base64
import datetime
import hashlib
import os
import urllib.parse
import zlib

import pytest
from botocore.exceptions import ClientError

from raw import Raw
from sdk import make_client

MIB = 1 << 20
SIZES = [0, 1, 8191, 8192, 8193, 65535, 65536, 65537, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 9 * MIB + 13]


def code(error):
    return error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("size", SIZES)
def test_i4_bodies_read_back_byte_for_byte(client, bucket, size):
    """Pain: the ETag is no MD5 of the plaintext, and sync tools cry corruption."""
    body = os.urandom(size)
    put = client.put_object(Bucket=bucket, Key="k", Body=body)
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = client.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    assert got["ContentLength"] == size and got["ETag"] == put["ETag"]
    head = client.head_object(Bucket=bucket, Key="k")
    assert (head["ContentLength"], head["ETag"]) == (size, put["ETag"])
    age = datetime.datetime.now(datetime.timezone.utc) - head["LastModified"]
    assert abs(age.total_seconds()) < 60


def test_i2_every_node_sees_the_same_at_once(clients, bucket):
    """Pain: gateways show different keys."""
    for n, writer in enumerate(clients):
        body = os.urandom(20_000)
        writer.put_object(Bucket=bucket, Key="shared", Body=body)
        for reader in clients:
            assert reader.get_object(Bucket=bucket, Key="shared")["Body"].read() == body
            assert [item["Key"] for item in reader.list_objects_v2(Bucket=bucket)["Contents"]] == ["shared"]


def test_overwrite_and_delete(client, bucket):
    client.put_object(Bucket=bucket, Key="k", Body=b"one")
    client.put_object(Bucket=bucket, Key="k", Body=b"two" * 9000)
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"two" * 9000
    for _ in range(2):  # deleting what is not there is no error
        assert client.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=bucket, Key="k")
    assert code(error) == ("NoSuchKey", 404)
    with pytest.raises(ClientError) as error:
        client.head_object(Bucket=bucket, Key="k")
    assert code(error) == ("404", 404)


@pytest.mark.parametrize("size", [100, 300_000])
def test_ranges(client, bucket, size):
    body = os.urandom(size)
    client.put_object(Bucket=bucket, Key="k", Body=body)
    for asked, start, end in [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        (f"bytes={size - 1}-", size - 1, size),
        (f"bytes=5-{size * 2}", 5, size),
        ("bytes=-7", size - 7, size),
        (f"bytes=-{size * 2}", 0, size),
    ]:
        got = client.get_object(Bucket=bucket, Key="k", Range=asked)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206, asked
        assert got["ContentRange"] == f"bytes {start}-{end - 1}/{size}", asked
        assert got["Body"].read() == body[start:end], asked
        head = client.head_object(Bucket=bucket, Key="k", Range=asked)
        assert head["ResponseMetadata"]["HTTPStatusCode"] == 206 and head["ContentLength"] == end - start, asked
    for asked in [f"bytes={size}-", "bytes=-0", f"bytes={size}-{size + 1}"]:
        with pytest.raises(ClientError) as error:
            client.get_object(Bucket=bucket, Key="k", Range=asked)
        assert code(error) == ("InvalidRange", 416), asked
    for asked in ["bytes=5-2", "lines=1-2", "bytes=0-1,4-5", "nonsense"]:
        got = client.get_object(Bucket=bucket, Key="k", Range=asked)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 200 and got["Body"].read() == body, asked


def test_a_range_of_ten_bytes_from_the_tenth_is_not_satisfiable(client, bucket):
    """Pain: `bytes=10-` of ten bytes gives 206."""
    client.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=bucket, Key="k", Range="bytes=10-")
    assert code(error) == ("InvalidRange", 416)


def test_headers_metadata_and_tags_are_kept(client, bucket):
    said = dict(
        ContentType="text/csv; charset=utf-8",
        ContentEncoding="gzip",
        ContentLanguage="id",
        ContentDisposition='attachment; filename="laporan.csv"',
        CacheControl="max-age=60",
        Metadata={"opd": "diskominfo", "catatan": "baris satu"},
    )
    client.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="kelas=terbuka&tahun=2026", **said)
    for got in (client.get_object(Bucket=bucket, Key="k"), client.head_object(Bucket=bucket, Key="k")):
        for name, value in said.items():
            assert got[name] == value, name
    assert client.get_object(Bucket=bucket, Key="k")["TagCount"] == 2
    client.put_object(Bucket=bucket, Key="plain", Body=b"x")
    assert client.head_object(Bucket=bucket, Key="plain")["ContentType"] == "binary/octet-stream"


def test_the_transfer_coding_is_never_shown(client, bucket):
    """Pain: GET sends Content-Encoding: aws-chunked, or an empty one."""
    # boto3 sends unsigned or signed trailers with Content-Encoding: aws-chunked by itself.
    client.put_object(Bucket=bucket, Key="k", Body=b"x" * 100, ChecksumAlgorithm="SHA256")
    got = client.get_object(Bucket=bucket, Key="k")
    assert "ContentEncoding" not in got and "content-encoding" not in got["ResponseMetadata"]["HTTPHeaders"]
    assert got["Body"].read() == b"x" * 100


def test_response_overrides(client, bucket):
    client.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    got = client.get_object(
        Bucket=bucket,
        Key="k",
        ResponseContentType="application/json",
        ResponseContentDisposition="inline",
        ResponseCacheControl="no-store",
    )
    assert (got["ContentType"], got["ContentDisposition"], got["CacheControl"]) == ("application/json", "inline", "no-store")


ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [0, 50, 200_000])
def test_checksums_of_every_kind_are_stored_and_answered(client, bucket, algorithm, size):
    body = os.urandom(size)
    put = client.put_object(Bucket=bucket, Key="k", Body=body, ChecksumAlgorithm=algorithm)
    field = f"Checksum{algorithm}"
    assert put[field]
    got = client.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got[field] == put[field] and got["ChecksumType"] == "FULL_OBJECT"
    assert got["Body"].read() == body  # boto3 checks the sum by itself
    if algorithm == "CRC32":
        assert base64.b64decode(put[field]) == zlib.crc32(body).to_bytes(4, "big")
    head = client.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[field] == put[field]


def test_an_object_without_a_checksum_gets_crc64nvme(site, bucket):
    client = make_client(site, request_checksum_calculation="when_required")
    client.put_object(Bucket=bucket, Key="k", Body=b"123456789")
    assert client.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["ChecksumCRC64NVME"] == "rosUhgp5mIg="


CONTROL = "control\x01\x1f"
KEYS = [
    "a/../b",
    "../x",
    "..",
    ".",
    "/lead",
    "//two//slashes//",
    "a//b",
    "trail/",
    "space in name",
    "plus+and%25percent",
    "100%",
    "ünïcödé/ファイル/🎉",
    "quote'\"<>&;",
    "tab\tand\nnewline",
    "carriage\rreturn",
    CONTROL,
    "question?mark#hash",
    "back\\slash|pipe{}[]^`~",
    "!*'()@:=,$",
    "x" * 1024,
    "é" * 512,
]


def test_keys_are_bytes(client, bucket):
    """Pain: a leading slash, `//` and `..` are rewritten or refused."""
    for key in KEYS:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in KEYS:
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode(), repr(key)
    listed = [item["Key"] for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket) for item in page["Contents"]]
    assert listed == sorted(KEYS, key=lambda key: key.encode())
    plain = [key for key in KEYS if key != CONTROL]
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in plain]})
    assert sorted(item["Key"] for item in answer["Deleted"]) == sorted(plain)
    client.delete_object(Bucket=bucket, Key=CONTROL)
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_control_characters_in_delete_objects(client, bucket):
    """XML 1.0 cannot carry such a key, in the request or in the answer: refused whole, nothing deleted."""
    for key in (CONTROL, "not a character \ufffe"):
        client.put_object(Bucket=bucket, Key=key, Body=b"x")
        client.put_object(Bucket=bucket, Key="plain", Body=b"x")
        with pytest.raises(ClientError) as error:
            client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "plain"}, {"Key": key}]})
        assert code(error) == ("MalformedXML", 400)
        assert "by DELETE" in error.value.response["Error"]["Message"]
        assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 2
        client.delete_object(Bucket=bucket, Key=key)
        assert [item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["plain"]


def test_control_characters_in_keys_of_uploads(client, bucket):
    """What starts and completes an upload echoes its key; one that XML cannot carry is left out."""
    begun = client.create_multipart_upload(Bucket=bucket, Key=CONTROL)["UploadId"]
    names = dict(Bucket=bucket, Key=CONTROL, UploadId=begun)
    etag = client.upload_part(**names, PartNumber=1, Body=b"part")["ETag"]
    assert len(client.list_parts(**names)["Parts"]) == 1
    shown = client.list_multipart_uploads(Bucket=bucket, EncodingType="url")["Uploads"]
    assert [urllib.parse.unquote(item["Key"]) for item in shown] == [CONTROL]
    done = client.complete_multipart_upload(**names, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    assert done["ETag"] and client.get_object(Bucket=bucket, Key=CONTROL)["Body"].read() == b"part"
    client.delete_object(Bucket=bucket, Key=CONTROL)


def test_a_key_and_its_prefix_do_not_hide_each_other(client, bucket):
    """Pain: `a` and `a/b` hide each other."""
    for key in ["a", "a/", "a/b", "a/b/c"]:
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in ["a", "a/", "a/b", "a/b/c"]:
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()


def test_delete_objects(client, bucket):
    keys = [f"k{n:04}" for n in range(1000)]
    for key in keys[:50]:
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    assert len(answer["Deleted"]) == 1000 and not answer.get("Errors")
    client.put_object(Bucket=bucket, Key="k", Body=b"")
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}], "Quiet": True})
    assert not answer.get("Deleted") and not answer.get("Errors")
    with pytest.raises(ClientError) as error:
        client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"{n}"} for n in range(1001)]})
    assert code(error) == ("MalformedXML", 400)


def test_copy(client, bucket):
    """Pain: CopyObject with REPLACE keeps the old Content-Type."""
    body = os.urandom(9 * MIB)
    client.put_object(Bucket=bucket, Key="from +/ä", Body=body, ContentType="text/plain", Metadata={"a": "1"}, Tagging="t=1")
    done = client.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "from +/ä"})
    assert done["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = client.get_object(Bucket=bucket, Key="to")
    assert got["Body"].read() == body
    assert (got["ContentType"], got["Metadata"], got["TagCount"]) == ("text/plain", {"a": "1"}, 1)
    client.copy_object(
        Bucket=bucket,
        Key="to",
        CopySource={"Bucket": bucket, "Key": "to"},
        MetadataDirective="REPLACE",
        ContentType="image/png",
        Metadata={"b": "2"},
    )
    got = client.get_object(Bucket=bucket, Key="to")
    # Tags follow their own directive: COPY unless it says REPLACE.
    assert (got["ContentType"], got["Metadata"], got["TagCount"]) == ("image/png", {"b": "2"}, 1)
    assert got["Body"].read() == body
    with pytest.raises(ClientError) as error:
        client.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "to"})
    assert code(error) == ("InvalidRequest", 400)
    with pytest.raises(ClientError) as error:
        client.copy_object(Bucket=bucket, Key="to", CopySource={"Bucket": bucket, "Key": "nothing"})
    assert code(error) == ("NoSuchKey", 404)


def test_plus_in_a_copy_source_stays_a_plus(site, client, bucket):
    """Pain: x-amz-copy-source is taken raw, or decoded twice."""
    client.put_object(Bucket=bucket, Key="a+b", Body=b"plus")
    client.put_object(Bucket=bucket, Key="a b", Body=b"space")
    raw = Raw.of(site)
    for source, body in [(f"/{bucket}/a+b", b"plus"), (f"{bucket}/a%2Bb", b"plus"), (f"{bucket}/a%20b?versionId=null", b"space")]:
        done = raw.request("PUT", f"/{bucket}/to", headers={"x-amz-copy-source": source})
        assert done.status == 200, (source, done)
        assert client.get_object(Bucket=bucket, Key="to")["Body"].read() == body, source


def test_buckets(client, bucket):
    assert bucket in [item["Name"] for item in client.list_buckets()["Buckets"]]
    assert client.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert client.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    assert "Status" not in client.get_bucket_versioning(Bucket=bucket)
    with pytest.raises(ClientError) as error:
        client.create_bucket(Bucket=bucket)
    assert code(error) == ("BucketAlreadyOwnedByYou", 409)
    client.put_object(Bucket=bucket, Key="k", Body=b"")
    with pytest.raises(ClientError) as error:
        client.delete_bucket(Bucket=bucket)
    assert code(error) == ("BucketNotEmpty", 409)
    client.delete_object(Bucket=bucket, Key="k")
    client.delete_bucket(Bucket=bucket)
    with pytest.raises(ClientError) as error:
        client.head_bucket(Bucket=bucket)
    assert code(error) == ("404", 404)
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "ap-southeast-3"})


def test_virtual_host_style(site, client, bucket):
    """`Host: BUCKET.localhost` names the bucket; no resolver is needed to try it."""
    client.put_object(Bucket=bucket, Key="dir/k", Body=b"there")
    raw = Raw.of(site)
    for domain in ("localhost", "s3.localhost"):
        host = f"{bucket}.{domain}:{raw.port}"
        got = raw.request("GET", "/dir/k", headers={"host": host})
        assert (got.status, got.body) == (200, b"there"), got
        listed = raw.request("GET", "/", "list-type=2", headers={"host": host})
        assert listed.status == 200 and b"<Key>dir/k</Key>" in listed.body


def test_an_empty_body_that_waits_for_100_does_not_confuse_the_next_answer(client, bucket):
    """botocore sends Expect with empty bodies too, and then misreads the next answer on a kept connection."""
    for n in range(4):
        assert client.put_object(Bucket=bucket, Key=f"empty{n}", Body=b"")["ETag"]
        assert client.put_object(Bucket=bucket, Key=f"full{n}", Body=b"x" * 100_000)["ETag"]


def test_presigned_urls_v4_and_v2(site, client, bucket):
    import urllib.request

    v4 = make_client(site, signature_version="s3v4")
    v2 = make_client(site, signature_version="s3")
    for signer in (v4, v2):
        url = signer.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "a b/+ü"}, ExpiresIn=60)
        request = urllib.request.Request(url, data=b"by url", method="PUT")
        # urllib adds a Content-Type that v2 would have had to sign.
        request.add_header("Content-Type", "")
        assert urllib.request.urlopen(request).status == 200
        url = signer.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b/+ü"}, ExpiresIn=60)
        assert urllib.request.urlopen(url).read() == b"by url"
        client.delete_object(Bucket=bucket, Key="a b/+ü")


def test_every_answer_has_a_request_id(site, client, bucket):
    raw = Raw.of(site)
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    for answer in [
        raw.request("GET", f"/{bucket}/k"),
        raw.request("HEAD", f"/{bucket}/none"),
        raw.request("GET", f"/{bucket}/none"),
        raw.send("GET", f"/{bucket}/k", {"host": raw.host}),
    ]:
        assert answer.headers["x-amz-request-id"], answer
        if answer.code:
            assert f"<RequestId>{answer.headers['x-amz-request-id']}</RequestId>".encode() in answer.body


@pytest.mark.parametrize(
    "call",
    [
        lambda c, b: c.get_bucket_policy(Bucket=b),
        lambda c, b: c.get_bucket_lifecycle_configuration(Bucket=b),
        lambda c, b: c.get_object_tagging(Bucket=b, Key="k"),
        lambda c, b: c.put_object_tagging(Bucket=b, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}),
        lambda c, b: c.put_bucket_versioning(Bucket=b, VersioningConfiguration={"Status": "Enabled"}),
        lambda c, b: c.delete_bucket_policy(Bucket=b),
        lambda c, b: c.get_object_acl(Bucket=b, Key="k"),
        lambda c, b: c.list_object_versions(Bucket=b),
    ],
)
def test_what_is_not_there_yet_says_so_and_touches_nothing(client, bucket, call):
    client.put_object(Bucket=bucket, Key="k", Body=b"still here")
    with pytest.raises(ClientError) as error:
        call(client, bucket)
    assert code(error) == ("NotImplemented", 501)
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"still here"
