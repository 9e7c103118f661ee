"""Nodes come and go under load; nothing is lost and placement stays balanced."""

import shutil, signal, time

from .cluster import Cluster
from .load import Load

SIZE_MIN, SIZE_MAX = 3, 5
HEAL_MAX = 300.0
# How far a node's share of the placement groups may be off, of the mean.
BALANCE = 0.10


def run(binary, folder, options, draw):
    cluster = Cluster(binary, folder)
    try:
        cluster.form()
        cluster.add()
        cluster.add()
        cluster.wait("the site is whole", HEAL_MAX, cluster.whole)
        load, breaches = Load(cluster, draw), []
        wiped = draw.randrange(options.changes)
        for number in range(options.changes):
            load.start()
            what = change(cluster, draw, number == wiped)
            cluster.wait(f"the site is whole after: {what}", HEAL_MAX, cluster.whole)
            # A newcomer is given its share once the leader has seen it; then the site is whole again.
            uneven = settle(cluster)
            load.stop()
            breaches += load.verdict() + uneven
            print(f"{number + 1} of {options.changes}: {what}; {len(cluster.nodes)} nodes, "
                  f"{load.acknowledged} writes so far, {len(breaches)} breaches", flush=True)
        return (f"{options.changes} changes, {load.acknowledged} writes acknowledged, {load.read} reads"), breaches
    finally:
        cluster.stop()


def change(cluster, draw, wipe):
    """One change of the membership; returns what it was."""
    if wipe:
        node = draw.choice(cluster.nodes)
        cluster.signal(signal.SIGKILL, node)
        shutil.rmtree(cluster.dir / f"node-{node}")
        (cluster.dir / f"node-{node}").mkdir()
        fresh = cluster.add(replaces=node)
        cluster.forget(node)
        return f"node {node} lost its disks and was replaced by {fresh}"
    size = len(cluster.nodes)
    if size < SIZE_MAX and (size <= SIZE_MIN or draw.random() < 0.5):
        return f"node {cluster.add()} added"
    node = draw.choice(cluster.nodes)
    through = next(other for other in cluster.nodes if other != node)
    began = time.monotonic()
    cluster.cli(through, "node", "drain", str(cluster.ids[node]))
    cluster.wait(f"node {node} is drained", HEAL_MAX, lambda: drained(cluster, node))
    cluster.wait(f"node {node} may be removed", HEAL_MAX, lambda: removed(cluster, through, node))
    cluster.forget(node)
    return f"node {node} drained and removed in {time.monotonic() - began:.0f} s"


def removed(cluster, through, node):
    """Whether the site lets a drained node go; it waits for chunks of which that one has the only good copy."""
    try:
        cluster.cli(through, "node", "remove", str(cluster.ids[node]))
        return True
    except SystemExit as refused:
        if "only good copy" in str(refused):
            return False
        raise


def drained(cluster, node):
    found = [n for n in cluster.ask("status").get("nodes", []) if n["id"] == cluster.ids[node]]
    return bool(found) and found[0].get("groups") == 0


def settle(cluster):
    """Waits until the site is whole and balanced; what is uneven if it never is."""
    until = time.monotonic() + HEAL_MAX
    while (uneven := unbalanced(cluster) or not cluster.whole()) and time.monotonic() < until:
        time.sleep(0.5)
    return uneven if isinstance(uneven, list) else []


def unbalanced(cluster):
    """Nodes that hold more or less of the placement groups than their share."""
    nodes = [n for n in cluster.ask("status").get("nodes", []) if n["state"] == "active"]
    if not nodes:
        return ["no node answers"]
    mean = sum(n["groups"] for n in nodes) / len(nodes)
    return [f"node {n['id']} holds {n['groups']} groups, the mean is {mean:.0f}"
            for n in nodes if abs(n["groups"] - mean) > BALANCE * mean]
