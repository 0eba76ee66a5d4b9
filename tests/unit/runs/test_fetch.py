import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from fruits_cli.cluster.plan import plan_run
from fruits_cli.errors import CloudError, FruitsError, UsageError
from fruits_cli.files import replacing
from fruits_cli.runs.results import fetch_manifest, fetch_run, missing_files
from fruits_cli.s3uri import S3Uri
from tests.support.fakes import FakeAws
from tests.support.scenes import manifest, put, results
from tests.support.worlds import BUCKET, PYTHON, RUN_ID, config, job, observed

RUN = S3Uri(BUCKET, f"fruits/runs/{RUN_ID}/")


@pytest.fixture
def aws() -> FakeAws:
    made = FakeAws()
    step = plan_run(
        config(), observed(), job(), run_id=RUN_ID, launch_id="l", python=PYTHON
    ).spec.step
    assert step is not None
    results(made)(step)
    return made


def test_a_run_is_on_disk_as_it_was_on_s3_with_a_csv(aws: FakeAws, tmp_path: Path) -> None:
    list(fetch_run(aws.storage, RUN, tmp_path / "out"))

    files = {str(file.relative_to(tmp_path / "out")) for file in tmp_path.rglob("*.*")}
    assert files == {
        "manifest.json",
        "progress.json",
        "pca/part-0.parquet",
        "pca.csv",
        "_chunks/0.json",
    }


def test_fetching_twice_brings_only_what_is_newer(aws: FakeAws, tmp_path: Path) -> None:
    list(fetch_run(aws.storage, RUN, tmp_path))
    (tmp_path / "pca" / "part-0.parquet").unlink()

    list(fetch_run(aws.storage, RUN, tmp_path))

    assert (tmp_path / "pca" / "part-0.parquet").is_file()


def test_what_a_killed_fetch_was_writing_is_no_stranger(aws: FakeAws, tmp_path: Path) -> None:
    class Killed(BaseException):
        """SIGKILL: nothing is tidied up."""

    def killed(uri: S3Uri, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(Killed), replacing(path) as scratch:
            scratch.write_text("half")
            shutil.copy(scratch, scratch.with_name(f"{scratch.name}0"))
            raise Killed
        raise CloudError("The machine is off.")

    fetch, aws.storage.fetch_file = aws.storage.fetch_file, killed  # type: ignore
    with pytest.raises(CloudError):
        list(fetch_run(aws.storage, RUN, tmp_path))
    aws.storage.fetch_file = fetch  # type: ignore[method-assign]
    assert list(tmp_path.rglob(".*"))

    list(fetch_run(aws.storage, RUN, tmp_path))

    assert (tmp_path / "pca.csv").is_file()


def test_a_report_that_was_made_meanwhile_is_no_stranger(aws: FakeAws, tmp_path: Path) -> None:
    list(fetch_run(aws.storage, RUN, tmp_path))
    (tmp_path / "report").mkdir()
    (tmp_path / "report.html").write_text("page")
    (tmp_path / "report" / "report.json").write_text("{}")

    list(fetch_run(aws.storage, RUN, tmp_path))

    assert (tmp_path / "report.html").read_text() == "page"


def test_a_folder_with_something_else_is_left_alone(aws: FakeAws, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(UsageError, match=r"holds something else: thesis\.txt"):
        list(fetch_run(aws.storage, RUN, tmp_path))

    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_key_that_would_climb_out_of_the_folder_is_refused(aws: FakeAws, tmp_path: Path) -> None:
    put(aws, S3Uri(BUCKET, f"{RUN.key}../../etc/passwd"), {})

    with pytest.raises(CloudError, match="outside of"):
        list(fetch_run(aws.storage, RUN, tmp_path / "out"))


def test_a_run_without_a_manifest_has_no_results_yet(aws: FakeAws) -> None:
    with pytest.raises(FruitsError, match="has no results") as refused:
        fetch_manifest(aws.storage, S3Uri(BUCKET, "fruits/runs/nope/"))

    assert refused.value.exit_code == 1


def test_the_manifest_is_read_without_fetching_the_rest(aws: FakeAws) -> None:
    assert fetch_manifest(aws.storage, RUN) == manifest(6)


def test_what_is_missing_is_what_a_fetch_brings(aws: FakeAws, tmp_path: Path) -> None:
    before = missing_files(aws.storage, RUN, tmp_path)
    list(fetch_run(aws.storage, RUN, tmp_path))

    names = {one.file.name for one in before}
    assert names == {"manifest.json", "progress.json", "part-0.parquet", "0.json"}
    assert missing_files(aws.storage, RUN, tmp_path) == []
