"""Flipped bits in the files of one node at a time. What is wrong is never served: it is found by a read, by the scrub
or by the next start, and a good copy takes its place.

`chunks`: flipped while the node runs, a batch in different places, then a full scrub. `raft` and `kv`: flipped while
the node is down, a few in different files; it starts and serves what is right, or says that it is damaged, and what to
do: its state is removed and rebuilt, or the node is replaced. Each flip is followed to its end: its file is gone or
holds the right bit again, or the bit is still there, and then nobody was harmed by it.
"""

import collections, itertools, json, os, shutil, signal, subprocess, threading, time

from .s3 import S3
from .site import Site
from .worker import WEIGHTS, SIZES

# Flips of a round.
BATCH = {"chunks": 20, "raft": 5, "kv": 5}
SHARES = (6, 2, 2)
HEAL_MAX = 180.0
OBJECTS = 400
# What a node says that must be mended by a person, and what that person does.
REMEDIES = {"remove it": "kv", "join --replace": "all"}

Flip = collections.namedtuple("Flip", "kind path at bit wrong")


def run(binary, folder, options, draw):
    site, count = Site(binary, folder), options.count or 1000
    try:
        things, breaches, flips = Things(site, draw), [], []
        mended = collections.Counter()
        while len(flips) < count:
            kind, node = draw.choices(list(BATCH), SHARES)[0], draw.choice(site.nodes)
            n = min(BATCH[kind], count - len(flips))
            before = len(flips)
            if kind == "chunks":
                told, wrong = strike_chunks(site, node, n, draw, flips)
            else:
                told, wrong = strike_closed(site, node, kind, n, draw, flips, mended, folder)
            site.wait(f"the site is whole after {told}", HEAL_MAX, site.whole)
            wrong += things.verdict()
            breaches += wrong
            places = ", ".join(sorted({os.path.basename(f.path).split(".")[-1][:8] for f in flips[before:]}))
            print(f"{len(flips)} of {count}: {told} ({places}); {len(wrong)} breaches", flush=True)
            things.renew()
        by_kind = collections.Counter(f.kind for f in flips)
        left = collections.Counter(f.kind for f in flips if still(f))
        kinds = ", ".join(f"{by_kind[kind]} in {kind} ({left[kind]} still there)" for kind in BATCH)
        acts = ", ".join(f"{what} {n} times" for what, n in mended.items()) or "nothing had to be mended by hand"
        return f"{len(flips)} bits: {kinds}; {acts}; {things.reads} reads", breaches
    finally:
        site.stop()


