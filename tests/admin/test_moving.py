"""Nodes are drained, removed, replaced; damage is found by a scrub: what an operator does with hardware."""

import os
import re
import threading

import pytest
from processes import Site, until


@pytest.fixture
def site(binary, tmp_path):
    with Site(binary, tmp_path) as site:
        yield site


def fill(client, count, size=300_000):
    """Objects of random bytes, by key."""
    written = {f"k{i}": os.urandom(size) for i in range(count)}
    for key, body in written.items():
        client.put_object(Bucket="arsip", Key=key, Body=body)
    return written


def check(client, written):
    for key, body in written.items():
        assert client.get_object(Bucket="arsip", Key=key)["Body"].read() == body, key


def test_a_node_is_drained_under_load_and_removed(site):
    """Pain: taking a machine out loses what it alone had, or never ends."""
    first = site.found()
    site.grown("second", "third", "fourth")
    client = first.s3()
    client.create_bucket(Bucket="arsip")
    written = fill(client, 40)
    held = site.node("second")
    assert held["groups"] > 0 and held["state"] == "active"
    said = site.run("node", "remove", "second", code=1)
    assert "still holds" in said and f"benteng node drain {held['id']}" in said

    stop = threading.Event()

    def load():
        n = 0
        while not stop.is_set():
            try:
                client.put_object(Bucket="arsip", Key=f"load/{n}", Body=b"x" * 50_000)
                written[f"load/{n}"] = b"x" * 50_000
            except Exception:  # noqa: BLE001 - a write that is refused for a moment is not there
                pass
            n += 1

    worker = threading.Thread(target=load)
    worker.start()
    try:
        drained = site.json("node", "drain", "second", "--wait")
    finally:
        stop.set()
        worker.join()
    assert (drained["state"], drained["groups"], drained["role"]) == ("draining", 0, "learner")
    assert "drained" in site.run("node", "list")
    # Its room comes back: nothing is left there but what nobody names.
    until("room", lambda: site.node("second")["disk"]["chunks"] == 0)
    removed = site.json("node", "remove", "second")
    assert (removed["copies"], removed["copies_min"]) == (3, 2)
    site.nodes["second"].end()
    site.whole(3)
    check(site.nodes["fourth"].s3(), written)
    said = site.run("node", "drain", "second", code=1)
    assert "no node is named" in said


def test_a_drain_waits_for_a_node_and_is_called_back(site):
    site.found()
    site.grown("second", "third")
    third = str(site.node("third")["id"])
    site.run("node", "drain", third)
    until("the note", lambda: any("cannot be drained" in note for note in site.json("site", "status")["notes"]))
    assert site.node("third")["groups"] == 1024, "three copies need three nodes"
    site.run("node", "undrain", "third")
    assert site.node("third")["state"] == "active"
    site.whole(3)


def test_a_scrub_finds_and_mends_what_nobody_reads(site):
    """Pain: bit rot is found when the last good copy is gone."""
    first = site.found()
    site.grown("second", "third")
    client = first.s3()
    client.create_bucket(Bucket="arsip")
    written = fill(client, 3, 2_000_000)
    folder = site.nodes["third"].data_dir / "chunks"
    flipped = 0
    for path in folder.glob("*.seg"):
        with open(path, "r+b") as file:
            content = file.read()
            # Somewhere inside of the ciphertext: far behind the first record's header.
            at = next((at for at in range(100_000, len(content), 4096) if content[at : at + 64].count(0) < 8), None)
            if at is not None and not flipped:
                file.seek(at)
                file.write(bytes([content[at] ^ 1]))
                flipped += 1
    assert flipped == 1
    third = site.node("third")["id"]
    status = site.json("scrub", "run", "--node", "third", "--wait")
    assert [line["node"] for line in status["nodes"]] == [third]
    scrub = status["nodes"][0]["scrub"]
    assert scrub["damaged_found"] == 1 and scrub["passes"] >= 1 and scrub["last_finished"], scrub

    def mended():
        line = next(line for line in site.json("scrub", "status")["nodes"] if line["node"] == third)
        scrub = line["scrub"]
        return (scrub["repaired"], scrub["quarantined"]) == (1, 0)

    until("the repair", mended)
    site.whole(3)
    check(site.nodes["third"].s3(), written)
    assert site.json("scrub", "status")["period_seconds"] == 14 * 86_400
    site.run("scrub", "run", "--wait")
    copies = next(f for f in site.json("site", "doctor")["findings"] if f["check"] == "copies")
    assert re.fullmatch(r"no chunk is short of copies; last scrub finished \d+ (s|minutes) ago", copies["message"])
    assert "again within 14 days" in site.run("scrub", "status")


def test_doctor_says_what_is_short_and_when_it_ends(site):
    """One line of truth while a node is away and after it has come back."""
    first = site.found()
    site.grown("second", "third")
    client = first.s3()
    client.create_bucket(Bucket="arsip")
    site.nodes["third"].end()
    written = fill(client, 5)

    def copies():
        return next(f for f in site.json("site", "doctor", code=1)["findings"] if f["check"] == "copies")

    # The node is down: nobody can say when it ends.
    said = until("the count", lambda: m if "chunks lack a copy" in (m := copies()["message"]) else None)
    assert "repair ends" not in said, said
    site.nodes["third"].start()
    until("its doors", site.nodes["third"].is_ready)
    site.whole(3)
    check(site.nodes["third"].s3(), written)
    site.run("site", "doctor")
