from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from generate_docs import example_config
from pydantic import ValidationError

from fruits_cli.config import (
    COMMAND_LINE,
    Config,
    Engine,
    Layer,
    Precision,
    Target,
    configured,
    load_config,
    user_config_file,
)
from fruits_cli.errors import ConfigError


class World:
    """A working folder, a user's home and an environment."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder / "work", folder / "home"
        self.folder.mkdir()
        self.environ: dict[str, str] = {"HOME": str(self.home)}

    def project(self, text: str | bytes) -> Path:
        return self._written(self.folder / "fruits.toml", text)

    def user(self, text: str) -> Path:
        return self._written(self.home / ".config" / "fruits" / "fruits.toml", text)

    def load(self, **job: Any) -> Config:
        return load_config({"job": job}, environ=self.environ, folder=self.folder)

    def complaint(self, **job: Any) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            self.load(**job)
        return list(refused.value.lines)

    def _written(self, file: Path, text: str | bytes) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_without_anything_all_is_default(world: World) -> None:
    config = world.load()

    assert config == Config()
    assert config.target is Target.LOCAL
    assert config.job.engine is Engine.OPENVINO
    assert config.job.precision is Precision.F32
    assert config.job.pca_k is None


def test_the_nearest_layer_wins(world: World) -> None:
    world.user("[job]\nimage_size = 96\nengine = 'tensorflow'\nweights = 'random'\npca_k = 1\n")
    world.project("[job]\nimage_size = 128\npca_k = 2\nweights = 'a.h5'\n")
    world.environ |= {"FRUITS_JOB_IMAGE_SIZE": "160", "FRUITS_JOB_PCA_K": "3"}

    job = world.load(image_size=192).job

    assert job.image_size == 192
    assert job.pca_k == 3
    assert job.weights == "a.h5"
    assert job.engine is Engine.TENSORFLOW


def test_a_value_that_a_nearer_layer_covers_need_not_be_valid(world: World) -> None:
    world.project("[job]\nimage_size = 5\n")

    assert world.load(image_size=96).job.image_size == 96


def test_the_users_file_lies_under_xdg_config_home(world: World, tmp_path: Path) -> None:
    world.environ["XDG_CONFIG_HOME"] = str(tmp_path / "xdg")
    (tmp_path / "xdg" / "fruits").mkdir(parents=True)
    (tmp_path / "xdg" / "fruits" / "fruits.toml").write_text("[job]\npca_k = 7\n")
    world.user("[job]\npca_k = 8\n")

    assert world.load().job.pca_k == 7
    assert user_config_file({"HOME": "/h"}) == Path("/h/.config/fruits/fruits.toml")


@pytest.mark.parametrize(
    ("flags", "k", "variance"),
    [
        ({"pca_k": 5}, 5, None),
        ({"pca_variance": 0.8}, None, 0.8),
        ({"pca_k": 5, "standardize": True}, 5, None),
        ({}, None, 0.9),
    ],
)
def test_pca_k_overrides_pca_variance_from_a_weaker_source_and_vice_versa(
    world: World, flags: dict[str, Any], k: int | None, variance: float | None
) -> None:
    world.user("[job]\npca_k = 50\n")
    world.environ["FRUITS_JOB_PCA_VARIANCE"] = "0.9"

    job = world.load(**flags).job

    assert (job.pca_k, job.pca_variance) == (k, variance)


def test_both_in_one_layer_are_refused_with_its_name(world: World) -> None:
    file = world.project("[job]\npca_k = 5\npca_variance = 0.9\n")

    assert world.complaint() == [f"{file}: give job.pca_k or job.pca_variance, not both."]
    assert world.complaint(pca_k=1, pca_variance=0.5)[0].startswith("command line: give job.pca_k")


def test_a_key_that_a_record_holds_as_unset_excludes_nothing() -> None:
    stored = Layer("run r1", {"job": {"pca_k": None, "pca_variance": 0.9}})

    assert configured([stored]).job.pca_variance == 0.9
    assert configured([Layer("flags", {"job": {"pca_k": 3}}), stored]).job.pca_variance is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[job]\nimage_sice = 96\n", "job.image_sice is not a key of this table (given: 96)"),
        (
            "[job]\nimage_size = 400\n",
            "job.image_size must be 96 to 320 (given: 400)",
        ),
        (
            "[job]\nengine = 'torch'\n",
            "job.engine must be 'openvino' or 'tensorflow' (given: torch)",
        ),
        (
            "[cluster]\ncore_count = 0\n",
            "cluster.core_count must be 1 to 500 (given: 0)",
        ),
        (
            "[aws]\nregion = 'a.b'\n",
            "aws.region must be the name of a region, such as eu-west-3 (given: a.b)",
        ),
        ("[jobs]\n", "[jobs] is not a table that fruits knows."),
        ("pca_k = 5\n", "[pca_k] is not a table that fruits knows."),
        ("job = 5\n", "job must be a table, written [job]."),
        ("[[job]]\npca_k = 5\n", "job must be a table, written [job]."),
    ],
)
def test_a_fault_in_a_file_is_told_with_file_key_and_rule(
    world: World, text: str, complaint: str
) -> None:
    file = world.project(text)

    assert world.complaint() == [f"{file}: {complaint}"]


def test_each_fault_is_told_with_its_own_origin(world: World) -> None:
    project = world.project("[job]\nimage_size = 5\n[tunnel]\nport = 0\n")
    user = world.user("[cluster]\nname = 'a b'\n")
    world.environ["FRUITS_JOB_MAX_REJECTED"] = "2"

    told = world.complaint(pca_k=0)

    assert len(told) == 5
    starts = {line.partition(" must ")[0] for line in told}
    assert starts == {
        "--pca-k",
        "FRUITS_JOB_MAX_REJECTED",
        f"{project}: job.image_size",
        f"{project}: tunnel.port",
        f"{user}: cluster.name",
    }


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[job\n", "cannot be read: Expected ']'"),
        (b"[job]\npca_k = 1\npca_k = 2\n", "cannot be read: Cannot overwrite a value"),
        (b"# caf\xe9\n", "cannot be read: 'utf-8' codec"),
        (b"\xff\xfe[\x00", "cannot be read: 'utf-8' codec"),
        (b"\x00", "cannot be read: Invalid statement"),
    ],
)
def test_a_file_that_is_no_toml_is_told_with_its_name(
    world: World, content: bytes, reason: str
) -> None:
    file = world.project(content)

    assert world.complaint()[0].startswith(f"{file} {reason}")


def test_a_file_nested_without_end_is_told_with_its_name(world: World) -> None:
    file = world.project(f"[job]\nextensions = {'[' * 5000}{']' * 5000}\n")

    assert world.complaint()[0].startswith(f"{file} cannot be read: it is nested too deeply.")


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nowhere"])
def test_what_is_no_file_in_the_files_place_is_refused(
    world: World, tmp_path: Path, kind: str
) -> None:
    file = world.project("")
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(tmp_path / "nowhere")

    reason = "No such file or directory" if kind == "link to nowhere" else "it is not a file."
    assert world.complaint() == [f"{file} cannot be read: {reason}"]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("[cluster]\nbudget_usd = inf", "cluster.budget_usd must be a finite number"),
        ("[job]\npca_variance = nan", "job.pca_variance must be a finite number"),
        ('[job]\nweights = "a\\u0000b"', "job.weights cannot have a NUL character"),
        ('[job]\noutput_dir = "a\\u0000b"', "job.output_dir cannot have a NUL character"),
        ("[job]\noutput_dir = 5", "job.output_dir must be a path"),
        ('[storage]\nprefix = "../x"', "storage.prefix may have letters"),
        ('[storage]\nprefix = "a/./x"', "storage.prefix may have letters"),
    ],
)
def test_a_value_that_nothing_can_use_is_refused(world: World, line: str, rule: str) -> None:
    file = world.project(f"{line}\n")

    assert world.complaint()[0].startswith(f"{file}: {rule}")


def test_a_prefix_may_have_dots(world: World) -> None:
    world.project('[storage]\nprefix = "a.b/.c/..d"\n')

    assert world.load().storage.prefix == "a.b/.c/..d"


def test_a_variable_that_fruits_does_not_know_is_refused(world: World) -> None:
    world.environ["FRUITS_PCA_K"] = "5"

    with pytest.raises(ConfigError, match="variable FRUITS_PCA_K is not") as refused:
        world.load()

    assert "FRUITS_JOB_PCA_K" in refused.value.hint


def test_a_variable_in_small_letters_is_somebody_elses(world: World) -> None:
    world.environ["fruits_job_pca_k"] = "5"

    assert world.load() == Config()


@pytest.mark.parametrize("given", ["", "many", "1.5", "0", "1281"])
def test_a_variable_that_is_no_fitting_number_is_refused(world: World, given: str) -> None:
    world.environ["FRUITS_JOB_PCA_K"] = given

    assert world.complaint()[0].startswith("FRUITS_JOB_PCA_K must be ")


@pytest.mark.parametrize(("given", "wanted"), [("true", True), ("0", False), ("yes", True)])
def test_a_variable_may_be_a_switch(world: World, given: str, wanted: bool) -> None:
    world.environ["FRUITS_JOB_STANDARDIZE"] = given

    assert world.load().job.standardize is wanted


def test_a_root_volume_larger_than_emr_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match="--root-volume-gib must be 15 to 100"):
        configured([Layer(COMMAND_LINE, {"cluster": {"root_volume_gib": 101}})])


@pytest.mark.parametrize("given", ["nan", "-0.1", "1.1", "inf"])
def test_a_share_lies_between_0_and_1(world: World, given: str) -> None:
    world.environ["FRUITS_JOB_MAX_REJECTED"] = given

    assert world.complaint()[0].startswith("FRUITS_JOB_MAX_REJECTED must be ")


@pytest.mark.parametrize("key", ["pca_k", "image_size", "max_rejected"])
def test_true_is_not_a_number(world: World, key: str) -> None:
    world.project(f"[job]\n{key} = true\n")

    assert f"job.{key} cannot be true or false" in world.complaint()[0]


@pytest.mark.parametrize("text", ["'png, .JPG,,tif'", "['PNG', '.jpg', 'tif']"])
def test_endings_are_a_list_or_words_between_commas_in_any_case(world: World, text: str) -> None:
    world.project(f"[job]\nextensions = {text}\n")

    assert world.load().job.extensions == ("png", "jpg", "tif")


@pytest.mark.parametrize("text", ["[]", "''", "' , '", "[1]", "[['jpg']]", "7"])
def test_endings_that_name_nothing_are_refused(world: World, text: str) -> None:
    file = world.project(f"[job]\nextensions = {text}\n")

    assert world.complaint()[0].startswith(f"{file}: job.extensions must ")


def test_no_subnets_are_a_value(world: World) -> None:
    world.environ["FRUITS_CLUSTER_SUBNETS"] = ""

    assert world.load().cluster.subnets == ()


@pytest.mark.parametrize(
    ("values", "target"),
    [
        ({}, Target.LOCAL),
        ({"storage": {"bucket": "pictures"}}, Target.EMR),
        ({"storage": {"bucket": "pictures"}, "job": {"target": "local"}}, Target.LOCAL),
        ({"job": {"target": "emr"}}, Target.EMR),
    ],
)
def test_the_target_is_emr_once_a_bucket_is_configured(
    values: Mapping[str, Mapping[str, Any]], target: Target
) -> None:
    assert configured([Layer("file", values)]).target is target


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().job.image_size = 96  # type: ignore[misc]


def uncommented(*skipped: str) -> dict[str, Any]:
    """config.example.toml with every key in force except the skipped ones."""
    lines = example_config().splitlines()
    keys = [line.removeprefix("# ") for line in lines if " = " in line or line.startswith("[")]
    return tomllib.loads("\n".join(k for k in keys if k.split(" = ")[0] not in skipped))


def test_the_example_as_it_is_changes_nothing(world: World) -> None:
    world.project(example_config())

    assert world.load() == Config()


@pytest.mark.parametrize("skipped", ["pca_k", "pca_variance"])
def test_the_example_is_valid_with_every_line_in_force(skipped: str) -> None:
    config = configured([Layer("example", uncommented(skipped))])

    assert config.job.target is Target.LOCAL


def test_the_example_names_every_key_with_its_default() -> None:
    values = uncommented()
    defaults = Config()

    assert values.keys() == Config.model_fields.keys()
    for section, keys in values.items():
        table = getattr(defaults, section)
        assert list(keys) == list(type(table).model_fields)
        for key, value in keys.items():
            default = getattr(table, key)
            assert default is None or value == (
                list(default) if isinstance(default, tuple) else default
            )


def test_a_file_with_a_byte_order_mark_is_read(world: World) -> None:
    world.project(b"\xef\xbb\xbf[job]\npca_k = 7\n")

    assert world.load().job.pca_k == 7


def test_the_home_folder_is_meant_in_every_path(world: World) -> None:
    world.project('[job]\noutput_dir = "~/out"\n[tunnel]\nkey_file = "~/key.pem"\n')

    config = world.load()

    assert config.job.output_dir == Path.home() / "out"
    assert config.tunnel.key_file == Path.home() / "key.pem"


@pytest.mark.parametrize("prefix", ["*", "a b", "a//b", "pommes-d\u2019api", "a/?"])
def test_a_prefix_that_is_no_plain_path_is_refused(world: World, prefix: str) -> None:
    world.project(f'[storage]\nprefix = "{prefix}"\n')

    (line,) = world.complaint()

    assert "storage.prefix" in line
    assert "single slashes" in line


@pytest.mark.parametrize("prefix", ["", "fruits", "a/b/c", "team=x/v1.2/"])
def test_a_plain_prefix_is_taken(world: World, prefix: str) -> None:
    world.project(f'[storage]\nprefix = "{prefix}"\n')

    assert world.load().storage.prefix == prefix
