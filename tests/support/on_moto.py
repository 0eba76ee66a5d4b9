"""The cloud commands on an app of their own, with AWS on moto in this very process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from moto import mock_aws
from moto.iam.models import SERVICE_NAME_CONVERSION
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner, Result

from fruits_cli.app import _Boundary
from fruits_cli.commands.cancel import cancel
from fruits_cli.commands.create_cluster import create_cluster
from fruits_cli.commands.doctor import doctor
from fruits_cli.commands.estimate import estimate
from fruits_cli.commands.fetch_results import fetch_results
from fruits_cli.commands.init import init
from fruits_cli.commands.logs import logs
from fruits_cli.commands.status import status
from fruits_cli.commands.submit import submit
from fruits_cli.commands.terminate import terminate
from fruits_cli.commands.tunnel import tunnel
from fruits_cli.commands.upload import upload
from tests.support.managed_policies import keep_only_ours

Fruits = Callable[..., Result]
_COMMANDS = (
    ("init", init),
    ("doctor", doctor),
    ("upload", upload),
    ("create-cluster", create_cluster),
    ("submit", submit),
    ("estimate", estimate),
    ("cancel", cancel),
    ("status", status),
    ("logs", logs),
    ("fetch-results", fetch_results),
    ("tunnel", tunnel),
    ("terminate", terminate),
)


@pytest.fixture(scope="session")
def s3_here() -> Iterator[str]:
    """Moto's S3 over HTTP, in this process: to such a one no wheels for nodes are sent."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def fruits(s3_here: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fruits]:
    """Runs one command line in an empty folder, on an empty account in eu-west-3."""
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    values = {
        "HOME": str(tmp_path / "home"),
        "AWS_REGION": "eu-west-3",
        # Moto has no prices and would let the question out: a closed port of ours answers it.
        "AWS_ENDPOINT_URL_S3": s3_here,
        "AWS_ENDPOINT_URL_PRICING": "http://127.0.0.1:1",
        "AWS_DEFAULT_REGION": "eu-west-3",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "XDG_CACHE_HOME": str(tmp_path / ".cache"),
        "XDG_CONFIG_HOME": str(tmp_path / ".config"),
        "XDG_STATE_HOME": str(tmp_path / ".state"),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    # Moto names the role after the service, AWS after what it does.
    monkeypatch.setitem(SERVICE_NAME_CONVERSION, "elasticmapreduce", "EMRCleanup")
    monkeypatch.setitem(SERVICE_NAME_CONVERSION, "spot", "EC2Spot")
    app = typer.Typer(cls=_Boundary, rich_markup_mode=None, pretty_exceptions_enable=False)
    for name, command in _COMMANDS:
        app.command(name)(command)
    keep_only_ours()
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        yield lambda *words: CliRunner().invoke(app, list(words))
