"""Bad input over S3: the proper error, and nothing lost or half-visible."""

import base64
import hashlib
import os
import socket
import time
import urllib.parse
import uuid
import zlib

import pytest

from raw import Raw, read_answer
from sdk import admin, make_client

STREAM = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAM_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
BODY = b"the whole body, all of it"


def crc32(body):
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


@pytest.fixture
def raw(site):
    return Raw.of(site)


@pytest.fixture
def untouched(client, bucket):
    """A bucket with one object, which must be as it was when the test ends."""
    client.put_object(Bucket=bucket, Key="k", Body=b"before", Metadata={"a": "1"})
    yield bucket
    got = client.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["Metadata"]) == (b"before", {"a": "1"})
    assert [item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]


def says(answer, status, code):
    assert (answer.status, answer.code) == (status, code), answer
    assert answer.headers["x-amz-request-id"], answer


# Who asks.


def test_wrong_signatures(site, untouched):
    path = f"/{untouched}/k"
    says(Raw.of(site, secret="x" * 40).request("PUT", path, body=BODY), 403, "SignatureDoesNotMatch")
    says(Raw.of(site, key="BTNOBODYATALL2345672").request("PUT", path, body=BODY), 403, "InvalidAccessKeyId")
    for skew in (-16 * 60, 16 * 60):
        says(Raw.of(site, skew=skew).request("PUT", path, body=BODY), 403, "RequestTimeTooSkewed")


def test_clocks_within_a_quarter_of_an_hour_are_accepted(site, untouched):
    """Pain: a little clock skew locks everybody out."""
    for skew in (-14 * 60, 14 * 60):
        assert Raw.of(site, skew=skew).request("GET", f"/{untouched}/k").status == 200


def test_a_key_opens_only_what_is_its_owners(site, untouched):
    """Pain: a key opens others' buckets, on the gateways that have not heard yet."""
    name = f"t-{uuid.uuid4().hex[:16]}"
    admin(site, "POST", "users", {"name": name, "roles": ["sistem"]})
    try:
        key = admin(site, "POST", "keys", {"user": name})
        for endpoint in [value for at, value in site.items() if at.endswith("_S3_URL")] or [site["AWS_ENDPOINT_URL"]]:
            other = Raw.of(site, endpoint=endpoint, key=key["access_key_id"], secret=key["secret_access_key"])
            for method, path in [
                ("GET", f"/{untouched}"),
                ("GET", f"/{untouched}/k"),
                ("GET", f"/{untouched}/none"),
                ("HEAD", f"/{untouched}/k"),
                ("PUT", f"/{untouched}/k"),
                ("DELETE", f"/{untouched}/k"),
                ("DELETE", f"/{untouched}"),
            ]:
                answer = other.request(method, path)
                assert answer.status == 403 and answer.code == ("" if method == "HEAD" else "AccessDenied"), (path, answer)
            listed = other.request("GET", "/")
            assert listed.status == 200 and untouched.encode() not in listed.body
        # A key that was taken back opens nothing any more, anywhere.
        admin(site, "DELETE", f"keys/{key['access_key_id']}")
        says(other.request("GET", "/"), 403, "InvalidAccessKeyId")
    finally:
        admin(site, "DELETE", f"users/{name}")


def test_any_region_is_accepted(site, untouched):
    assert Raw.of(site, region="mars-north-7").request("GET", f"/{untouched}/k").status == 200


def test_what_was_not_signed_is_refused(raw, untouched):
    path = f"/{untouched}/k"
    for header in ({"x-amz-copy-source": path}, {"x-amz-meta-b": "2"}, {"x-amz-acl": "private"}):
        says(raw.request("PUT", path, body=BODY, unsigned=header), 403, "AccessDenied")
    signed, _, _ = raw.sign("GET", path)
    says(raw.send("GET", f"/{untouched}/other", signed), 403, "SignatureDoesNotMatch")
    says(raw.send("GET", f"{path}?versionId=null", signed), 403, "SignatureDoesNotMatch")
    signed["authorization"] = "AWS4-HMAC-SHA256 Credential=x"
    says(raw.send("GET", path, signed), 400, "AuthorizationHeaderMalformed")
    signed["authorization"] = "Bearer abc"
    says(raw.send("GET", path, signed), 400, "InvalidArgument")


