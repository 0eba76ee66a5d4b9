"""Application UIs: their states as in the API, and in their place a page of the steps' logs.

Source: EMR API reference, CreatePersistentAppUI, DescribePersistentAppUI and the two operations
that presign. The page says that it is not the History Server. A presigned address carries its own
secret and needs no signature, as in AWS; the page is plain text, so that a browser runs nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from fruits_cli.rehearsal.host import Pace
from fruits_cli.rehearsal.wire import Answer, Environ, Refused
from fruits_cli.rehearsal.world import ACCOUNT, AppUi, Cluster, Region, find_cluster

PAGES = "/_app-ui/"
# A guess.
_WAIT_MIN = 0.2
Members = dict[str, Any]
_MOST_TEXT_BYTES = 1 << 16
_HEADERS = (
    ("Content-Type", "text/plain; charset=utf-8"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
)


class AppUis:
    """The UIs of all regions; `logs` is the folder with the log trees of all clusters."""

    def __init__(self, endpoint: str, logs: Path, pace: Pace) -> None:
        self._endpoint, self._logs = endpoint, logs
        self._wait_s = pace.wait_s(_WAIT_MIN)
        self._clusters: dict[str, Cluster] = {}

    def create(self, region: Region, request: Members) -> Members:
        arn = request["TargetResourceArn"]
        find_cluster(region, arn.rpartition("/")[2])
        ui = AppUi(arn, request.get("Tags", []))
        region.app_uis[ui.ui_id] = ui
        return {"PersistentAppUIId": ui.ui_id, "RuntimeRoleEnabledCluster": False}

    def describe(self, region: Region, request: Members) -> Members:
        """ATTACHED after a while; what it is called before is a guess."""
        ui = _app_ui(region, request)
        return {
            "PersistentAppUI": {
                "PersistentAppUIId": ui.ui_id,
                "PersistentAppUITypeList": ["SHS", "YTS"],
                "PersistentAppUIStatus": "ATTACHED" if self._is_older(ui, 1) else "ATTACHING",
                "AuthorId": ACCOUNT,
                "CreationTime": round(ui.created, 3),
                "LastModifiedTime": round(ui.created, 3),
                "Tags": ui.tags,
            }
        }

    def address(self, region: Region, request: Members) -> Members:
        ui = _app_ui(region, request)
        if not self._is_older(ui, 2):
            return {"PresignedURLReady": False}
        cluster = find_cluster(region, ui.target_arn.rpartition("/")[2])
        secret = secrets.token_urlsafe(24)
        self._clusters[secret] = cluster
        return {"PresignedURLReady": True, "PresignedURL": f"{self._endpoint}{PAGES}{secret}"}

    def _is_older(self, ui: AppUi, waits: int) -> bool:
        return time.time() - ui.created >= waits * self._wait_s

    def page(self, environ: Environ) -> Answer:
        """The page at a presigned address; 403 for one that was never given out."""
        cluster = self._clusters.get(environ["PATH_INFO"].removeprefix(PAGES))
        if cluster is None or environ["REQUEST_METHOD"] != "GET":
            return Answer(403, _HEADERS, b"This address was not given out.\n")
        lines = _page_lines(cluster, self._logs / cluster.cluster_id)
        return Answer(200, _HEADERS, "".join(f"{line}\n" for line in lines).encode())


OPERATIONS: dict[str, Callable[[AppUis, Region, Members], Members]] = {
    "CreatePersistentAppUI": AppUis.create,
    "DescribePersistentAppUI": AppUis.describe,
    "GetPersistentAppUIPresignedURL": AppUis.address,
}


def _app_ui(region: Region, request: Members) -> AppUi:
    ui_id = request["PersistentAppUIId"]
    if ui_id not in region.app_uis:
        raise Refused("InvalidRequestException", f"Persistent UI '{ui_id}' does not exist.")
    return region.app_uis[ui_id]


def _page_lines(cluster: Cluster, tree: Path) -> Iterator[str]:
    yield f"Rehearsal: EMR would show the Spark History Server of {cluster.cluster_id} here."
    yield "Nothing of Spark's is behind this page: these are the steps and their logs."
    with cluster.changed:
        steps = [(step.step_id, step.name, step.state) for step in cluster.steps]
    for step_id, name, state in steps:
        yield f"step {step_id} {name}: {state}"
    yield from _log_lines(tree, sorted(tree.glob("*/**/std*")))


def _log_lines(tree: Path, files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        text = file.read_bytes()[-_MOST_TEXT_BYTES:].decode("utf-8", "replace")
        if text:
            yield f"== {file.relative_to(tree).as_posix()}"
            yield from text.splitlines()
