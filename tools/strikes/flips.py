"""One flipped bit at a time in the files of one node. What is wrong is never served: it is found by a read, by the
scrub or by the next start, and a good copy takes its place.

Three kinds of files. `chunks`: flipped while the node runs, a batch of bits in different places at a time, then a full
scrub. `raft` and `kv`: flipped while the node is down; it starts and serves what is right, or says that it is damaged and
is mended as it says: the state is removed and rebuilt, or the node is replaced.
"""

import json, os, shutil, signal, subprocess, time

from .load import Load
from .site import Site

# Flips in chunks between two scrubs; each strikes a file of its own place.
BATCH = 20
HEAL_MAX = 180.0
KINDS = ("chunks", "raft", "kv")


def run(binary, folder, options, draw):
    site, count = Site(binary, folder), options.count or 1000
    try:
        load, breaches = Load(site, draw), []
        load.start()
        time.sleep(20)
        load.stop()
        breaches += load.verdict()
        done = dict.fromkeys(KINDS, 0)
        harmless = mended = 0
        while sum(done.values()) < count:
            kind = draw.choices(KINDS, (8, 1, 1))[0]
            node = draw.choice(site.nodes)
            if kind == "chunks":
                n = min(BATCH, count - sum(done.values()))
                found = flip_chunks(site, node, n, draw)
                harmless += max(0, n - found)
                told = f"{n} bits in chunks of node {node}, {found} chunks found damaged"
            else:
                n, (told, repaired) = 1, flip_closed(site, node, kind, draw)
                mended += repaired
            done[kind] += n
            site.wait(f"the site is whole after {told}", HEAL_MAX, site.whole)
            wrong = load.verdict()
            breaches += wrong
            print(f"{sum(done.values())} of {count}: {told}; {len(wrong)} breaches", flush=True)
        kinds = ", ".join(f"{n} in {kind}" for kind, n in done.items())
        return (f"{kinds}; {harmless} met no live chunk, {mended} starts needed mending; {load.read} reads after them"), breaches
    finally:
        site.stop()


def flip(path, draw):
    """Flips one bit of the part of a file that was written; returns where, or None if there is none."""
    with open(path, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        # Preallocated room holds nothing that could be damaged.
        written = end
        while written > 4096:
            file.seek(written - 4096)
            if any(file.read(4096)):
                break
            written -= 4096
        if written == 0:
            return None
        at = draw.randrange(written)
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << draw.randrange(8))]))
    return at


def files(site, node, kind, draw):
    """The files of a kind, in random order. RocksDB's text log and lock hold nothing."""
    folder = site.dir / f"node-{node}" / kind
    found = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(("LOG", "LOCK")))
    draw.shuffle(found)
    return found


def scrub(site, node):
    """A full scrub of a node; returns how it stands then."""
    env = {**os.environ, "BENTENG_ADMIN_URL": site.env["BENTENG_ADMIN_URL"],
           "BENTENG_ADMIN_TOKEN": site.env["BENTENG_ADMIN_TOKEN"]}
    done = subprocess.run([site.binary, "scrub", "run", "--node", site.env[f"BENTENG_NODE_{node}_ID"], "--wait",
                           "--output", "json"], env=env, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"scrub of node {node}: {done.stderr}")
    return json.loads(done.stdout)["nodes"][0]["scrub"]


def flip_chunks(site, node, count, draw):
    """Flips bits of a running node and scrubs it; returns how many chunks were found damaged."""
    before = scrub(site, node)["damaged_found"]
    for _ in range(count):
        for path in files(site, node, "chunks", draw):
            if flip(path, draw) is not None:
                break
    return scrub(site, node)["damaged_found"] - before


def flip_closed(site, node, kind, draw):
    """Flips a bit of a stopped node and starts it; returns what came of it, and whether a person had to act."""
    site.signal(signal.SIGTERM, node)
    where = next((f"{p.name} at {at}" for p in files(site, node, kind, draw) if (at := flip(p, draw)) is not None), "nothing")
    ask = [site.binary, "dev", "--data", str(site.dir), "--restart-node", str(node)]
    done = subprocess.run(ask, capture_output=True, text=True)
    if done.returncode == 0:
        site.read_env()
        return f"a bit of {kind}/{where} of node {node}: it serves", False
    if kind == "kv":
        # As it says itself: the state is rebuilt from log and peers.
        shutil.rmtree(site.dir / f"node-{node}" / "kv")
        what = "its state was removed"
    else:
        shutil.rmtree(site.dir / f"node-{node}")
        what = "it was replaced"
    site.restart(node)
    return f"a bit of {kind}/{where} of node {node}: it did not start, {what}", True
