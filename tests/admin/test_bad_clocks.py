"""Clocks that are wrong and certificates that end: a day on which the machines do not agree what day it is (C4)."""

import datetime
import os
import signal
import ssl
import subprocess
from pathlib import Path

import pytest
from processes import Site, until

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
DAY = 86_400


class Clocks:
    """Wall clocks of nodes, each set by a file; their monotonic clocks stay as they are."""

    def __init__(self, folder):
        self.folder = folder

    def env(self, name):
        self.turn(name, "+0")
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self.folder / f"clock-{name}"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def turn(self, name, offset):
        file = self.folder / f"clock-{name}.new"
        file.write_text(f"{offset}\n")
        file.rename(self.folder / f"clock-{name}")


@pytest.fixture
def clocks(tmp_path):
    if LIBRARY is None:
        pytest.skip("libfaketime is not installed (Debian: faketime): no clock can be set here")
    return Clocks(tmp_path)


def finding(site, check, **options):
    """What `site doctor` says of one thing; it may find others."""
    for code in (0, 1):
        try:
            return next(f for f in site.json("site", "doctor", code=code, **options)["findings"] if f["check"] == check)
        except AssertionError:
            continue
    raise AssertionError("`site doctor` says nothing")


def store(node, key):
    """Stores an object through a node, as a client whose clock is right; how far its time is off, seconds."""
    node.s3().put_object(Bucket="arsip", Key=key, Body=b"x" * 20_000)
    stamp = node.s3().head_object(Bucket="arsip", Key=key)["LastModified"]
    return abs((stamp - datetime.datetime.now(datetime.timezone.utc)).total_seconds())


def test_c4_one_clock_is_an_hour_off_or_at_2038_and_nobody_suffers(binary, tmp_path, clocks):
    with Site(binary, tmp_path) as site:
        first = site.found(env=clocks.env("first"))
        for name in ("second", "third"):
            site.add(name, env=clocks.env(name))
        site.whole(3)
        first.s3().create_bucket(Bucket="arsip")
        assert finding(site, "clocks")["level"] == "ok"
        names = {node["id"]: node["name"] for node in site.json("node", "list")}
        for n, (offset, words, level) in enumerate([
            ("+1h", ("60 minutes ahead", "59 minutes ahead"), "warning"),
            ("-1h", ("60 minutes behind", "59 minutes behind"), "warning"),
            ("+4500d", ("4500 days ahead", "4499 days ahead"), "problem"),
        ]):
            # The leader's: it stamps what is written.
            wrong = names[site.json("site", "status")["leader"]]
            other = next(name for name in site.nodes if name != wrong)
            clocks.turn(wrong, offset)

            def said():
                found = finding(site, "clocks")
                return found["level"] == level and found

            found = until(f"what is said of {offset}", said, 30)
            assert wrong in found["message"] and any(w in found["message"] for w in words), found
            # Signatures are judged by the hour that the others agree on, through the wrong node too (SigV4: 15 minutes).
            for name in (wrong, other):
                assert store(site.nodes[name], f"k{n}-{name}") < 60
            # Certificates as well: who comes back is known to the wrong node and knows it.
            site.nodes[other].end()
            site.nodes[other].start()
            until("the other node", site.nodes[other].is_ready)
            site.whole(3)
            assert store(site.nodes[wrong], f"again{n}") < 60
            clocks.turn(wrong, "+0")
            until("clocks that agree", lambda: finding(site, "clocks")["level"] == "ok", 30)
        # A node that starts with a clock an hour off is one of them, too.
        site.nodes["third"].end()
        clocks.turn("third", "+1h")
        site.nodes["third"].start()
        until("the third node", site.nodes["third"].is_ready)
        site.whole(3)
        assert store(site.nodes["third"], "started-wrong") < 60


def test_certificates_of_nodes_are_renewed_though_the_day_was_skipped(binary, tmp_path, clocks):
    """All machines slept for forty days, or all clocks were set right: what was valid for thirty has ended."""
    with Site(binary, tmp_path) as site:
        site.found(env=clocks.env("first"))
        for name in ("second", "third"):
            site.add(name, env=clocks.env(name))
        site.whole(3)
        assert finding(site, "certificates")["level"] == "ok"
        for name in site.nodes:
            clocks.turn(name, "+40d")
        ended = until("the end of the certificates", lambda: (f := finding(site, "certificates"))["level"] == "problem" and f, 30)
        assert "ended 10 days ago" in ended["message"] or "ended 9 days ago" in ended["message"], ended
        until("new certificates", lambda: finding(site, "certificates")["level"] == "ok", 90)
        # New connections are made with them.
        site.nodes["second"].end()
        site.nodes["second"].start()
        until("the second node", site.nodes["second"].is_ready)
        site.whole(3)


def test_an_expired_certificate_of_a_door_is_said_and_a_new_one_is_taken(binary, tmp_path, clocks):
    cert, key = tmp_path / "door.pem", tmp_path / "door.key"

    def issue(*faked):
        words = [
            *faked, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{key}.new", "-out", f"{cert}.new",
        ]
        subprocess.run(words, check=True, capture_output=True)
        os.replace(f"{key}.new", key)
        os.replace(f"{cert}.new", cert)

    issue("env", f"LD_PRELOAD={LIBRARY}", "FAKETIME=-100d")
    with Site(binary, tmp_path) as site:
        site.found()
        more = f'[tls]\nloopback = true\ncert_file = "{cert}"\nkey_file = "{key}"\n'
        second = site.add("second", more=more)
        assert "the certificate of the doors has expired" in second.said()
        found = until("what is said of it", lambda: (f := finding(site, "certificates"))["level"] == "problem" and f, 30)
        assert "second" in found["message"] and "ended 70 days ago" in found["message"], found
        assert "tls.cert_file" in found["advice"]
        # Whoever asks through that door is told why nobody answers.
        env = {"BENTENG_CA_FILE": str(cert), "BENTENG_ADMIN_URL": second.url}
        done = subprocess.run(
            [binary, "site", "status"], env={**os.environ, **site.env, **env}, capture_output=True, text=True
        )
        assert done.returncode == 1 and "expired" in done.stderr.lower(), done.stderr

        issue()
        until("the new certificate", lambda: finding(site, "certificates")["level"] == "ok", 90)
        env["BENTENG_CA_FILE"] = str(cert)
        shown = ssl.get_server_certificate(("127.0.0.1", second.ports["s3"]))
        assert shown.split() == cert.read_text().split()
        second.end(signal.SIGTERM)
