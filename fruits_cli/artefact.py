"""The model of a job, with random weights where the default ones may be missed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fruits_cli.bundle import ModelArtefact, model_artefact
from fruits_cli.config import JobConfig
from fruits_cli.errors import MachineError
from fruits_cli.ui import Screen


def obtain_model(
    job: JobConfig,
    screen: Screen,
    environ: Mapping[str, str],
    *,
    if_absent: str = "",
    load_model: Callable[..., ModelArtefact] = model_artefact,
) -> tuple[ModelArtefact, JobConfig]:
    """The model, made or found in the cache, and the job with the weights that it really has.

    if_absent: what the reader is told where ImageNet's weights are not in the cache and random
    ones take their place; empty where they may not. Raises what `model_artefact` does.
    """
    screen.detail("Making the model artefact, or finding it in the cache.")
    may_be_random = bool(if_absent) and job.weights == "imagenet"
    try:
        return load_model(job, environ=environ, offline=may_be_random), job
    except MachineError:
        if not may_be_random:
            raise
    screen.warn(f"ImageNet weights are not here: {if_absent}.")
    job = job.model_copy(update={"weights": "random"})
    return load_model(job, environ=environ), job
