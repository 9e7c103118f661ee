"""The load: each worker writes, reads and deletes keys of its own."""

import hashlib, random, re, threading, time, urllib.parse

from .s3 import S3

KEYS = 12
SIZES = [0, 100, 4_000, 8_192, 8_193, 60_000, 300_000, 4_194_304, 5_000_001]
WEIGHTS = [1, 8, 8, 2, 2, 6, 4, 1, 1]
# Many small writes: where it is their number that counts.
LIGHT = [1, 40, 40, 6, 6, 8, 2, 0.2, 0.2]
PART = 5 << 20
# What a key may hold: ABSENT or (SHA-256, chunks that it takes on every node).
ABSENT = ("absent", 0)
# Answers after which a write may be applied or not; 0: the connection broke.
UNKNOWN = (0, 500, 503)


def chunks(size):
    """Chunks of a body or part: up to 8 KiB it lies inline."""
    return 0 if size <= 8192 else -(-size // (4 << 20))


def content(*parts):
    """What a key holds after these parts were written to it."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    count = chunks(len(parts[0])) if len(parts) == 1 else sum(max(1, chunks(len(part))) for part in parts)
    return whole.hexdigest(), count


class Worker:
    """Writes, reads and deletes keys of its own and remembers what each may hold."""

    def __init__(self, site, number, seed, light=False):
        self.light = light
        self.site, self.number, self.random, self.s3 = site, number, random.Random(seed), S3(site)
        self.serial, self.may, self.acks, self.breaches, self.uploads, self.left = 0, {}, [], [], 0, []
        self.names = [self.fresh() for _ in range(KEYS)]

    def fresh(self):
        self.serial += 1
        name = f"w{self.number}/{self.serial:05}"
        self.may[name] = {ABSENT}
        return name

    def start(self):
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.site.ending.is_set():
            try:
                self.step()
            except ConnectionRefusedError:
                time.sleep(0.05)  # Nothing was sent: nothing has changed.
            except Exception as error:  # The load must not end silently.
                self.breaches.append(f"worker {self.number}: {error!r}")
                return

    def step(self):
        slot, node = self.random.randrange(KEYS), self.random.choice(self.site.nodes)
        name = self.names[slot]
        what = self.random.choices(("PUT", "GET", "DELETE", "UPLOAD"), (75, 20, 5, 0.2) if self.light else (50, 40, 10, 3))[0]
        if what == "UPLOAD":
            return self.upload(slot)
        body = self.random.randbytes(self.random.choices(SIZES, LIGHT if self.light else WEIGHTS)[0]) if what == "PUT" else b""
        status, _, found = self.s3.request(node, what, name, body)
        if what == "GET":
            self.check(name, node, status, found)
        else:
            self.settle(slot, f"{what} through node {node}", status, found, content(body) if what == "PUT" else ABSENT)

    def settle(self, slot, what, status, found, holds):
        """Notes what a write has come to."""
        name = self.names[slot]
        if status in (200, 204) and b"<Error>" not in found[:400]:
            self.may[name] = {holds}
            self.acks.append(time.monotonic())
        elif status in UNKNOWN or status == 200:
            # It may be applied, now or later: the key holds one of two things and is left alone.
            self.may[name] = self.may[name] | {holds}
            self.names[slot] = self.fresh()
            time.sleep(0.05)
        else:
            self.breaches.append(f"{what} to {name}: {status} {found[:200]!r}")

    def upload(self, slot):
        """A multipart upload, each step through any node; one in four is aborted and changes nothing."""
        name = self.names[slot]
        parts = [self.random.randbytes(PART), self.random.randbytes(self.random.choice([10, 8193, 700_000]))]
        any_node = lambda: self.random.choice(self.site.nodes)
        status, _, found = self.s3.request(any_node(), "POST", name, query="uploads=")
        if status != 200:
            return self.gave_up("begins", name, status, found)
        upload = re.search(rb"<UploadId>(.+?)</UploadId>", found)[1].decode()
        query, listed = "uploadId=" + urllib.parse.quote(upload, safe=""), ""
        self.left.append((name, query))
        for number, part in enumerate(parts, 1):
            status, headers, found = self.s3.request(
                any_node(), "PUT", name, part, f"partNumber={number}&{query}")
            if status != 200:
                return self.gave_up("part", name, status, found)
            self.acks.append(time.monotonic())
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{headers['ETag']}</ETag></Part>"
        if self.random.randrange(4) == 0:
            status, _, found = self.s3.request(any_node(), "DELETE", name, query=query)
            if status != 204:
                return self.gave_up("aborts", name, status, found)
            return self.left.remove((name, query))
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        status, _, found = self.s3.request(any_node(), "POST", name, body, query)
        if status == 200:
            self.uploads += 1
            self.left.remove((name, query))
        self.settle(slot, "completed upload", status, found, content(*parts))

    def tidy(self):
        """Aborts what was left unfinished: a long run shall not drag its litter along. It may be completed, or gone."""
        for name, query in self.left:
            status, _, found = self.s3.request(self.random.choice(self.site.nodes), "DELETE", name, query=query)
            if status not in (204, 404):
                self.breaches.append(f"the upload to {name} is not aborted: {status} {found[:200]!r}")
        self.left = []

    def gave_up(self, step, name, status, found):
        """An upload ended before it was completed: the key holds what it held."""
        if status not in UNKNOWN:
            self.breaches.append(f"upload to {name} {step}: {status} {found[:200]!r}")

    def check(self, name, node, status, found):
        """Holds an answer against what the key may hold; returns what was found, None if no answer was given."""
        if status in UNKNOWN:
            return None
        got = {404: "absent", 200: hashlib.sha256(found).hexdigest()}.get(status, f"status {status}")
        if got not in {digest for digest, _ in self.may[name]}:
            may = [digest[:16] for digest, _ in self.may[name]]
            self.breaches.append(f"{name} through node {node} holds {got[:16]}, not {may}")
        return got
