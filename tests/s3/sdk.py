"""boto3 against a site named by its endpoints.env."""

import json
import pathlib
import urllib.request

import boto3
from botocore.config import Config


def read_endpoints(path):
    """The KEY=value lines of an endpoints.env."""
    lines = pathlib.Path(path).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def make_client(site, **options):
    """A boto3 client of the site; options go to botocore's Config."""
    # One attempt: a test wants to see the first answer, not what a retry made of it.
    s3 = {"addressing_style": "path", **options.pop("s3", {})}
    config = Config(s3=s3, retries={"total_max_attempts": 1}, read_timeout=60, connect_timeout=5, **options)
    return boto3.client(
        "s3",
        endpoint_url=site["AWS_ENDPOINT_URL"],
        aws_access_key_id=site["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=site["AWS_SECRET_ACCESS_KEY"],
        region_name=site["AWS_REGION"],
        config=config,
    )


def admin(site, method, path, document=None):
    """Asks the admin API of a site; returns the answer's document, or None if it has none."""
    request = urllib.request.Request(
        f"{site['BENTENG_ADMIN_URL']}/admin/v1/{path}",
        method=method,
        data=None if document is None else json.dumps(document).encode(),
        headers={"authorization": f"Bearer {site['BENTENG_ADMIN_TOKEN']}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        body = answer.read()
    return json.loads(body) if body else None
