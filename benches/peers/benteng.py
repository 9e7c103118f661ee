"""Benteng: three nodes, as `benteng dev` runs them."""

import os
import time
from pathlib import Path

from .site import CACHE, Site


def binary() -> Path:
    """The release build: BENTENG_BINARY, else where `tools/up` leaves it."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or os.environ.get("BENTENG_TARGET") or CACHE / "target")
    found = Path(os.environ.get("BENTENG_BINARY") or target / "release" / "benteng")
    if not found.exists():
        raise SystemExit(f"{found} is not there; build it: cargo build --release -p benteng")
    return found.resolve()


class Benteng:
    """All three nodes take requests."""

    name = "benteng"
    promise = ("3 copies, fsync on at least 2 nodes and on a Raft majority before the answer, linearizable, "
               "encrypted at rest and between nodes; clients spread over all nodes")

    def install(self) -> None:
        binary()

    def start(self, data: Path) -> Site:
        data.mkdir(parents=True)
        site = Site(self.name, data)
        site.spawn("dev", [binary(), "dev", "--nodes", "3", "--data", data / "site", "--base-port", "0"])
        env = data / "site" / "endpoints.env"
        until = time.monotonic() + 120
        while not env.exists():
            if time.monotonic() > until or site.processes[0].poll() is not None:
                raise SystemExit(f"benteng did not start; see {data}/dev.log")
            time.sleep(0.1)
        values = dict(line.split("=", 1) for line in env.read_text().splitlines() if "=" in line)
        site.key_id, site.secret = values["AWS_ACCESS_KEY_ID"], values["AWS_SECRET_ACCESS_KEY"]
        site.endpoints = [values[f"BENTENG_NODE_{node}_S3_URL"] for node in (1, 2, 3)]
        site.others = [int(values[f"BENTENG_NODE_{node}_PID"]) for node in (1, 2, 3)]
        return site


class BentengLeader(Benteng):
    """One node takes all requests: the first, which leads a site that was just formed."""

    name = "benteng-1"
    promise = "as benteng; all clients at the leader"

    def start(self, data: Path) -> Site:
        site = super().start(data)
        site.endpoints = site.endpoints[:1]
        return site
