from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Runs its arguments where the loopback is the only network; the kernel counts what has no route.
_ALONE = """
import ctypes, fcntl, os, socket, struct, subprocess, sys
NEW_NET, NEW_USER, SET_FLAGS, UP = 0x40000000, 0x10000000, 0x8914, 0x41
if ctypes.CDLL(None).unshare(NEW_NET | (NEW_USER if os.getuid() else 0)):
    sys.exit(77)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
    fcntl.ioctl(link, SET_FLAGS, struct.pack("16sH14x", b"lo", UP))
ended = subprocess.run(sys.argv[1:])
with open("/proc/net/snmp") as counters:
    names, values = (line.split() for line in counters if line.startswith("Ip:"))
print(dict(zip(names, values))["OutNoRoutes"])
sys.exit(ended.returncode)
"""


@pytest.mark.quick
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's network namespaces")
@pytest.mark.spark
@pytest.mark.xdist_group("spark")
def test_a_whole_rehearsal_sends_nothing_beyond_the_loopback(
    artefact_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache" / "fruits").mkdir(parents=True)
    (tmp_path / "cache" / "fruits" / "models").symlink_to(artefact_folder.parent)
    fruits = str(Path(sys.executable).with_name("fruits"))
    words = [fruits, "rehearse", "--sample", "--image-size", "96", "--output", "json"]
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    environ["XDG_CACHE_HOME"] = str(tmp_path / "cache")

    ended = subprocess.run(
        [sys.executable, "-c", _ALONE, *words],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode == 77:
        pytest.skip("this machine gives no network namespace")

    assert ended.returncode == 0, ended.stderr
    answer, _, packets_without_route = ended.stdout.strip().rpartition("\n")
    assert json.loads(answer)["counts"]["features"] == 358
    assert packets_without_route == "0"
