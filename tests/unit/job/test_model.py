from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fruits_cli.config import Engine, JobConfig, Precision
from fruits_cli.errors import UsageError
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
def test_what_int8_cannot_be_made_of_is_one_sentence(words: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        model_artefact(JobConfig(precision=Precision.INT8, **words), environ={})
