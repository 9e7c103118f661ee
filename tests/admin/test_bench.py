"""`benteng bench`: what it measures is counted, and what fails is said."""

import json
import os
import subprocess


def bench(binary, site, *words, code=0, **env):
    """Runs `benteng bench … --output json` and returns the report."""
    done = subprocess.run(
        [binary, "bench", *words, "--output", "json"], capture_output=True, text=True, timeout=120,
        env={**os.environ, **{k: v for k, v in site.items() if k.startswith("AWS_")}, **env}, stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout) if code == 0 or done.stdout else done.stderr


def test_every_operation_is_measured_and_what_was_put_is_deleted(binary, site, client, bucket):
    words = ["s3", "--bucket", bucket, "--size", "20KiB", "--concurrency", "3", "--requests", "20", "--verify"]
    report = bench(binary, site, *words, "--ops", "put,get,head,list,delete")
    by_op = {line["op"]: line for line in report["operations"]}
    assert list(by_op) == ["put", "get", "head", "list", "delete"] and report["errors"] == []
    for line in by_op.values():
        assert (line["requests"], line["errors"]) == (20, 0), line
        assert 0 < line["p50_ms"] <= line["p99_ms"] <= line["max_ms"] and line["ops_per_second"] > 0, line
    assert by_op["get"]["mib_per_second"] > 0
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)


def test_objects_that_were_kept_are_found_again(binary, site, client, bucket):
    words = ["s3", "--bucket", bucket, "--size", "100", "--concurrency", "2", "--requests", "7"]
    bench(binary, site, *words, "--ops", "put", "--keep")
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 7
    assert bench(binary, site, *words, "--ops", "get", "--sign-body", "--verify")["operations"][0]["errors"] == 0
    # Other bytes than the bench puts are an error of the endpoint.
    for item in client.list_objects_v2(Bucket=bucket)["Contents"]:
        client.put_object(Bucket=bucket, Key=item["Key"], Body=b"x" * 100)
    report = bench(binary, site, *words, "--ops", "get", "--verify", code=1)
    assert report["operations"][0]["errors"] == 7 and "other bytes" in report["errors"][0]


def test_what_is_missing_or_wrong_is_said(binary, site, bucket):
    words = ["s3", "--bucket", bucket, "--requests", "3", "--concurrency", "1"]
    assert "let put come first" in bench(binary, site, *words, "--ops", "get", code=2)
    assert "AWS_SECRET_ACCESS_KEY" in bench(binary, site, *words, code=2, AWS_SECRET_ACCESS_KEY="")
    assert "cannot be made: 403" in bench(binary, site, *words, code=1, AWS_SECRET_ACCESS_KEY="wrong")
    assert "no answer from" in bench(binary, site, *words, code=1, AWS_ENDPOINT_URL="http://127.0.0.1:1")


def test_commits_of_this_machine_are_counted(binary, site, tmp_path):
    line = bench(binary, site, "commit", "--dir", str(tmp_path), "--seconds", "1", "--concurrency", "8")
    assert line["commits"] > 0 and line["commits_per_sync"] > 0 and line["p50_ms"] <= line["p99_ms"]
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
