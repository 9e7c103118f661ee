"""Clients of other families do their daily work: AWS CLI, rclone, s3cmd, minio, pyarrow, DuckDB."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.parse

import pytest

MIB = 1 << 20


def tool(name):
    """The path of a program: beside this Python first, then on the PATH."""
    beside = pathlib.Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command, **more):
    done = subprocess.run([str(part) for part in command], capture_output=True, timeout=180, **more)
    assert done.returncode == 0, (command, done.stdout.decode(), done.stderr.decode())
    return done.stdout.decode()


@pytest.fixture
def tree(tmp_path):
    """A folder as an office has it: empty, small and large files, odd names."""
    root = tmp_path / "tree"
    files = {
        "kosong.txt": b"",
        "data/penduduk 2026.csv": b"kecamatan,jiwa\nWolio,43211\n" * 100,
        "data/peta+jalan.bin": os.urandom(300_000),
        "besar.bin": os.urandom(20 * MIB + 1),
        "ä/ö/ü.txt": "aksara".encode(),
    }
    for name, body in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(body)
    return root, files


def read_tree(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_aws_cli(site, bucket, tree, tmp_path):
    aws, (root, files) = tool("aws"), tree
    env = {**os.environ, "HOME": str(tmp_path), "AWS_PAGER": ""}
    s3 = lambda *args: run(aws, "s3", *args, env=env)
    api = lambda *args: run(aws, "s3api", *args, env=env)
    assert bucket in s3("ls")
    s3("cp", "--recursive", root, f"s3://{bucket}/tree/")
    listing = s3("ls", "--recursive", f"s3://{bucket}/tree/")
    assert all(name in listing for name in files)
    s3("sync", f"s3://{bucket}/tree/", tmp_path / "back")
    assert read_tree(tmp_path / "back") == files
    assert s3("sync", "--size-only", root, f"s3://{bucket}/tree/") == ""
    s3("mv", f"s3://{bucket}/tree/besar.bin", f"s3://{bucket}/moved.bin")
    s3("cp", f"s3://{bucket}/moved.bin", tmp_path / "moved.bin")
    assert (tmp_path / "moved.bin").read_bytes() == files["besar.bin"]
    api("put-object", "--bucket", bucket, "--key", "k", "--body", root / "kosong.txt", "--metadata", "a=1")
    assert '"a": "1"' in api("head-object", "--bucket", bucket, "--key", "k")
    s3("rm", "--recursive", f"s3://{bucket}/")
    assert s3("ls", f"s3://{bucket}/") == ""
    s3("mb", f"s3://{bucket}-cli")
    s3("rb", f"s3://{bucket}-cli")


def test_rclone(site, bucket, tree, tmp_path):
    rclone, (root, files) = tool("rclone"), tree
    # A CA bundle of the machine's is not the site's, and rclone refuses to run with one.
    env = {
        **{name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"},
        "HOME": str(tmp_path),
        "RCLONE_CONFIG": str(tmp_path / "rclone.conf"),
        "RCLONE_CONFIG_SITE_TYPE": "s3",
        "RCLONE_CONFIG_SITE_PROVIDER": "Other",
        "RCLONE_CONFIG_SITE_ENDPOINT": site["AWS_ENDPOINT_URL"],
        "RCLONE_CONFIG_SITE_ACCESS_KEY_ID": site["AWS_ACCESS_KEY_ID"],
        "RCLONE_CONFIG_SITE_SECRET_ACCESS_KEY": site["AWS_SECRET_ACCESS_KEY"],
        "RCLONE_CONFIG_SITE_REGION": site["AWS_REGION"],
        "RCLONE_CONFIG_SITE_FORCE_PATH_STYLE": "true",
        "RCLONE_S3_CHUNK_SIZE": "5Mi",
        "RCLONE_S3_UPLOAD_CUTOFF": "8Mi",
    }
    (tmp_path / "rclone.conf").touch()
    do = lambda *args: run(rclone, *args, env=env)
    do("sync", root, f"site:{bucket}/tree")
    do("check", root, f"site:{bucket}/tree")
    do("check", "--download", root, f"site:{bucket}/tree")
    assert sorted(do("lsf", "-R", "--files-only", f"site:{bucket}/tree").splitlines()) == sorted(files)
    do("copy", f"site:{bucket}/tree", f"site:{bucket}/copy")
    do("sync", f"site:{bucket}/copy", tmp_path / "back")
    assert read_tree(tmp_path / "back") == files
    do("purge", f"site:{bucket}/copy")
    assert do("lsf", f"site:{bucket}").splitlines() == ["tree/"]


def test_s3cmd(site, bucket, tree, tmp_path):
    s3cmd, (root, files) = tool("s3cmd"), tree
    host = urllib.parse.urlsplit(site["AWS_ENDPOINT_URL"]).netloc
    config = tmp_path / "s3cfg"
    config.write_text(
        "[default]\n"
        f"access_key = {site['AWS_ACCESS_KEY_ID']}\nsecret_key = {site['AWS_SECRET_ACCESS_KEY']}\n"
        f"host_base = {host}\nhost_bucket = {host}\nuse_https = False\nmultipart_chunk_size_mb = 5\n"
    )
    do = lambda *args: run(sys.executable, s3cmd, "-c", config, *args)
    do("put", "--recursive", f"{root}/", f"s3://{bucket}/tree/")
    (tmp_path / "back").mkdir()
    do("get", "--recursive", f"s3://{bucket}/tree/", f"{tmp_path}/back/")
    assert read_tree(tmp_path / "back") == files
    assert "besar.bin" in do("ls", f"s3://{bucket}/tree/")
    assert do("info", f"s3://{bucket}/tree/kosong.txt")
    do("del", "--recursive", "--force", f"s3://{bucket}/tree/")
    assert do("ls", f"s3://{bucket}") == ""


def test_minio(site, bucket):
    import io

    import minio
    from minio.commonconfig import CopySource
    from minio.deleteobjects import DeleteObject

    url = urllib.parse.urlsplit(site["AWS_ENDPOINT_URL"])
    client = minio.Minio(
        url.netloc,
        access_key=site["AWS_ACCESS_KEY_ID"],
        secret_key=site["AWS_SECRET_ACCESS_KEY"],
        region=site["AWS_REGION"],
        secure=url.scheme == "https",
    )
    assert client.bucket_exists(bucket) and not client.bucket_exists("there-is-no-such-bucket")
    body = os.urandom(12 * MIB)
    client.put_object(bucket, "dir/big", io.BytesIO(body), -1, part_size=5 * MIB, metadata={"a": "1"})
    assert client.get_object(bucket, "dir/big").read() == body
    assert client.get_object(bucket, "dir/big", offset=5 * MIB - 3, length=6).read() == body[5 * MIB - 3 : 5 * MIB + 3]
    assert client.stat_object(bucket, "dir/big").size == len(body)
    assert [item.object_name for item in client.list_objects(bucket)] == ["dir/"]
    client.copy_object(bucket, "copy", CopySource(bucket, "dir/big"))
    assert client.stat_object(bucket, "copy").etag
    failed = list(client.remove_objects(bucket, [DeleteObject(k) for k in ("dir/big", "copy")]))
    assert failed == [] and list(client.list_objects(bucket, recursive=True)) == []


def test_pyarrow(site, bucket):
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq
    from pyarrow import fs

    url = urllib.parse.urlsplit(site["AWS_ENDPOINT_URL"])
    store = fs.S3FileSystem(
        access_key=site["AWS_ACCESS_KEY_ID"],
        secret_key=site["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=url.netloc,
        scheme=url.scheme,
        region=site["AWS_REGION"],
    )
    table = pa.table({"id": range(200_000), "nama": [f"warga {n % 977}" for n in range(200_000)]})
    pq.write_table(table, f"{bucket}/t/one.parquet", filesystem=store)
    ds.write_dataset(
        table, f"{bucket}/parts", filesystem=store, format="parquet", max_rows_per_file=70_000, max_rows_per_group=70_000
    )
    assert pq.read_table(f"{bucket}/t/one.parquet", filesystem=store).equals(table)
    read = ds.dataset(f"{bucket}/parts", filesystem=store, format="parquet").to_table(columns=["id"])
    assert sorted(read["id"].to_pylist()) == list(range(200_000))
    with store.open_output_stream(f"{bucket}/stream") as out:
        for _ in range(3):
            out.write(os.urandom(6 * MIB))
    assert store.get_file_info(f"{bucket}/stream").size == 18 * MIB
    names = [info.path for info in store.get_file_info(fs.FileSelector(f"{bucket}/parts"))]
    assert len(names) == 3
    store.delete_dir_contents(bucket)
    assert store.get_file_info(fs.FileSelector(bucket)) == []


def test_duckdb_httpfs(site, bucket):
    """DuckDB's own S3 client: uploads in parts, globs, ranges of Parquet, the listing."""
    import duckdb
    import duckdb_extension_httpfs

    url = urllib.parse.urlsplit(site["AWS_ENDPOINT_URL"])
    # The extension comes with its package; DuckDB would otherwise fetch it from its own host.
    [extension] = pathlib.Path(duckdb_extension_httpfs.__file__).parent.rglob("httpfs.duckdb_extension")
    db = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    db.execute(f"LOAD '{extension}'")

    def log_in(secret):
        db.execute(
            f"""CREATE OR REPLACE SECRET site (TYPE s3, KEY_ID '{site["AWS_ACCESS_KEY_ID"]}', SECRET '{secret}',
                REGION '{site["AWS_REGION"]}', ENDPOINT '{url.netloc}', URL_STYLE 'path',
                USE_SSL {str(url.scheme == "https").lower()})"""
        )

    log_in(site["AWS_SECRET_ACCESS_KEY"])
    rows = "SELECT i AS id, 'warga ' || (i % 977) AS nama, md5(i::text) AS sidik FROM range(600000) t(i)"
    db.execute(f"COPY ({rows}) TO 's3://{bucket}/t/big.parquet' (ROW_GROUP_SIZE 50000)")
    db.execute(f"COPY (SELECT i, i % 3 AS kecamatan FROM range(30) t(i)) TO 's3://{bucket}/h' (FORMAT csv, PARTITION_BY kecamatan)")
    count = db.execute(f"SELECT count(*), sum(id), max(nama) FROM 's3://{bucket}/t/*.parquet'").fetchone()
    assert count == (600_000, 599_999 * 300_000, "warga 99")
    one = db.execute(f"SELECT sidik FROM 's3://{bucket}/t/big.parquet' WHERE id = 456789").fetchone()
    assert one == (hashlib.md5(b"456789").hexdigest(),)
    parts = db.execute(f"SELECT kecamatan, sum(i) FROM read_csv('s3://{bucket}/h/**/*.csv') GROUP BY 1 ORDER BY 1")
    assert [total for _, total in parts.fetchall()] == [135, 145, 155]
    files = db.execute(f"SELECT file FROM glob('s3://{bucket}/h/*/*.csv') ORDER BY 1").fetchall()
    assert len(files) == 3 and files[0][0].startswith(f"s3://{bucket}/h/kecamatan=0/")
    log_in("wrong" * 8)
    with pytest.raises(duckdb.Error, match="403|Forbidden|SignatureDoesNotMatch"):
        db.execute(f"SELECT count(*) FROM 's3://{bucket}/t/big.parquet'")
    db.close()