def test_nobody_sees_nothing(raw, untouched):
    """Pain: with authentication on, anonymous callers still list buckets."""
    for method, target in [
        ("GET", "/"),
        ("GET", f"/{untouched}"),
        ("GET", f"/{untouched}/k"),
        ("GET", "/there-is-no-such-bucket/k"),
        ("PUT", f"/{untouched}/k"),
        ("DELETE", f"/{untouched}/k"),
        ("PUT", "/a-new-bucket"),
        ("GET", f"/{untouched}?policy"),
    ]:
        says(raw.send(method, target, {"host": raw.host, "content-length": "0"}), 403, "AccessDenied")


def test_nobody_deletes_with_an_empty_body(raw, untouched):
    says(raw.send("POST", f"/{untouched}?delete", {"host": raw.host, "content-length": "0"}), 403, "AccessDenied")


def test_sigv2_by_header_is_refused(raw, untouched):
    headers = {"host": raw.host, "date": "Mon, 01 Jan 2024 00:00:00 GMT", "authorization": f"AWS {raw.key}:c2lnbmF0dXJl"}
    answer = raw.send("GET", f"/{untouched}/k", headers)
    says(answer, 400, "InvalidRequest")
    assert b"AWS4-HMAC-SHA256" in answer.body


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_expired_and_mangled_presigned_urls(site, raw, untouched, version):
    signer = make_client(site, signature_version=version)
    url = urllib.parse.urlsplit(
        signer.generate_presigned_url("get_object", Params={"Bucket": untouched, "Key": "k"}, ExpiresIn=1)
    )
    target = f"{url.path}?{url.query}"
    host = {"host": url.netloc}
    assert raw.send("GET", target, host).status == 200
    says(raw.send("GET", target.replace("/k?", "/other?"), host), 403, "SignatureDoesNotMatch")
    says(raw.send("DELETE", target, {**host, "content-length": "0"}), 403, "SignatureDoesNotMatch")
    deadline = time.monotonic() + 10
    while (answer := raw.send("GET", target, host)).status == 200:
        assert time.monotonic() < deadline, "it never expires"
        time.sleep(0.2)
    says(answer, 403, "AccessDenied")
    assert b"Request has expired" in answer.body


def test_a_presigned_put_cannot_be_made_a_copy(site, client, raw, bucket):
    client.put_object(Bucket=bucket, Key="secret", Body=b"secret")
    url = urllib.parse.urlsplit(
        make_client(site, signature_version="s3v4").generate_presigned_url(
            "put_object", Params={"Bucket": bucket, "Key": "mine"}, ExpiresIn=60
        )
    )
    headers = {"host": url.netloc, "content-length": "0", "x-amz-copy-source": f"/{bucket}/secret"}
    says(raw.send("PUT", f"{url.path}?{url.query}", headers), 403, "AccessDenied")


# Bodies.


def test_wrong_sums(raw, untouched):
    path = f"/{untouched}/k"
    other = hashlib.sha256(b"something else").hexdigest()
    says(raw.request("PUT", path, body=BODY, payload=other), 400, "XAmzContentSHA256Mismatch")
    md5 = base64.b64encode(hashlib.md5(b"else").digest()).decode()
    says(raw.request("PUT", path, body=BODY, headers={"content-md5": md5}), 400, "BadDigest")
    says(raw.request("PUT", path, body=BODY, headers={"content-md5": "short"}), 400, "InvalidDigest")
    for name, length in [("crc32", 4), ("crc32c", 4), ("crc64nvme", 8), ("sha1", 20), ("sha256", 32)]:
        header = {f"x-amz-checksum-{name}": base64.b64encode(bytes(length)).decode()}
        says(raw.request("PUT", path, body=BODY, headers=header), 400, "BadDigest")
        header = {f"x-amz-checksum-{name}": base64.b64encode(bytes(length + 1)).decode()}
        says(raw.request("PUT", path, body=BODY, headers=header), 400, "InvalidRequest")
    two = {"x-amz-checksum-crc32": crc32(BODY), "x-amz-checksum-sha1": base64.b64encode(bytes(20)).decode()}
    says(raw.request("PUT", path, body=BODY, headers=two), 400, "InvalidRequest")


def chunked(raw, path, payload, make, headers=None, length=len(BODY), declared=None):
    """A PUT with an aws-chunked body; `make(seed, date)` gives it."""
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": str(length), **(headers or {})}
    if length is None:
        del headers["x-amz-decoded-content-length"]
    signed, seed, date = raw.sign("PUT", path, headers=headers, payload=payload)
    body = make(seed, date)
    signed["content-length"] = str(len(body) if declared is None else declared)
    return raw.send("PUT", path, signed, body, finish=declared is None)


