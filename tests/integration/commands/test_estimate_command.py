from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fruits_cli.commands.estimate import spread
from tests.support.machines import FRUITS
from tests.support.on_moto import Fruits
from tests.support.pictures import draw_folder

pytestmark = pytest.mark.xdist_group("model")

Estimate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    draw_folder(made / "pictures", [f"Kiwi/{number}.jpg" for number in range(12)])
    return made


@pytest.fixture
def estimate(work: Path, tmp_path: Path, machine_cache: Path) -> Estimate:
    """`fruits estimate` on a machine without AWS: exit code, stdout, stderr."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(machine_cache),
        "AWS_EC2_METADATA_DISABLED": "true",
        "FRUITS_JOB_IMAGE_SIZE": "96",
    }

    def run(*words: str, **more: str) -> tuple[int, str, str]:
        ended = subprocess.run(
            [FRUITS, "estimate", *words],
            cwd=work,
            env={**environ, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return ended.returncode, ended.stdout, ended.stderr

    return run


def places(facts: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["name"], one["precision"]) for one in facts["places"] if one["target"] == "emr"]


def test_a_folder_is_counted_timed_and_compared_without_aws(estimate: Estimate, work: Path) -> None:
    (work / "pictures" / "text.jpg").write_text("no picture")

    # At 96 pixels a fast machine is faster than any cluster: sending alone takes longer.
    size = ("--image-size", "224")
    code, stdout, stderr = estimate("pictures", *size, "--output", "json")

    assert code == 0, stderr
    facts = json.loads(stdout)
    listed = list((work / "pictures").rglob("*.jpg"))
    assert facts["pictures"] == 13
    assert facts["bytes_to_send"] == sum(file.stat().st_size for file in listed)
    sample = facts["sample"]
    assert (sample["pictures"], sample["rounds"], sample["weights"]) == (13, 46, "random")
    assert sample["rejected"]["f32"] == 46
    assert sample["images_per_s"]["f32"] > 1
    here, *_ = facts["places"]
    assert (here["name"], here["target"], here["usd"]) == ("this machine", "local", [0, 0])
    assert places(facts) == [("on demand", "f32"), ("Spot", "f32"), ("bf16-capable", "bf16")]
    for one in facts["places"]:
        low, high = one["minutes"]
        assert 0 < low <= high
        assert low == pytest.approx(
            sum(span[0] for span in one["stages_minutes"].values()), abs=1e-3
        )
    assert all(one["usd"][1] > one["usd"][0] > 0.05 for one in facts["places"][-3:])
    assert facts["better_here_up_to_pictures"]["middle"] > 1000
    assert facts["prices"]["source"].startswith("prices: built-in table of 20")
    assert facts["verdict"][0].startswith("Fastest for these pictures: this machine, ")
    assert "Timing 13 pictures in f32" in stderr
    assert not (work / ".fruits").exists()


@pytest.mark.slow
def test_the_table_has_its_assumptions_beside_it(estimate: Estimate) -> None:
    # So many that no machine of today is done within a cluster's lifetime.
    code, stdout, stderr = estimate("pictures", "--count", "100000000000", "--core-count", "10")

    assert code == 0, stderr
    lines = stdout.splitlines()
    assert lines[0].startswith("Pictures: 100,000,000,000 (as given, of ")
    assert lines[1].startswith("Timed here on ")
    assert lines[2].split() == ["where", "nodes", "workers", "precision", "minutes", "dollars"]
    assert lines[3].startswith("this machine ")
    assert "1 primary m5.xlarge, 10 core m5.xlarge, 4 task m5.xlarge Spot" in stdout
    assert "This machine is the better choice " in stdout
    assert "Assumed: a cluster starts in 6.0 to 12 minutes and ends in 1.0 to 3.0" in stdout
    assert "built-in table of" in lines[-1]
    assert "EBS, S3, KMS and transfer are not included" in lines[-1]
    assert "Note: the cluster of fruits run ends after 240 minutes" in stdout


@pytest.mark.slow
def test_a_number_alone_is_timed_with_drawn_pictures_and_says_so(estimate: Estimate) -> None:
    code, stdout, stderr = estimate("--count", "1", "--weights", "imagenet")

    assert code == 0, stderr
    assert stdout.startswith("Pictures: 1 (as given, of ")
    assert "200 pictures of the drawn sample, 3 times over" in stdout
    assert "Note: the drawn sample was timed, of 100 x 100 pixels: larger pictures" in stdout
    assert "ImageNet weights are not here: random ones are timed, which are as fast." in stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "There are no pictures to estimate for."),
        (["absent"], "The images folder absent does not exist."),
        (["empty"], "There are no pictures in empty."),
        (["pictures", "--sample"], "Give IMAGES or --sample."),
        (["pictures", "--weights", "no.h5"], "The weights file no.h5 does not exist."),
        (["s3://figs/x"], "No AWS region is configured."),
        (["--dataset", "figs"], "No AWS region is configured."),
        (["texts"], "None of the 1 pictures that were tried could be used."),
        (["s3://figs/x", "--count", "3"], "--count goes with a folder on this machine, or alone."),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_impossible_estimates_are_exit_2_with_one_sentence(
    words: list[str], told: str, estimate: Estimate, work: Path
) -> None:
    (work / "empty").mkdir()
    (work / "texts").mkdir()
    (work / "texts" / "a.jpg").write_text("no picture")

    code, stdout, stderr = estimate(*words)

    assert (code, stdout) == (2, "")
    (error,) = [line for line in stderr.splitlines() if line.startswith("Error: ")]
    assert error == f"Error: {told}"


def test_no_pictures_to_estimate_is_exit_2(estimate: Estimate) -> None:
    assert estimate("--count", "0")[0] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "note"),
    [
        (["--core-type", "x9.huge"], "'on demand' is left out: the number of vCPUs of x9.huge"),
        (["--precision", "bf16"], "'Spot' has no bf16 instructions: it would compute in f32."),
    ],
)
def test_a_cluster_that_cannot_be_compared_is_a_note(
    words: list[str], note: str, estimate: Estimate
) -> None:
    code, stdout, stderr = estimate("pictures", *words)

    assert code == 0, stderr
    assert f"Note: {note}" in stdout


@pytest.mark.slow
def test_with_an_account_the_dataset_is_counted_and_not_sent_again(
    fruits: Fruits, tmp_path: Path, machine_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_folder(tmp_path / "figs", ["a.jpg", "b.jpg"])
    assert fruits("upload", "figs", "--bucket", "grapes-and-figs", "--yes").exit_code == 0
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine_cache))
    words = ["--bucket", "grapes-and-figs", "--image-size", "96", "--output", "json"]

    result = fruits("estimate", "--dataset", "figs", *words)

    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert (facts["pictures"], facts["bytes_to_send"]) == (2, 0)
    assert facts["source"] == "s3://grapes-and-figs/fruits/datasets/figs/"
    assert "the drawn sample was timed" in facts["notes"][0]

    missing = fruits("estimate", "--dataset", "pears", *words)

    assert missing.exit_code == 2
    assert "There is no dataset s3://grapes-and-figs/fruits/datasets/pears/." in missing.stderr


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (0, 4, ()),
        (3, 4, ("0", "1", "2")),
        (4, 4, ("0", "1", "2", "3")),
        (7, 4, ("0", "1", "3", "5")),
        (8, 4, ("0", "2", "4", "6")),
        (100, 4, ("0", "16", "48", "80")),
    ],
)
def test_a_sample_is_spread_over_all_of_them(
    count: int, most: int, expected: tuple[str, ...]
) -> None:
    assert spread((str(number) for number in range(count)), most) == expected
