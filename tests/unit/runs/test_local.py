from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fruits_cli.config import Config, Layer, Target, configured
from fruits_cli.dataset.images import local_images
from fruits_cli.errors import ConfigError, MachineError, UsageError
from fruits_cli.ledger import Ledger, RunRecord
from fruits_cli.runs import local
from fruits_cli.runs.results import run_summary
from fruits_cli.screen import Screen

RUN_ID = "20260823-141502-k3f9"
COUNTS = {
    "pictures": 360,
    "features": 358,
    "rejected": 2,
    "rejected_by_reason": {"not_a_picture": 1, "truncated": 1},
    "inferences": 358,
}
MANIFEST: dict[str, Any] = {
    "engine": "openvino",
    "precision": "f32",
    "image_size": 96,
    "weights": "random",
    "counts": COUNTS,
    "seconds": {"listing": 0.2, "features": 2.0, "pca": 1.25},
    "settings": {"pca_k": None, "pca_variance": None},
    "pca_k": 50,
    "cumulative_variance": 0.8171,
    "model_fingerprint": "f" * 32,
}


def config(**job: Any) -> Config:
    return configured([Layer("test", {"job": job})])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / ".fruits" / "runs")


def recorded(ledger: Ledger, output: Path, **job: Any) -> RunRecord:
    values = {"engine": "openvino", "precision": "f32", "image_size": 96, "weights": "random"}
    record = RunRecord(
        RUN_ID, Target.LOCAL, images="/pictures", output=str(output), job={**values, **job}
    )
    return ledger.write(record)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("absent", "does not exist"),
        ("a\nfile", "is not a folder"),
        ("x" * 300, "does not exist"),
        ("nul\0", "does not exist"),
    ],
    ids=["absent", "file", "long", "nul"],
)
def test_images_that_are_no_folder_are_refused(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "a\nfile").write_text("")

    with pytest.raises(UsageError, match=told):
        local_images(str(tmp_path / name))


def test_images_may_be_below_the_home_folder() -> None:
    assert local_images("~") == Path.home()


def test_a_run_lies_in_a_folder_of_its_own_unless_told_otherwise(pictures: Path) -> None:
    plan = local.new_run(config(), pictures, run_id=RUN_ID)

    assert plan.output == Path.cwd() / "fruits-runs" / RUN_ID
    assert plan.images == str(pictures)
    assert not plan.resume


def test_the_given_output_folder_is_taken_by_its_whole_name(pictures: Path) -> None:
    asked = config(output_dir=str(pictures / ".." / "results"), weights="m.h5")

    plan = local.new_run(asked, pictures, run_id=RUN_ID)

    assert plan.output == pictures.parent / "results"
    assert plan.job.weights == str(Path.cwd() / "m.h5")