def unsigned_chunks(pieces, trailers="", end=b"0\r\n"):
    out = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)
    return out + end + (trailers.encode() + b"\r\n" if end else b"")


def test_every_streaming_form_is_decoded(raw, client, bucket):
    """Pain: objects come back with chunk sizes, signatures and trailers inside."""
    path, halves = f"/{bucket}/k", [BODY[:7], BODY[7:]]
    sum_header = {"x-amz-trailer": "x-amz-checksum-crc32"}
    trailer = f"x-amz-checksum-crc32:{crc32(BODY)}\r\n"
    whole = hashlib.sha256(unsigned_chunks(halves)).hexdigest()
    for n, (payload, make, headers) in enumerate(
        [
            (STREAM, lambda seed, date: raw.chunks(halves, seed, date), None),
            (STREAM_TRAILER, lambda seed, date: raw.chunks(halves, seed, date, {"x-amz-checksum-crc32": crc32(BODY)}), sum_header),
            (UNSIGNED_TRAILER, lambda *_: unsigned_chunks(halves, trailer), sum_header),
            (UNSIGNED_TRAILER, lambda *_: unsigned_chunks([BODY], trailer), sum_header),
            ("UNSIGNED-PAYLOAD", lambda *_: unsigned_chunks(halves), None),
            (whole, lambda *_: unsigned_chunks(halves), None),
        ]
    ):
        answer = chunked(raw, path, payload, make, headers)
        assert answer.status == 200, (n, answer)
        got = client.get_object(Bucket=bucket, Key="k")
        assert got["Body"].read() == BODY and "ContentEncoding" not in got, n
        client.delete_object(Bucket=bucket, Key="k")
    answer = chunked(raw, path, STREAM, lambda seed, date: raw.chunks(halves, seed, date), {"content-encoding": "aws-chunked,gzip"})
    assert answer.status == 200 and client.head_object(Bucket=bucket, Key="k")["ContentEncoding"] == "gzip"


def test_one_huge_unsigned_chunk_streams(raw, client, bucket):
    """The Go SDK sends a whole file as one chunk: it must not be held in memory."""
    body = os.urandom(24 << 20)
    trailer = f"x-amz-checksum-crc32:{crc32(body)}\r\n"
    answer = chunked(
        raw,
        f"/{bucket}/k",
        UNSIGNED_TRAILER,
        lambda *_: unsigned_chunks([body], trailer),
        {"x-amz-trailer": "x-amz-checksum-crc32"},
        length=len(body),
    )
    assert answer.status == 200, answer
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_broken_streaming_bodies(raw, untouched):
    """Pain: trailers stored unverified, or refused for want of a signature that the form does not have."""
    path = f"/{untouched}/k"
    good = {"x-amz-checksum-crc32": crc32(BODY)}
    bad = {"x-amz-checksum-crc32": crc32(b"else")}
    announce = {"x-amz-trailer": "x-amz-checksum-crc32"}
    flip = lambda body: body.replace(b"whole", b"whale")
    for make, payload, headers, status, code in [
        (lambda s, d: flip(raw.chunks([BODY], s, d)), STREAM, None, 403, "SignatureDoesNotMatch"),
        (lambda s, d: raw.chunks([BODY], "0" * 64, d), STREAM, None, 403, "SignatureDoesNotMatch"),
        (lambda s, d: unsigned_chunks([BODY]), STREAM, None, 403, "SignatureDoesNotMatch"),
        (lambda s, d: raw.chunks([BODY], s, d, bad), STREAM_TRAILER, announce, 400, "BadDigest"),
        (
            lambda s, d: raw.chunks([BODY], s, d, good).replace(crc32(BODY).encode(), crc32(b"else").encode()),
            STREAM_TRAILER,
            announce,
            403,
            "SignatureDoesNotMatch",
        ),
        (lambda *_: unsigned_chunks([BODY], f"x-amz-checksum-crc32:{crc32(b'else')}\r\n"), UNSIGNED_TRAILER, announce, 400, "BadDigest"),
        (lambda *_: b"zz\r\n" + BODY, UNSIGNED_TRAILER, announce, 400, "InvalidRequest"),
        (lambda *_: unsigned_chunks([BODY]), UNSIGNED_TRAILER, {"x-amz-trailer": "x-amz-meta-a"}, 400, "InvalidRequest"),
    ]:
        says(chunked(raw, path, payload, make, headers), status, code)
    # A trailer that was announced and did not come.
    answer = chunked(raw, path, UNSIGNED_TRAILER, lambda *_: unsigned_chunks([BODY]), announce)
    assert answer.status == 400, answer
    # Longer and shorter than declared; without its last chunk.
    for length in (len(BODY) + 1, len(BODY) - 1):
        answer = chunked(raw, path, STREAM, lambda s, d: raw.chunks([BODY], s, d), length=length)
        says(answer, 400, "IncompleteBody")
    answer = chunked(raw, path, UNSIGNED_TRAILER, lambda *_: unsigned_chunks([BODY], end=b""), announce)
    says(answer, 400, "IncompleteBody")
    answer = chunked(raw, path, STREAM, lambda s, d: raw.chunks([BODY], s, d), length=None)
    says(answer, 411, "MissingContentLength")
    says(raw.request("PUT", path, body=BODY, payload="STREAMING-MADE-UP"), 501, "NotImplemented")
    says(raw.request("PUT", path, body=BODY, payload="not a hash"), 400, "InvalidArgument")


