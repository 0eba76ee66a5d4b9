"""JupyterHub on a rehearsed primary node: EMR's user, the bucket's notebooks, local Spark.

Needs the packages of `fruits[hub]`, installed with fruits or on PATH.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fruits_cli.errors import MachineError
from fruits_cli.files import templates_dir, write_private
from fruits_cli.job.java import find_java, spark_environ
from fruits_cli.rehearsal.host import Host
from fruits_cli.rehearsal.hub_program import NOT_INSTALLED, find_hub
from fruits_cli.rehearsal.page_server import Command, PageServer
from fruits_cli.rehearsal.state import rehearsal_environ
from fruits_cli.rehearsal.world import Cluster
from fruits_cli.tunnel.jupyterhub import USER

# What EMR gives its user at first. Source: EMR Release Guide, JupyterHub.
_FIRST_PASSWORD = "jupyter"
_CONFIG = Path(__file__).with_name("hub_config.py")
_STARTED = re.compile(r"The proxy listens on (\d+)[\s\S]*JupyterHub is now running")


class JupyterHub(PageServer):
    """The hub of one cluster; its password may change while it runs, as chpasswd changes it.

    settings: of its spawner, added to those that the rehearsal needs.
    """

    def __init__(
        self, cluster: Cluster, host: Host, work: Path, settings: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(work, self._prepared)
        self._cluster, self._host = cluster, host
        self._settings = dict(settings or {})
        self._bucket = _notebook_bucket(cluster.request)
        self._password = _FIRST_PASSWORD

    def lack(self) -> str:
        """Why there is no JupyterHub; empty where there is one."""
        if find_hub() is None:
            return NOT_INSTALLED
        return "" if self._bucket else "the cluster was made without JupyterHub"

    def set_password(self, line: bytes) -> None:
        """What chpasswd reads, `user:password`; lines of other users change nothing."""
        user, _, password = line.decode("utf-8", "replace").strip().partition(":")
        if user == USER:
            self._password = password
            self._work.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(self._work / "password", password)

    def _prepared(self) -> Command:
        hub, work = find_hub(), self._work
        if hub is None or self.lack():
            raise MachineError(self.lack())
        write_private(work / "password", self._password)
        write_private(work / "hub.pem", _self_signed())
        self._fetch(f"jupyter/{USER}/", work / "notebooks")
        java = find_java(os.environ)
        environ = spark_environ({"HOME": str(work)}, java, work / "tmp")
        (work / "tmp").mkdir()
        kernel = self._write_kernel(environ)
        own = {"JUPYTER_PATH": str(kernel), "IPYTHONDIR": str(work / "ipython")}
        asked = {"user": USER, "environ": own, "settings": self._settings}
        write_private(work / "hub.json", json.dumps(asked))
        path = os.pathsep.join([str(Path(hub).parent), os.environ.get("PATH", os.defpath)])
        started = {"PATH": path, "HOME": str(work), "FRUITS_HUB": str(work), "LC_ALL": "C.UTF-8"}
        return Command([hub, "-f", str(_CONFIG)], started, _STARTED)

    def _fetch(self, below: str, folder: Path) -> None:
        """The objects of the cluster's bucket below a prefix, as files."""
        folder.mkdir(parents=True, exist_ok=True)
        s3 = self._host.clients.client("s3", self._cluster.region)
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=below)
        for found in (found for page in pages for found in page.get("Contents", [])):
            s3.download_file(self._bucket, found["Key"], str(folder / Path(found["Key"]).name))

    def _write_kernel(self, environ: Mapping[str, str]) -> Path:
        """The cluster's kernel, by its name: here `spark` and `sc` stand on local Spark."""
        spec = self._work / "jupyter" / "kernels" / "pysparkkernel"
        startup = self._work / "ipython" / "profile_default" / "startup"
        for folder in (spec, startup):
            folder.mkdir(parents=True)
        shutil.copy(templates_dir() / "kernel_session.py", startup)
        host = self._host
        aws = rehearsal_environ(host.endpoint, self._cluster.region, host.step_key)
        mirrored = {"FRUITS_MIRROR": str(self._work / "s3"), "FRUITS_BUCKET": self._bucket}
        kernel = {
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "PySpark",
            "language": "python",
            "env": {**environ, **aws, **mirrored},
        }
        write_private(spec / "kernel.json", json.dumps(kernel))
        return self._work / "jupyter"


def _notebook_bucket(request: Mapping[str, Any]) -> str:
    """Where the cluster keeps its notebooks; empty where it was made without JupyterHub."""
    for each in request.get("Configurations", []):
        if each["Classification"] == "jupyter-s3-conf":
            return str(each["Properties"]["s3.persistence.bucket"])
    return ""


def _self_signed() -> str:
    """Key and certificate that signs itself, as EMR's JupyterHub shows one; PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jupyterhub")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return (private + certificate.public_bytes(Encoding.PEM)).decode()