class Things:
    """Objects of all sizes, each known; some are written anew between two rounds."""

    def __init__(self, site, draw):
        self.site, self.draw, self.bodies, self.reads = site, draw, {}, 0
        S3(site).request(1, "PUT", "")
        for n in range(OBJECTS):
            self.write(f"f{n:04}")

    def write(self, name):
        body = self.draw.randbytes(self.draw.choices(SIZES, WEIGHTS)[0])
        for _ in range(20):
            status, _, said = S3(self.site).request(self.draw.choice(self.site.nodes), "PUT", name, body)
            if status == 200:
                self.bodies[name] = body
                return
            # Applied or not: asked again until it is.
            time.sleep(0.5)
        raise SystemExit(f"{name} is not taken: {status} {said[:300]!r}")

    def renew(self):
        for name in self.draw.sample(sorted(self.bodies), OBJECTS // 20):
            self.write(name)

    def verdict(self):
        """Reads all of them through every node; breaches."""
        breaches = []

        def through(node):
            s3 = S3(self.site)
            for name, body in self.bodies.items():
                for _ in range(20):
                    try:
                        status, _, found = s3.request(node, "GET", name)
                    except ConnectionRefusedError:
                        status, found = 0, b""
                    if status not in (0, 500, 503):
                        break
                    time.sleep(0.3)
                if status != 200 or found != body:
                    breaches.append(f"{name} through node {node}: status {status}, {len(found)} bytes for {len(body)}")
            self.reads += len(self.bodies)

        threads = [threading.Thread(target=through, args=(node,)) for node in self.site.nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return breaches


def flip(kind, path, draw):
    """Flips one bit of the part of a file that was written; None if nothing was."""
    with open(path, "r+b") as file:
        written = end_of(file)
        if written == 0:
            return None
        at, bit = draw.randrange(written), 1 << draw.randrange(8)
        file.seek(at)
        wrong = file.read(1)[0] ^ bit
        file.seek(at)
        file.write(bytes([wrong]))
    return Flip(kind, str(path), at, bit, wrong)


def end_of(file):
    """Where what was written ends: preallocated room holds nothing that could be damaged."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        begin = max(0, end - (1 << 20))
        file.seek(begin)
        tail = file.read(end - begin).rstrip(b"\0")
        if tail:
            return begin + len(tail)
        end = begin
    return 0


def still(flip):
    """Whether a flipped bit is where it was put. A file of the same name may be another one by now."""
    try:
        with open(flip.path, "rb") as file:
            file.seek(flip.at)
            return file.read(1) == bytes([flip.wrong])
    except OSError:
        return False


def files(site, node, kind, draw):
    """The files of a kind, in random order. RocksDB's text log and lock hold nothing."""
    folder = site.dir / f"node-{node}" / kind
    found = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(("LOG", "LOCK")))
    draw.shuffle(found)
    return found


def strike(site, node, kind, count, draw):
    """Flips `count` bits, spread over the files."""
    flips = []
    while len(flips) < count:
        # Spare segments hold nothing yet.
        struck = (flip(kind, path, draw) for path in files(site, node, kind, draw))
        found = list(itertools.islice(filter(None, struck), count - len(flips)))
        if not found:
            raise SystemExit(f"node {node} has written nothing in {kind}")
        flips += found
    return flips


def scrub(site, node):
    """A full scrub of a node; returns how it stands then."""
    env = {**os.environ, "BENTENG_ADMIN_URL": site.env["BENTENG_ADMIN_URL"],
           "BENTENG_ADMIN_TOKEN": site.env["BENTENG_ADMIN_TOKEN"]}
    done = subprocess.run([site.binary, "scrub", "run", "--node", site.env[f"BENTENG_NODE_{node}_ID"], "--wait",
                           "--output", "json"], env=env, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"scrub of node {node}: {done.stderr}")
    return json.loads(done.stdout)["nodes"][0]["scrub"]


def strike_chunks(site, node, count, draw, flips):
    """Flips bits of a running node and scrubs it twice: the second time nothing is left to be found."""
    before = scrub(site, node)["damaged_found"]
    flips += strike(site, node, "chunks", count, draw)
    found = scrub(site, node)["damaged_found"] - before
    site.wait(f"node {node} is mended", HEAL_MAX, site.whole)
    again = scrub(site, node)["damaged_found"] - before - found
    wrong = [f"a second scrub of node {node} finds {again} more"] if again else []
    return f"{count} bits in chunks of node {node}, {found} damaged chunks found", wrong


def strike_closed(site, node, kind, count, draw, flips, mended, folder):
    """Flips bits of a stopped node and starts it."""
    site.signal(signal.SIGTERM, node)
    flips += strike(site, node, kind, count, draw)
    said = (folder / "site.log").stat().st_size
    ask = [site.binary, "dev", "--data", str(site.dir), "--restart-node", str(node)]
    done = subprocess.run(ask, capture_output=True, text=True)
    if done.returncode == 0:
        site.read_env()
        return f"{count} bits in {kind} of node {node}: it serves", []
    with open(folder / "site.log", "rb") as log:
        log.seek(said)
        why = log.read().decode(errors="replace")
    remedy = next((what for words, what in REMEDIES.items() if words in why), None)
    breaches = [] if remedy else [f"node {node} does not start and says nothing to do: {why[-1500:]}"]
    gone = site.dir / f"node-{node}" / "kv" if remedy == "kv" else site.dir / f"node-{node}"
    shutil.rmtree(gone)
    what = "state removed" if remedy == "kv" else "node replaced"
    mended[what] += 1
    site.restart(node)
    return f"{count} bits in {kind} of node {node}: it did not start, {what}", breaches
