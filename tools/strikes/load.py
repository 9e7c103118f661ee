"""Workers that write while a strike goes on, and the verdict over what they wrote."""

import time

from .s3 import S3
from .verify import verify
from .worker import Worker

WORKERS = 6


class Load:
    """All workers of a site. Total: writes acknowledged since the beginning."""

    def __init__(self, site, draw, workers=WORKERS, light=False):
        self.site, self.acknowledged, self.read = site, 0, 0
        node = site.nodes[0]
        for _ in range(60):
            status, _, said = S3(site).request(node, "PUT", "")
            if status in (200, 409):
                break
            time.sleep(0.5)
        else:
            raise SystemExit(f"the bucket cannot be created: {status} {said!r}")
        self.workers = [Worker(site, number, draw.random(), light) for number in range(workers)]

    def start(self):
        self.site.ending.clear()
        for worker in self.workers:
            worker.acks, worker.uploads = [], 0
            worker.start()

    def acked_after(self, moment):
        """Whether a write was acknowledged after a moment."""
        return any(worker.acks and worker.acks[-1] > moment for worker in self.workers)

    def stop(self):
        """Ends the load; returns how many writes were acknowledged in it."""
        self.site.ending.set()
        for worker in self.workers:
            worker.thread.join(60)
            if worker.thread.is_alive():
                raise SystemExit(f"worker {worker.number} hangs in a request")
            worker.tidy()
        count = sum(len(worker.acks) for worker in self.workers)
        self.acknowledged += count
        return count

    def verdict(self):
        """Reads everything back through every node; breaches."""
        reads, breaches = verify(self.site, self.workers)
        self.read += reads
        return breaches
