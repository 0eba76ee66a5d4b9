from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.support.machines import Machine, until
from tests.support.pictures import draw_folder, jpeg
from tests.support.results import Results

pytestmark = pytest.mark.xdist_group("spark")
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
HOSTILE = "a b'\"\n\x1b[31m#%*[é]🍎$x\\"


def path_without_java(folder: Path) -> str:
    """A PATH with every command of this machine's but java."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*"):
            link = folder / program.name
            if not program.name.startswith("java") and not link.is_symlink():
                link.symlink_to(program)
    return str(folder)


def tree(*folders: Path) -> list[tuple[Path, bytes]]:
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    return [(file, file.read_bytes()) for file in files]


@pytest.fixture
def pictures(machine: Machine) -> Path:
    folder = machine.work / "pictures"
    draw_folder(folder, [f"Kiwi/{number}.jpg" for number in range(4)])
    return folder


@pytest.mark.quick
@pytest.mark.spark
def test_the_sample_runs_without_java_and_without_a_download(
    machine: Machine, tmp_path: Path
) -> None:
    path = path_without_java(tmp_path / "programs")
    assert shutil.which("java", path=path) is None

    code, stdout, stderr = machine.run(
        "--sample", "--report", "--output", "json", PATH=path, FRUITS_JOB_WEIGHTS="imagenet"
    )

    assert code == 0, stderr
    facts = json.loads(stdout)
    assert facts["counts"]["pictures"] == 360
    assert facts["counts"]["rejected_by_reason"] == {"not_a_picture": 1, "truncated": 1}
    assert (facts["weights"], facts["pca_k"]) == ("random", 50)
    output = Path(facts["output"])
    assert output == machine.work / "fruits-runs" / facts["run_id"]
    assert {"features", "pca", "rejected", "pca_model", "manifest.json", "pca.csv"} <= {
        file.name for file in output.iterdir()
    }
    with (output / "pca.csv").open(newline="") as rows:
        assert len(list(csv.DictReader(rows))) == 358
    page = (output / "report.html").read_text(encoding="utf-8")
    assert facts["report"] == str(output / "report.html")
    assert "sheet-a0" in page
    assert "The weights were random." in page
    lines = stderr.splitlines()
    assert lines[0].startswith(f"Run {facts['run_id']} on this machine: openvino f32, 96 px")
    assert "Warning: ImageNet weights are not here: the sample runs with random ones." in lines
    assert lines[-1] == "done: 360 of 360 pictures"
    assert "\x1b" not in stderr
    assert machine.scratch() == []


@pytest.mark.spark
@needs_proc
def test_ctrl_c_ends_everything_and_resume_continues(machine: Machine) -> None:
    process = machine.start("--sample")
    until(machine.has_a_finished_chunk)

    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()

    run_id = machine.run_folder().name
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-1] == f"Stopped. fruits run --resume {run_id} continues from here."
    until(lambda: machine.living() == [])
    assert machine.scratch() == []

    code, stdout, stderr = machine.run("--resume", "last", "--output", "json")

    assert code == 0, stderr
    facts = json.loads(stdout)
    assert facts["run_id"] == run_id
    assert facts["counts"]["features"] == 358
    assert facts["counts"]["inferences"] < 358

    for wanted in (run_id, run_id[:12], "last", f"fruits-runs/{run_id}"):
        code, stdout, stderr = machine.run("--resume", wanted, "--dry-run", "--output", "json")
        assert (code, json.loads(stdout)["run_id"]) == (0, run_id), stderr

    before = tree(machine.run_folder() / "features")
    code, stdout, stderr = machine.run("--resume", "last", "--precision", "bf16")

    assert (code, stdout) == (2, "")
    told = "Error: precision differs from the run to be continued: f32 then, bf16 now."
    assert told in stderr.splitlines()
    assert "Pictures: " not in stderr
    assert tree(machine.run_folder() / "features") == before
    code, stdout, stderr = machine.run("--resume", "last", "--dry-run", "--output", "json")
    assert json.loads(stdout)["job"]["precision"] == "f32"


@pytest.mark.spark
@needs_proc
def test_a_killed_command_leaves_no_writer_and_its_scratch_is_removed(machine: Machine) -> None:
    process = machine.start("--sample")
    until(machine.has_a_finished_chunk)

    process.kill()
    process.communicate()

    until(lambda: machine.living() == [])
    (left,) = machine.scratch()
    os.utime(left, (0, 0))
    code, stdout, stderr = machine.run("--resume", "last", "--output", "json")
    assert code == 0, stderr
    assert json.loads(stdout)["counts"]["features"] == 358
    assert machine.scratch() == []


@pytest.mark.spark
def test_two_runs_at_once_among_odd_names_do_not_disturb_each_other(machine: Machine) -> None:
    for module in ("json", "numpy", "queue"):
        (machine.work / f"{module}.py").write_text("raise SystemExit('shadowed')\n")
    draw_folder(machine.work / HOSTILE, ["a.jpg", "b/c\nd.jpg", "=b/\udcff.jpg"])
    draw_folder(machine.work / "plain", ["a.jpg", "b.jpg"])

    first = machine.start(HOSTILE, "--output-dir", f"out {HOSTILE}", "--pca-k", "1", LC_ALL="C")
    second = machine.start("plain", "--pca-variance", "0.5", "--output", "json")
    told = [process.communicate() for process in (first, second)]

    assert (first.returncode, second.returncode) == (0, 0), told
    assert told[0][0].startswith("Pictures: 3, 3 with features\nComponents: 1, ")
    assert told[0][0].endswith("out a b'\"\\n\\x1b[31m#%*[é]🍎$x\\\n")
    assert "\x1b" not in told[0][1]
    assert json.loads(told[1][0])["counts"]["pictures"] == 2
    outputs = {file.name for file in machine.work.iterdir()}
    assert outputs >= {f"out {HOSTILE}", "fruits-runs"}
    assert len([name for name in outputs if name.startswith("out")]) == 1
    with (machine.work / f"out {HOSTILE}" / "pca.csv").open(newline="", encoding="utf-8") as rows:
        paths = {row["path"] for row in csv.DictReader(rows)}
    assert paths == {"a.jpg", "b/c\nd.jpg", "'=b/\\xff.jpg"}
    assert len(list((machine.work / ".fruits" / "runs").iterdir())) == 2


@pytest.mark.spark
def test_two_runs_at_once_reuse_the_same_earlier_run(machine: Machine) -> None:
    draw_folder(machine.work / "pictures", [f"Kiwi/{number}.jpg" for number in range(12)])
    words = ("pictures", "--pca-k", "2", "--output", "json")
    earlier = machine.start(*words)
    told = earlier.communicate()
    assert earlier.returncode == 0, told
    (machine.work / "pictures" / "new.jpg").write_bytes(jpeg(500))

    both = [machine.start(*words) for _ in range(2)]
    told_both = [process.communicate() for process in both]
    alone = machine.start(*words, "--reuse", "none")
    told = alone.communicate()

    assert [process.returncode for process in (*both, alone)] == [0, 0, 0], told_both
    expected = Results(Path(json.loads(told[0])["output"]))
    for text, _ in told_both:
        found = Results(Path(json.loads(text)["output"]))
        # One that began when the other was done finds its picture too.
        assert found.counts["inferences"] <= 1
        assert found.counts["reused"] + found.counts["inferences"] == 13
        assert found.rows("features") == expected.rows("features")
        assert found.paths("pca") == expected.paths("pca")


@pytest.mark.spark
def test_too_many_rejected_pictures_are_exit_4_with_the_summary(
    machine: Machine, pictures: Path
) -> None:
    (pictures / "text.jpg").write_text("no picture")

    code, stdout, stderr = machine.run("pictures", "--max-rejected", "0.1", "--output", "json")

    assert (code, stdout) == (4, "")
    lines = stderr.splitlines()
    assert "Pictures: 5, 4 with features, 1 rejected (1 not_a_picture)" in lines
    error = "Error: 20.0% of the pictures were rejected; max_rejected allows 10.0%."
    assert error in lines
    manifest = json.loads((machine.run_folder() / "manifest.json").read_text())
    assert (manifest["counts"]["rejected"], manifest["pca_k"]) == (1, None)

    code, stdout, stderr = machine.run("--resume", "last", "--max-rejected", "0.2")

    assert code == 0, stderr
    assert stdout.startswith("Pictures: 5, 4 with features, 1 rejected (1 not_a_picture)\n")
    assert "Components: 3, 100.0% of the variance" in stdout


@pytest.mark.spark
def test_more_components_than_pictures_allow_are_exit_2(machine: Machine, pictures: Path) -> None:
    code, stdout, stderr = machine.run("pictures", "--pca-k", "4")

    assert (code, stdout) == (2, "")
    assert "Error: pca_k = 4 is too large: 4 pictures are listed, which allow 3" in stderr
    assert not (machine.run_folder() / "features").exists()


@pytest.mark.spark
def test_a_folder_without_pictures_is_exit_2(machine: Machine) -> None:
    (machine.work / "empty").mkdir()
    (machine.work / "empty" / "notes.txt").write_text("")

    code, stdout, stderr = machine.run("empty")

    assert (code, stdout) == (2, "")
    assert f"Error: There are no pictures in {machine.work / 'empty'}." in stderr.splitlines()
    assert not (machine.work / ".fruits").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Give one of IMAGES, --sample and --resume."),
        (["pictures", "--sample"], "Give one of IMAGES, --sample and --resume."),
        (["pictures", "--resume", "last"], "Give one of IMAGES, --sample and --resume."),
        (["absent"], "The images folder absent does not exist."),
        (["fruits.toml"], "The images folder fruits.toml is not a folder."),
        (
            ["pictures", "--output-dir", "pictures"],
            "The output folder {work}/pictures is not empty.",
        ),
        (
            ["pictures", "--output-dir", "\udcff"],
            "The name of the folder {work}/\\udcff is not UTF-8.",
        ),
        (["pictures", "--weights", "w.h5"], "The weights file {work}/w.h5 does not exist."),
        (
            ["pictures", "--weights", "fruits.toml"],
            "The weights file {work}/fruits.toml does not end in .h5.",
        ),
        (["--resume", "nope"], "This folder knows no run ({work}/.fruits/runs is empty)."),
        (["--resume", "./pictures"], "{work}/pictures holds no run that could be continued."),
        (["pictures", "--image-size", "95"], "--image-size must be 96 to 320 (given: 95)"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_unusable_input_is_exit_2_with_one_sentence_and_no_run(
    words: list[str], told: str, machine: Machine, pictures: Path
) -> None:
    code, stdout, stderr = machine.run(*words)

    assert (code, stdout) == (2, "")
    (error,) = [line for line in stderr.splitlines() if line.startswith("Error: ")]
    assert error.startswith(f"Error: {told.format(work=machine.work)}")
    assert "Traceback" not in stderr
    assert not (machine.work / ".fruits").exists()


@pytest.mark.parametrize("images", ["pictures", "--sample"])
def test_a_dry_run_shows_the_plan_and_writes_nothing(
    images: str, machine: Machine, pictures: Path, tmp_path: Path
) -> None:
    before = tree(tmp_path)

    code, stdout, stderr = machine.run(images, "--dry-run", XDG_CACHE_HOME=str(tmp_path / "new"))

    assert (code, stderr) == (0, "")
    assert stdout.startswith("Run ")
    assert f" -> {machine.work}/fruits-runs/" in stdout
    assert tree(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_a_dry_run_as_json_is_the_plan(machine: Machine, pictures: Path) -> None:
    code, stdout, stderr = machine.run("pictures", "--dry-run", "--output", "json", "--pca-k", "2")

    assert (code, stderr) == (0, "")
    facts = json.loads(stdout)
    assert facts["images"] == str(pictures)
    assert (facts["job"]["pca_k"], facts["job"]["weights"]) == (2, "random")
    assert facts["resume"] is False
