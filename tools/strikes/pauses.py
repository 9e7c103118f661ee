"""SIGSTOP: a node that stands still and comes back with its old beliefs."""

import os, signal, time

from .load import Load
from .site import Site

RESUME_MAX = 30.0


def run(binary, folder, options, draw):
    site, count = Site(binary, folder), options.count or 50
    try:
        load, breaches = Load(site, draw), []
        for number in range(1, count + 1):
            if number % 10 == 1:
                load.start()
            time.sleep(draw.uniform(0.2, 1.0))
            node = site.leader() if number % 2 else draw.choice(site.nodes)
            pid = int(site.env[f"BENTENG_NODE_{node}_PID"])
            os.kill(pid, signal.SIGSTOP)
            time.sleep(draw.choice([0.1, 0.7, 2.0, 4.0, 6.0]))
            os.kill(pid, signal.SIGCONT)
            woken = time.monotonic()
            site.wait("a write is acknowledged again", RESUME_MAX, lambda: load.acked_after(woken))
            if number % 10 == 0 or number == count:
                load.stop()
                breaches += load.verdict()
                print(f"{number} of {count} pauses, {load.acknowledged} writes acknowledged", flush=True)
        return f"{count} pauses, {load.acknowledged} writes acknowledged, {load.read} reads", breaches
    finally:
        site.stop()
