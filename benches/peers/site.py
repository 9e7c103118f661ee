"""A running system: its processes, and how it is reached."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

CACHE = Path(os.environ.get("BENTENG_CACHE", Path.home() / ".cache" / "benteng"))


@dataclass
class Site:
    """Processes that are ended when the site is left."""

    name: str
    dir: Path
    region: str = "us-east-1"
    key_id: str = ""
    secret: str = ""
    endpoints: list[str] = field(default_factory=list)
    processes: list[subprocess.Popen] = field(default_factory=list)
    # Processes that are not children of ours: of a supervisor, say.
    others: list[int] = field(default_factory=list)

    def spawn(self, name: str, command: list, env: dict | None = None) -> subprocess.Popen:
        log = open(self.dir / f"{name}.log", "wb")
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                   env={**os.environ, **(env or {})}, cwd=self.dir)
        self.processes.append(process)
        return process

    def wait_http(self, url: str, seconds: int = 60) -> None:
        """Until something answers there, whatever it says."""
        until = time.monotonic() + seconds
        while True:
            try:
                urllib.request.urlopen(url, timeout=2).close()
                return
            except urllib.error.HTTPError:
                return
            except OSError:
                for process in self.processes:
                    if process.poll() is not None:
                        raise SystemExit(f"{self.name}: {process.args[0]} ended; see {self.dir}")
                if time.monotonic() > until:
                    raise SystemExit(f"{self.name}: {url} does not answer; see {self.dir}") from None
                time.sleep(0.2)

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        tick = os.sysconf("SC_CLK_TCK")
        total = 0.0
        for pid in [process.pid for process in self.processes] + self.others:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / tick
        return total

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
