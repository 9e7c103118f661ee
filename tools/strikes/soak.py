"""A site at 70 % of what it bears, for long, with scrub, flushes and snapshots going on: memory, files and answers stay
as they were. The first fifth of the time warms up; then the first third is held against the last.
"""

import pathlib, statistics, subprocess, threading, time

from .bench import bench, begin, end
from .cluster import Cluster
from .process import descriptors, memory

SHARE = 0.7
# Seconds of each operation in a round: what is written in one half is deleted in the other.
HALF = 10
# How far memory and files may be off, and by how much the 99th percentile may grow.
FLAT, DRIFT = 0.05, 0.20
# Beside each other: operations, then what the bench is told.
LOADS = {
    "small writes": ("put,delete", "--size", "4KiB", "--concurrency", "6", "--prefix", "churn/"),
    "large writes": ("put,delete", "--size", "256KiB", "--concurrency", "2", "--prefix", "large/"),
    "reads": ("get,list", "--size", "4KiB", "--concurrency", "6", "--prefix", "kept/", "--verify"),
}
KEPT = 20_000


def run(binary, folder, options, draw):
    cluster = Cluster(binary, folder, limits=None)
    over = threading.Event()
    try:
        cluster.form()
        cluster.add()
        cluster.add()
        cluster.wait("the site is whole", 120, cluster.whole)
        bench(cluster, "put", "--size", "4KiB", "--concurrency", "16", "--prefix", "kept/", "--requests", str(KEPT),
              "--seconds", "300", "--keep")
        peak = all_of(cluster, None)
        rates = {name: {op: max(1, int(SHARE * line["ops_per_second"])) for op, line in lines.items()}
                 for name, lines in peak.items()}
        print(f"peak {told(peak)}", flush=True)
        samples, passes = Samples(cluster, over), [0]
        scrubs = threading.Thread(target=scrub, args=(cluster, over, passes), daemon=True)
        scrubs.start()
        began, rounds, breaches = time.monotonic(), [], []
        while time.monotonic() - began < options.minutes * 60:
            lines = all_of(cluster, rates, breaches)
            rounds.append((time.monotonic() - began, lines))
            print(f"{(time.monotonic() - began) / 60:.1f} min: {told(lines)}; {samples.told()}", flush=True)
        over.set()
        scrubs.join(120)
        span = time.monotonic() - began
        drifts, flat = drift(rounds, span), samples.flat(span)
        purges = sum((pathlib.Path(folder) / f"node-{n}.log").read_text().count("raft log purged") for n in cluster.nodes)
        breaches += [f"{what}: {before:.4g} became {after:.4g}" for what, before, after in drifts if after > before * (1 + DRIFT)]
        breaches += [f"{what}: {before:.4g} became {after:.4g}" for what, before, after in flat
                     if abs(after - before) > FLAT * before]
        if not passes[0]:
            breaches.append("no scrub ended")
        if not purges:
            breaches.append("no snapshot was made")
        changes = ", ".join(f"{what} {before:.4g} → {after:.4g}" for what, before, after in drifts + flat)
        return f"{span / 60:.1f} min, {passes[0]} scrubs, {purges} purges behind snapshots; {changes}", breaches
    finally:
        over.set()
        cluster.stop()


def all_of(cluster, rates, breaches=None):
    """One round of all loads beside each other; lines of the reports, by load and operation."""
    running = {}
    for name, (ops, *words) in LOADS.items():
        # One rate for both halves: the slower one's.
        pace = [] if rates is None else ["--rate", str(min(rates[name].values()))]
        running[name] = begin(cluster, ops, "--seconds", str(HALF), "--bucket", "benteng-bench", *words, *pace)
    found = {}
    for name, process in running.items():
        found[name], errors = end(process)
        if breaches is not None:
            breaches += [f"{name}: {error}" for error in errors]
    return found


def told(lines):
    return ", ".join(f"{op} of {name} {line['ops_per_second']:.0f}/s p99 {line['p99_ms']:.1f} ms"
                     for name, ops in lines.items() for op, line in ops.items())


def drift(rounds, span):
    """The 99th percentile of each operation, early and late."""
    out = []
    for name, (ops, *_) in LOADS.items():
        for op in ops.split(","):
            early, late = halves([(at, lines[name][op]["p99_ms"]) for at, lines in rounds], span)
            out.append((f"p99 of {op} of {name}, ms", early, late))
    return out


def halves(values, span):
    """Medians of the first and the last third of what came after the first fifth."""
    warm = span / 5
    third = (span - warm) / 3
    early = [value for at, value in values if warm <= at <= warm + third]
    late = [value for at, value in values if at >= span - third]
    return statistics.median(early or [values[0][1]]), statistics.median(late or [values[-1][1]])


def scrub(cluster, over, passes):
    """Full scrubs of all nodes, one after another."""
    while not over.wait(1):
        try:
            cluster.cli(cluster.nodes[0], "scrub", "run", "--wait", timeout=600)
            passes[0] += 1
        except subprocess.TimeoutExpired:
            pass


class Samples:
    """Memory and open files of every node, every second."""

    def __init__(self, cluster, over):
        self.cluster, self.over, self.began = cluster, over, time.monotonic()
        self.seen = {node: [] for node in cluster.nodes}
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        while not self.over.wait(1):
            for node, seen in self.seen.items():
                pid = self.cluster.processes[node].pid
                seen.append((time.monotonic() - self.began, memory(pid)["VmRSS"] / (1 << 20), descriptors(pid)))

    def told(self):
        return ", ".join(f"node {node} {seen[-1][1]:.0f} MiB {seen[-1][2]} files" for node, seen in self.seen.items() if seen)

    def flat(self, span):
        """What was early and late of every node."""
        out = []
        for node, seen in self.seen.items():
            for what, at in (("MiB", 1), ("files", 2)):
                early, late = halves([(s[0], s[at]) for s in seen], span)
                out.append((f"{what} of node {node}", early, late))
        return out
