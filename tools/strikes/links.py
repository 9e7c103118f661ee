"""All states of the directed links between three nodes: who leads in which term, and how soon writes resume."""

import threading, time, urllib.request

from .cluster import Cluster
from .load import Load

# Two election time-outs of at most 1.2 s, each after the old leader's lease of 1.2 s has run out.
RESUME_MAX = 4.8
HOLD = 3.0
PAIRS = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b]


class Terms:
    """Who called itself leader in which term, asked of every node again and again."""

    def __init__(self, cluster):
        self.cluster, self.seen, self.over = cluster, {}, threading.Event()
        self.threads = [threading.Thread(target=self.watch, args=(node,), daemon=True) for node in cluster.nodes]
        for thread in self.threads:
            thread.start()

    def watch(self, node):
        url = f"{self.cluster.env[f'BENTENG_NODE_{node}_HTTP_URL']}/metrics"
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.cluster.env['BENTENG_ADMIN_TOKEN']}"})
        while not self.over.is_set():
            try:
                with urllib.request.urlopen(asked, timeout=2, context=self.cluster.tls) as answer:
                    text = answer.read().decode()
            except OSError:
                text = ""
            values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("benteng_raft_"))
            if term := int(float(values.get("benteng_raft_leads_in_term", 0))):
                self.seen.setdefault(term, set()).add(node)
            time.sleep(0.2)

    def breaches(self):
        self.over.set()
        for thread in self.threads:
            thread.join(30)
        return [f"term {term} has the leaders {sorted(nodes)}" for term, nodes in self.seen.items() if len(nodes) > 1]


def run(binary, folder, options, draw):
    cluster = Cluster(binary, folder, netns=True)
    try:
        cluster.form()
        cluster.add()
        cluster.add()
        cluster.wait("the site is whole", 120, cluster.whole)
        load, breaches, terms, longest = Load(cluster, draw), [], Terms(cluster), 0.0
        states = list(range(64))
        draw.shuffle(states)
        for number, state in enumerate(states[options.first : options.first + options.states], 1):
            cuts = [pair for bit, pair in enumerate(PAIRS) if state >> bit & 1]
            load.start()
            time.sleep(0.5)
            cluster.network.set_cuts(cuts)
            time.sleep(HOLD)
            cluster.network.set_cuts([])
            healed = time.monotonic()
            cluster.wait("a write is acknowledged after healing", 60, lambda: load.acked_after(healed))
            took = time.monotonic() - healed
            longest = max(longest, took)
            if took > RESUME_MAX:
                breaches.append(f"after {cuts} writes resumed only {took:.1f} s after healing")
            load.stop()
            breaches += load.verdict()
            print(f"{number}: cut {cuts}, resumed after {took:.1f} s, {load.acknowledged} writes so far, "
                  f"{len(breaches)} breaches", flush=True)
        breaches += terms.breaches()
        return (f"{number} states, {len(terms.seen)} terms, longest pause after healing {longest:.1f} s, "
                f"{load.acknowledged} writes acknowledged, {load.read} reads"), breaches
    finally:
        cluster.stop()
