"""A full disk under a real site (O6): on file systems of memory, small enough to fill."""

import os
import subprocess

import pytest
from botocore.exceptions import ClientError
from processes import Site, until

SIZE = 1400 << 20


@pytest.fixture
def disks(tmp_path):
    """Three small file systems, by name of the node."""
    mounted = []
    for name in ("first", "second", "third"):
        place = tmp_path / f"disk-{name}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "benteng-test", str(place)], capture_output=True, text=True
        )
        if done.returncode != 0:
            for place in mounted:
                subprocess.run(["umount", str(place)], check=False)
            pytest.skip(f"file systems cannot be mounted here: {done.stderr.strip()}")
        mounted.append(place)
    yield {place.name.removeprefix("disk-"): place for place in mounted}
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=False)


def press(place, percent):
    """Takes room until only `percent` of the device is free."""
    stat = os.statvfs(place)
    free, total = stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize
    with open(place / "filler", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - total * percent // 100)


def refused_as_full(client, key, body):
    try:
        client.put_object(Bucket="arsip", Key=key, Body=body)
    except ClientError as error:
        return error.response["Error"]["Code"] == "InsufficientStorage"
    return False


def stored(client, key, body):
    try:
        client.put_object(Bucket="arsip", Key=key, Body=body)
    except ClientError:
        return False
    return True


def test_o6_full_disks_take_deletes_only_and_writes_return_by_themselves(binary, tmp_path, disks):
    with Site(binary, tmp_path) as site:
        first = site.found(disks["first"] / "data")
        site.grown("second", "third", dirs={name: disks[name] / "data" for name in ("second", "third")})
        client = first.s3()
        client.create_bucket(Bucket="arsip")
        small, large = b"s" * 500, os.urandom(600_000)
        for n in range(5):
            client.put_object(Bucket="arsip", Key=f"k{n}", Body=large)

        # One disk, the leader's: it hands over, and writes go on.
        names = {node["id"]: node["name"] for node in site.json("node", "list")}
        leader = names[site.json("site", "status")["leader"]]
        press(disks[leader], 3)

        def handed_over():
            now = site.json("site", "status")["leader"]
            return now and names[now] != leader

        until("another leader", handed_over)
        until("a write", lambda: stored(client, "one-full", large))
        finding = next(f for f in site.json("site", "doctor", code=1)["findings"] if f["check"] == f"disk of {leader}")
        assert finding["level"] == "problem"

        # Two of three: nothing but deletes, whatever the size.
        other = next(name for name in disks if name != leader)
        press(disks[other], 3)
        until("the refusal of a large write", lambda: refused_as_full(client, "probe", large))
        until("the refusal of a small write", lambda: refused_as_full(client, "probe", small))
        for body in (small, large):
            assert refused_as_full(client, "never", body)
        client.delete_object(Bucket="arsip", Key="k0")
        assert client.get_object(Bucket="arsip", Key="k1")["Body"].read() == large
        keys = [line["Key"] for line in client.list_objects_v2(Bucket="arsip")["Contents"]]
        assert "never" not in keys and "k0" not in keys

        # All of them. A node that dies on a full disk starts on it: its log has room that nothing else takes.
        last = next(name for name in disks if name not in (leader, other))
        press(disks[last], 3)
        until("all disks full", lambda: all(
            f["level"] == "problem" for f in site.json("site", "doctor", code=1)["findings"] if f["check"].startswith("disk")
        ))
        site.nodes[last].end()
        site.nodes[last].start()
        until("the node on its full disk", site.nodes[last].is_ready)
        until("the refusal, whoever leads now", lambda: refused_as_full(client, "probe", small))
        assert refused_as_full(client, "never", small)
        client.delete_object(Bucket="arsip", Key="k2")
        assert site.nodes[last].s3().get_object(Bucket="arsip", Key="k1")["Body"].read() == large

        # Room again: writes return, and what the full nodes missed is copied.
        for name in (leader, other, last):
            (disks[name] / "filler").unlink()
        until("a small write", lambda: stored(client, "back-small", small))
        until("a large write", lambda: stored(client, "back-large", large))
        site.whole(3)
        assert site.nodes[leader].s3().get_object(Bucket="arsip", Key="one-full")["Body"].read() == large
