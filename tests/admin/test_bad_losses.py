"""Two nodes lost at once, a node that runs twice, a state that is fetched from a peer and cut off again and again."""

import os
import shutil
import signal
import subprocess
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from processes import Node, Site, until


@pytest.fixture
def site(binary, tmp_path):
    with Site(binary, tmp_path) as site:
        site.found()
        site.grown("second", "third")
        site.nodes["first"].s3().create_bucket(Bucket="arsip")
        yield site


def write(node, key, body):
    """Whether a write is acknowledged."""
    try:
        node.s3().put_object(Bucket="arsip", Key=key, Body=body)
        return True
    except (ClientError, BotoCoreError):
        return False


def read(node, key):
    return node.s3().get_object(Bucket="arsip", Key=key)["Body"].read()


def test_two_nodes_are_lost_at_once_and_one_comes_back(site):
    first, second, third = site.nodes.values()
    bodies = {"large": os.urandom(600_000), "small": b"s" * 500}
    for key, body in bodies.items():
        assert write(first, key, body)
    second.end()
    third.end()
    # Alone it says so, and promises nothing: no write and no read that may be old.
    for key, body in bodies.items():
        assert not write(first, f"never-{key}", body)
        with pytest.raises((ClientError, BotoCoreError)):
            read(first, key)
    report = site.json("site", "doctor", code=1, via=first)
    found = {f["check"]: f for f in report["findings"]}
    assert found["quorum"]["level"] == found["nodes"]["level"] == "problem", report
    assert "second" in found["nodes"]["message"] and "third" in found["nodes"]["message"]
    # One comes back: the site serves as it did, with what was acknowledged.
    second.start()
    until("the second node", second.is_ready)
    for node in (first, second):
        until("a write", lambda: write(node, "again", bodies["large"]), 60)
        for key, body in bodies.items():
            assert read(node, key) == body
        keys = [line["Key"] for line in node.s3().list_objects_v2(Bucket="arsip")["Contents"]]
        # A write that was not acknowledged may have been carried out since (C3), whole.
        assert {"again", "large", "small"} <= set(keys) <= {"again", "large", "small", "never-large", "never-small"}
    third.start()
    until("the third node", third.is_ready)
    site.whole(3)
    assert read(third, "again") == bodies["large"]


def test_i9_a_node_that_is_started_twice_runs_once(site, tmp_path):
    first, second, third = site.nodes.values()
    body = os.urandom(600_000)
    assert write(first, "before", body)
    # On its own directory: refused, nothing happens.
    again = subprocess.run([site.binary, "server", "--config", str(second.file)], capture_output=True, text=True, timeout=60)
    assert again.returncode == 1 and "another process" in again.stderr
    # From a copy of its directory, as a restored snapshot of its machine is: refused while the node runs.
    copy = Node(site, "copy", tmp_path / "copy")
    second.end(signal.SIGTERM)
    shutil.copytree(second.data_dir, copy.data_dir)
    second.start()
    until("the second node", second.is_ready)
    assert write(first, "between", body)
    for _ in range(2):
        again = subprocess.run(
            [site.binary, "server", "--config", str(copy.file)], capture_output=True, text=True, timeout=60
        )
        assert again.returncode == 1 and "runs already" in again.stderr, again.stderr[-2000:]
        assert f"127.0.0.1:{second.ports['rpc']}" in again.stderr and "benteng node add" in again.stderr
    assert second.is_ready() and write(first, "after", body)
    site.whole(3)
    # The disks of a node that is gone go on in another machine, at another address.
    moved = Node(site, "moved", tmp_path / "moved")
    second.end(signal.SIGTERM)
    shutil.move(second.data_dir, moved.data_dir)
    site.nodes["second"] = moved
    moved.start()
    until("the node in its new place", moved.is_ready)
    site.whole(3)
    for node in (first, third, moved):
        for key in ("before", "between", "after"):
            assert read(node, key) == body


def test_s5_a_state_is_fetched_though_it_is_cut_off_again_and_again(site):
    """The receiver is killed in the middle of it, then the sender."""
    first, second, third = site.nodes.values()
    env = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{first.ports['s3']}", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": site.key["access_key_id"], "AWS_SECRET_ACCESS_KEY": site.key["secret_access_key"],
    }
    subprocess.run(
        [site.binary, "bench", "s3", "--bucket", "arsip", "--ops", "put", "--size", "2KiB", "--concurrency", "32",
         "--requests", "15000", "--seconds", "120", "--keep"],
        env={**os.environ, **env}, check=True, capture_output=True, timeout=180,
    )
    count = site.json("site", "status")["objects"]
    assert count == 15_000
    third.end()
    # Without its state it must take one from a peer before Raft starts.
    shutil.rmtree(third.data_dir / "kv")
    interrupted = 0
    for n in range(8):
        third.start()
        time.sleep(0.3 + 0.25 * n)
        interrupted += not serves(third)
        third.end()
        if n == 3:
            # Now and then its state goes once more: what was half fetched is no beginning.
            shutil.rmtree(third.data_dir / "kv", ignore_errors=True)
    assert interrupted, "no start was cut off before it served"
    # The sender goes in the middle, whoever it is: another one is asked.
    shutil.rmtree(third.data_dir / "kv", ignore_errors=True)
    third.start()
    time.sleep(1)
    second.end()
    until("the third node", third.is_ready)
    second.start()
    until("the second node", second.is_ready)
    status = site.whole(3, via=third)
    assert status["objects"] == count
    listed = 0
    for page in third.s3().get_paginator("list_objects_v2").paginate(Bucket="arsip"):
        listed += page["KeyCount"]
    assert listed == count


def serves(node):
    return node.process.poll() is None and node.is_ready()
