"""Fixtures of the operator's tests: the binary (BENTENG_BINARY) and a running site (BENTENG_ENDPOINTS)."""

import json
import os
import subprocess
import uuid
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def binary():
    """Path of the binary under test."""
    path = os.environ.get("BENTENG_BINARY")
    if not path:
        pytest.skip("BENTENG_BINARY is not set: no binary to test")
    return path


class Cli:
    """The command line of a site."""

    def __init__(self, binary, site):
        self.binary, self.site = binary, site

    def __call__(self, *words, code=0, text=None, env=None, timeout=120):
        """Runs a command and returns (stdout, stderr); its exit code must be `code`."""
        environment = {**os.environ, **(env or {})}
        done = subprocess.run(
            [self.binary, "--site", self.site, *words], input=text, capture_output=True, text=True,
            timeout=timeout, env=environment,
        )
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    def json(self, *words, **options):
        """As a call, with `--output json`, and its document."""
        return json.loads(self(*words, "--output", "json", **options)[0])


@pytest.fixture(scope="session")
def cli(binary):
    """The command line, pointed at the running site by its endpoints.env."""
    path = os.environ.get("BENTENG_ENDPOINTS")
    if not path:
        pytest.skip("BENTENG_ENDPOINTS is not set: no site to test against")
    return Cli(binary, path)


@pytest.fixture(scope="session")
def endpoints(cli):
    """The KEY=value lines of the site's endpoints.env."""
    lines = Path(cli.site).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


@pytest.fixture
def name():
    """A name that nothing else has."""
    return f"t-{uuid.uuid4().hex[:16]}"
