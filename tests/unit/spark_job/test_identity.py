from dataclasses import replace

import pytest

from spark_job.errors import JobError
from spark_job.identity import require
from spark_job.job import Asked

ASKED = Asked(
    images="s3://b/datasets/Test/",
    output="s3://b/runs/r/",
    model="s3://b/models/f00d/",
    run_id="r",
    engine="openvino",
    precision="f32",
    pca_k=None,
    pca_variance=None,
    standardize=False,
    max_rejected=None,
    extensions=("jpg",),
    keep_features=True,
    resume=False,
    deadline_min=None,
    command_lock=None,
)


@pytest.mark.parametrize(
    ("planned", "told"),
    [
        ({"model_fingerprint": "f00d"}, "The model is not the one .*: f00d then, beef now"),
        ({"code_digest": "c0de"}, "The code is not the one .*: c0de then"),
    ],
)
def test_another_model_or_code_than_planned_is_refused(planned: dict[str, str], told: str) -> None:
    with pytest.raises(JobError, match=told) as refused:
        require(replace(ASKED, **planned), "beef")

    assert refused.value.exit_code == 2


def test_what_was_planned_or_not_planned_at_all_is_taken() -> None:
    require(ASKED, "beef")
    require(replace(ASKED, model_fingerprint="beef"), "beef")
