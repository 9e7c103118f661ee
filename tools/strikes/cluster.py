"""A site of real nodes (`benteng init`, `join`, `server`), each with its own address: grown, shrunk, cut apart.

Node numbers are ours and are never used twice; `members` are those that belong to the site now. With `netns` every
node lives in a network namespace of its own on one bridge, so that each direction of each link can be cut.
"""

import ctypes, json, os, re, shutil, signal, socket, ssl, subprocess, threading, time, urllib.request

READY_MAX = 90.0
DOORS = ("s3", "http", "sql", "flight", "rpc")


def free_ports(count):
    """Ports of 127.0.0.1 that are free now, each once."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def run(*words, env=None, timeout=90):
    """Runs a command to its end; gives up the whole run if it fails."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
                          env={**os.environ, **(env or {})})
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class Network:
    """One namespace per node, all on a bridge in a namespace of ours, which this process enters; links are cut at the
    receiving end."""

    def __init__(self):
        self.hub = f"bt{os.getpid()}"
        self.names = {}
        run("ip", "netns", "add", self.hub)
        self.inside(self.hub, "ip", "link", "set", "lo", "up")
        self.inside(self.hub, "ip", "link", "add", "hub", "type", "bridge")
        self.inside(self.hub, "ip", "addr", "add", "10.99.0.254/24", "dev", "hub")
        self.inside(self.hub, "ip", "link", "set", "hub", "up")
        # Clients stand at the bridge: what is cut between nodes is not cut to them. Threads and children inherit it.
        with open(f"/var/run/netns/{self.hub}") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0):
                raise SystemExit(f"the namespace of the bridge cannot be entered: {os.strerror(ctypes.get_errno())}")

    def inside(self, name, *words):
        return run("ip", "netns", "exec", name, *words)

    def add(self, node):
        """Makes the namespace of a node; returns its address."""
        name, address = f"{self.hub}n{node}", self.address(node)
        self.names[node] = name
        run("ip", "netns", "add", name)
        self.inside(name, "ip", "link", "set", "lo", "up")
        run("ip", "link", "add", f"v{node}", "netns", self.hub, "type", "veth", "peer", "name", "eth", "netns", name)
        self.inside(self.hub, "ip", "link", "set", f"v{node}", "master", "hub", "up")
        self.inside(name, "ip", "addr", "add", f"{address}/24", "dev", "eth")
        self.inside(name, "ip", "link", "set", "eth", "up")
        self.inside(name, "nft", "add", "table", "ip", "cut")
        self.inside(name, "nft", "add", "chain", "ip", "cut", "in", "{ type filter hook input priority 0; }")
        return address

    def address(self, node):
        return f"10.99.0.{node}"

    def set_cuts(self, cuts):
        """Cuts exactly these directed links, pairs (from, to)."""
        for node, name in self.names.items():
            rules = "".join(f"add rule ip cut in ip saddr {self.address(other)} drop\n"
                            for other, to in cuts if to == node)
            done = subprocess.run(["ip", "netns", "exec", name, "nft", "-f", "-"], capture_output=True, text=True,
                                  input=f"flush chain ip cut in\n{rules}")
            if done.returncode:
                raise SystemExit(f"nft: {done.stderr}")

    def remove(self):
        for name in [*self.names.values(), self.hub]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


# Small, so that many nodes fit on one machine.
LIMITS = "[limits]\nkv_cache_mib = 32\nkv_write_buffer_mib = 32\nrequests_mib = 64\nsql_mib = 32\n"


