"""A disk that turns read-only under a running node, as ext4 does when it meets an error (J6)."""

import os
import subprocess
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from processes import Site, until

SIZE = 1400 << 20


@pytest.fixture
def disk(tmp_path):
    """An ext4 file system of its own on a loop device: (where it is mounted, how to break it, how to mend it)."""
    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(SIZE)

    def run(*words, check=True):
        return subprocess.run([str(word) for word in words], check=check, capture_output=True, text=True)

    try:
        run("mkfs.ext4", "-q", "-F", image)
        run("mount", "-o", "loop,errors=remount-ro", image, place)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"file systems cannot be mounted here: {getattr(error, 'stderr', '') or error}")
    loop = run("losetup", "-j", image).stdout.split(":")[0]
    trigger = Path("/sys/fs/ext4") / Path(loop).name / "trigger_fs_error"
    if not os.access(trigger, os.W_OK):
        run("umount", "-l", place)
        pytest.skip(f"{trigger} cannot be written: no file system can be made to fail here")

    def turn_read_only():
        trigger.write_text("1")

    def mend():
        run("umount", place)
        # 1: errors were corrected.
        assert run("e2fsck", "-p", "-f", image, check=False).returncode in (0, 1)
        run("mount", "-o", "loop,errors=remount-ro", image, place)

    yield place, turn_read_only, mend
    run("umount", "-l", place, check=False)


def test_j6_a_disk_that_turns_read_only_ends_its_node_and_nothing_else(binary, tmp_path, disk):
    place, turn_read_only, mend = disk
    with Site(binary, tmp_path) as site:
        client = site.found().s3()
        site.grown("second", "third", dirs={"third": place / "data"})
        client.create_bucket(Bucket="arsip")
        body = os.urandom(600_000)
        client.put_object(Bucket="arsip", Key="before", Body=body)
        third = site.nodes["third"]

        turn_read_only()

        def writes(key):
            try:
                return client.put_object(Bucket="arsip", Key=key, Body=body)
            except (ClientError, BotoCoreError):
                return None

        # It ends by itself: what a failed write has left on the disk is not known (J6). The others go on.
        until("a write", lambda: writes("while"), 30)
        until("the end of the node", lambda: third.process.poll() is not None, 60)
        assert third.process.returncode != 0
        said = third.said()
        assert "J6" in said or "ead-only file system" in said, said[-2000:]
        until("a write", lambda: writes("after"), 30)
        finding = next(f for f in site.json("site", "doctor", code=1)["findings"] if f["check"] == "nodes")
        assert "third" in finding["message"]

        # Started on the broken disk it says what is wrong and does not serve.
        done = subprocess.run(
            [binary, "server", "--config", str(third.file)], capture_output=True, text=True, timeout=60
        )
        assert done.returncode != 0 and "ead-only file system" in done.stderr, done.stderr[-2000:]

        mend()
        third.start()
        until("the node on its mended disk", third.is_ready)
        site.whole(3)
        for key in ("before", "while", "after"):
            assert third.s3().get_object(Bucket="arsip", Key=key)["Body"].read() == body
