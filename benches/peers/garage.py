"""Garage: three nodes, replication factor 3, fsync on for metadata and data."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

from .ports import free_ports
from .site import CACHE, Site

VERSION = "2.5.0"


class Garage:
    """As its own documentation sets up a cluster of three."""

    name = "garage"
    promise = (f"Garage {VERSION}: 3 copies, fsync of metadata and data on (its default is off), quorum of 2, "
               "no encryption at rest, last writer wins; clients spread over all nodes")

    def __init__(self) -> None:
        self.root = CACHE / "tools" / f"garage-{VERSION}"
        self.garage = self.root / "bin" / "garage"

    def install(self) -> None:
        if self.garage.exists():
            return
        print(f"building Garage {VERSION} into {self.root} (once, about 15 minutes on 2 cores)", file=sys.stderr)
        env = {**os.environ, "CARGO_TARGET_DIR": str(self.root / "target"), "CARGO_PROFILE_RELEASE_LTO": "false"}
        command = ["cargo", "install", "--quiet", "--locked", "garage", "--version", VERSION, "--root", self.root,
                   "--no-default-features", "--features", "bundled-libs,lmdb,metrics"]
        subprocess.run(command, check=True, env=env, cwd=CACHE)
        subprocess.run(["rm", "-rf", self.root / "target"], check=True)

    def start(self, data: Path) -> Site:
        data.mkdir(parents=True)
        site = Site(self.name, data, region="garage")
        secret, token = secrets.token_hex(32), secrets.token_hex(32)
        ports = free_ports(9)
        configs = []
        for node in range(3):
            rpc, s3, admin = ports[3 * node : 3 * node + 3]
            config = data / f"node-{node}.toml"
            config.write_text(f"""
metadata_dir = "{data}/meta-{node}"
data_dir = "{data}/data-{node}"
db_engine = "lmdb"
metadata_fsync = true
data_fsync = true
replication_factor = 3
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{secret}"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:{s3}"
[admin]
api_bind_addr = "127.0.0.1:{admin}"
admin_token = "{token}"
""")
            config.chmod(0o600)
            configs.append(config)
            site.spawn(f"node-{node}", [self.garage, "-c", config, "server"], {"RUST_LOG": "garage=warn"})
            site.wait_http(f"http://127.0.0.1:{s3}/")
            site.endpoints.append(f"http://127.0.0.1:{s3}")
        ids = [self.ask(config, "node", "id", "-q").strip() for config in configs]
        for other in ids[1:]:
            self.ask(configs[0], "node", "connect", other)
        for one in ids:
            self.ask(configs[0], "layout", "assign", "-z", "dc1", "-c", "100G", one.split("@")[0])
        self.ask(configs[0], "layout", "apply", "--version", "1")
        shown = self.ask(configs[0], "key", "create", "bench")
        found = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in shown.splitlines() if ":" in line}
        site.key_id, site.secret = found["Key ID"], found["Secret key"]
        self.ask(configs[0], "bucket", "create", "bench")
        self.ask(configs[0], "bucket", "allow", "--read", "--write", "--owner", "bench", "--key", "bench")
        return site

    def ask(self, config: Path, *words: str) -> str:
        env = {**os.environ, "RUST_LOG": "garage=error"}
        done = subprocess.run([self.garage, "-c", config, *words], capture_output=True, text=True, env=env)
        if done.returncode != 0:
            raise SystemExit(f"garage {' '.join(words)}: {done.stderr}")
        return done.stdout