class Cluster:
    """A site that is formed node by node. `limits`: that section of the configuration; None: the defaults."""

    def __init__(self, binary, folder, netns=False, limits=LIMITS):
        self.limits = limits or ""
        self.binary, self.dir, self.ending = binary, folder, threading.Event()
        self.network = Network() if netns else None
        self.processes, self.ports, self.ids, self.env, self.tls = {}, {}, {}, {"AWS_REGION": "us-east-1"}, None
        self.made = 0

    # What the load asks.

    @property
    def nodes(self):
        """Numbers of the nodes that run."""
        return tuple(n for n, p in sorted(self.processes.items()) if p.poll() is None)

    # Nodes.

    def configure(self):
        """A configuration for one more node; returns its number."""
        self.made += 1
        node = self.made
        host = self.network.add(node) if self.network else "127.0.0.1"
        ports = dict(zip(DOORS, (7400, 7401, 7402, 7403, 7404) if self.network else free_ports(len(DOORS))))
        self.ports[node] = (host, ports)
        listen = "\n".join(f'{door} = "{host}:{port}"' for door, port in ports.items())
        (self.dir / f"node-{node}.toml").write_text(
            f'[node]\nname = "node-{node}"\ndata_dir = "{self.dir}/node-{node}"\nzone = "zone-{node}"\n'
            f'[listen]\n{listen}\n[keys]\nroot_key_file = "{self.dir}/root.key"\n'
            f"{self.limits}[advertise]\nhost = \"{host}\"\n[objects]\nremoval_delay_hours = 0\n")
        scheme = "https" if self.network else "http"
        self.env[f"BENTENG_NODE_{node}_S3_URL"] = f"{scheme}://{host}:{ports['s3']}"
        self.env[f"BENTENG_NODE_{node}_HTTP_URL"] = f"{scheme}://{host}:{ports['http']}"
        return node

    def form(self):
        """The first node, and an administrator with an access key."""
        node = self.configure()
        told = run(self.binary, "init", "--config", self.dir / f"node-{node}.toml")
        bootstrap = re.search(r"BENTENG_ADMIN_TOKEN=(\S+)", told)[1]
        if self.network:
            self.tls = ssl.create_default_context(cafile=str(self.dir / f"node-{node}" / "ca.pem"))
        self.start(node)
        self.env["BENTENG_ADMIN_TOKEN"] = bootstrap
        password = json.loads(self.cli(node, "user", "create", "kepala", "--role", "admin", "--output", "json"))["password"]
        login = {"BENTENG_ADMIN_USER": "kepala", "BENTENG_ADMIN_PASSWORD": password, "BENTENG_ADMIN_TOKEN": ""}
        key = json.loads(self.cli(node, "key", "create", "--user", "kepala", "--output", "json", env=login))
        self.env["AWS_ACCESS_KEY_ID"], self.env["AWS_SECRET_ACCESS_KEY"] = key["access_key_id"], key["secret_access_key"]
        self.env["BENTENG_ADMIN_TOKEN"] = f"{key['access_key_id']}:{key['secret_access_key']}"
        self.ids[node] = 1
        return node

    def add(self, replaces=None):
        """Lets one more node in and starts it; returns its number."""
        node, through = self.configure(), self.nodes[0]
        words = ["node", "add", "--output", "json"] + (["--replace", str(self.ids[replaces])] if replaces else [])
        token = json.loads(self.cli(through, *words))["token"]
        join = [self.binary, "join", "--config", self.dir / f"node-{node}.toml", "--site",
                self.env[f"BENTENG_NODE_{through}_HTTP_URL"], "--token", token, *self.ca(through)]
        run(*self.within(node), *join)
        self.start(node)
        formation = json.loads((self.dir / f"node-{node}" / "node.json").read_text())
        self.ids[node] = formation["node"]
        return node

    def within(self, node):
        return ["ip", "netns", "exec", self.network.names[node]] if self.network else []

    def ca(self, node):
        return ["--ca", str(self.dir / f"node-{node}" / "ca.pem")] if self.network else []

    def start(self, *nodes):
        """Starts nodes side by side and waits until each serves."""
        for node in nodes:
            log = open(self.dir / f"node-{node}.log", "ab")
            self.processes[node] = subprocess.Popen(
                [*self.within(node), self.binary, "server", "--config", self.dir / f"node-{node}.toml"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for node in nodes:
            self.wait(f"node {node} serves", READY_MAX, lambda: self.serves(node), node)

    def serves(self, node):
        try:
            urllib.request.urlopen(f"{self.env[f'BENTENG_NODE_{node}_HTTP_URL']}/health/ready", timeout=2,
                                   context=self.tls).close()
            return True
        except OSError:
            return False

    def signal(self, number, *nodes):
        """Sends nodes a signal that ends them, and waits until each has ended."""
        for node in nodes:
            self.processes[node].send_signal(number)
        for node in nodes:
            self.processes[node].wait(20)

    def forget(self, node):
        """A node that was removed: its process ends, its directory goes."""
        if self.processes[node].poll() is None:
            self.signal(signal.SIGTERM, node)
        del self.processes[node], self.ids[node]
        shutil.rmtree(self.dir / f"node-{node}")

    # Questions.

    def cli(self, node, *words, env=None, timeout=90):
        """Runs the command line against one node."""
        env = {"BENTENG_ADMIN_URL": self.env[f"BENTENG_NODE_{node}_HTTP_URL"],
               "BENTENG_ADMIN_TOKEN": self.env["BENTENG_ADMIN_TOKEN"], **(env or {})}
        env = {name: value for name, value in env.items() if value}
        return run(self.binary, *words, *self.ca(node), env=env, timeout=timeout)

    def ask(self, what):
        """`site status` or `site doctor`, through any node that answers."""
        for node in self.nodes:
            env = {**os.environ, "BENTENG_ADMIN_URL": self.env[f"BENTENG_NODE_{node}_HTTP_URL"],
                   "BENTENG_ADMIN_TOKEN": self.env["BENTENG_ADMIN_TOKEN"]}
            done = subprocess.run([self.binary, "site", what, "--output", "json", *self.ca(node)], env=env,
                                  capture_output=True)
            if done.stdout.startswith(b"{"):
                return json.loads(done.stdout)
        return {}

    def wait(self, what, seconds, done, *nodes):
        """Waits until `done()`; gives up the whole run otherwise, or if one of `nodes` ends meanwhile."""
        until = time.monotonic() + seconds
        while not done():
            ended = [n for n in nodes if self.processes[n].poll() is not None]
            if ended or time.monotonic() > until:
                tail = "".join((self.dir / f"node-{n}.log").read_text()[-2000:] for n in ended)
                raise SystemExit(f"not within {seconds:.0f} s: {what}; {tail or json.dumps(self.ask('status'))}")
            time.sleep(0.1)

    def leader(self):
        """Number of the node that leads, or None."""
        leader = self.ask("status").get("leader")
        return next((node for node, id_ in self.ids.items() if id_ == leader), None)

    def whole(self):
        """Whether nothing is lacking, but what a site of so few nodes always lacks."""
        status = self.ask("status")
        return bool(status) and not (status.get("chunks_short") or status.get("groups_moving") or status.get("groups_short")
                                     or status.get("health") == "unavailable")

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        if self.network:
            self.network.remove()
