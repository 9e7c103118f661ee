"""One line of load, and how it is measured."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .site import Site


@dataclass(frozen=True)
class Line:
    """PUT, then GET of what was put."""

    name: str
    size: str
    clients: int


LINES = {line.name: line for line in (
    Line("4k-1", "4KiB", 1),
    Line("4k-16", "4KiB", 16),
    Line("4k-64", "4KiB", 64),
    Line("64k-16", "64KiB", 16),
    Line("16m-4", "16MiB", 4),
)}


def load(bench: Path, site: Site, line: Line, seconds: int) -> list[dict]:
    """Loads a site; one figure per operation. Objects are deleted again, unmeasured."""
    prefix = f"{line.name}/"
    figures = []
    for op in ("put", "get"):
        before = site.cpu_seconds()
        document = run(bench, site, line, op, prefix, seconds)
        spent = site.cpu_seconds() - before
        figure = document["operations"][0]
        figure["line"] = f"{op}-{line.name}"
        figure["cpu_us"] = spent * 1e6 / max(figure["requests"], 1)
        figure["said"] = document["errors"]
        figures.append(figure)
    run(bench, site, line, "delete", prefix, seconds)
    return figures


def run(bench: Path, site: Site, line: Line, op: str, prefix: str, seconds: int) -> dict:
    """One operation by `benteng bench s3`."""
    endpoints = [word for url in site.endpoints for word in ("--endpoint", url)]
    command = [bench, "bench", "s3", *endpoints, "--bucket", "bench", "--ops", op, "--size", line.size,
               "--concurrency", str(line.clients), "--seconds", str(seconds), "--prefix", prefix, "--keep",
               "--output", "json"]
    env = {**os.environ, "AWS_ACCESS_KEY_ID": site.key_id, "AWS_SECRET_ACCESS_KEY": site.secret,
           "AWS_REGION": site.region}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if not done.stdout:
        raise SystemExit(f"{site.name}: the bench failed: {done.stderr}")
    return json.loads(done.stdout)
