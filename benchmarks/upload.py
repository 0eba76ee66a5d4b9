"""`fruits upload` beside `aws s3 sync` and s5cmd, to one S3 on this machine that is 30 ms away.

python -m benchmarks.upload [--count 20000] [--rounds 3] [--source FOLDER] [--json FILE]

aws and s5cmd are taken from PATH; sync runs at each of SYNC_REQUESTS at once and its best counts.
The server verifies every checksum that is sent; sync and s5cmd must leave each file there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.__main__ import medians
from benchmarks.pictures import make_pictures, sources

BUCKET, DELAY_S = "grapes-and-figs", 0.03
SYNC_REQUESTS = (50, 200)
S5CMD_WORKERS = 256


def contenders(folder: Path, url: str, scratch: Path) -> dict[str, list[str]]:
    """The command line of each that is installed."""
    fruits = str(Path(sys.executable).with_name("fruits"))
    found = {"fruits upload": [fruits, "upload", str(folder), "--bucket", BUCKET, "--yes"]}
    if aws := shutil.which("aws"):
        for requests in SYNC_REQUESTS:
            config = scratch / f"aws-{requests}"
            config.write_text(f"[default]\ns3 =\n  max_concurrent_requests = {requests}\n")
            found[f"aws s3 sync, {requests} requests at once"] = [
                "env", f"AWS_CONFIG_FILE={config}", aws, "--endpoint-url", url,
                "s3", "sync", "--only-show-errors", str(folder), f"s3://{BUCKET}/sync/",
            ]  # fmt: skip
    if s5cmd := shutil.which("s5cmd"):
        workers = ["--numworkers", str(S5CMD_WORKERS)]
        target = f"s3://{BUCKET}/s5cmd/"
        found["s5cmd cp"] = [
            s5cmd, "--log", "error", "--endpoint-url", url, *workers, "cp", f"{folder}/*", target,
        ]  # fmt: skip
    return found


def measured(command: list[str], url: str, folder: Path, scratch: Path) -> dict[str, float]:
    """Seconds, requests and bytes received of one upload into an empty bucket."""
    _ask(f"{url}/-/forget")
    home = scratch / "home"
    shutil.rmtree(home, ignore_errors=True)
    environ = {
        **os.environ,
        "HOME": str(home),
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_REGION": "eu-west-3",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    started = time.perf_counter()
    ended = subprocess.run(
        command, env=environ, cwd=scratch, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stderr[-3000:]}")
    seen = _ask(f"{url}/-/seen")
    if command[1] != "upload":
        files = sum(1 for file in folder.rglob("*") if file.is_file())
        assert seen["objects"] == files, (seen, files)
    return {"seconds": round(seconds, 2), "requests": seen["requests"], "bytes": seen["bytes"]}


def _ask(url: str) -> dict[str, int]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return dict(json.load(answer))


@contextmanager
def server() -> Iterator[str]:
    """The address of an S3 in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.far_s3", BUCKET, str(DELAY_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def table(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Markdown: medians, and how many times as long as ours each took."""
    lines = ["| upload | seconds | times ours | requests | MB |", "| --- | --- | --- | --- | --- |"]
    median = medians(runs)
    ours = median["fruits upload"]["seconds"]
    for name, one in median.items():
        times, megabytes = one["seconds"] / ours, one["bytes"] / 1e6
        lines.append(
            f"| {name} | {one['seconds']:.1f} | {times:.1f} | {one['requests']:.0f} "
            f"| {megabytes:.0f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upload")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--source", type=Path, help="pictures to vary; else the drawn sample")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fruits-bench")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    source = sources(asked.source, asked.folder)
    folder = make_pictures(source, asked.folder / f"pictures-{asked.count}", asked.count)
    runs: dict[str, list[dict[str, Any]]] = {}
    with server() as url, tempfile.TemporaryDirectory() as scratch:
        for turn in range(asked.rounds):
            for name, command in contenders(folder, url, Path(scratch)).items():
                found = measured(command, url, folder, Path(scratch))
                runs.setdefault(name, []).append(found)
                print(f"{turn + 1} {name}: {found}", file=sys.stderr, flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(runs, indent=2))
    print("\n".join(table(runs)))


if __name__ == "__main__":
    main()
