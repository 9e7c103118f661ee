"""Multipart: parts, sums, pages of parts and uploads, and what is refused."""

import base64
import concurrent.futures
import hashlib
import os

import pytest
from botocore.exceptions import ClientError

from sdk import make_client

MIB = 1 << 20
PART = 5 * MIB


def code(error):
    return error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def tag_of(parts):
    sums = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{hashlib.md5(sums).hexdigest()}-{len(parts)}"'


def upload(client, bucket, key, parts, **options):
    """Uploads parts 1.. and returns (upload id, list for the completion)."""
    begun = client.create_multipart_upload(Bucket=bucket, Key=key, **options)
    listed = []
    for number, body in enumerate(parts, 1):
        done = client.upload_part(Bucket=bucket, Key=key, UploadId=begun["UploadId"], PartNumber=number, Body=body)
        sums = {name: value for name, value in done.items() if name.startswith("Checksum") and name != "ChecksumType"}
        listed.append({"PartNumber": number, "ETag": done["ETag"], **sums})
    return begun["UploadId"], listed


def complete(client, bucket, key, upload_id, listed, **options):
    return client.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed}, **options
    )


def test_i3_the_whole_is_its_parts(client, bucket):
    """Pain: a fresh multipart object is listed, but cannot be read or copied."""
    parts = [os.urandom(PART), os.urandom(PART + 12345), os.urandom(77)]
    upload_id, listed = upload(
        client, bucket, "k", parts, ContentType="text/plain", Metadata={"a": "1"}, Tagging="t=1"
    )
    with pytest.raises(ClientError):  # not there before it is complete
        client.head_object(Bucket=bucket, Key="k")
    done = complete(client, bucket, "k", upload_id, listed)
    assert done["ETag"] == tag_of(parts)
    got = client.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == b"".join(parts)
    assert (got["ETag"], got["ContentType"], got["Metadata"]) == (tag_of(parts), "text/plain", {"a": "1"})
    # A range over the border of two parts.
    got = client.get_object(Bucket=bucket, Key="k", Range=f"bytes={PART - 10}-{PART + 9}")
    assert got["Body"].read() == b"".join(parts)[PART - 10 : PART + 10]


def test_parts_are_read_by_number(client, bucket):
    """Pain: HEAD with a part number reports the whole."""
    parts = [os.urandom(PART), os.urandom(99)]
    upload_id, listed = upload(client, bucket, "k", parts)
    complete(client, bucket, "k", upload_id, listed)
    start = 0
    for number, part in enumerate(parts, 1):
        got = client.get_object(Bucket=bucket, Key="k", PartNumber=number)
        assert got["Body"].read() == part
        head = client.head_object(Bucket=bucket, Key="k", PartNumber=number)
        for answer in (got, head):
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
            assert (answer["ContentLength"], answer["PartsCount"]) == (len(part), 2)
            assert answer["ETag"] == tag_of(parts)
        assert got["ContentRange"] == f"bytes {start}-{start + len(part) - 1}/{PART + 99}"
        start += len(part)
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket=bucket, Key="k", PartNumber=3)
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 416)
    client.put_object(Bucket=bucket, Key="single", Body=b"abc")
    assert client.get_object(Bucket=bucket, Key="single", PartNumber=1)["Body"].read() == b"abc"


def test_a_completion_can_be_repeated(client, clients, bucket):
    """Pain: a completion that is retried after a lost answer gets NoSuchUpload (L4)."""
    upload_id, listed = upload(client, bucket, "k", [b"only"])
    first = complete(client, bucket, "k", upload_id, listed)
    for through in clients:
        assert complete(through, bucket, "k", upload_id, listed)["ETag"] == first["ETag"]
    # What came later is not undone by a late repetition.
    client.put_object(Bucket=bucket, Key="k", Body=b"later")
    complete(client, bucket, "k", upload_id, listed)
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"later"


def test_gaps_and_replaced_parts(client, bucket):
    """Pains: parts must have one size and no gaps; the cleaner takes a live object for its unnamed parts."""
    begun = client.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    put = lambda number, body: client.upload_part(
        Bucket=bucket, Key="k", UploadId=begun, PartNumber=number, Body=body
    )["ETag"]
    stale = put(3, b"o" * PART)
    fresh, last = put(3, b"n" * PART), put(10_000, b"end")
    put(7, b"never named")
    with pytest.raises(ClientError) as error:
        complete(client, bucket, "k", begun, [{"PartNumber": 3, "ETag": stale}])
    assert code(error) == ("InvalidPart", 400)
    complete(client, bucket, "k", begun, [{"PartNumber": 3, "ETag": fresh}, {"PartNumber": 10_000, "ETag": last}])
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"n" * PART + b"end"


