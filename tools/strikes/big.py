"""An object of many GiB goes in by multipart and out again; no node needs more memory for it than for a small one."""

import concurrent.futures, hashlib, http.client, random, re, threading, time, urllib.parse

from .process import memory
from .s3 import S3
from .site import Site

PART = 64 << 20
STREAMS = 4
# What a node may take at most, MiB: its highest resident set since it started.
MEMORY_MAX = 512
KEY = "big/object"


def run(binary, folder, options, draw):
    site = Site(binary, folder)
    try:
        S3(site).request(1, "PUT", "")
        parts, base = max(1, (options.gib << 30) // PART), random.Random(options.seed).randbytes(PART)
        peak = Peak(site)
        began = time.monotonic()
        etags, upload = send(site, base, parts)
        sent = time.monotonic() - began
        listed = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etags[n]}</ETag></Part>" for n in sorted(etags))
        status, _, found = S3(site, patience=120).request(
            2, "POST", KEY, f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode(), f"uploadId={upload}")
        breaches = [] if status == 200 else [f"the upload is not completed: {status} {found[:300]!r}"]
        began = time.monotonic()
        breaches += compare(site, base, parts)
        got = time.monotonic() - began
        used = peak.end()
        breaches += [f"node {node} took {mib} MiB" for node, mib in used.items() if mib > MEMORY_MAX]
        size = parts * PART / (1 << 20)
        told = ", ".join(f"node {node} {mib}" for node, mib in used.items())
        return f"{size:.0f} MiB in at {size / sent:.0f} MiB/s, out at {size / got:.0f} MiB/s; MiB at most: {told}", breaches
    finally:
        site.stop()


def part(base, number):
    """The bytes of a part: another one for each number, made at no cost."""
    cut = number * 4099 % len(base)
    return base[cut:] + base[:cut]


def send(site, base, parts):
    """All parts, several at a time, through all nodes in turn; returns their ETags and the upload's id."""
    status, _, found = S3(site).request(1, "POST", KEY, query="uploads=")
    if status != 200:
        raise SystemExit(f"the upload does not begin: {status} {found[:300]!r}")
    upload = urllib.parse.quote(re.search(rb"<UploadId>(.+?)</UploadId>", found)[1].decode(), safe="")

    def one(number):
        for _ in range(3):
            node = site.nodes[number % len(site.nodes)]
            status, headers, found = S3(site, patience=120).request(
                node, "PUT", KEY, part(base, number), f"partNumber={number}&uploadId={upload}")
            if status == 200:
                return number, headers["ETag"]
        raise SystemExit(f"part {number} is refused: {status} {found[:300]!r}")

    with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
        return dict(pool.map(one, range(1, parts + 1))), upload


def compare(site, base, parts):
    """Reads the whole object in one request through the last node; breaches."""
    wanted = hashlib.sha256()
    for number in range(1, parts + 1):
        wanted.update(part(base, number))
    got, length = hashlib.sha256(), 0
    try:
        for piece in S3(site, patience=120).stream(site.nodes[-1], KEY):
            got.update(piece)
            length += len(piece)
    except (OSError, http.client.HTTPException) as error:
        return [f"the object breaks off after {length} bytes: {error!r}"]
    return [] if got.digest() == wanted.digest() else [f"{length} bytes came, and other ones than were sent"]


class Peak:
    """Highest resident memory of every node, MiB."""

    def __init__(self, site):
        self.site, self.most, self.over = site, {}, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.over.wait(0.2):
            self.look()

    def look(self):
        for node in self.site.nodes:
            mib = memory(int(self.site.env[f"BENTENG_NODE_{node}_PID"]))["VmHWM"] >> 20
            self.most[node] = max(mib, self.most.get(node, 0))

    def end(self):
        self.over.set()
        self.thread.join()
        self.look()
        return self.most
