"""Whole sites of real processes for tests that kill, drain, fill and lose nodes."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.request

import boto3
from botocore.config import Config

DOORS = ("s3", "http", "sql", "flight", "rpc")


def free_ports(count):
    """Ports that are free now, each once."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def until(what, condition, patience=120):
    """Waits until the condition holds and returns what it returned; the last value is said if it never does."""
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not come; last seen: {value!r}"
        time.sleep(0.25)


class Node:
    """A node with a configuration file of its own. `more`: further sections of it; `env`: its environment."""

    def __init__(self, site, name, data_dir, more="", env=None):
        self.site, self.name, self.data_dir, self.more, self.env = site, name, data_dir, more, env or {}
        self.file = site.folder / f"{name}.toml"
        self.ports = dict(zip(DOORS, free_ports(len(DOORS))))
        self.process = None
        listen = "\n".join(f'{door} = "127.0.0.1:{port}"' for door, port in self.ports.items())
        self.file.write_text(
            f'[node]\nname = "{name}"\nzone = "{name}"\ndata_dir = "{data_dir}"\n[listen]\n{listen}\n'
            f'[keys]\nroot_key_file = "{site.folder / "root.key"}"\n[objects]\nremoval_delay_hours = 0\n'
            f'[limits]\nkv_cache_mib = 16\nkv_write_buffer_mib = 16\nsql_mib = 16\nrequests_mib = 64\n{more}'
        )

    @property
    def url(self):
        return f"{'https' if 'loopback = true' in self.more else 'http'}://127.0.0.1:{self.ports['http']}"

    def start(self):
        self.log = open(self.site.folder / f"{self.name}.log", "a")
        self.process = subprocess.Popen(
            [self.site.binary, "server", "--config", str(self.file)], stderr=self.log, env={**os.environ, **self.env}
        )

    def is_ready(self):
        assert self.process.poll() is None, self.said()[-4000:]
        try:
            # Whose certificate it is is no question here.
            tls = ssl._create_unverified_context()
            with urllib.request.urlopen(self.url + "/health/ready", timeout=2, context=tls):
                return True
        except OSError:
            return False

    def said(self):
        """All that it has logged."""
        return (self.site.folder / f"{self.name}.log").read_text()

    def end(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait(30)
        self.log.close()
        self.process = None

    def s3(self):
        return boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{self.ports['s3']}", region_name="us-east-1",
            aws_access_key_id=self.site.key["access_key_id"], aws_secret_access_key=self.site.key["secret_access_key"],
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=30),
        )


class Site:
    """A site of `server` processes; ends with the block."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.nodes, self.env = binary, folder, {}, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.nodes.values():
            if node.process:
                node.end()

    def run(self, *words, code=0, via=None, timeout=180):
        """Runs a command against the site, through the node `via` or any that runs; returns all that it said."""
        env = {**os.environ, **(self.env or {})}
        if via or self.env:
            node = via or next(node for node in self.nodes.values() if node.process)
            env["BENTENG_ADMIN_URL"] = node.url
        done = subprocess.run(
            [self.binary, *words], capture_output=True, text=True, env=env, timeout=timeout, stdin=subprocess.DEVNULL
        )
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if "json" in words else done.stdout + done.stderr

    def json(self, *words, **options):
        return json.loads(self.run(*words, "--output", "json", **options))

    def found(self, data_dir=None, **options):
        """The first node of a new site, with an administrator and an access key."""
        first = self.nodes["first"] = Node(self, "first", data_dir or self.folder / "first", **options)
        told = self.run("init", "--config", str(first.file))
        first.start()
        until("the first node", first.is_ready)
        self.env = {"BENTENG_ADMIN_TOKEN": re.search(r"BENTENG_ADMIN_TOKEN=(\S+)", told)[1]}
        made = self.json("user", "create", "ani", "--role", "admin")
        self.env = {"BENTENG_ADMIN_USER": "ani", "BENTENG_ADMIN_PASSWORD": made["password"]}
        self.key = self.json("key", "create", "--user", "ani")
        return first

    def add(self, name, data_dir=None, replace=None, **options):
        """Lets a node in and starts it."""
        node = Node(self, name, data_dir or self.folder / name, **options)
        via = next(node for node in self.nodes.values() if node.process)
        old = ["--replace", str(replace)] if replace else []
        token = self.json("node", "add", *old)["token"]
        self.run("join", "--site", via.url, *old, "--token", token, "--config", str(node.file))
        self.nodes[name] = node
        node.start()
        until(f"node {name}", node.is_ready)
        return node

    def grown(self, *names, dirs=None, **options):
        """Adds nodes one after the other and waits until the site is whole."""
        for name in names:
            self.add(name, (dirs or {}).get(name), **options)
        self.whole(min(3, len(self.nodes)))

    def whole(self, copies, via=None):
        """Waits until every copy is there."""
        def is_whole():
            status = self.json("site", "status", via=via)
            whole = status["health"] == "healthy" and status["copies"] == copies
            voters = sum(node["role"] in ("leader", "voter") for node in status["nodes"])
            return whole and (copies < 3 or voters >= 3) and status or None

        return until(f"a whole site of {copies} copies", is_whole)

    def node(self, name):
        """How the site sees a node."""
        return next(node for node in self.json("node", "list") if node["name"] == name and node["state"] != "removed")
