"""I5: no plaintext of bodies, metadata, secrets or keys on any disk or in any log; only names of buckets and objects.

A site of its own takes random markers by every way in, is stopped, spills a query and is killed; then every byte of
its directory and of all that it wrote to its log is searched, in several encodings.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import string
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

import psycopg
import pytest

from sdk import make_client, read_endpoints
from search import Search, forms

# The one key file that a site keeps for unattended start, and the file that hands out a development
# site's addresses and credentials (design, section 2 and I5). Nothing else may hold any of it.
ROOT_KEY = "root.key"
ENDPOINTS = "endpoints.env"
LETTERS = string.ascii_letters + string.digits


def drawn(length):
    """Random letters and digits."""
    return "".join(random.SystemRandom().choice(LETTERS) for _ in range(length))


class Markers:
    """Texts that occur nowhere else, each for one way in; all begin alike."""

    def __init__(self):
        self.prefix, self.texts = "m" + drawn(13), {}  # An identifier of SQL as well.

    def __call__(self, name):
        return self.texts.setdefault(name, self.prefix + drawn(18))

    def body(self, name, size):
        """A body that shows its marker everywhere, chunk and frame borders included."""
        line = f"{self(name)} {name}\n".encode()
        return (line * (size // len(line) + 1))[:size]


class Site:
    """`benteng dev` with three nodes, little memory for SQL, so that queries spill, and a log that says all it can."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.dir, self.log = binary, folder, folder / "site", folder / "dev.log"

    def start(self):
        (self.dir / ENDPOINTS).unlink(missing_ok=True)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("BENTENG_", "AWS_", "PG"))}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "dev", "--nodes", "3", "--data", str(self.dir), "--base-port", "0"],
                stdout=log, stderr=log, env={**env, "BENTENG_LIMITS__SQL_MIB": "16", "BENTENG_LOG__FILTER": "trace"},
            )
        until = time.monotonic() + 90
        while not (self.dir / ENDPOINTS).exists():
            assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.1)
        self.env = read_endpoints(self.dir / ENDPOINTS)

    def end(self, number):
        """Ends the site by this signal and waits until its nodes are gone."""
        pids = [int(self.env[f"BENTENG_NODE_{node}_PID"]) for node in (1, 2, 3)]
        self.process.send_signal(number)
        self.process.wait(20)
        until = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < until, "nodes outlive their parent"
            time.sleep(0.1)

    def cli(self, *words, text=None):
        done = subprocess.run(
            [self.binary, "--site", str(self.dir / ENDPOINTS), *words], input=text, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def connect(self, user, password):
        return psycopg.connect(
            host=self.env["PGHOST"], port=self.env["PGPORT"], user=user, password=password,
            dbname=self.env["PGDATABASE"], connect_timeout=30, autocommit=True,
        )


def store(site, mark, keys):
    """Objects by every way in; returns {name: digest} of their bodies."""
    s3, bucket = make_client(site.env), keys["bucket"]
    s3.create_bucket(Bucket=bucket)

    def about(name):
        return {
            "Metadata": {"note": mark(f"user metadata of {name}")},
            "ContentType": f"text/{mark(f'content-type of {name}')}",
            "ContentDisposition": f'attachment; filename="{mark(f"content-disposition of {name}")}"',
            "ContentLanguage": mark(f"content-language of {name}"),
            "CacheControl": f"max-age=1, {mark(f'cache-control of {name}')}",
        }

    digests = {}
    for name, size in {"inline": 8192, "tiny": 60, "chunked": 300_000, "large": 9 << 20}.items():
        body = mark.body(name, size)
        s3.put_object(Bucket=bucket, Key=keys["object"] + name, Body=body, **about(name))
        assert s3.get_object(Bucket=bucket, Key=keys["object"] + name)["Body"].read() == body
        digests[name] = hashlib.md5(body).digest()
    # Replaced, deleted and copied ones: their bytes stay for a while, or lie twice.
    for name in ("replaced", "deleted"):
        s3.put_object(Bucket=bucket, Key=keys["object"] + name, Body=mark.body(name, 100_000), **about(name))
    s3.put_object(Bucket=bucket, Key=keys["object"] + "replaced", Body=mark.body("replacement", 5000))
    s3.delete_object(Bucket=bucket, Key=keys["object"] + "deleted")
    s3.copy_object(
        Bucket=bucket, Key=keys["object"] + "copy", CopySource={"Bucket": bucket, "Key": keys["object"] + "large"},
        MetadataDirective="REPLACE", Metadata={"note": mark("user metadata of a copy")},
    )
    for ending in ("completed", "aborted", "left"):
        key = keys["object"] + ending
        upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **about(ending))["UploadId"]
        parts = []
        for number, size in ((1, 5 << 20), (2, 70_000)):
            body = mark.body(f"part {number} of an upload {ending}", size)
            answer = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        if ending == "completed":
            s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
        elif ending == "aborted":
            s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
    return digests