@pytest.mark.parametrize("size", [len(BODY), 9 << 20])
def test_truncated_bodies(raw, untouched, size):
    body = os.urandom(size)
    signed, _, _ = raw.sign("PUT", f"/{untouched}/k", payload="UNSIGNED-PAYLOAD")
    signed["content-length"] = str(size + 10)
    answer = raw.send("PUT", f"/{untouched}/k", signed, body, finish=False)
    says(answer, 400, "IncompleteBody")


def test_a_body_longer_than_declared_is_no_part_of_the_object(raw, client, bucket):
    signed, _, _ = raw.sign("PUT", f"/{bucket}/k", payload="UNSIGNED-PAYLOAD")
    signed["content-length"] = "4"
    assert raw.send("PUT", f"/{bucket}/k", signed, b"fourand more", finish=False).status == 200
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"four"


def test_no_length(raw, untouched):
    signed, _, _ = raw.sign("PUT", f"/{untouched}/k", payload="UNSIGNED-PAYLOAD")
    signed["transfer-encoding"] = "chunked"
    says(raw.send("PUT", f"/{untouched}/k", signed, b"5\r\nhello\r\n0\r\n\r\n"), 411, "MissingContentLength")


def test_lengths_that_are_none(raw, untouched):
    """What HTTP itself forbids never reaches an object: refused, and the connection is closed."""
    signed, _, _ = raw.sign("PUT", f"/{untouched}/k", payload="UNSIGNED-PAYLOAD")
    for length in ("-1", "abc", "99999999999999999999999", "4, 5"):
        answer = raw.send("PUT", f"/{untouched}/k", {**signed, "content-length": length}, BODY, finish=False)
        assert answer.status == 400, (length, answer)
    both = {**signed, "content-length": "4", "transfer-encoding": "chunked"}
    answer = raw.send("PUT", f"/{untouched}/k", both, b"5\r\nhello\r\n0\r\n\r\n")
    assert answer.status in (400, 411), answer


def test_a_put_without_any_length_is_refused(raw, untouched):
    """Neither Content-Length nor a transfer coding: nothing says how long the body is."""
    signed, _, _ = raw.sign("PUT", f"/{untouched}/k", payload="UNSIGNED-PAYLOAD")
    says(raw.send("PUT", f"/{untouched}/k", signed, BODY), 411, "MissingContentLength")


def test_too_large(raw, untouched):
    signed, _, _ = raw.sign("PUT", f"/{untouched}/k", headers={"expect": "100-continue"}, payload="UNSIGNED-PAYLOAD")
    signed["content-length"] = str((5 << 30) + 1)
    says(raw.send("PUT", f"/{untouched}/k", signed, wait_continue=True), 400, "EntityTooLarge")


