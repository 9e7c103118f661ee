"""kill -9 of one node, and of all nodes, again and again."""

import signal, time

from .load import Load
from .site import Site

# Kills between two looks at everything that was written.
VERIFY_EVERY = 10
RESUME_MAX = 30.0


def run(binary, folder, options, draw):
    site = Site(binary, folder)
    try:
        load = Load(site, draw, light=not options.heavy)
        breaches = []
        plan = ["one"] * options.single + ["all"] * options.whole
        for number, kind in enumerate(plan, 1):
            if number % VERIFY_EVERY == 1:
                load.start()
            time.sleep(draw.uniform(0.3, 1.5))
            if kind == "one":
                nodes = (site.leader() if number % 2 else draw.choice(site.nodes),)
            else:
                nodes = site.nodes
            site.signal(signal.SIGKILL, *nodes)
            if kind == "one":
                time.sleep(draw.uniform(0.0, 2.5))
            site.restart(*nodes)
            served = time.monotonic()
            site.wait("a write is acknowledged again", RESUME_MAX, lambda: load.acked_after(served))
            if number % VERIFY_EVERY == 0 or number == len(plan):
                load.stop()
                breaches += load.verdict()
                print(f"{number} of {len(plan)} kills, {load.acknowledged} writes acknowledged, {load.read} reads, "
                      f"{len(breaches)} breaches", flush=True)
        return (f"{options.single} kills of one node, {options.whole} of all, {load.acknowledged} writes acknowledged, "
                f"{load.read} reads"), breaches
    finally:
        site.stop()