def test_what_is_refused(client, bucket):
    """Pain: an error inside a 200 body is read as success: the status is the true one."""
    upload_id, listed = upload(client, bucket, "k", [b"small", b"end"])
    nothing = {"PartNumber": 9, "ETag": listed[0]["ETag"]}
    for parts, wanted in [
        (listed, ("EntityTooSmall", 400)),
        (listed[::-1], ("InvalidPartOrder", 400)),
        ([listed[0], listed[0]], ("InvalidPartOrder", 400)),
        ([nothing], ("InvalidPart", 400)),
        ([{**listed[0], "ETag": '"made up"'}], ("InvalidPart", 400)),
    ]:
        with pytest.raises(ClientError) as error:
            complete(client, bucket, "k", upload_id, parts)
        assert code(error) == wanted, parts
    for number in (0, 10_001):
        with pytest.raises(ClientError) as error:
            client.upload_part(Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=number, Body=b"x")
        assert code(error) == ("InvalidArgument", 400)
    with pytest.raises(ClientError) as error:
        client.upload_part(Bucket=bucket, Key="k", UploadId="0" * 32, PartNumber=1, Body=b"x")
    assert code(error) == ("NoSuchUpload", 404)
    # All that changed nothing: the upload is still good.
    complete(client, bucket, "k", upload_id, listed[1:])
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"end"


def test_10001_parts_are_refused(client, bucket):
    upload_id, listed = upload(client, bucket, "k", [b"x"])
    many = [{"PartNumber": n, "ETag": listed[0]["ETag"]} for n in range(1, 10_002)]
    with pytest.raises(ClientError) as error:
        complete(client, bucket, "k", upload_id, many)
    assert code(error) == ("MalformedXML", 400)
    # The upload is as it was.
    complete(client, bucket, "k", upload_id, listed)
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_abort(client, bucket):
    upload_id, listed = upload(client, bucket, "k", [b"x"])
    client.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload_id)
    for call in (
        lambda: complete(client, bucket, "k", upload_id, listed),
        lambda: client.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload_id),
        lambda: client.list_parts(Bucket=bucket, Key="k", UploadId=upload_id),
    ):
        with pytest.raises(ClientError) as error:
            call()
        assert code(error) == ("NoSuchUpload", 404)


def test_parts_are_listed_in_pages(client, bucket):
    upload_id, listed = upload(client, bucket, "k", [bytes([n]) * (n + 1) for n in range(5)])
    seen = []
    for page in client.get_paginator("list_parts").paginate(
        Bucket=bucket, Key="k", UploadId=upload_id, PaginationConfig={"PageSize": 2}
    ):
        seen += page["Parts"]
    assert [(part["PartNumber"], part["Size"], part["ETag"]) for part in seen] == [
        (item["PartNumber"], n + 1, item["ETag"]) for n, item in enumerate(listed)
    ]


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_uploads_are_listed_in_pages(client, bucket, size):
    """Pain: ListMultipartUploads needs the exact key."""
    keys = ["a/1", "a/2", "b", "b", "c/x/1", "ü"]
    ids = [(key, client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]) for key in keys]
    pages = client.get_paginator("list_multipart_uploads")
    seen = [
        (item["Key"], item["UploadId"])
        for page in pages.paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
        for item in page.get("Uploads", [])
    ]
    assert [key for key, _ in seen] == sorted(keys, key=str.encode) and sorted(seen) == sorted(ids)
    lines = []
    for page in pages.paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": size}):
        lines += [item["Key"] for item in page.get("Uploads", [])]
        lines += [item["Prefix"] for item in page.get("CommonPrefixes", [])]
    assert sorted(lines) == sorted(["a/", "b", "b", "c/", "ü"])
    page = client.list_multipart_uploads(Bucket=bucket, Prefix="a/")
    assert [item["Key"] for item in page["Uploads"]] == ["a/1", "a/2"]


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("CRC32", None),
        ("CRC32", "FULL_OBJECT"),
        ("CRC32C", "COMPOSITE"),
        ("CRC32C", "FULL_OBJECT"),
        ("CRC64NVME", None),
        ("SHA1", None),
        ("SHA256", None),
    ],
)
def test_sums_of_uploads(client, bucket, algorithm, kind):
    """Pain: uploads with the SDK's default checksum end in InvalidPart, or get a CRC64NVME with -N."""
    parts = [os.urandom(PART), os.urandom(1000)]
    options = {"ChecksumAlgorithm": algorithm, **({"ChecksumType": kind} if kind else {})}
    begun = client.create_multipart_upload(Bucket=bucket, Key="k", **options)
    whole = kind == "FULL_OBJECT" or algorithm == "CRC64NVME"
    assert begun["ChecksumType"] == ("FULL_OBJECT" if whole else "COMPOSITE")
    field, listed = f"Checksum{algorithm}", []
    for number, body in enumerate(parts, 1):
        done = client.upload_part(
            Bucket=bucket,
            Key="k",
            UploadId=begun["UploadId"],
            PartNumber=number,
            Body=body,
            ChecksumAlgorithm=algorithm,
        )
        listed.append({"PartNumber": number, "ETag": done["ETag"], field: done[field]})
    done = complete(client, bucket, "k", begun["UploadId"], listed)
    head = client.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert done[field] == head[field]
    if whole:
        client.put_object(Bucket=bucket, Key="same", Body=b"".join(parts), ChecksumAlgorithm=algorithm)
        same = client.head_object(Bucket=bucket, Key="same", ChecksumMode="ENABLED")
        assert head[field] == same[field]
    else:
        assert head[field].endswith("-2")
        if algorithm == "SHA256":
            sums = b"".join(hashlib.sha256(part).digest() for part in parts)
            assert head[field] == base64.b64encode(hashlib.sha256(sums).digest()).decode() + "-2"
    assert client.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["Body"].read() == b"".join(parts)


