"""Bootstrap actions: fetched and parsed as on a node, never run on this machine.

Source: ManagementGuide, emr-plan-bootstrap and BOOTSTRAP_FAILURE_PRIMARY_WITH_NON_ZERO_CODE; the
scripts need root and a node, so only their presence and their syntax are checked here.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from fruits_cli.errors import UsageError
from fruits_cli.rehearsal.logs import append_line, append_text
from fruits_cli.rehearsal.world import Cluster, ClusterEnds, Ending, Node
from fruits_cli.s3uri import parse_s3_uri


def run_bootstrap(
    cluster: Cluster, tree: Path, s3: Any, check: Callable[[int, bytes], tuple[int, str]]
) -> None:
    """Check every action, and leave its logs on every node. Raises ClusterEnds."""
    actions = cluster.request.get("BootstrapActions", [])
    for number, action in enumerate(actions, start=1):
        path = action["ScriptBootstrapAction"]["Path"]
        code, output = check(number, _fetch_script(path, number, s3))
        for node in cluster.live_nodes():
            _write_logs(tree, node, number, path, code, output)
        if code:
            raise ClusterEnds(_failure(cluster, number, path, code))


def _fetch_script(path: str, number: int, s3: Any) -> bytes:
    try:
        uri = parse_s3_uri(path)
        return bytes(s3.get_object(Bucket=uri.bucket, Key=uri.key)["Body"].read())
    except (ClientError, UsageError) as error:
        missing = "NoSuch" in str(error)
        code = "FILE_NOT_FOUND_PRIMARY" if missing else "BA_DOWNLOAD_FAILED_PRIMARY"
        raise ClusterEnds(
            Ending(
                "BOOTSTRAP_FAILURE",
                f"Primary instance could not download bootstrap action {number}: {path}",
                True,
                f"BOOTSTRAP_FAILURE_{code}",
                ({"bootstrap-action": str(number), "amazon-s3-path": path},),
            )
        ) from error


def check_script(script: bytes) -> tuple[int, str]:
    """Exit code and stderr: whether bash can read the script."""
    bash = shutil.which("bash")
    if bash is None:
        return 0, ""
    parsed = subprocess.run([bash, "-n"], input=script, capture_output=True, check=False)
    return parsed.returncode, parsed.stderr.decode("utf-8", "replace")


def _write_logs(tree: Path, node: Node, number: int, path: str, code: int, output: str) -> None:
    folder = tree / "node" / node.instance_id / "bootstrap-actions" / str(number)
    append_line(folder / "controller", f"bootstrap action {number} {path} returned {code}")
    append_text(folder / "stderr", output)
    append_text(folder / "stdout", "")


def _failure(cluster: Cluster, number: int, path: str, code: int) -> Ending:
    primary = cluster.primary
    instance_id = primary.instance_id if primary else ""
    return Ending(
        "BOOTSTRAP_FAILURE",
        f"On the primary instance ({instance_id}), bootstrap action {number} "
        f"returned a non-zero return code",
        True,
        "BOOTSTRAP_FAILURE_PRIMARY_WITH_NON_ZERO_CODE",
        (
            {
                "primary-instance-id": instance_id,
                "bootstrap-action": str(number),
                "return-code": str(code),
                "amazon-s3-path": path,
            },
        ),
    )
