"""A real JupyterHub on the rehearsed primary node; `.ci/hub` installs it."""

from __future__ import annotations

import json
import ssl
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fruits_cli.cloud.protocols import SystemClock
from fruits_cli.errors import TunnelError
from fruits_cli.rehearsal.host import Clients, Host, Pace
from fruits_cli.rehearsal.hub_program import find_hub
from fruits_cli.rehearsal.jupyter_hub import JupyterHub
from fruits_cli.rehearsal.primary_node import PrimaryNodes
from fruits_cli.rehearsal.world import Cluster, World
from fruits_cli.tunnel.jupyterhub import start_server
from tests.support.rehearsed import Account
from tests.support.ssh_servers import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_hub() is None, reason="not installed: jupyterhub (.ci/hub)"),
]
PASSWORD = f"pears-{uuid.uuid4()}"


@contextmanager
def hub(aws: Account, folder: Path, **settings: Any) -> Iterator[int]:
    """The port of a rehearsed JupyterHub whose password is set."""
    key = aws.rehearsal.key
    host = Host(
        folder=folder,
        endpoint=aws.rehearsal.endpoint,
        step_key=key,
        pace=Pace(),
        clients=Clients(aws.rehearsal.endpoint, key),
        world=World(),
        quota_vcpus=1,
        check_script=lambda number, script: (0, ""),
        primaries=PrimaryNodes(),
    )
    kept = {"s3.persistence.bucket": aws.bucket}
    request = {"Configurations": [{"Classification": "jupyter-s3-conf", "Properties": kept}]}
    cluster = Cluster("eu-west-3", request, [], True, {}, [], [])
    made = JupyterHub(cluster, host, folder / "hub", settings)
    try:
        made.set_password(f"jovyan:{PASSWORD}\n".encode())
        # On a busy machine it starts later than a tunnel's first question waits.
        wait_until(lambda: made.port() is not None, patience_s=300)
        port = made.port()
        assert port is not None
        yield port
    finally:
        made.stop()


def test_jupyterhub_is_ready_once_it_runs_a_server_of_its_user(
    aws: Account, tmp_path: Path
) -> None:
    aws.put("jupyter/jovyan/pears.ipynb", "{}")

    with hub(aws, tmp_path) as port:
        with pytest.raises(TunnelError, match="does not take jovyan's password"):
            start_server(port, "jupyter", clock=SystemClock())
        start_server(port, PASSWORD, clock=SystemClock())
        # A second tunnel finds it running.
        start_server(port, PASSWORD, clock=SystemClock())
        context = ssl.create_default_context(cafile=tmp_path / "hub" / "hub.pem")
        context.check_hostname = False
        server = f"https://127.0.0.1:{port}/user/jovyan/api"
        with urllib.request.urlopen(server, context=context, timeout=60) as answer:
            assert set(json.load(answer)) == {"version"}

    assert [file.name for file in (tmp_path / "hub" / "notebooks").iterdir()] == ["pears.ipynb"]


def test_a_server_that_does_not_start_is_told_with_its_reason_and_what_to_do(
    aws: Account, tmp_path: Path
) -> None:
    with (
        hub(aws, tmp_path, cmd=["false"], http_timeout=3) as port,
        pytest.raises(TunnelError, match="starts no server for jovyan: Spawn failed: ") as told,
    ):
        start_server(port, PASSWORD, clock=SystemClock())

    assert "S3_ENDPOINT_URL" in str(told.value.hint)
    assert "docker logs" in str(told.value.hint)
