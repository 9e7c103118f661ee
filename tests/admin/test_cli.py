"""The command line against a running site: what an operator does all day."""

import hashlib
import json
import os
import subprocess
import urllib.request

import pytest


def test_site_is_healthy_and_says_so(cli):
    """Pain: repair reports done while copies are missing: the count comes from committed rows."""
    status = cli.json("site", "status")
    assert status["health"] in ("healthy", "degraded") and len(status["nodes"]) == 3
    assert status["survives_one_loss"] and status["copies"] == 3 and status["copies_min"] == 2
    assert sum(node["role"] == "leader" for node in status["nodes"]) == 1
    table, _ = cli("site", "status")
    assert "survives the loss of a node" in table and "node-3" in table
    report = cli.json("site", "doctor")
    assert {finding["check"] for finding in report["findings"]} >= {"quorum", "redundancy", "nodes", "copies"}


def test_every_node_answers(cli, endpoints):
    for i in (1, 2, 3):
        url = endpoints[f"BENTENG_NODE_{i}_HTTP_URL"]
        env = {"BENTENG_ADMIN_URL": url, "BENTENG_ADMIN_TOKEN": endpoints["BENTENG_ADMIN_TOKEN"]}
        own = subprocess.run([cli.binary, "node", "list", "--output", "json"], capture_output=True, env={**os.environ, **env})
        assert own.returncode == 0 and len(json.loads(own.stdout)) >= 3
        with urllib.request.urlopen(url + "/health/ready", timeout=5) as answer:
            assert answer.status == 200
        with urllib.request.urlopen(url + "/metrics", timeout=5) as answer:
            text = answer.read().decode()
        assert "# TYPE benteng_http_requests_total counter" in text and "benteng_build_info" in text


def test_objects_go_there_and_back(cli, name, tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(9_000_001))
    cli("bucket", "create", name)
    try:
        cli("object", "put", str(source), f"{name}/a/../b//ü.bin")
        cli("object", "put", str(source), f"s3://{name}/dir/")
        info = cli.json("object", "stat", f"{name}/a/../b//ü.bin")
        assert info["bytes"] == 9_000_001 and info["etag"] == hashlib.md5(source.read_bytes()).hexdigest()
        target = tmp_path / "target.bin"
        cli("object", "get", f"{name}/a/../b//ü.bin", str(target))
        assert target.read_bytes() == source.read_bytes()
        keys = [line["key"] for line in cli.json("object", "ls", name, "--recursive")]
        assert keys == ["a/../b//ü.bin", "dir/source.bin"]
        assert [line["key"] for line in cli.json("object", "ls", name)] == ["a/", "dir/"]
        cli("bucket", "delete", name, code=1)
        cli("object", "rm", f"{name}/a/../b//ü.bin", f"{name}/dir/source.bin")
        cli("object", "get", f"{name}/dir/source.bin", str(tmp_path / "none"), code=1)
        assert not (tmp_path / "none").exists(), "a failed get leaves nothing behind"
    finally:
        cli("bucket", "delete", name)


def test_standard_input_and_output(cli, name):
    cli("bucket", "create", name)
    cli("object", "put", "-", f"{name}/k", text="hello\n")
    assert cli("object", "get", f"{name}/k", "-")[0] == "hello\n"
    cli("object", "rm", f"{name}/k")
    cli("bucket", "delete", name)


def test_users_and_keys(cli, name, endpoints):
    made = cli.json("user", "create", name, "--role", "sistem", "--opd", "diskominfo")
    assert made["roles"] == ["sistem"] and len(made["password"]) >= 20
    key = cli.json("key", "create", "--user", name)
    assert set(key) >= {"access_key_id", "secret_access_key"}
    own = {
        "BENTENG_ADMIN_URL": endpoints["BENTENG_ADMIN_URL"],
        "BENTENG_ADMIN_TOKEN": f"{key['access_key_id']}:{key['secret_access_key']}",
    }

    def as_user(*words, code=0):
        done = subprocess.run([cli.binary, *words], capture_output=True, text=True, env={**os.environ, **own})
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    as_user("bucket", "create", name)
    assert name in as_user("bucket", "list")
    assert "may not" in as_user("site", "status", code=1)
    assert "may not" in as_user("user", "list", code=1)
    as_user("bucket", "delete", name)
    assert [line["access_key_id"] for line in cli.json("key", "list", "--user", name)] == [key["access_key_id"]]
    cli("key", "delete", key["access_key_id"])
    as_user("bucket", "list", code=1)
    _, said = cli("user", "create", name, "--role", "sistem", code=1)
    assert "already exists" in said
    cli("user", "delete", name)


def test_given_passwords_are_used(cli, name, endpoints):
    cli("user", "create", name, "--role", "admin", "--password-stdin", text="a password of mine\n")
    env = {"PGUSER": name, "PGPASSWORD": "a password of mine"}
    env.update({key: endpoints[key] for key in ("PGHOST", "PGPORT", "PGDATABASE")})
    done = subprocess.run(
        [cli.binary, "sql", "-c", "SELECT 1 AS one", "--output", "json"], capture_output=True, text=True,
        env={**os.environ, **env},
    )
    assert done.returncode == 0 and '"one": 1' in done.stdout, done.stderr
    cli("user", "delete", name)


def test_sql_in_three_formats(cli):
    query = "SELECT 1 AS a, 'x,y' AS b, NULL AS c"
    assert "a  b" in cli("sql", "-c", query)[0]
    assert cli("sql", "-c", query, "--output", "csv")[0] == 'a,b,c\n1,"x,y",\n'
    assert cli.json("sql", "-c", query) == [{"a": 1, "b": "x,y", "c": None}]
    _, said = cli("sql", "-c", "SELEKT", code=1)
    assert "SQLSTATE" in said
    assert "2" in cli("sql", text="SELECT 1;\nSELECT\n 2;\n")[0]


@pytest.mark.parametrize("words", [
    ["site", "no-such-verb"],
    ["no-such-noun"],
    ["object", "get", "bucket-only"],
    ["object", "put", "-", "bucket-only"],
    ["user", "create", "x"],
    ["bucket", "list", "--output", "csv"],
    ["dev", "--nodes", "0"],
])
def test_wrong_usage_exits_2(cli, words):
    cli(*words, code=2)


def test_refusals_say_why(cli, name):
    for words, said in [
        (["bucket", "create", "UPPER"], "not a valid bucket name"),
        (["bucket", "delete", name], "does not exist"),
        (["object", "ls", name], "does not exist"),
        (["user", "delete", name], "does not exist"),
        (["user", "create", name, "--role", "king"], "there is no role"),
        (["key", "delete", "BTNONE"], "does not exist"),
        (["key", "create", "--user", name], "does not exist"),
    ]:
        _, err = cli(*words, code=1)
        assert said in err, (words, err)


def test_completions(cli):
    for shell in ("bash", "zsh", "fish"):
        assert "benteng" in cli("completions", shell)[0]
