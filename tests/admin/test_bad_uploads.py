"""Bad days of an upload: a node that stands still, a gateway that dies at the worst moment, a replaced node."""

import hashlib
import http.client
import os
import signal
import threading
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from processes import Site, until

MIB = 1 << 20
PAUSE = 60


@pytest.fixture
def site(binary, tmp_path):
    with Site(binary, tmp_path) as site:
        site.found()
        site.grown("second", "third")
        site.nodes["first"].s3().create_bucket(Bucket="arsip")
        yield site


class Slow:
    """A PUT whose body goes out piece by piece."""

    def __init__(self, node, key, length):
        url = node.s3().generate_presigned_url("put_object", Params={"Bucket": "arsip", "Key": key})
        self.link = http.client.HTTPConnection("127.0.0.1", node.ports["s3"], timeout=120)
        self.link.putrequest("PUT", url.split(str(node.ports["s3"]), 1)[1], skip_accept_encoding=True)
        self.link.putheader("content-length", str(length))
        self.link.endheaders()

    def send(self, piece):
        self.link.send(piece)

    def status(self):
        """The answer's status, or 0 if the connection broke."""
        try:
            answer = self.link.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            self.link.close()


def holds(node, key):
    """SHA-256 of what a node answers for a key; None: nothing is there."""
    try:
        return hashlib.sha256(node.s3().get_object(Bucket="arsip", Key=key)["Body"].read()).hexdigest()
    except ClientError as error:
        assert error.response["Error"]["Code"] == "NoSuchKey", error
        return None


def put_again(node, key, body):
    """As a client does: through another node, until it is there."""
    def tried():
        try:
            return node.s3().put_object(Bucket="arsip", Key=key, Body=body)
        except (ClientError, BotoCoreError):
            return None

    until("the retry", tried, 60)


def test_a_node_stands_still_for_a_minute_in_the_middle_of_an_upload(site):
    """One upload goes through a node that stays awake, one through the sleeper itself."""
    awake, sleeper = site.nodes["first"], site.nodes["second"]
    body = os.urandom(24 * MIB)
    digest = hashlib.sha256(body).hexdigest()
    through = {"awake": Slow(awake, "awake", len(body)), "sleeper": Slow(sleeper, "sleeper", len(body))}
    for upload in through.values():
        upload.send(body[: 9 * MIB])
    sleeper.process.send_signal(signal.SIGSTOP)
    began, statuses = time.monotonic(), {}

    def rest(name):
        try:
            through[name].send(body[9 * MIB :])
        except OSError:
            pass
        statuses[name] = through[name].status()

    threads = [threading.Thread(target=rest, args=(name,)) for name in through]
    for thread in threads:
        thread.start()
    threads[0].join(30)
    assert statuses.get("awake") == 200, "two of three are enough"
    assert holds(awake, "awake") == digest
    # Others write as before, all the minute long.
    writes = 0
    while time.monotonic() < began + PAUSE:
        put_again(awake, "meanwhile", b"x" * 20_000)
        writes += 1
        time.sleep(0.5)
    assert writes > 30
    sleeper.process.send_signal(signal.SIGCONT)
    threads[1].join(120)
    until("the sleeper serves again", sleeper.is_ready)
    # The sleeper's own upload is there whole, or not at all; acknowledged it is there.
    assert statuses["sleeper"] in (0, 200, 500, 503), statuses
    assert holds(awake, "sleeper") in ({digest} if statuses["sleeper"] == 200 else {digest, None})
    put_again(awake, "sleeper", body)
    site.whole(3)
    for node in site.nodes.values():
        assert (holds(node, "awake"), holds(node, "sleeper")) == (digest, digest)


def test_a_gateway_dies_between_the_last_chunk_and_the_commit(site):
    """kill -9 at ten moments around the end of a body; the client tries again through another gateway."""
    gateway, other = site.nodes["second"], site.nodes["first"]
    answered = 0
    for n in range(10):
        body = os.urandom(5 * MIB)
        digest = hashlib.sha256(body).hexdigest()
        upload = Slow(gateway, f"k{n}", len(body))
        upload.send(body[:-1])
        # What it has of the body is on its way to the holders or there.
        time.sleep(0.2)
        upload.send(body[-1:])
        time.sleep(n * 0.004)
        gateway.end()
        status = upload.status()
        answered += status == 200
        assert status in (0, 200)
        found = until("an answer", lambda: [holds(other, f"k{n}")], 30)[0]
        assert found == digest if status == 200 else found in (None, digest)
        put_again(other, f"k{n}", body)
        gateway.start()
        until("the gateway", gateway.is_ready)
        assert holds(gateway, f"k{n}") == digest
    assert answered < 10, "no kill came before the answer"
    status = site.whole(3)
    assert status["objects"] == 10
    # Two chunks each; what the dead gateways had begun goes once their successor lives (O1).
    def tidy():
        return all(node["disk"]["chunks"] == 20 for node in site.json("site", "status")["nodes"])

    until("the leftovers go", tidy, 180)


def test_a_completion_is_repeated_through_another_gateway(site):
    """The answer was lost: whoever asks again is told the same, through any node."""
    nodes = list(site.nodes.values())
    upload = nodes[0].s3().create_multipart_upload(Bucket="arsip", Key="u")["UploadId"]
    parts = []
    for number, node in enumerate(nodes, 1):
        body = os.urandom(5 * MIB)
        tag = node.s3().upload_part(Bucket="arsip", Key="u", UploadId=upload, PartNumber=number, Body=body)["ETag"]
        parts.append({"PartNumber": number, "ETag": tag})
    words = dict(Bucket="arsip", Key="u", UploadId=upload, MultipartUpload={"Parts": parts})
    tags = {node.s3().complete_multipart_upload(**words)["ETag"] for node in nodes}
    assert len(tags) == 1
    assert nodes[1].s3().head_object(Bucket="arsip", Key="u")["ContentLength"] == 15 * MIB


def test_a_long_upload_goes_on_across_a_rebalance_and_a_replaced_node(site):
    client = site.nodes["first"].s3()
    upload = client.create_multipart_upload(Bucket="arsip", Key="long")["UploadId"]
    whole, parts = hashlib.sha256(), []

    def part(number, node):
        body = os.urandom(9 * MIB)
        tag = node.s3().upload_part(Bucket="arsip", Key="long", UploadId=upload, PartNumber=number, Body=body)["ETag"]
        whole.update(body)
        parts.append({"PartNumber": number, "ETag": tag})

    part(1, site.nodes["first"])
    part(2, site.nodes["second"])
    site.add("fourth")
    part(3, site.nodes["third"])
    site.whole(3)
    part(4, site.nodes["fourth"])
    # The node that took part 2 is lost with its disks.
    old = site.node("second")["id"]
    site.nodes["second"].end()
    del site.nodes["second"]
    part(5, site.nodes["third"])
    site.add("fifth", replace=old)
    part(6, site.nodes["fifth"])
    site.whole(3)
    site.nodes["fifth"].s3().complete_multipart_upload(
        Bucket="arsip", Key="long", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    for node in site.nodes.values():
        assert holds(node, "long") == whole.hexdigest()
