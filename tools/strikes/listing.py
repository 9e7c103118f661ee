"""Buckets of 2,000, 20,000 and 200,000 objects are listed page by page, with a delimiter too: a page of a large bucket
costs what one of a small bucket costs."""

import re, statistics, time, urllib.parse

from .bench import bench
from .process import cpu
from .s3 import S3
from .site import Site

SIZES = (2_000, 20_000, 200_000)
# Of a page's time and CPU in the largest bucket, to those in the smallest.
GROWTH_MAX = 1.5
# Pages that are looked at; each listing is repeated until there are so many.
PAGES = 60
WAYS = {
    "flat, pages of 1,000": {"max-keys": "1000"},
    "delimiter, pages of 16": {"max-keys": "16", "delimiter": "/"},
    "delimiter within a prefix, pages of 5": {"max-keys": "5", "delimiter": "1", "prefix": "8"},
}


def run(binary, folder, options, draw):
    site, breaches, costs = Site(binary, folder), [], {}
    try:
        for size in [n for n in SIZES if n <= options.objects]:
            bucket = f"list-{size}"
            # Keys lie in 256 folders, spread like those of real objects.
            bench(site, "put", "--bucket", bucket, "--size", "64", "--concurrency", "32", "--requests", str(size),
                  "--seconds", "600", "--keep", "--prefix", "")
            for way, query in WAYS.items():
                found, milliseconds, busy = pages(site, bucket, query)
                costs.setdefault(way, {})[size] = (milliseconds, busy)
                print(f"{size} objects, {way}: {milliseconds:.2f} ms and {busy:.2f} ms of CPU a page", flush=True)
                if way.startswith("flat") and found != size:
                    breaches.append(f"{size} objects were put, {found} are listed")
        for way, by_size in costs.items():
            small, large = by_size[min(by_size)], by_size[max(by_size)]
            for what, before, after in zip(("time", "CPU"), small, large):
                if after > before * GROWTH_MAX:
                    breaches.append(f"{way}: the {what} of a page grew from {before:.2f} to {after:.2f} ms")
        told = "; ".join(f"{way}: " + ", ".join(f"{n} {ms:.2f} ms" for n, (ms, _) in by_size.items())
                         for way, by_size in costs.items())
        return f"{told} a page", breaches
    finally:
        site.stop()


def pages(site, bucket, query):
    """Lists a bucket again and again; returns (keys and groups found, median ms of a page, ms of CPU of a page)."""
    s3, node, times, pids = S3(site, bucket=bucket), site.nodes[0], [], nodes(site)
    began = sum(map(cpu, pids))
    while len(times) < PAGES:
        found, token = 0, None
        while True:
            arguments = {"list-type": "2", **query, **({"continuation-token": token} if token else {})}
            text = "&".join(f"{urllib.parse.quote(k, safe='')}={urllib.parse.quote(v, safe='')}"
                            for k, v in sorted(arguments.items()))
            at = time.monotonic()
            status, _, body = s3.request(node, "GET", "", query=text)
            times.append(1000 * (time.monotonic() - at))
            if status != 200:
                raise SystemExit(f"a page is refused: {status} {body[:300]!r}")
            found += body.count(b"<Contents>") + body.count(b"<CommonPrefixes>")
            token = re.search(rb"<NextContinuationToken>(.+?)</NextContinuationToken>", body)
            if not token:
                break
            token = token[1].decode()
    return found, statistics.median(times), 1000 * (sum(map(cpu, pids)) - began) / len(times)


def nodes(site):
    return [int(site.env[f"BENTENG_NODE_{node}_PID"]) for node in site.nodes]
