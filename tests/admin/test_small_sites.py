"""Sites of one and two nodes, growth to three, and what is left after losses (S5, S7, S8)."""

import os
import shutil
import signal
import subprocess

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from processes import Site, until


@pytest.fixture
def site(binary, tmp_path):
    with Site(binary, tmp_path) as site:
        yield site


def test_growth_and_an_accepted_fall_to_two_nodes(site):
    first = site.found()
    client = first.s3()
    client.create_bucket(Bucket="arsip")
    written = {"one": os.urandom(400_000)}
    client.put_object(Bucket="arsip", Key="one", Body=written["one"])
    status = site.json("site", "status")
    assert not status["survives_one_loss"] and any("fewer than three" in note for note in status["notes"])
    site.grown("second")
    # Two nodes acknowledge what both have.
    written["two"] = b"small"
    client.put_object(Bucket="arsip", Key="two", Body=written["two"])
    site.nodes["second"].end()
    with pytest.raises((ClientError, BotoCoreError)) as refused:
        client.put_object(Bucket="arsip", Key="never", Body=b"small")
    assert "503" in str(refused.value) or "ServiceUnavailable" in str(refused.value)
    assert client.get_object(Bucket="arsip", Key="two")["Body"].read() == b"small"
    site.nodes["second"].start()
    until("the second node", site.nodes["second"].is_ready)
    site.grown("third")
    assert site.json("site", "status")["survives_one_loss"]
    # And down again, by word of an operator alone.
    site.nodes["third"].end()
    said = site.run("node", "remove", "third", code=1)
    assert "--accept-one-voter" in said and "--replace" in said
    assert site.json("node", "remove", "third", "--accept-one-voter") == {
        "node": 3, "copies": 2, "copies_min": 2,
    }
    status = site.whole(2)
    assert not status["survives_one_loss"]
    report = site.json("site", "doctor")
    assert any(f["check"] == "redundancy" and f["level"] == "warning" for f in report["findings"])
    for key, body in written.items():
        assert site.nodes["second"].s3().get_object(Bucket="arsip", Key=key)["Body"].read() == body


def test_a_lost_state_is_rebuilt_and_a_lost_log_is_damage(site):
    first = site.found()
    client = first.s3()
    client.create_bucket(Bucket="arsip")
    body = os.urandom(400_000)
    client.put_object(Bucket="arsip", Key="k", Body=body)
    site.grown("second", "third")
    third = site.nodes["third"]
    third.end()
    shutil.rmtree(third.data_dir / "kv")
    third.start()
    until("the node without its state", third.is_ready)
    site.whole(3)
    assert third.s3().get_object(Bucket="arsip", Key="k")["Body"].read() == body
    # Its log is another matter: it may have acknowledged what nobody else has (S3).
    third.end(signal.SIGTERM)
    shutil.rmtree(third.data_dir / "raft")
    done = subprocess.run(
        [site.binary, "server", "--config", str(third.file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "benteng join --replace" in done.stderr, done.stderr
    old = site.node("third")["id"]
    shutil.rmtree(third.data_dir)
    said = site.run("node", "add")
    token = said.split("--token ")[1].split()[0]
    wrong = ["join", "--site", first.url, "--replace", str(old), "--token", token, "--config", str(third.file)]
    assert "not for a replacement" in site.run(*wrong, code=1)
    site.add("third", replace=old)
    site.whole(3)


def test_the_survivor_of_a_lost_majority_goes_on_alone(site, tmp_path):
    first = site.found()
    client = first.s3()
    client.create_bucket(Bucket="arsip")
    site.grown("second", "third")
    body = os.urandom(400_000)
    client.put_object(Bucket="arsip", Key="k", Body=body)
    for name in ("second", "third"):
        site.nodes[name].end()
    config = ["--config", str(first.file)]
    assert "stop it first" in site.run("recover", *config, "--accept-loss", code=1, via=first)
    first.end(signal.SIGTERM)
    assert "--accept-loss" in site.run("recover", *config, code=1, via=first)
    said = site.run("recover", *config, "--accept-loss", via=first)
    assert "recovery epoch 1" in said
    first.start()
    until("the survivor", first.is_ready)
    status = site.whole(1, via=first)
    assert [node["name"] for node in status["nodes"]] == ["first"]
    assert first.s3().get_object(Bucket="arsip", Key="k")["Body"].read() == body
    first.s3().put_object(Bucket="arsip", Key="after", Body=body)
    # Those who come back from before form no site of their own, and are not let in.
    for name in ("second", "third"):
        site.nodes[name].start()
    site.add("fourth")
    site.add("fifth")
    site.whole(3, via=first)
    assert [node["name"] for node in site.json("node", "list", via=first) if node["state"] != "removed"] == [
        "first", "fourth", "fifth",
    ]
    assert site.nodes["fifth"].s3().get_object(Bucket="arsip", Key="after")["Body"].read() == body
