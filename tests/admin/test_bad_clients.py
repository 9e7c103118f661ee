"""Clients that hold what they do not use: idle connections by the thousand, bodies that trickle, answers nobody reads (I7)."""

import os
import resource
import socket
import threading
import time

import pytest
from processes import Site, until

IDLE = 2_000
MIB = 1 << 20


@pytest.fixture
def site(binary, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Site(binary, tmp_path) as site:
        site.found()
        site.nodes["first"].s3().create_bucket(Bucket="arsip")
        yield site
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory(node):
    """Resident memory of a node, MiB."""
    lines = open(f"/proc/{node.process.pid}/status").read().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


def connect(node, door, count, say=b""):
    links = []
    for _ in range(count):
        link = socket.create_connection(("127.0.0.1", node.ports[door]), timeout=30)
        link.sendall(say)
        links.append(link)
    return links


@pytest.mark.parametrize("say", [b"", b"GET / HTTP/1.1\r\nHost: lo"], ids=["silent", "half a head"])
def test_i7_two_thousand_idle_connections_lock_nobody_out(site, say):
    first = site.nodes["first"]
    client, body = first.s3(), os.urandom(100_000)
    client.put_object(Bucket="arsip", Key="before", Body=body)
    before = memory(first)
    idle = connect(first, "s3", IDLE, say) + connect(first, "http", IDLE, say)
    try:
        # More than `limits.connections` at either door: whoever comes with a request is served at once.
        for n in range(20):
            began = time.monotonic()
            first.s3().put_object(Bucket="arsip", Key=f"k{n}", Body=body)
            assert first.s3().get_object(Bucket="arsip", Key=f"k{n}")["Body"].read() == body
            assert first.is_ready()
            site.json("site", "status")
            assert time.monotonic() - began < 10
        assert memory(first) - before < 128, "idle connections take next to nothing"
        # The door has let go of those that came first.
        assert any(rest(link, 0.01) is not None for link in idle[:IDLE])
    finally:
        for link in idle:
            link.close()
    until("room", lambda: first.is_ready())


def rest(sock, patience):
    """Reads until the other end closes; bytes that came, or None if it does not within so many seconds of silence."""
    sock.settimeout(patience)
    came = 0
    try:
        while piece := sock.recv(1 << 16):
            came += len(piece)
    except TimeoutError:
        return None
    except OSError:
        pass
    return came


def test_i7_a_client_that_trickles_or_does_not_read_is_given_up_and_others_are_served(site):
    first = site.nodes["first"]
    client = first.s3()
    large = os.urandom(40 * MIB)
    client.put_object(Bucket="arsip", Key="large", Body=large)
    before = memory(first)

    # More than the node takes in flight, were they let: each asks for 40 MiB and reads nothing.
    def link(method, key):
        url = client.generate_presigned_url(method, Params={"Bucket": "arsip", "Key": key}, ExpiresIn=600)
        return url.split(str(first.ports["s3"]), 1)[1]

    began, deaf = time.monotonic(), []
    for _ in range(30):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", first.ports["s3"]))
        sock.sendall(f"GET {link('get_object', 'large')} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        deaf.append(sock)
    # … and bodies of 40 MiB that come a byte at a time.
    slow = []
    for n in range(30):
        sock = socket.create_connection(("127.0.0.1", first.ports["s3"]))
        head = f"PUT {link('put_object', f'slow{n}')} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {40 * MIB}\r\n\r\n"
        sock.sendall(head.encode() + b"x" * 1000)
        slow.append(sock)
    over = threading.Event()

    def trickle():
        while not over.wait(1):
            for sock in slow:
                try:
                    sock.sendall(b"x")
                except OSError:
                    pass

    trickling = threading.Thread(target=trickle)
    trickling.start()
    try:
        end = time.monotonic() + 20
        served = 0
        while time.monotonic() < end:
            client.put_object(Bucket="arsip", Key="small", Body=b"y" * 4_000)
            assert client.get_object(Bucket="arsip", Key="small")["Body"].read() == b"y" * 4_000
            served += 1
        assert served > 20
        assert memory(first) - before < 256
        # All of them are let go: at least 1 KiB a second of a body, some bytes of an answer a minute.
        until("the end of the slow ones", lambda: all(rest(sock, 0.01) is not None for sock in slow), 120)
        time.sleep(max(0.0, began + 75 - time.monotonic()))
        for sock in deaf:
            came = rest(sock, 20)
            assert came is not None and came < 40 * MIB, "it was waited for"
        keys = [line["Key"] for line in client.list_objects_v2(Bucket="arsip")["Contents"]]
        assert sorted(keys) == ["large", "small"]
        client.put_object(Bucket="arsip", Key="large", Body=large)
    finally:
        over.set()
        trickling.join()
        for sock in slow + deaf:
            sock.close()
