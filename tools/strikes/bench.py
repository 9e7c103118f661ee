"""`benteng bench s3` against a site: load that a Python client cannot make."""

import json, os, subprocess


def begin(site, ops, *words, nodes=None):
    """Starts a bench through the nodes named, or all; its report comes from [`end`]."""
    endpoints = [w for node in nodes or site.nodes for w in ("--endpoint", site.env[f"BENTENG_NODE_{node}_S3_URL"])]
    env = {**os.environ, **{k: v for k, v in site.env.items() if k.startswith("AWS_")}}
    return subprocess.Popen([site.binary, "bench", "s3", "--ops", ops, "--output", "json", *endpoints, *words],
                            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process):
    """The lines of the report, by operation, and the errors in words."""
    said, failed = process.communicate()
    if not said.startswith("{"):
        raise SystemExit(f"the bench failed: {failed}")
    report = json.loads(said)
    return {line["op"]: line for line in report["operations"]}, report["errors"]


def bench(site, ops, *words):
    """Runs a bench to its end; an error in it ends the run."""
    lines, errors = end(begin(site, ops, *words))
    if errors:
        raise SystemExit(f"the bench met errors: {errors}")
    return lines
