"""Real nodes: configuration, unsealing, forming and joining a site, ports, stopping."""

import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import time
import urllib.request

import boto3
import psycopg
import pytest
from processes import DOORS, free_ports


def configure(folder, name, keys="", **more):
    """A configuration file in `folder` for a node of its own; returns (file, ports)."""
    ports = dict(zip(DOORS, free_ports(len(DOORS))))
    listen = "\n".join(f'{door} = "127.0.0.1:{port}"' for door, port in ports.items())
    text = f'[node]\nname = "{name}"\ndata_dir = "{folder / name}"\n[listen]\n{listen}\n[keys]\n{keys}\n'
    file = folder / f"{name}.toml"
    file.write_text(text + more.get("rest", ""))
    return file, ports


def run(binary, *words, code=0, env=None, timeout=60):
    """Runs a command to its end and returns all that it said."""
    done = subprocess.run(
        [binary, *words], capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


class Server:
    """A node that runs until the block ends."""

    def __init__(self, binary, file, ports, env=None, ca=None):
        self.args, self.env = [binary, "server", "--config", str(file)], {**os.environ, **(env or {})}
        scheme, self.tls = ("https", ssl.create_default_context(cafile=ca)) if ca else ("http", None)
        self.ready = f"{scheme}://127.0.0.1:{ports['http']}/health/ready"

    def __enter__(self):
        self.process = subprocess.Popen(self.args, stderr=subprocess.PIPE, text=True, env=self.env)
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(self.ready, timeout=2, context=self.tls)
                return self
            except OSError:
                assert self.process.poll() is None, self.process.stderr.read()
                assert time.monotonic() < until, "the node does not get ready"
                time.sleep(0.1)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.code = self.process.wait(15)
        finally:
            self.process.kill()
            self.log = self.process.stderr.read()


def test_defaults_are_printed_and_checked(binary, tmp_path):
    file = tmp_path / "benteng.toml"
    file.write_text(run(binary, "config", "defaults"))
    run(binary, "config", "check", str(file))
    for line, said in [
        ("[limits]\nsqlmib = 1", "did you mean `limits.sql_mib`?"),
        ("[limits]\nsql_mib = 1", "whole number from 16"),
        ("[listen\n", "not TOML"),
    ]:
        file.write_text(line)
        assert said in run(binary, "config", "check", str(file), code=1)
    for text in ("[limits]\nsqlmib = 1", "[listen\n"):
        file.write_text(text)
        said = run(binary, "server", "--config", str(file), code=1)
        assert str(file) in said, "a node refuses what `config check` refuses, and names the file"
    file.write_bytes(b"[node]\nname = \"\xff\"\n")
    assert str(file) in run(binary, "config", "check", str(file), code=1)
    assert "cannot read" in run(binary, "config", "check", str(tmp_path / "none"), code=1)
    file.write_text("")
    assert "did you mean BENTENG_LIMITS__SQL_MIB?" in run(
        binary, "config", "check", str(file), code=1, env={"BENTENG_LIMITS__SQLMIB": "1"}
    )


def test_a_node_of_no_site_says_what_to_do(binary, tmp_path):
    file, _ = configure(tmp_path, "lone")
    assert "benteng init" in run(binary, "server", "--config", str(file), code=1)


def test_site_from_init_to_join(binary, tmp_path):
    key = f'root_key_file = "{tmp_path / "root.key"}"'
    first, ports = configure(tmp_path, "first", key)
    told = run(binary, "init", "--config", str(first))
    assert stat.S_IMODE(os.stat(tmp_path / "root.key").st_mode) == 0o600
    assert "already" in run(binary, "init", "--config", str(first), code=1), "init never forgets a site"
    bootstrap = re.search(r"BENTENG_ADMIN_TOKEN=(\S+)", told)[1]
    site = {"BENTENG_ADMIN_URL": f"http://127.0.0.1:{ports['http']}", "BENTENG_ADMIN_TOKEN": bootstrap}
    with Server(binary, first, ports) as node:
        told = run(binary, "user", "create", "ani", "--role", "admin", "--output", "json", env=site)
        # The token of the root key serves until there is an administrator, and no longer.
        assert "wrong" in run(binary, "site", "status", code=1, env=site)
        # The administrator logs in by password, or by an access key made with it.
        ani = {"BENTENG_ADMIN_URL": site["BENTENG_ADMIN_URL"], "BENTENG_ADMIN_USER": "ani"}
        assert "BENTENG_ADMIN_PASSWORD" in run(binary, "site", "status", code=2, env=ani)
        assert "wrong" in run(binary, "site", "status", code=1, env=ani | {"BENTENG_ADMIN_PASSWORD": "guess"})
        ani["BENTENG_ADMIN_PASSWORD"] = json.loads(told)["password"]
        run(binary, "site", "status", env=ani)
        key = json.loads(run(binary, "key", "create", "--user", "ani", "--output", "json", env=ani))
        token = f"{key['access_key_id']}:{key['secret_access_key']}"
        run(binary, "node", "add", env={"BENTENG_ADMIN_URL": ani["BENTENG_ADMIN_URL"], "BENTENG_ADMIN_TOKEN": token})
        again = subprocess.run(node.args, capture_output=True, text=True)
        assert again.returncode == 1 and "another process" in again.stderr
    assert node.code == 0, node.log


def test_join_token_serves_once(binary, cli, tmp_path, endpoints):
    # A root key of another site is refused before the token is used up.
    stranger, _ = configure(tmp_path, "stranger", f'root_key_file = "{tmp_path / "other.key"}"')
    other, _ = configure(tmp_path, "other", f'root_key_file = "{tmp_path / "other.key"}"')
    run(binary, "init", "--config", str(other))
    token = cli.json("node", "add")["token"]
    env = {"BENTENG_ADMIN_URL": endpoints["BENTENG_ADMIN_URL"]}
    said = run(binary, "join", "--config", str(stranger), "--token", token, code=1, env=env)
    assert "another root key" in said
    said = run(binary, "join", "--config", str(stranger), "--token", "btjoin-00", code=1, env=env)
    assert "root key" in said or "token" in said
    assert not (tmp_path / "stranger" / "node.json").exists()


def test_a_join_token_lets_one_node_in(binary, tmp_path):
    """The second who comes with it is refused, keeps nothing, and the site does not count it."""
    key = f'root_key_file = "{tmp_path / "root.key"}"'
    first, first_ports = configure(tmp_path, "first", key)
    second, second_ports = configure(tmp_path, "second", key)
    third, _ = configure(tmp_path, "third", key)
    told = run(binary, "init", "--config", str(first))
    url = f"http://127.0.0.1:{first_ports['http']}"
    bootstrap = re.search(r"BENTENG_ADMIN_TOKEN=(\S+)", told)[1]
    site = {"BENTENG_ADMIN_URL": url, "BENTENG_ADMIN_TOKEN": bootstrap}
    with Server(binary, first, first_ports) as node:
        token = json.loads(run(binary, "node", "add", "--output", "json", env=site))["token"]
        join = ["join", "--site", url, "--token", token, "--config"]
        run(binary, *join, str(second))
        said = run(binary, *join, str(third), code=1)
        assert "used" in said and "benteng node add" in said
        assert not (tmp_path / "third" / "node.json").exists()
        # Nor does it let the same node in twice.
        assert "already" in run(binary, *join, str(second), code=1)
        with Server(binary, second, second_ports) as other:
            nodes = json.loads(run(binary, "node", "list", "--output", "json", env=site))
            assert sorted(line["name"] for line in nodes) == ["first", "second"]
        assert other.code == 0, other.log
    assert node.code == 0, node.log


def test_doors_speak_tls_under_the_sites_own_authority(binary, tmp_path):
    """As on a machine that others reach: every door by TLS, and nothing in the clear."""
    tls = "[tls]\nloopback = true\n"
    file, ports = configure(tmp_path, "first", f'root_key_file = "{tmp_path / "root.key"}"', rest=tls)
    second, second_ports = configure(tmp_path, "second", f'root_key_file = "{tmp_path / "root.key"}"', rest=tls)
    stranger, _ = configure(tmp_path, "stranger")
    told = run(binary, "init", "--config", str(file))
    run(binary, "init", "--config", str(stranger))
    ca, url = str(tmp_path / "first" / "ca.pem"), f"https://127.0.0.1:{ports['http']}"
    assert f"BENTENG_CA_FILE={ca} BENTENG_ADMIN_URL={url}" in told
    site = {"BENTENG_CA_FILE": ca, "BENTENG_ADMIN_URL": url}
    site["BENTENG_ADMIN_TOKEN"] = re.search(r"BENTENG_ADMIN_TOKEN=(\S+)", told)[1]
    with Server(binary, file, ports, ca=ca) as node:
        token = json.loads(run(binary, "node", "add", "--output", "json", env=site))["token"]
        assert f"--site {url} --ca ca.pem --token" in run(binary, "node", "add", env=site)
        made = json.loads(run(binary, "user", "create", "ani", "--role", "admin", "--output", "json", env=site))
        del site["BENTENG_ADMIN_TOKEN"]
        site |= {"BENTENG_ADMIN_USER": "ani", "BENTENG_ADMIN_PASSWORD": made["password"]}
        key = json.loads(run(binary, "key", "create", "--user", "ani", "--output", "json", env=site))
        # Neither an unknown authority nor a caller without TLS gets anywhere.
        other = str(tmp_path / "stranger" / "ca.pem")
        run(binary, "site", "status", code=1, env=site | {"BENTENG_CA_FILE": other})
        run(binary, "site", "status", code=1, env=site | {"BENTENG_ADMIN_URL": url.replace("https", "http")})

        run(binary, "join", "--site", url, "--ca", ca, "--token", token, "--config", str(second))
        with Server(binary, second, second_ports, ca=str(tmp_path / "second" / "ca.pem")) as newcomer:
            nodes = json.loads(run(binary, "node", "list", "--output", "json", env=site))
            assert sorted(line["name"] for line in nodes) == ["first", "second"]

            s3 = boto3.client(
                "s3", endpoint_url=f"https://127.0.0.1:{second_ports['s3']}", region_name="us-east-1", verify=ca,
                aws_access_key_id=key["access_key_id"], aws_secret_access_key=key["secret_access_key"],
            )
            s3.create_bucket(Bucket="arsip")
            s3.put_object(Bucket="arsip", Key="akta.csv", Body=b"nomor\n17\n")
            where = {"host": "127.0.0.1", "port": ports["sql"], "user": "ani", "password": made["password"], "dbname": "benteng"}
            with psycopg.connect(**where, sslmode="verify-full", sslrootcert=ca) as sql:
                assert sql.execute("SELECT nomor FROM read_csv('s3://arsip/akta.csv')").fetchall() == [(17,)]
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(**where, sslmode="verify-full", sslrootcert=other)
            with pytest.raises(psycopg.OperationalError, match="TLS|SSL"):
                psycopg.connect(**where, sslmode="disable")
        assert newcomer.code == 0, newcomer.log
    assert node.code == 0, node.log


def test_init_names_the_authority_that_the_doors_show(binary, tmp_path):
    """With a certificate of one's own the site's authority says nothing of the doors."""
    tls = '[tls]\nloopback = true\ncert_file = "door.pem"\nkey_file = "door.key"\n'
    file, _ = configure(tmp_path, "first", rest=tls)
    told = run(binary, "init", "--config", str(file))
    assert "BENTENG_CA_FILE=" not in told and "set BENTENG_CA_FILE to its authority" in told


def test_port_in_use_is_named(binary, tmp_path):
    file, ports = configure(tmp_path, "busy")
    run(binary, "init", "--config", str(file))
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", ports["s3"]))
        occupant.listen()
        said = run(binary, "server", "--config", str(file), code=1, timeout=120)
    assert str(ports["s3"]) in said and "in use" in said


def test_wrong_passphrase_is_refused(binary, tmp_path):
    keys = f'sealed_root_file = "{tmp_path / "root.sealed"}"'
    file, ports = configure(tmp_path, "sealed", keys)
    assert "BENTENG_PASSPHRASE" in run(binary, "init", "--config", str(file), code=1)
    right = {"BENTENG_PASSPHRASE": "the right one"}
    run(binary, "init", "--config", str(file), env=right)
    said = run(binary, "server", "--config", str(file), code=1, env={"BENTENG_PASSPHRASE": "a wrong one"})
    assert "passphrase does not open" in said
    with Server(binary, file, ports, env=right) as node:
        pass
    assert node.code == 0, node.log


def test_key_file_that_others_may_read_is_refused(binary, tmp_path):
    file, _ = configure(tmp_path, "open")
    run(binary, "init", "--config", str(file))
    os.chmod(tmp_path / "open" / "root.key", 0o644)
    assert "chmod 600" in run(binary, "server", "--config", str(file), code=1)


@pytest.mark.parametrize("damage", ["", "benteng-root-key v1\n" + "0" * 64 + "\ncheck " + "0" * 32 + "\n"])
def test_damaged_key_file_changes_nothing(binary, tmp_path, damage):
    file, _ = configure(tmp_path, "damaged")
    run(binary, "init", "--config", str(file))
    key = tmp_path / "damaged" / "root.key"
    key.write_text(damage)
    assert "root key file is not readable" in run(binary, "server", "--config", str(file), code=1)
