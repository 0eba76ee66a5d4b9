"""`python -m fruits_cli.rehearsal --state FOLDER`: the server process.

With `--compare FILE REFERENCE` it lists instead where AWS, in the trace FILE, answered otherwise
than the rehearsal in its own trace REFERENCE. Both are made by `--trace` of any command.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fruits_cli.errors import UsageError
from fruits_cli.rehearsal.host import Pace
from fruits_cli.rehearsal.state import (
    Rehearsal,
    hold_lock,
    new_access_key,
    rehearsal_environ,
    remove_state,
    write_state,
)

if TYPE_CHECKING:
    from fruits_cli.rehearsal.server import EmbeddedAws

# Of an earlier server; its logs stay.
_LEFTOVERS = ("steps", "tmp", "history")


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fruits_cli.rehearsal")
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--state", type=Path)
    chosen.add_argument("--compare", type=Path, nargs=2, metavar=("FILE", "REFERENCE"))
    parser.add_argument("--region", default="eu-west-3")
    parser.add_argument("--minutes-per-second", type=_positive, default=1.0)
    parser.add_argument("--timer-minutes-per-second", type=_positive, default=1 / 60)
    parser.add_argument("--quota-vcpus", type=int, default=64)
    parser.add_argument(
        "--ends-with-stdin",
        action="store_true",
        help="end when stdin closes, and the state folder too",
    )
    return parser.parse_args(argv)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError("a number above 0")
    return number


def drop_user_settings() -> None:
    """Remove profiles, credentials and proxies of the user from the environment."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ |= {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        # Read by moto when it is imported: AWS's own policies exist, web pages get nothing.
        "MOTO_IAM_LOAD_MANAGED_POLICIES": "true",
        "MOTO_DISABLE_GLOBAL_CORS": "true",
    }


def patch_moto() -> None:
    """Patch moto where it answers otherwise than AWS, or takes its time."""
    from moto import backends
    from moto.iam.models import SERVICE_NAME_CONVERSION

    from fruits_cli.rehearsal.keyprints import patch_fingerprints

    # The role that every account needs once (emr-facts.md, section 4); moto would misspell it.
    SERVICE_NAME_CONVERSION["elasticmapreduce"] = "EMRCleanup"
    SERVICE_NAME_CONVERSION["spot"] = "EC2Spot"
    patch_fingerprints()
    # At every request moto looks which of its package's entries are folders: a third of its time.
    modules = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules


def load_server() -> type[EmbeddedAws]:
    """The server, whose moto reads the environment when it is imported."""
    from fruits_cli.rehearsal.server import EmbeddedAws

    return EmbeddedAws


def _serve(asked: argparse.Namespace, made: type[EmbeddedAws]) -> None:
    from fruits_cli.rehearsal.server import Keys

    patch_moto()
    keys = Keys(new_access_key(), new_access_key(), new_access_key())
    pace = Pace(asked.minutes_per_second, asked.timer_minutes_per_second)
    aws = made(asked.state, keys=keys, pace=pace, quota_vcpus=asked.quota_vcpus)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: aws.stop_asked.set())
    if asked.ends_with_stdin:
        threading.Thread(target=_wait_for_stdin, args=(aws.stop_asked,), daemon=True).start()
    aws.start()
    environ = rehearsal_environ(aws.endpoint, asked.region, keys.user)
    environ["FRUITS_TUNNEL_SSH_PORT"] = str(aws.ssh_port)
    write_state(asked.state, Rehearsal(os.getpid(), aws.endpoint, asked.region, environ))
    aws.stop_asked.wait()
    remove_state(asked.state)
    aws.stop()


def _wait_for_stdin(stop_asked: threading.Event) -> None:
    os.read(0, 1)
    stop_asked.set()


def _compare(file: Path, reference: Path) -> int:
    from fruits_cli.rehearsal.comparison import compare

    try:
        with file.open(encoding="utf-8") as aws, reference.open(encoding="utf-8") as rehearsed:
            differences = compare(aws, rehearsed)
    except (OSError, UsageError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    except UnicodeDecodeError as error:
        sys.stderr.write(f"Error: {file} and {reference} are not both traces: {error}.\n")
        return 2
    for line in differences:
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{len(differences)} differences\n")
    return 1 if differences else 0


def main(argv: list[str], load: Callable[[], type[EmbeddedAws]] = load_server) -> int:
    """0 after a clean stop, 1 where another server runs in the folder, or traces differ."""
    asked = _arguments(argv)
    if asked.compare:
        return _compare(*asked.compare)
    with hold_lock(asked.state) as is_mine:
        if not is_mine:
            return 1
        remove_state(asked.state)
        for name in _LEFTOVERS:
            shutil.rmtree(asked.state / name, ignore_errors=True)
        (asked.state / "tmp").mkdir()
        tempfile.tempdir = str(asked.state / "tmp")
        drop_user_settings()
        logging.basicConfig(level=logging.WARNING)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        try:
            _serve(asked, load())
        finally:
            for name in _LEFTOVERS:
                shutil.rmtree(asked.state / name, ignore_errors=True)
    if asked.ends_with_stdin:
        # Whoever started it may have been killed.
        shutil.rmtree(asked.state, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
