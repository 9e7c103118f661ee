"""Nodes of two releases in one site: a rolling restart from the previous one to this one under load, and back once."""

import json, signal, subprocess, time

from .cluster import Cluster
from .load import Load

WHOLE_MAX = 180
# Seconds under load before the next node is taken: both releases write, read and lead meanwhile.
TURN = 4.0
PAUSE_MAX = 30.0


class Mixed(Cluster):
    """A site whose nodes may run different binaries."""

    def __init__(self, binaries, folder):
        super().__init__(binaries["previous"], folder)
        self.binaries, self.runs = binaries, {}

    def replace_binary(self, node, release):
        """Stops a node as an upgrade does, and starts it with the binary of that release."""
        self.signal(signal.SIGTERM, node)
        self.runs[node] = release
        kept, self.binary = self.binary, self.binaries[release]
        try:
            self.start(node)
        finally:
            self.binary = kept


def run(binary, folder, options, draw):
    if not options.previous:
        raise SystemExit("mixed needs the previous release's binary: BENTENG_PREVIOUS, or tools/mixed, which builds it")
    said = {name: subprocess.run([path, "--version"], capture_output=True, text=True).stdout.strip()
            for name, path in (("previous", options.previous), ("this", binary))}
    print(f"previous: {options.previous} ({said['previous']}); this: {binary} ({said['this']})", flush=True)
    cluster = Mixed({"previous": options.previous, "this": binary}, folder)
    breaches, paused = [], 0.0
    try:
        cluster.form()
        cluster.add()
        cluster.add()
        cluster.wait("the site of three is whole", WHOLE_MAX, cluster.whole)
        cluster.runs = {node: "previous" for node in cluster.nodes}
        load = Load(cluster, draw)
        load.start()
        time.sleep(TURN)
        first, second, third = cluster.nodes
        # Every node to this release; one back to the previous one, which reads what the new one wrote; and again.
        steps = [(first, "this"), (second, "this"), (third, "this"), (second, "previous"), (second, "this")]
        for number, (node, release) in enumerate(steps, 1):
            cluster.replace_binary(node, release)
            served = time.monotonic()
            cluster.wait("a write is acknowledged", PAUSE_MAX, lambda: load.acked_after(served))
            paused = max(paused, time.monotonic() - served)
            cluster.wait("the site is whole", WHOLE_MAX, cluster.whole)
            time.sleep(TURN)
            # The leader is killed: the next one may be of the other release.
            leader = cluster.leader() or first
            cluster.signal(signal.SIGKILL, leader)
            time.sleep(draw.uniform(0.0, 2.0))
            kept, cluster.binary = cluster.binary, cluster.binaries[cluster.runs[leader]]
            cluster.start(leader)
            cluster.binary = kept
            cluster.wait("the site is whole after a kill", WHOLE_MAX, cluster.whole)
            load.stop()
            found = load.verdict()
            breaches += found
            print(f"step {number} of {len(steps)}: node {node} runs {release} ({json.dumps(cluster.runs)}), leader {leader} "
                  f"killed; {load.acknowledged} writes acknowledged, {load.read} reads, {len(found)} breaches", flush=True)
            load.start()
        time.sleep(TURN)
        load.stop()
        breaches += load.verdict()
        return (f"{len(steps)} restarts with another release under load, {load.acknowledged} writes acknowledged, "
                f"{load.read} reads through nodes of both, longest wait for a write {paused:.1f} s"), breaches
    finally:
        cluster.stop()
