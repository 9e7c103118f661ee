"""What was acknowledged, held against what is read."""

import threading, time

from .s3 import S3


def verify(site, workers):
    """Reads every key through every node; returns (reads, breaches). What no write decided is the same on all nodes."""
    found, reads, breaches = {}, [0], []

    def through(node):
        s3 = S3(site)
        for worker in workers:
            for name in list(worker.may):
                for _ in range(20):
                    try:
                        status, _, body = s3.request(node, "GET", name)
                        got = worker.check(name, node, status, body)
                    except ConnectionRefusedError:
                        got = None
                    if got:
                        reads[0] += 1
                        found.setdefault(name, {})[node] = got
                        break
                    time.sleep(0.5)
                else:
                    breaches.append(f"{name} cannot be read through node {node}")

    threads = [threading.Thread(target=through, args=(node,)) for node in site.nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, nodes in found.items():
        if len(set(nodes.values())) > 1:
            breaches.append(f"{name} is not the same through all nodes: { {n: g[:16] for n, g in nodes.items()} }")
    for worker in workers:
        breaches += worker.breaches
        worker.breaches = []
    return reads[0], breaches


def gap(workers, begin, end):
    """The longest time without an acknowledged write, in seconds."""
    acks = sorted(at for worker in workers for at in worker.acks if begin <= at <= end)
    return max(b - a for a, b in zip([begin, *acks], [*acks, end]))
