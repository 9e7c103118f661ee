"""A development site: started, struck, asked."""

import json, os, pathlib, subprocess, threading, time

READY_MAX = 90.0


class Site:
    """A development site."""

    tls = None

    def __init__(self, binary, folder, nodes=3):
        self.binary, self.dir, self.ending = binary, folder / "site", threading.Event()
        self.nodes = tuple(range(1, nodes + 1))
        self.log = open(folder / "site.log", "wb")
        self.process = subprocess.Popen(
            [binary, "dev", "--nodes", str(nodes), "--data", str(self.dir), "--base-port", "0"],
            stdout=self.log, stderr=self.log)
        self.wait("the site gets ready", READY_MAX, (self.dir / "endpoints.env").exists)
        self.read_env()

    def read_env(self):
        lines = (self.dir / "endpoints.env").read_text().splitlines()
        self.env = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    def wait(self, what, seconds, done):
        """Waits until `done()`; gives up the whole run otherwise."""
        until = time.monotonic() + seconds
        while not done():
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"not within {seconds:.0f} s: {what}; `site status` says {json.dumps(self.ask('status'))}")
            time.sleep(0.1)

    def ask(self, what):
        """`site status` or `site doctor`, through any node that answers."""
        for node in self.nodes:
            env = {**os.environ, "BENTENG_ADMIN_URL": self.env[f"BENTENG_NODE_{node}_HTTP_URL"],
                   "BENTENG_ADMIN_TOKEN": self.env["BENTENG_ADMIN_TOKEN"]}
            done = subprocess.run([self.binary, "site", what, "--output", "json"], env=env, capture_output=True)
            if done.stdout.startswith(b"{"):
                return json.loads(done.stdout)
        return {}

    def lacks(self):
        """What `site status` and `site doctor` find lacking, as words."""
        status, doctor = self.ask("status"), self.ask("doctor")
        found = {f["check"] for f in doctor.get("findings", []) if f["level"] != "ok" and not f["check"].startswith("disk")}
        if not doctor or not status:
            found.add("no answer")
        if status.get("health") != "healthy":
            found.add("health")
        if status.get("chunks_short") or status.get("groups_moving"):
            found.add("short")
        return found

    def whole(self):
        return not self.lacks()

    def leader(self):
        """Index of the node that leads."""
        leaders = []
        self.wait("a leader is known", 30, lambda: leaders.append(self.ask("status").get("leader")) or leaders[-1])
        return next((i for i in self.nodes if self.env[f"BENTENG_NODE_{i}_ID"] == str(leaders[-1])), 1)

    def signal(self, number, *nodes):
        """Sends all of the nodes a signal, then waits until each has ended."""
        pids = [int(self.env[f"BENTENG_NODE_{node}_PID"]) for node in nodes]
        for pid in pids:
            os.kill(pid, number)
        self.wait("the nodes end", 20, lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids))

    def restart(self, *nodes):
        """Starts nodes again, side by side."""
        asked = [subprocess.Popen([self.binary, "dev", "--data", str(self.dir), "--restart-node", str(n)],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for n in nodes]
        said = [process.communicate(timeout=150)[1].decode().strip() for process in asked]
        for node, process, text in zip(nodes, asked, said):
            if process.returncode:
                raise SystemExit(f"node {node} was not started again: {text}")
        self.read_env()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        self.log.close()
