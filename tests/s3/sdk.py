"""boto3 against a site named by its endpoints.env."""

import pathlib

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