def test_100_continue_is_given_only_to_what_may_come(site, raw, client, untouched):
    """Pain: an upload that will be refused is sent whole, or ends in a reset."""
    expect = {"expect": "100-continue"}
    big = {"content-length": str(1 << 30)}
    for sender, path, wanted in [
        (Raw.of(site, secret="x" * 40), f"/{untouched}/k", (403, "SignatureDoesNotMatch")),
        (raw, "/there-is-no-such-bucket/k", (404, "NoSuchBucket")),
        (raw, f"/{untouched}/{'x' * 1025}", (400, "KeyTooLongError")),
    ]:
        signed, _, _ = sender.sign("PUT", path, headers=expect, payload="UNSIGNED-PAYLOAD")
        answer = sender.send("PUT", path, {**signed, **big}, wait_continue=True)
        assert not answer.continued
        says(answer, *wanted)
    path = f"/{untouched}/welcome"
    signed, _, _ = raw.sign("PUT", path, headers=expect, payload="UNSIGNED-PAYLOAD")
    answer = raw.send("PUT", path, {**signed, "content-length": str(len(BODY))}, BODY, wait_continue=True)
    assert (answer.status, answer.continued) == (200, True)
    client.delete_object(Bucket=untouched, Key="welcome")


def test_a_refused_upload_reads_its_answer_instead_of_a_reset(raw):
    """Without Expect the client sends on; the server reads on within its bound, then answers."""
    body = os.urandom(16 << 20)
    says(raw.request("PUT", "/there-is-no-such-bucket/k", body=body, payload="UNSIGNED-PAYLOAD"), 404, "NoSuchBucket")


def test_the_connection_is_kept_after_an_error(raw, untouched):
    with raw.connect() as sock:
        reader = sock.makefile("rb")
        for target, status in [("none", 404), ("k", 200), ("none", 404)]:
            signed, _, _ = raw.sign("GET", f"/{untouched}/{target}")
            head = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
            sock.sendall(f"GET /{untouched}/{target} HTTP/1.1\r\n{head}\r\n".encode())
            assert read_answer(reader, "GET").status == status


# Names and XML.


def test_unknown_things(raw, untouched):
    says(raw.request("GET", "/there-is-no-such-bucket/k"), 404, "NoSuchBucket")
    says(raw.request("GET", "/there-is-no-such-bucket"), 404, "NoSuchBucket")
    says(raw.request("DELETE", "/there-is-no-such-bucket"), 404, "NoSuchBucket")
    says(raw.request("GET", f"/{untouched}/none"), 404, "NoSuchKey")
    says(raw.request("GET", f"/{untouched}/k", "versionId=abc"), 404, "NoSuchVersion")
    says(raw.request("PUT", "/Not_A_Name"), 400, "InvalidBucketName")
    says(raw.request("PUT", "/192.168.0.1"), 400, "InvalidBucketName")


def test_keys_that_are_too_long(raw, untouched):
    says(raw.request("PUT", f"/{untouched}/{'x' * 1025}", body=BODY), 400, "KeyTooLongError")
    says(raw.request("PUT", f"/{untouched}/{'%C3%A9' * 513}", body=BODY), 400, "KeyTooLongError")


def test_keys_that_are_not_utf8(raw, untouched):
    answer = raw.request("PUT", f"/{untouched}/%ff%fe", body=BODY)
    assert answer.status in (400, 403), answer


def test_dots_and_slashes_on_the_wire(raw, client, bucket):
    for key in ["a/../../etc/passwd", "./x", "//double//", "/lead", "a/./b"]:
        assert raw.request("PUT", f"/{bucket}/{key}", body=key.encode()).status == 200
        got = raw.request("GET", f"/{bucket}/{key}")
        assert (got.status, got.body) == (200, key.encode()), key
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert sorted(keys) == sorted(["a/../../etc/passwd", "./x", "//double//", "/lead", "a/./b"])


def delete_many(raw, bucket, body, headers=None):
    headers = {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()} if headers is None else headers
    return raw.request("POST", f"/{bucket}", "delete=", headers=headers, body=body)


def test_bad_xml(raw, untouched):
    for body in [
        b"",
        b"not xml",
        b"<Delete><Object><Key>k</Key></Object>",
        b"<Delete><Object></Object></Delete>",
        b"<Other/>",
        b"<Delete></Delete>",
        b"<Delete><Object><Key>&undefined;</Key></Object></Delete>",
        b"\xff\xfe<Delete/>",
        b"<Delete><Object><Key>k\x01</Key></Object><Object><Key>k</Key></Object></Delete>",
        b"<Delete><Object><Key>k&#x1;</Key></Object><Object><Key>k</Key></Object></Delete>",
    ]:
        answer = delete_many(raw, untouched, body)
        assert answer.status == 400 and answer.code in ("MalformedXML", "MissingRequestBodyError"), (body, answer)
    bomb = b'<!DOCTYPE d [<!ENTITY a "k"><!ENTITY b "&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>'
    says(delete_many(raw, untouched, bomb), 400, "MalformedXML")
    answer = raw.request("POST", f"/{untouched}/k", "uploadId=" + "0" * 32, body=b"<CompleteMultipartUpload>")
    says(answer, 400, "MalformedXML")


