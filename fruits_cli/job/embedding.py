"""Runs spark_job.embed: paths on its stdin, features on its stdout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fruits_cli.config import Engine, Precision
from fruits_cli.errors import FruitsError, MachineError, UsageError
from fruits_cli.job.model import QUIET, ModelArtefact
from fruits_cli.job.progress import job_error

_ERROR, _HINT = "Error: ", "Hint: "


def embedding_command(
    artefact: ModelArtefact, engine: Engine | str, precision: Precision | str
) -> list[str]:
    """The command line of a process that computes features with this model."""
    # -P: a json.py in the user's folder must not be imported.
    command = [sys.executable, "-P", "-m", "spark_job.embed", "--model", str(artefact.folder)]
    return [*command, "--engine", str(engine), "--precision", str(precision)]


def embedding_failure(code: int, lines: Sequence[str], what: str) -> FruitsError:
    """The error that the process told in the lines of its stderr; `what` could not be done."""
    for number, line in enumerate(lines):
        if line.startswith(_ERROR):
            after = lines[number + 1] if number + 1 < len(lines) else ""
            hint = after.removeprefix(_HINT) if after.startswith(_HINT) else ""
            message = line.removeprefix(_ERROR)
            return job_error({"exit_code": code, "message": message, "hint": hint})
    said = lines[-1] if lines else "it said nothing"
    return MachineError(f"{what}, code {code}: {said}")


def embed_picture(
    picture: Path, artefact: ModelArtefact, engine: str, precision: str, environ: Mapping[str, str]
) -> Any:
    """The features of one picture, (1280,) float32.

    Raises UsageError where it is none that can be used, and what the process says.
    """
    import numpy as np
    import pyarrow as pa

    ended = subprocess.run(
        embedding_command(artefact, engine, precision),
        input=os.fsencode(picture) + b"\0",
        env={**environ, **QUIET},
        capture_output=True,
        check=False,
    )
    told = ended.stderr.decode(errors="replace").splitlines()
    if ended.returncode:
        raise embedding_failure(ended.returncode, told, f"{picture} could not be computed")
    with pa.ipc.open_stream(ended.stdout) as stream:
        (row,) = stream.read_all().to_pylist()
    if row["error"]:
        raise UsageError(f"{picture} cannot be used ({row['error']}): {row['message']}")
    return np.array(row["features"], np.float32)