def refused(url, **headers):
    """Asks and is turned away."""
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)
    assert answer.value.code in (400, 401, 403)


def people(site, mark, keys):
    """Users, access keys, logins that work and that do not; returns the secrets that the site drew."""
    secrets = {}
    site.cli("user", "create", "penguji", "--role", "sistem", "--role", "analis", "--password-stdin", text=mark("password of a user") + "\n")
    generated = site.cli("user", "create", "lain", "--role", "sistem")
    secrets["generated password"] = max(generated.split(), key=len).encode()
    for number in (1, 2):
        key = json.loads(site.cli("key", "create", "--user", "penguji", "--output", "json"))
        secrets[f"secret of access key {number}"] = key["secret_access_key"].encode()
    user = {**site.env, "AWS_ACCESS_KEY_ID": key["access_key_id"], "AWS_SECRET_ACCESS_KEY": key["secret_access_key"]}
    own = make_client(user, signature_version="s3v4")
    own.create_bucket(Bucket=keys["bucket"] + "-own")
    own.put_object(Bucket=keys["bucket"] + "-own", Key="x", Body=mark.body("by a user", 20_000))
    # A presigned URL is a credential: its signature shows up nowhere.
    url = own.generate_presigned_url("get_object", Params={"Bucket": keys["bucket"] + "-own", "Key": "x"})
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert len(answer.read()) == 20_000
    secrets["signature of a presigned URL"] = url.split("X-Amz-Signature=")[1].split("&")[0].encode()
    with site.connect("penguji", mark("password of a user")) as sql:
        sql.execute("SELECT 1")
    for name, password in (("penguji", mark("wrong password")), (mark("user that is not there"), mark("its password"))):
        with pytest.raises(psycopg.OperationalError):
            site.connect(name, password)
    wrong = make_client({**user, "AWS_SECRET_ACCESS_KEY": mark("wrong secret")})
    with pytest.raises(wrong.exceptions.ClientError):
        wrong.list_buckets()
    admin = site.env["BENTENG_ADMIN_URL"] + "/admin/v1/site/status"
    refused(admin, Authorization="Bearer " + mark("wrong token"))
    basic = b64encode(f"penguji:{mark('wrong basic password')}".encode()).decode()
    refused(admin, Authorization="Basic " + basic)
    refused(f"{url}&x={mark('query of a changed presigned URL')}")
    # A body that is not what its signature says.
    refused(f"{site.env['AWS_ENDPOINT_URL']}/?token={mark('query of a refused request')}", Authorization="AWS4 " + mark("broken signature"))
    return secrets


def query(site, mark, keys):
    """SQL with markers in literals, in errors, and in rows."""
    with site.connect(site.env["PGUSER"], site.env["PGPASSWORD"]) as sql:
        literal = mark("SQL literal")
        assert sql.execute(f"SELECT '{literal}'").fetchone() == (literal,)
        assert sql.execute("SELECT %s::text", [mark("SQL parameter")]).fetchone() == (mark("SQL parameter"),)
        for bad in (f"SELECT '{mark('literal of a bad query')}' FROM", f"SELECT CAST('{mark('literal of a bad cast')}' AS INT)",
                    f"SELECT {mark('column that is not there')}"):
            with pytest.raises(psycopg.Error):
                sql.execute(bad)
    lines = "".join(f"{n % 977},{mark('row of a table')}{n}\n" for n in range(400_000))
    s3 = make_client(site.env)
    s3.put_object(Bucket=keys["bucket"], Key=keys["object"] + "rows.csv", Body=("k,t\n" + lines).encode())


