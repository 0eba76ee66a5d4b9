from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from fruits_cli.config import JobConfig
from fruits_cli.errors import FruitsError, JobFailed, MachineError, UsageError
from fruits_cli.files import cache_dir, example_config, templates_dir
from fruits_cli.job.bundle import job_bundle
from fruits_cli.job.model import model_artefact
from fruits_cli.job.progress import job_error
from tests.support.paths import ROOT


def folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


def test_the_zip_holds_every_source_of_the_job(tmp_path: Path) -> None:
    made = job_bundle(tmp_path)

    with zipfile.ZipFile(made.zip) as archive:
        names = archive.namelist()
    sources = (ROOT / "spark_job").rglob("*.py")
    assert sorted(names) == sorted(source.relative_to(ROOT).as_posix() for source in sources)
    assert made.main.read_bytes() == (ROOT / "spark_job" / "main.py").read_bytes()


def test_the_same_sources_make_the_same_bytes(tmp_path: Path) -> None:
    first = job_bundle(folder(tmp_path, "first"))
    second = job_bundle(folder(tmp_path, "second"))

    assert first.zip.read_bytes() == second.zip.read_bytes()
    assert first.digest == second.digest
    both = first.zip.read_bytes() + first.main.read_bytes()
    assert first.digest == hashlib.sha256(both).hexdigest()[:32]


def test_python_imports_the_job_from_its_zip_alone(tmp_path: Path) -> None:
    archive = job_bundle(tmp_path).zip
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import spark_job; print(spark_job.__file__)"
    )

    told = subprocess.run(
        [sys.executable, "-I", "-c", script, archive], capture_output=True, text=True, check=True
    ).stdout

    assert told.startswith(str(archive))


def test_the_templates_and_the_example_are_found() -> None:
    assert (templates_dir() / "proxy.pac").is_file()
    assert tomllib.loads(example_config().read_text()).keys() >= {"job", "cluster"}


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"HOME": "/h"}, "/h/.cache/fruits"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/fruits"),
        ({"HOME": "/h", "XDG_CACHE_HOME": ""}, "/h/.cache/fruits"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "~/x"}, "/h/.cache/fruits"),
    ],
)
def test_the_cache_lies_where_the_user_wants_caches(environ: dict[str, str], place: str) -> None:
    assert cache_dir(environ) == Path(place)


@pytest.mark.parametrize(
    ("exit_code", "kind"), [(1, MachineError), (2, UsageError), (4, JobFailed)]
)
def test_an_error_of_the_job_keeps_its_exit_code(exit_code: int, kind: type[FruitsError]) -> None:
    error = job_error({"exit_code": exit_code, "message": "What.", "hint": "Next."})

    assert type(error) is kind
    assert (error.exit_code, str(error), error.hint) == (exit_code, "What.", "Next.")


def cached(tmp_path: Path, model_cache: Path) -> dict[str, str]:
    """An environment whose cache holds the artefact of random weights already."""
    (tmp_path / "fruits").mkdir()
    (tmp_path / "fruits" / "models").symlink_to(model_cache)
    return {"XDG_CACHE_HOME": str(tmp_path)}


@pytest.mark.xdist_group("spark")
def test_an_artefact_is_made_once_and_found_again(
    artefact_folder: Path, model_cache: Path, tmp_path: Path
) -> None:
    job = JobConfig(weights="random", image_size=96)

    artefact = model_artefact(job, environ=cached(tmp_path, model_cache))

    assert artefact.folder.resolve() == artefact_folder.resolve()
    assert artefact.fingerprint == artefact_folder.name
    assert artefact.weights == "random"
    assert artefact.facts["image_size"] == 96


@pytest.mark.xdist_group("spark")
def test_files_of_the_working_folder_do_not_stand_in_for_modules(
    artefact_folder: Path, model_cache: Path, tmp_path: Path
) -> None:
    work = folder(tmp_path, "work")
    for name in ("json", "numpy", "spark_job"):
        (work / f"{name}.py").write_text("raise SystemExit('shadowed')\n")
    script = (
        "import os, sys; sys.path.remove('')\n"
        "from fruits_cli import config\n"
        "from fruits_cli.job.model import model_artefact\n"
        "job = config.JobConfig(weights='random', image_size=96)\n"
        "print(model_artefact(job, environ=os.environ).fingerprint)"
    )

    told = subprocess.run(
        [sys.executable, "-c", script],
        cwd=work,
        env=cached(tmp_path, model_cache),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (told.stdout.strip(), told.stderr) == (artefact_folder.name, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("absent.h5", None, "does not exist"),
        ("model.keras", b"PK", "does not end in .h5"),
        ("te\x1bxt.h5", b"This is no HDF5.", "does not hold the weights of a MobileNetV2"),
    ],
)
def test_invalid_weights_are_exit_2_with_one_sentence(
    name: str, content: bytes | None, told: str, tmp_path: Path
) -> None:
    weights = tmp_path / name
    if content is not None:
        weights.write_bytes(content)

    with pytest.raises(UsageError, match=told) as refused:
        model_artefact(
            JobConfig(weights=str(weights), image_size=96),
            environ={"XDG_CACHE_HOME": str(tmp_path)},
        )

    assert str(weights) in str(refused.value)
    assert refused.value.hint


def test_unavailable_imagenet_weights_are_exit_1_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="ImageNet weights could not be downloaded") as refused:
        model_artefact(
            JobConfig(image_size=96), environ={"XDG_CACHE_HOME": str(tmp_path)}, offline=True
        )

    assert "--weights" in refused.value.hint


def test_an_unwritable_cache_is_exit_1(tmp_path: Path) -> None:
    (tmp_path / "fruits").write_text("a file, where the cache would be")

    with pytest.raises(MachineError, match="could not be written"):
        model_artefact(
            JobConfig(weights="random", image_size=96), environ={"XDG_CACHE_HOME": str(tmp_path)}
        )
