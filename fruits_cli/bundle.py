"""What travels to where the job runs: spark_job as a zip, the model artefact, the templates."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fruits_cli.config import JobConfig, cache_dir
from fruits_cli.errors import FruitsError, MachineError, UsageError

_PACKAGE_ROOT = Path(__file__).parent
# The same sources give the same zip, byte for byte, and so the same digest.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class JobBundle:
    """The two files that spark-submit is given, and a digest of both."""

    main: Path
    zip: Path
    digest: str


@dataclass(frozen=True)
class ModelArtefact:
    """A folder made by spark_job.model; `facts` is its model.json."""

    folder: Path
    facts: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """The identity of weights, side and artefact version."""
        return str(self.facts["fingerprint"])

    @property
    def weights(self) -> str:
        """Which weights it holds: imagenet, random, or a file's name."""
        return str(self.facts["weights"])


def job_bundle(folder: Path) -> JobBundle:
    """main.py and spark_job.zip, made in `folder`."""
    package = _spark_job_folder()
    archive, main = folder / "spark_job.zip", folder / "main.py"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for source in sorted(package.rglob("*.py")):
            name = f"spark_job/{source.relative_to(package).as_posix()}"
            bundle.writestr(zipfile.ZipInfo(name, _ZIP_DATE), source.read_bytes())
    # A copy: beside its sisters, `import files` would find them by their short names.
    shutil.copyfile(package / "main.py", main)
    digest = hashlib.sha256(archive.read_bytes() + main.read_bytes()).hexdigest()[:32]
    return JobBundle(main, archive, digest)


def _spark_job_folder() -> Path:
    # Found, not imported: the job's packages do not belong into this process.
    found = importlib.util.find_spec("spark_job")
    if found is None or found.origin is None:
        raise MachineError("The package spark_job is missing.", hint="Install fruits again.")
    return Path(found.origin).parent


def templates_dir() -> Path:
    """The folder of templates: inside the wheel, or beside the package in a checkout."""
    return _bundled("templates")


def example_config() -> Path:
    """config.example.toml of this version."""
    return _bundled("config.example.toml")


def _bundled(name: str) -> Path:
    shipped = _PACKAGE_ROOT / "_bundled" / name
    return shipped if shipped.exists() else _PACKAGE_ROOT.parent / name


def model_artefact(
    job: JobConfig, *, environ: Mapping[str, str], offline: bool = False
) -> ModelArtefact:
    """The artefact of these weights and this image size, made by spark_job.model if it is new.

    offline: ImageNet's weights are taken from the cache or not at all. Raises what spark_job.model
    says: UsageError for weights that are none, FruitsError where they cannot be had.
    """
    # -P: a json.py in the user's folder is not the one that is wanted.
    command = [sys.executable, "-P", "-m", "spark_job.model", "--weights", job.weights]
    command += ["--image-size", str(job.image_size), "--cache", str(cache_dir(environ) / "models")]
    if offline:
        command.append("--offline")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    ended = subprocess.run(
        command, env={**environ, **quiet}, capture_output=True, text=True, check=False
    )
    answer = _last_json(ended.stdout)
    if "folder" in answer:
        return ModelArtefact(Path(answer.pop("folder")), answer)
    if "error" not in answer:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise MachineError(f"The model artefact could not be made: {last}")
    raise job_error(answer["error"])


def _last_json(text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def job_error(facts: Mapping[str, Any]) -> FruitsError:
    """The error that a process of spark_job reported, as ours with the same exit code."""
    from fruits_cli.errors import JobFailed

    kinds: dict[int, type[FruitsError]] = {2: UsageError, 4: JobFailed}
    kind = kinds.get(int(facts["exit_code"]), MachineError)
    return kind(str(facts["message"]), hint=str(facts.get("hint", "")))


def usable_cores() -> int:
    """Cores that this process may use, which a container makes fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