def spill(site, keys):
    """Leaves a sort over rows with markers open that does not fit in memory; returns it and the spilled bytes."""
    sql = site.connect(site.env["PGUSER"], site.env["PGPASSWORD"])
    cursor = sql.cursor()
    place = f"s3://{keys['bucket']}/{keys['object']}rows.csv"
    rows = cursor.stream(f"SELECT t, k FROM read_csv('{place}') ORDER BY k, t DESC", size=1)
    next(rows)
    return sql, rows, sum(p.stat().st_size for p in site.dir.glob("node-*/**/*.spill"))


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A site that took everything and has ended: (site, markers, secrets, names)."""
    binary = os.environ.get("BENTENG_BINARY")
    if not binary:
        pytest.skip("BENTENG_BINARY is not set: no binary to test")
    folder = tmp_path_factory.mktemp("secrecy")
    site, mark = Site(binary, folder), Markers()
    keys = {"bucket": "names-are-plain-" + drawn(12).lower(), "object": "object-" + drawn(20) + "-"}
    site.start()
    try:
        digests = store(site, mark, keys)
        secrets = people(site, mark, keys)
        query(site, mark, keys)
        secrets |= {f"MD5 of the body {name}": digest for name, digest in digests.items()}
        # Everything in memory reaches the disk by a clean stop; what is open does by none.
        site.end(signal.SIGTERM)
        site.start()
        held = spill(site, keys)
        site.end(signal.SIGKILL)
        assert held[2] > 1 << 20, f"the query spilled {held[2]} bytes: nothing to search"
        assert list(site.dir.glob("node-*/**/*.spill")), "the killed site leaves its spill files to be searched"
        yield site, mark, secrets, keys
    finally:
        if site.process.poll() is None:
            site.process.kill()
            site.process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def test_i5_no_plaintext_on_any_disk_and_in_no_log(lived):
    site, mark, secrets, _ = lived
    found, searched = Search(mark.prefix, mark.texts, secrets).tree(site.folder)
    assert searched > 300 << 20, f"only {searched} bytes were searched: is that the whole site?"
    assert (site.folder / "dev.log").stat().st_size > 1000, "the log is part of what is searched"
    assert not found, f"I5: plaintext in {found}"


def test_i5_keys_and_credentials_of_the_site_lie_in_their_one_file_alone(lived):
    site, mark, _, _ = lived
    # Lines: format, key, a check value, which is no secret.
    text = (site.dir / ROOT_KEY).read_text().split("\n")[1].strip()
    keys = {"root key as it is written": text.encode(), "root key": bytes.fromhex(text)}
    assert len(keys["root key"]) == 32
    credentials = {name: site.env[name].encode() for name in ("AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "BENTENG_ADMIN_TOKEN")}
    for secrets, home in ((keys, ROOT_KEY), (credentials, ENDPOINTS)):
        found, _ = Search(mark.prefix, mark.texts, secrets).tree(site.folder)
        assert set(found) == {f"site/{home}"}, f"I5: {home} is the one place of {list(secrets)}, found in {found}"
    for file in (ROOT_KEY, ENDPOINTS):
        assert (site.dir / file).stat().st_mode & 0o077 == 0, f"{file} is the owner's alone"


def test_the_search_finds_what_is_there(lived):
    site, mark, _, keys = lived
    names = Search(keys["object"], {}, {"bucket": keys["bucket"].encode()})
    found, _ = names.tree(site.dir)
    assert {what for hits in found.values() for what, _ in hits} >= {"prefix as raw", "bucket as raw"}, found
    assert all(any(path.startswith(f"node-{n}/") for path in found) for n in (1, 2, 3)), "names are plain on every node"


def test_the_search_finds_planted_files(lived, tmp_path):
    _, mark, secrets, _ = lived
    search = Search(mark.prefix, mark.texts, secrets)
    text = mark("chunked")
    planted = {
        "raw": text.encode(), "hex": text.encode().hex().encode(), "HEX": text.encode().hex().upper().encode(),
        "utf-16-le": text.encode("utf-16-le"), "utf-16-be": text.encode("utf-16-be"),
        **{f"base64 at {n}": b64encode(b"?" * n + text.encode() + b"tail") for n in range(3)},
    }
    # At the start, behind zeros, and across the border of two blocks of the search.
    for before in (0, 5 << 20, (4 << 20) - 9):
        for form, body in planted.items():
            (tmp_path / "planted").write_bytes(b"\0" * before + body + b"\0" * 100)
            found, _ = search.tree(tmp_path)
            # Of UTF-16 in one byte order, all but a byte is UTF-16 in the other.
            said = {what.rstrip("ble-") for what, _ in found.get("planted", [])}
            assert f"chunked as {form}".rstrip("ble-") in said, (form, before, found)
    for name, secret in secrets.items():
        (tmp_path / "planted").write_bytes(os.urandom(1000) + secret + os.urandom(1000))
        assert f"{name} as raw" in dict(search.tree(tmp_path)[0]["planted"])
    (tmp_path / "planted").write_bytes(os.urandom(1 << 20))
    assert search.tree(tmp_path)[0] == {}, "random bytes hold none"
    assert len(forms(b"secret")) >= 9
