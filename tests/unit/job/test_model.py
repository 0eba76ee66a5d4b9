from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fruits_cli.config import Engine, JobConfig, Precision
from fruits_cli.errors import MachineError, UsageError
from fruits_cli.job.model import ModelArtefact, model_artefact, obtain_model
from fruits_cli.screen import Screen

FACTS = {"fingerprint": "f", "weights": "random"}
INT8 = {**FACTS, "calibration": {"pictures": 300}, "prices": {"int8": {"pictures": 600}}}


def obtained(job: JobConfig, **words: Any) -> JobConfig:
    def load_model(job: JobConfig, **_: Any) -> ModelArtefact:
        return ModelArtefact(Path(), INT8 if job.precision is Precision.INT8 else FACTS)

    return obtain_model(job, Screen(), {}, load_model=load_model, **words)[1]


def test_int8_is_calibrated_on_the_pictures_of_the_run_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = obtained(JobConfig(precision=Precision.INT8), pictures="/figs")

    assert str(job.calibration) == "/figs"
    assert "calibrated on 300 pictures, compared on 600" in capsys.readouterr().err


def test_int8_is_calibrated_on_the_pictures_that_are_given() -> None:
    given = JobConfig(precision=Precision.INT8, calibration=Path("/pears"))

    assert str(obtained(given, pictures="/figs").calibration) == "/pears"


def test_a_model_of_an_earlier_run_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    def load_model(job: JobConfig, **_: Any) -> ModelArtefact:
        return ModelArtefact(Path(), {**INT8, "is_kept": True})

    obtain_model(JobConfig(precision=Precision.INT8), Screen(), {}, load_model=load_model)

    assert "calibrated by an earlier run, on 300 pictures" in (told := capsys.readouterr().err)
    assert "--reuse none calibrates anew" in told


@pytest.mark.parametrize(
    ("job", "is_kept"),
    [
        (JobConfig(precision=Precision.INT8, weights="random"), True),
        (JobConfig(precision=Precision.INT8, weights="random", image_size=96), False),
        (JobConfig(precision=Precision.INT8, weights="/other.h5"), False),
        (JobConfig(precision=Precision.F32, weights="random"), False),
    ],
    ids=["same", "size", "weights", "f32"],
)
def test_a_resumed_int8_run_keeps_its_model_unless_another_is_asked_for(
    job: JobConfig, is_kept: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "fruits" / "models" / "begun"
    folder.mkdir(parents=True)
    facts = {"fingerprint": "begun", "weights": "random", "image_size": 224}
    (folder / "model.json").write_text(json.dumps(facts))

    def load_model(job: JobConfig, **_: Any) -> ModelArtefact:
        return ModelArtefact(Path(), INT8)

    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    artefact, _ = obtain_model(job, Screen(), environ, begun="begun", load_model=load_model)

    assert (artefact.fingerprint == "begun") is is_kept


def test_other_precisions_are_not_calibrated(capsys: pytest.CaptureFixture[str]) -> None:
    assert obtained(JobConfig(), pictures="/figs").calibration is None
    assert "calibrated" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, "none are given"),
        ({"calibration": Path("/no/such/folder")}, "/no/such/folder is not a folder"),
        ({"engine": Engine.TENSORFLOW}, "in f32 only"),
    ],
)
def test_missing_calibration_for_int8_is_one_sentence(words: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        model_artefact(JobConfig(precision=Precision.INT8, **words), environ={})


def chosen(
    capsys: pytest.CaptureFixture[str], facts: dict[str, Any], int8: Any = INT8, **words: Any
) -> tuple[Precision, str]:
    def load_model(job: JobConfig, **_: Any) -> ModelArtefact:
        if job.precision is not Precision.INT8:
            return ModelArtefact(Path(), {**FACTS, **facts})
        if isinstance(int8, Exception):
            raise int8
        return ModelArtefact(Path(), int8)

    job = JobConfig(precision=Precision.AUTO, engine=words.pop("engine", Engine.OPENVINO))
    _, job = obtain_model(job, Screen(), {}, load_model=load_model, pictures="/figs", **words)
    return job.precision, capsys.readouterr().err


def test_auto_takes_int8_where_the_machine_is_fast_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    precision, told = chosen(capsys, {"fast": ["f32", "bf16", "int8"]})

    assert precision is Precision.INT8
    assert "auto: int8, the fastest that is near f32." in told


def test_auto_says_why_not_int8_and_takes_bf16(capsys: pytest.CaptureFixture[str]) -> None:
    refused = MachineError("int8 features are too far from f32.")

    precision, told = chosen(capsys, {"fast": ["f32", "bf16", "int8"]}, refused)

    assert precision is Precision.BF16
    assert "auto: bf16, the fastest that is near f32. not int8: int8 features are too far" in told


@pytest.mark.parametrize(
    ("facts", "words", "why"),
    [
        ({"fast": ["f32"]}, {}, "not bf16: no instructions for it where the job runs"),
        ({}, {}, "not int8: no instructions"),
        ({"fast": ["f32", "bf16", "int8"]}, {"fast": [Precision.F32]}, "no instructions"),
        ({"fast": ["f32", "bf16"], "parity": {"bf16_min_cosine": 0.9}}, {}, "(cosine 0.9000)"),
        ({"fast": ["f32", "int8"]}, {"engine": Engine.TENSORFLOW}, "in f32 only"),
    ],
)
def test_auto_stays_with_f32_and_says_why(
    facts: dict[str, Any], words: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    precision, told = chosen(capsys, facts, **words)

    assert precision is Precision.F32
    assert "auto: f32." in told
    assert why in told


def test_auto_on_a_cluster_goes_by_its_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [Precision.F32, Precision.INT8]

    assert chosen(capsys, {"fast": ["f32"]}, fast=nodes)[0] is Precision.INT8