def test_a_wrong_sum_of_a_part_is_noticed(client, bucket):
    begun = client.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")["UploadId"]
    with pytest.raises(ClientError) as error:
        client.upload_part(
            Bucket=bucket,
            Key="k",
            UploadId=begun,
            PartNumber=1,
            Body=b"x",
            ChecksumSHA256=base64.b64encode(bytes(32)).decode(),
        )
    assert code(error) == ("BadDigest", 400)
    assert not client.list_parts(Bucket=bucket, Key="k", UploadId=begun).get("Parts")


def test_part_copy(client, bucket):
    body = os.urandom(2 * PART + 100)
    client.put_object(Bucket=bucket, Key="from", Body=body)
    begun = client.create_multipart_upload(Bucket=bucket, Key="to")["UploadId"]
    copy = lambda number, **more: client.upload_part_copy(
        Bucket=bucket,
        Key="to",
        UploadId=begun,
        PartNumber=number,
        CopySource={"Bucket": bucket, "Key": "from"},
        **more,
    )["CopyPartResult"]["ETag"]
    first = copy(1, CopySourceRange=f"bytes=100-{PART + 99}")
    second = copy(2)
    complete(client, bucket, "to", begun, [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}])
    assert client.get_object(Bucket=bucket, Key="to")["Body"].read() == body[100 : PART + 100] + body
    begun = client.create_multipart_upload(Bucket=bucket, Key="to")["UploadId"]
    for asked in ("bytes=5-", "bytes=-5", "5-6", f"bytes=0-{len(body)}"):
        with pytest.raises(ClientError) as error:
            copy(1, CopySourceRange=asked)
        assert code(error) == ("InvalidArgument", 400), asked


def test_conditions_on_completion(client, bucket):
    client.put_object(Bucket=bucket, Key="k", Body=b"there")
    upload_id, listed = upload(client, bucket, "k", [b"x"])
    with pytest.raises(ClientError) as error:
        complete(client, bucket, "k", upload_id, listed, IfNoneMatch="*")
    assert code(error) == ("PreconditionFailed", 412)
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"there"
    complete(client, bucket, "k", upload_id, listed)


def test_the_size_that_the_client_expects(client, bucket):
    upload_id, listed = upload(client, bucket, "k", [b"four"])
    with pytest.raises(ClientError) as error:
        complete(client, bucket, "k", upload_id, listed, MpuObjectSize=5)
    assert code(error) == ("InvalidRequest", 400)
    complete(client, bucket, "k", upload_id, listed, MpuObjectSize=4)


def test_parallel_parts_through_every_node(clients, bucket):
    parts = [os.urandom(PART) for _ in range(6)]
    begun = clients[0].create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]

    def put(n):
        done = clients[n % len(clients)].upload_part(
            Bucket=bucket, Key="k", UploadId=begun, PartNumber=n + 1, Body=parts[n]
        )
        return {"PartNumber": n + 1, "ETag": done["ETag"]}

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        listed = list(pool.map(put, range(6)))
    complete(clients[-1], bucket, "k", begun, listed)
    for client in clients:
        assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"".join(parts)


def test_boto3_transfers_large_files(client, bucket, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(os.urandom(40 * MIB + 17))
    client.upload_file(str(source), bucket, "big")
    assert client.head_object(Bucket=bucket, Key="big")["ETag"].endswith('-6"')
    client.download_file(bucket, "big", str(target))
    assert target.read_bytes() == source.read_bytes()


def test_a_client_without_default_sums(site, bucket):
    client = make_client(site, request_checksum_calculation="when_required")
    upload_id, listed = upload(client, bucket, "k", [b"a" * PART, b"b"])
    complete(client, bucket, "k", upload_id, listed)
    assert client.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["ChecksumCRC64NVME"]
