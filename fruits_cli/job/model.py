"""Makes the model of a job, or finds it in the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fruits_cli.config import Engine, JobConfig, Precision
from fruits_cli.errors import FruitsError, MachineError, UsageError
from fruits_cli.files import cache_dir, expanded, parse_json, read_document
from fruits_cli.job.progress import job_error
from fruits_cli.screen import Screen

# Keeps TensorFlow from logging, and from looking for a GPU.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
# Keras has TensorFlow write code into /tmp; compiled, that would stay there.
_NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}


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


def model_artefact(
    job: JobConfig, *, environ: Mapping[str, str], offline: bool = False
) -> ModelArtefact:
    """The artefact of these weights and this image size, made by spark_job.model if it is new.

    offline: ImageNet's weights are taken from the cache or not at all. Raises what spark_job.model
    says: UsageError for weights that are none, FruitsError where they cannot be had.
    """
    # -P: a json.py in the user's folder must not be imported.
    command = [sys.executable, "-P", "-m", "spark_job.model", "--weights", job.weights]
    command += ["--image-size", str(job.image_size), "--cache", str(cache_dir(environ) / "models")]
    if job.precision is Precision.INT8:
        command += ["--calibration", _calibration(job), "--extensions", ",".join(job.extensions)]
        command += ["--keep-calibration"] if job.reuse != "none" else []
    if offline:
        command.append("--offline")
    environ = {**environ, **QUIET, **_NO_BYTECODE}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    answer = _last_json(ended.stdout)
    if "folder" in answer:
        return ModelArtefact(Path(answer.pop("folder")), answer)
    if "error" not in answer:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise MachineError(f"The model artefact could not be made: {last}")
    raise job_error(answer["error"])


def cached_artefact(fingerprint: str, environ: Mapping[str, str]) -> ModelArtefact | None:
    """The artefact of that fingerprint, where an earlier run left it here."""
    folder = cache_dir(environ) / "models" / fingerprint
    try:
        return ModelArtefact(folder, parse_json(read_document(folder / "model.json")))
    except (OSError, ValueError):
        return None


def _calibration(job: JobConfig) -> str:
    if job.engine is not Engine.OPENVINO:
        raise UsageError("The engine tensorflow computes in f32 only.", hint="Drop int8.")
    if job.calibration is None:
        raise UsageError(
            "--precision int8 is calibrated on pictures of this machine, and none are given.",
            hint="Give --calibration a folder of pictures like those of the run.",
        )
    folder = os.path.abspath(expanded(str(job.calibration)))
    if not os.path.isdir(folder):
        raise UsageError(f"The calibration folder {job.calibration} is not a folder.")
    return folder


def _last_json(text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


# As the job itself refuses them.
_BF16_COSINE = 0.99
_MAKING = "Preparing the model (about 20 seconds the first time)"
_CALIBRATING = "Calibrating int8 on pictures of {} (up to a minute the first time)"


def obtain_model(
    job: JobConfig,
    screen: Screen,
    environ: Mapping[str, str],
    *,
    if_absent: str = "",
    pictures: str = "",
    begun: str = "",
    fast: Collection[Precision] | None = None,
    load_model: Callable[..., ModelArtefact] = model_artefact,
) -> tuple[ModelArtefact, JobConfig]:
    """The model, made or found in the cache, and the job with the weights that it really has.

    if_absent: what the reader is told where ImageNet's weights are not in the cache and random
    ones take their place; empty where they may not. pictures: the folder of the run, which int8
    is calibrated on unless another is given. begun: fingerprint of the model that a resumed run
    began with, which int8 keeps whatever its pictures are now. fast: what `auto` may choose from,
    None for what this machine is fast in. Raises what `model_artefact` does.
    """
    if job.precision is Precision.INT8 and (artefact := _kept(begun, job, environ)):
        screen.tell("int8: the model that the run began with.")
        return artefact, job
    if job.precision is not Precision.AUTO:
        return _obtained(job, screen, environ, if_absent, pictures, load_model)
    job = job.model_copy(update={"precision": Precision.F32})
    artefact, job = _obtained(job, screen, environ, if_absent, pictures, load_model)
    if fast is None:
        fast = [Precision(precision) for precision in artefact.facts.get("fast", ())]
    reasons = []
    for precision in (Precision.INT8, Precision.BF16):
        wanted = job.model_copy(update={"precision": precision})
        try:
            _require_fast(wanted, fast, artefact)
            # With int8 a model of its own is made, or refused.
            artefact, wanted = _obtained(wanted, screen, environ, if_absent, pictures, load_model)
        except FruitsError as error:
            reasons.append(f"not {precision}: {error}")
            continue
        screen.tell(" ".join([f"auto: {precision}, the fastest that is near f32.", *reasons]))
        return artefact, wanted
    screen.tell(" ".join(["auto: f32.", *reasons]))
    return artefact, job


def _kept(begun: str, job: JobConfig, environ: Mapping[str, str]) -> ModelArtefact | None:
    artefact = cached_artefact(begun, environ) if begun else None
    if artefact is None or artefact.facts.get("image_size") != job.image_size:
        return None
    return artefact if artefact.weights == Path(job.weights).name else None


def _require_fast(job: JobConfig, fast: Collection[Precision], f32: ModelArtefact) -> None:
    """Raise UsageError where the precision would not be faster, or is known to be too far off."""
    if job.engine is not Engine.OPENVINO:
        raise UsageError("the engine tensorflow computes in f32 only.")
    if job.precision not in fast:
        raise UsageError("no instructions for it where the job runs.")
    cosine = f32.facts.get("parity", {}).get("bf16_min_cosine")
    if job.precision is Precision.BF16 and cosine is not None and cosine < _BF16_COSINE:
        raise UsageError(f"too far from f32 with these weights (cosine {cosine:.4f}).")


def _obtained(
    job: JobConfig,
    screen: Screen,
    environ: Mapping[str, str],
    if_absent: str,
    pictures: str,
    load_model: Callable[..., ModelArtefact],
) -> tuple[ModelArtefact, JobConfig]:
    making = _MAKING
    if job.precision is Precision.INT8:
        job = job.model_copy(update={"calibration": job.calibration or pictures or None})
        making = _CALIBRATING.format(job.calibration)
    may_be_random = bool(if_absent) and job.weights == "imagenet"
    try:
        with screen.waiting(making):
            artefact = load_model(job, environ=environ, offline=may_be_random)
        return _told(artefact, screen), job
    except MachineError:
        if not may_be_random:
            raise
    screen.warn(f"ImageNet weights are not here: {if_absent}.")
    job = job.model_copy(update={"weights": "random"})
    with screen.waiting(making):
        artefact = load_model(job, environ=environ)
    return _told(artefact, screen), job


def _told(artefact: ModelArtefact, screen: Screen) -> ModelArtefact:
    if made := artefact.facts.get("calibration"):
        compared = artefact.facts["prices"]["int8"]["pictures"]
        kept = "by an earlier run, " if artefact.facts.get("is_kept") else ""
        screen.tell(
            f"int8: calibrated {kept}on {made['pictures']} pictures, compared on {compared}."
            + (" --reuse none calibrates anew." if kept else "")
        )
    return artefact
