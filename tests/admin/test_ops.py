"""What is in ops/: alerts name metrics that exist and runbooks that can be followed."""

import itertools
import json
import re
import shlex
import shutil
import subprocess
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = sorted((ROOT / "ops" / "runbooks").glob("*.md"))


def alerts():
    groups = yaml.safe_load((ROOT / "ops" / "prometheus" / "benteng.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def known_metrics():
    """Names in the sources; a histogram has three more."""
    text = "".join(path.read_text() for top in ("crates", "cluster") for path in (ROOT / top).rglob("*.rs"))
    names = set(re.findall(r'"(benteng_[a-z0-9_]+)"', text))
    return names | {name + end for name in names for end in ("_bucket", "_sum", "_count")}


def test_alerts_and_dashboard_name_metrics_that_exist():
    known = known_metrics()
    expressions = [rule["expr"] for rule in alerts()]
    dashboard = json.loads((ROOT / "ops" / "grafana" / "benteng.json").read_text())
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = {name for text in expressions for name in re.findall(r"benteng_[a-z0-9_]+", text)}
    assert len(named) > 15 and named <= known, named - known


def test_every_alert_has_a_runbook_and_every_runbook_an_alert():
    rules = alerts()
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical") and rule["annotations"]["summary"], rule
        book = ROOT / rule["annotations"]["runbook"]
        text = book.read_text()
        assert rule["alert"] in text.splitlines()[2], f"{book} names its alerts on its third line"
        assert "## What it means" in text and "## What to do" in text
    named = {rule["annotations"]["runbook"].rsplit("/", 1)[1] for rule in rules}
    assert named == {book.name for book in RUNBOOKS}


def test_commands_of_the_runbooks_are_commands(binary):
    """Each `benteng …` of a runbook is understood: its verb exists and takes the options that are named."""
    seen = 0
    for book in RUNBOOKS:
        for command in re.findall(r"`(benteng [^`|]+)", book.read_text()):
            words = shlex.split(command)
            # Up to the first option or argument.
            verbs = list(itertools.takewhile(lambda word: re.fullmatch(r"[a-z][a-z0-9]*", word), words[1:]))
            if not verbs:
                continue
            done = subprocess.run([binary, *verbs, "--help"], capture_output=True, text=True)
            assert done.returncode == 0, f"{book.name}: {command}: {done.stderr}"
            for option in re.findall(r"--[a-z-]+", command):
                assert option in done.stdout, f"{book.name}: {command} has no {option}"
            seen += 1
    assert seen > 15


def test_the_unit_is_one_that_systemd_takes(binary, tmp_path):
    """`systemd-analyze verify` knows every line; no service manager is started."""
    text = (ROOT / "ops" / "benteng.service").read_text()
    assert "RestartPreventExitStatus=3" in text, "a node that another process runs is not started again"
    unit = tmp_path / "benteng.service"
    unit.write_text(text.replace("/usr/bin/benteng", binary))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.strip() == "", done.stderr


def test_rules_and_scrape_job_are_what_prometheus_takes():
    """By promtool where it is installed; else by their form alone, as above."""
    folder = ROOT / "ops" / "prometheus"
    assert all(rule["expr"].count("(") == rule["expr"].count(")") for rule in alerts())
    if promtool := shutil.which("promtool"):
        for words in (["check", "rules", "benteng.rules.yml"], ["check", "config", "--syntax-only", "prometheus.yml"]):
            done = subprocess.run([promtool, *words], cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr


def test_the_containerfile_names_what_is_there():
    """No engine runs here: that its stages agree with the workspace is what can be held."""
    text = (ROOT / "ops" / "Containerfile").read_text()
    workspace = (ROOT / "Cargo.toml").read_text()
    profile = re.search(r"cargo build --profile (\w+)", text)[1]
    assert f"[profile.{profile}]" in workspace and f"target/{profile}/benteng" in text
    for source in re.findall(r"^COPY (?!--from)(\S+)", text, re.M):
        assert source == "." or (ROOT / source).exists(), source
    ports = re.search(r"^EXPOSE (.+)$", text, re.M)[1].split()
    assert ports == ["7400", "7401", "7402", "7403", "7404"] and "USER benteng" in text


def test_a_site_shows_the_metrics_that_alerts_ask_for(site, endpoints):
    """What a running site exports now; counters of what has not happened yet are not there."""
    url = f"{endpoints['BENTENG_ADMIN_URL']}/metrics"
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {endpoints['BENTENG_ADMIN_TOKEN']}"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        shown = set(re.findall(r"^(benteng_[a-z0-9_]+)", answer.read().decode(), re.M))
    gauges = {"benteng_raft_term", "benteng_raft_knows_leader", "benteng_raft_last_log_index",
              "benteng_raft_applied_log_index", "benteng_disk_under_reserve", "benteng_site_time_off_seconds",
              "benteng_clock_off_seconds", "benteng_certificate_expires_seconds"}
    assert gauges <= shown, gauges - shown
    assert "benteng_journal_sync_seconds_bucket" in shown