def test_an_empty_output_folder_may_exist(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()

    plan = local.new_run(config(output_dir=str(tmp_path / "results")), pictures, run_id=RUN_ID)

    assert plan.output == tmp_path / "results"


@pytest.mark.parametrize("kind", ["file", "filled", "dangling"])
def test_an_output_folder_that_holds_something_is_refused(
    kind: str, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "results"
    if kind == "file":
        output.write_text("")
    elif kind == "filled":
        output.mkdir()
        (output / ".hidden").write_text("")
    else:
        output.symlink_to(tmp_path / "results")

    with pytest.raises(UsageError, match="is not empty"):
        local.new_run(config(output_dir=str(output)), pictures, run_id=RUN_ID)


def test_a_run_inside_the_images_folder_may_leave_its_results_there(pictures: Path) -> None:
    # `fruits run .` is what one types inside the folder; results hold no pictures.
    plan = local.new_run(config(output_dir=str(pictures / "runs" / "1")), pictures, run_id=RUN_ID)

    assert plan.output == pictures / "runs" / "1"


def test_a_folder_whose_name_java_cannot_carry_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not UTF-8"):
        local.new_run(config(output_dir=str(tmp_path / "\udcff")), pictures, run_id=RUN_ID)

    with pytest.raises(UsageError, match="is not UTF-8"):
        local.new_run(config(), tmp_path / "\udcff", run_id=RUN_ID)


@pytest.mark.parametrize("wanted", [RUN_ID, RUN_ID[:10], "last"])
def test_a_run_goes_on_with_its_own_options(wanted: str, ledger: Ledger, tmp_path: Path) -> None:
    recorded(ledger, tmp_path / "results", pca_variance=0.9, extensions=["png"])

    plan = local.resumed_run(ledger, wanted, {})

    assert (plan.run_id, plan.images, plan.resume) == (RUN_ID, "/pictures", True)
    assert plan.output == tmp_path / "results"
    assert plan.job.pca_variance == 0.9
    assert plan.job.extensions == ("png",)
    assert plan.job.weights == "random"


@pytest.mark.parametrize("spelling", ["results", "results/", "other/../results"])
def test_a_run_is_found_by_its_folder(spelling: str, ledger: Ledger, tmp_path: Path) -> None:
    recorded(ledger, tmp_path / "results", pca_k=7)

    plan = local.resumed_run(ledger, f"{tmp_path}/{spelling}", {})

    assert (plan.run_id, plan.job.pca_k) == (RUN_ID, 7)


def test_given_flags_go_over_those_of_the_run(ledger: Ledger, tmp_path: Path) -> None:
    recorded(ledger, tmp_path / "results", pca_variance=0.9)

    plan = local.resumed_run(ledger, "last", {"job": {"pca_k": 3}})

    assert (plan.job.pca_k, plan.job.pca_variance) == (3, None)


def test_flags_of_a_resumed_run_are_checked_like_all_others(ledger: Ledger, tmp_path: Path) -> None:
    recorded(ledger, tmp_path / "results")

    with pytest.raises(ConfigError, match=r"--pca-k must be 1 to 1280"):
        local.resumed_run(ledger, "last", {"job": {"pca_k": 0}})


@pytest.mark.parametrize(("key", "value"), [("output_dir", Path("x")), ("target", Target.EMR)])
def test_where_a_run_lies_cannot_change(
    key: str, value: object, ledger: Ledger, tmp_path: Path
) -> None:
    recorded(ledger, tmp_path / "results")

    with pytest.raises(UsageError, match=f"{key} of a resumed run cannot change"):
        local.resumed_run(ledger, "last", {"job": {key: value}})


def test_a_folder_of_another_working_folders_run_tells_what_it_needs(
    ledger: Ledger, tmp_path: Path
) -> None:
    plan_dir = tmp_path / "elsewhere" / RUN_ID / "_plan"
    plan_dir.mkdir(parents=True)
    facts = {
        "images": "/pictures",
        "engine": "tensorflow",
        "precision": "f32",
        "image_size": 128,
        "weights": "random",
        "extensions": ["jpg"],
    }
    (plan_dir / "job.json").write_text(json.dumps(facts))

    plan = local.resumed_run(ledger, str(plan_dir.parent), {})

    assert (plan.run_id, plan.images, plan.output) == (RUN_ID, "/pictures", plan_dir.parent)
    assert (plan.job.engine, plan.job.image_size) == ("tensorflow", 128)
    assert plan.job.weights == "random"


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}"])
def test_a_folder_without_a_run_cannot_be_continued(
    content: str | None, ledger: Ledger, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "_plan").mkdir()
        (tmp_path / "_plan" / "job.json").write_text(content)

    with pytest.raises(UsageError, match="holds no run that could be continued"):
        local.resumed_run(ledger, str(tmp_path), {})


def test_the_plan_names_engine_precision_size_and_weights(pictures: Path) -> None:
    plan = local.new_run(config(weights="sub/m.h5", image_size=128), pictures, run_id=RUN_ID)

    first, second = local.plan_lines(plan)

    assert first.startswith(f"Run {RUN_ID} on this machine: openvino f32, 128 px, weights m.h5, ")
    assert second == f"{pictures} -> {plan.output}"


def test_the_plan_as_json_holds_every_setting(pictures: Path) -> None:
    plan = local.new_run(config(pca_k=5), pictures, run_id=RUN_ID)

    facts = json.loads(json.dumps(local.plan_facts(plan)))

    assert (facts["run_id"], facts["target"], facts["images"]) == (RUN_ID, "local", str(pictures))
    assert facts["job"]["pca_k"] == 5
    assert facts["job"]["extensions"][0] == "jpg"


def test_the_summary_as_json_has_stable_keys(pictures: Path) -> None:
    plan = local.new_run(config(), pictures, run_id=RUN_ID)

    record = RunRecord(RUN_ID, Target.LOCAL, images=plan.images, output=str(plan.output))

    assert set(run_summary(MANIFEST, record=record, output=plan.output).facts) == {
        *("schema", "run_id", "target", "images", "output", "s3_output", "cluster_id"),
        *("cost_usd", "cluster_seconds", "engine", "precision", "image_size", "weights"),
        *("counts", "seconds", "pca_k", "cumulative_variance", "model_fingerprint"),
        *("dataset_digest", "wall_seconds"),
    }


def test_a_folder_that_cannot_be_written_is_told_before_a_model_is_made(
    pictures: Path, ledger: Ledger, tmp_path: Path
) -> None:
    if not os.getuid():
        pytest.skip("root may write everywhere")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    plan = local.new_run(config(output_dir=closed / "run"), pictures, run_id=RUN_ID)

    with pytest.raises(MachineError, match="closed/run cannot be written"):
        local.execute(plan, Screen(), ledger, {"HOME": str(tmp_path)})

    assert not (tmp_path / ".cache").exists()