def test_delete_objects_needs_a_sum(raw, client, bucket):
    """Pain: DeleteObjects wants Content-MD5, which today's SDKs do not send: any sum will do, none will not."""
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    sha256 = base64.b64encode(hashlib.sha256(body).digest()).decode()
    client.put_object(Bucket=bucket, Key="k", Body=b"")
    says(delete_many(raw, bucket, body, {}), 400, "InvalidRequest")
    wrong = {"content-md5": base64.b64encode(hashlib.md5(b"else").digest()).decode()}
    says(delete_many(raw, bucket, body, wrong), 400, "BadDigest")
    says(delete_many(raw, bucket, body, {"x-amz-checksum-crc32": crc32(b"else")}), 400, "BadDigest")
    assert client.head_object(Bucket=bucket, Key="k")
    for headers in (None, {"x-amz-checksum-crc32": crc32(body)}, {"x-amz-checksum-sha256": sha256}):
        client.put_object(Bucket=bucket, Key="k", Body=b"")
        answer = delete_many(raw, bucket, body, headers)
        assert answer.status == 200 and b"<Deleted><Key>k</Key></Deleted>" in answer.body, answer


def test_xml_that_is_too_big(raw, untouched):
    signed, _, _ = raw.sign("POST", f"/{untouched}", "delete=", payload="UNSIGNED-PAYLOAD")
    signed["content-length"] = str(64 << 20)
    answer = raw.send("POST", f"/{untouched}?delete=", signed, b"<Delete>", finish=False)
    assert answer.status == 400, answer


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("PUT", "tagging"),
        ("PUT", "acl"),
        ("PUT", "renameObject"),
        ("PUT", "made-up"),
        ("DELETE", "tagging"),
        ("DELETE", "lifecycle"),
        ("DELETE", "made-up"),
        ("POST", "restore"),
    ],
)
def test_i8_an_unknown_sub_resource_neither_writes_nor_deletes(raw, untouched, method, query):
    # The canonical query of a bare name is "name=".
    signed, _, _ = raw.sign(method, f"/{untouched}/k", f"{query}=", payload="UNSIGNED-PAYLOAD")
    signed["content-length"] = str(len(BODY))
    says(raw.send(method, f"/{untouched}/k?{query}", signed, BODY), 501, "NotImplemented")


def test_wishes_that_are_not_granted_are_refused(raw, untouched):
    for headers, status, code in [
        ({"x-amz-server-side-encryption": "aws:kms"}, 501, "NotImplemented"),
        ({"x-amz-server-side-encryption-customer-algorithm": "AES256"}, 501, "NotImplemented"),
        ({"x-amz-object-lock-mode": "COMPLIANCE"}, 501, "NotImplemented"),
        ({"x-amz-storage-class": "GLACIER"}, 400, "InvalidStorageClass"),
        ({"x-amz-acl": "public-read"}, 400, "AccessControlListNotSupported"),
        ({"x-amz-tagging": "a=1&a=2"}, 400, "InvalidTag"),
        ({"x-amz-meta-big": "x" * 2100}, 400, "MetadataTooLarge"),
        ({"x-amz-write-offset-bytes": "5"}, 501, "NotImplemented"),
    ]:
        says(raw.request("PUT", f"/{untouched}/k", body=BODY, headers=headers), status, code)


def test_garbage_on_the_socket(raw, untouched):
    for bytes_ in [b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"PUT / HTTP/9\r\n\r\n", os.urandom(500)]:
        with raw.connect() as sock:
            sock.sendall(bytes_)
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # The server has answered and closed already.
            while sock.recv(4096):
                pass
    assert raw.request("GET", f"/{untouched}/k").status == 200


def test_a_client_that_hangs_up_leaves_nothing(raw, client, untouched):
    for size in (100, 9 << 20):
        signed, _, _ = raw.sign("PUT", f"/{untouched}/half", payload="UNSIGNED-PAYLOAD")
        signed["content-length"] = str(2 * size)
        head = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
        with raw.connect() as sock:
            sock.sendall(f"PUT /{untouched}/half HTTP/1.1\r\n{head}\r\n".encode() + bytes(size))
    assert raw.request("GET", f"/{untouched}/half").status == 404
