"""One node becomes two and three under load."""

import time

from .cluster import Cluster
from .load import Load


def run(binary, folder, options, draw):
    cluster = Cluster(binary, folder)
    try:
        cluster.form()
        load, breaches = Load(cluster, draw), []
        for size in (1, 2, 3):
            load.start()
            if size > 1:
                cluster.add()
            time.sleep(5)
            cluster.wait(f"a site of {size} is in order", 180, cluster.whole)
            load.stop()
            breaches += load.verdict()
            status = cluster.ask("status")
            if (status["copies"], status["survives_one_loss"]) != (size, size == 3):
                breaches.append(f"{size} nodes, {status['copies']} copies, survives one loss: {status['survives_one_loss']}")
            print(f"{size} nodes, {load.acknowledged} writes so far", flush=True)
        return f"grown to 3, {load.acknowledged} writes acknowledged, {load.read} reads", breaches
    finally:
        cluster.stop()
