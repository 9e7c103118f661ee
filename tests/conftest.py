"""Fixtures of the black-box tests: a running site, named by its endpoints.env.

BENTENG_ENDPOINTS is the path of that file (`benteng dev` writes it). Without it every test
that needs a site is skipped, aloud; `tools/test` sets it, and there a skip is a failure.
"""

import os
import uuid

import pytest

from sdk import make_client, read_endpoints


@pytest.fixture(scope="session")
def site():
    """The site's endpoints, as a dict; AWS_* are set for child processes too."""
    path = os.environ.get("BENTENG_ENDPOINTS")
    if not path:
        pytest.skip("BENTENG_ENDPOINTS is not set: no site to test against")
    found = read_endpoints(path)
    for stale in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
        os.environ.pop(stale, None)
    os.environ.update({key: value for key, value in found.items() if key.startswith("AWS_")})
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    return found


@pytest.fixture(scope="session")
def client(site):
    """boto3 as a user has it out of the box, with path style."""
    return make_client(site)


@pytest.fixture(scope="session")
def clients(site):
    """One boto3 client per node of the site (at least one)."""
    urls = [value for key, value in sorted(site.items()) if key.startswith("BENTENG_NODE_") and key.endswith("_S3_URL")]
    return [make_client({**site, "AWS_ENDPOINT_URL": url}) for url in urls or [site["AWS_ENDPOINT_URL"]]]


def empty_bucket(client, name):
    """Deletes all uploads and objects of a bucket."""
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=name):
        for upload in page.get("Uploads", []):
            client.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
        keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
        if keys:
            answer = client.delete_objects(Bucket=name, Delete={"Objects": keys, "Quiet": True})
            assert not answer.get("Errors"), answer["Errors"]


@pytest.fixture
def bucket(client):
    """A bucket of this test alone; gone afterwards, with all that is in it."""
    name = f"t-{uuid.uuid4().hex[:20]}"
    client.create_bucket(Bucket=name)
    yield name
    try:
        empty_bucket(client, name)
        client.delete_bucket(Bucket=name)
    except client.exceptions.NoSuchBucket:
        pass
