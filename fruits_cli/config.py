"""Loads fruits.toml, FRUITS_ variables and flags into one frozen Config.

Precedence: flag, environment, ./fruits.toml, $XDG_CONFIG_HOME/fruits/fruits.toml, default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from fruits_cli.errors import ConfigError
from fruits_cli.files import expanded, read_toml
from fruits_cli.s3uri import checked_bucket, checked_prefix


class Engine(StrEnum):
    """What computes the features on a worker."""

    OPENVINO = "openvino"
    TENSORFLOW = "tensorflow"


class Precision(StrEnum):
    """The number format that the model computes in."""

    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"
    AUTO = "auto"


class Target(StrEnum):
    """Where the job runs."""

    LOCAL = "local"
    EMR = "emr"


FILE_NAME = "fruits.toml"
# It becomes part of a host's name.
_REGION = re.compile(r"[A-Za-z0-9-]{1,63}")
_ENV_PREFIX = "FRUITS_"
COMMAND_LINE, _ENVIRONMENT = "command line", "environment"
# A choice of one of these in a stronger layer drops the other from the weaker ones.
_EXCLUSIVE = ("pca_k", "pca_variance")


def _words(value: Any) -> Any:
    """A comma-separated string as the tuple it stands for: flags and variables are strings."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


def _extensions(value: Any) -> Any:
    words = _words(value)
    if isinstance(words, list | tuple):
        return tuple(w.lower().lstrip(".") if isinstance(w, str) else w for w in words)
    return words


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Extensions = Annotated[tuple[str, ...], BeforeValidator(_extensions), Field(min_length=1)]


def _checked_region(region: str) -> str:
    if region and not _REGION.fullmatch(region):
        raise ValueError("must be the name of a region, such as eu-west-3")
    return region


Prefix = Annotated[str, AfterValidator(checked_prefix)]
Region = Annotated[str, AfterValidator(_checked_region)]
Bucket = Annotated[str, AfterValidator(checked_bucket)]
# `~` is the home folder in every path, wherever it was written.
HomePath = Annotated[Path, AfterValidator(expanded)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        # In Python True is 1: `pca_k = true` would ask for one component.
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError("cannot be true or false")
        if "\0" in str(value):
            raise ValueError("cannot have a NUL character")
        return value


class AwsConfig(_Section):
    profile: str | None = Field(None, description="AWS profile, as in the aws command line")
    region: Region | None = Field(None, description="AWS region, as in the aws command line")
    trace: HomePath | None = Field(
        None, description="file to write AWS' requests and answers to, without secrets"
    )


class StorageConfig(_Section):
    bucket: Bucket | None = Field(None, description="S3 bucket for pictures, runs and logs")
    prefix: Prefix = Field("fruits", description="folder inside the bucket")
    dataset: str | None = Field(None, description="name of the dataset to run on")


class JobConfig(_Section):
    target: Target | None = Field(
        None,
        description="local or emr; unset: emr once a bucket is configured, else local",
        examples=["local"],
    )
    engine: Engine = Field(Engine.OPENVINO, description="what computes the features")
    precision: Precision = Field(
        Precision.F32,
        description="bf16 needs a CPU with amx_bf16 or avx512_bf16, int8 pictures to calibrate on; "
        "auto: the fastest that is near f32",
    )
    calibration: HomePath | None = Field(
        None,
        description="folder of pictures that int8 is calibrated on; unset: those of the run",
        examples=["pictures"],
    )
    weights: str = Field(
        "imagenet", description="imagenet, random, or a .h5 or .weights.h5 file of MobileNetV2"
    )
    image_size: int = Field(224, ge=96, le=320, description="side of the model's input in pixels")
    pca_k: int | None = Field(
        None,
        ge=1,
        le=1280,
        description="number of components; unset: min(50, pictures - 1)",
        examples=[50],
    )
    pca_variance: float | None = Field(
        None,
        gt=0,
        le=1,
        description="as many components as explain this share of the variance",
        examples=[0.9],
    )
    standardize: bool = Field(False, description="scale each feature to unit variance before PCA")
    max_rejected: float | None = Field(
        None,
        ge=0,
        le=1,
        description="largest share of rejected pictures that is accepted",
        examples=[0.05],
    )
    extensions: Extensions = Field(
        ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"),
        description="endings of picture files, in any case",
    )
    reuse: str = Field(
        "auto",
        description="earlier runs whose features are copied, not computed: auto, none, or a run",
    )
    keep_features: bool = Field(True, description="repeat the features beside the components")
    output_dir: HomePath | None = Field(
        None, description="folder of the run, absent or empty; unset: fruits-runs/<run id>"
    )

    def saved(self) -> dict[str, Any]:
        """The options that --resume finds again; where a run goes is not one of them."""
        return self.model_dump(mode="json", exclude={"target", "output_dir"})


class ClusterConfig(_Section):
    name: str = Field(
        "fruits", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="name of the cluster"
    )
    release_label: str = Field("emr-7.14.0", min_length=5, description="EMR release")
    applications: Words = Field(
        ("Hadoop", "Spark", "Livy", "JupyterHub", "TensorFlow"),
        description="what create-cluster installs",
    )
    primary_type: str = Field("m5.xlarge", description="instance type of the primary node")
    core_type: str = Field("m5.xlarge", description="instance type of the core nodes")
    core_count: int = Field(2, ge=1, le=500, description="number of core nodes")
    task_type: str = Field("m5.xlarge", description="instance type of the task nodes")
    task_count: int = Field(1, ge=0, le=500, description="number of task nodes")
    task_market: Literal["spot", "on-demand"] = Field("spot", description="market of task nodes")
    managed_max: int | None = Field(
        None,
        ge=1,
        le=2000,
        description="managed scaling up to so many instances",
        examples=[10],
    )
    subnets: Words = Field((), description="subnets to choose from, all of one VPC")
    key_name: str | None = Field(None, description="EC2 key pair for SSH and the tunnel")
    idle_timeout_min: int = Field(
        60, ge=1, le=10080, description="minutes idle until the cluster ends itself"
    )
    max_lifetime_min: int | None = Field(
        None,
        ge=10,
        le=10080,
        description="minutes until it ends whatever it does; 240 or 720",
        examples=[240],
    )
    budget_usd: float | None = Field(
        None,
        gt=0,
        description="dollars that a cluster may cost at most; its lifetime is cut to fit",
        examples=[5.0],
    )
    kms_key: str | None = Field(None, description="KMS key for EBS encryption")
    root_volume_gib: int = Field(32, ge=15, le=100, description="root volume in GiB")


class TunnelConfig(_Section):
    port: int = Field(8157, ge=1, le=65535, description="port of the SOCKS proxy on 127.0.0.1")
    key_file: HomePath | None = Field(None, description="private key; unset: the SSH agent's keys")
    ssh_port: int = Field(22, ge=1, le=65535, description="port of SSH on the primary node or host")
    any_host: bool = Field(False, description="let the proxy reach hosts outside the cluster")


class Config(_Section):
    """All that the user may configure; one attribute a table of fruits.toml."""

    aws: AwsConfig = AwsConfig()
    storage: StorageConfig = StorageConfig()
    job: JobConfig = JobConfig()
    cluster: ClusterConfig = ClusterConfig()
    tunnel: TunnelConfig = TunnelConfig()

    @property
    def target(self) -> Target:
        """Where `run` runs: local as long as no bucket is configured."""
        return self.job.target or (Target.EMR if self.storage.bucket else Target.LOCAL)


SECTIONS: dict[str, type[BaseModel]] = {
    name: field.annotation  # type: ignore[misc]
    for name, field in Config.model_fields.items()
}


@dataclass(frozen=True)
class Layer:
    """Values from one place; `origin` names it in error messages."""

    origin: str
    values: Mapping[str, Mapping[str, Any]]


def load_config(
    flags: Mapping[str, Mapping[str, Any]], *, environ: Mapping[str, str], folder: Path
) -> Config:
    """The configuration of one command, from all its layers.

    flags: section to key to value, given keys only. Raises ConfigError naming origin, key and rule.
    """
    return configured(load_layers(flags, environ=environ, folder=folder))


def load_layers(
    flags: Mapping[str, Mapping[str, Any]], *, environ: Mapping[str, str], folder: Path
) -> list[Layer]:
    """The layers of the configuration, the strongest first."""
    files = (folder / FILE_NAME, user_config_file(environ))
    return [
        Layer(COMMAND_LINE, flags),
        Layer(_ENVIRONMENT, _environment_values(environ)),
        *(Layer(str(file), _file_values(file)) for file in files if os.path.lexists(file)),
    ]


def configured(layers: Iterable[Layer]) -> Config:
    """One Config out of layers, the strongest first. Raises ConfigError."""
    values, origins = merged(layers)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(*_complaints(error, origins)) from error


def merged(layers: Iterable[Layer]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The strongest value of each key, and for each `section.key` where it came from.

    Raises ConfigError where one layer gives two keys that exclude each other.
    """
    values: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        job = layer.values.get("job", {})
        if all(job.get(key) is not None for key in _EXCLUSIVE):
            raise ConfigError(f"{layer.origin}: give job.pca_k or job.pca_variance, not both.")
        settled = any(f"job.{key}" in origins for key in _EXCLUSIVE)
        for section, keys in layer.values.items():
            for key, value in keys.items():
                if f"{section}.{key}" in origins or (settled and key in _EXCLUSIVE):
                    continue
                values.setdefault(section, {})[key] = value
                origins[f"{section}.{key}"] = layer.origin
    return values, origins


def user_config_file(environ: Mapping[str, str]) -> Path:
    """The user's own fruits.toml, under $XDG_CONFIG_HOME or ~/.config."""
    # Where the user has no home, `~` stays, and there is no such file.
    home = os.path.expanduser(environ.get("HOME") or "~")
    return Path(environ.get("XDG_CONFIG_HOME") or f"{home}/.config") / "fruits" / FILE_NAME


def _file_values(file: Path) -> dict[str, dict[str, Any]]:
    try:
        values = read_toml(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {getattr(error, 'strerror', error)}") from error
    for section, keys in values.items():
        if section not in SECTIONS:
            raise ConfigError(
                f"{file}: [{section}] is not a table that fruits knows.",
                hint=f"Known are {', '.join(SECTIONS)}.",
            )
        if not isinstance(keys, dict):
            raise ConfigError(f"{file}: {section} must be a table, written [{section}].")
    return values


def _environment_values(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    known = {
        f"{_ENV_PREFIX}{section}_{key}".upper(): (section, key)
        for section, model in SECTIONS.items()
        for key in model.model_fields
    }
    values: dict[str, dict[str, Any]] = {}
    for name in sorted(name for name in environ if name.startswith(_ENV_PREFIX)):
        if name not in known:
            raise ConfigError(
                f"The environment variable {name} is not one that fruits knows.",
                hint="Its variables are FRUITS_<TABLE>_<KEY>, such as FRUITS_JOB_PCA_K.",
            )
        section, key = known[name]
        values.setdefault(section, {})[key] = environ[name]
    return values


def _complaints(error: ValidationError, origins: Mapping[str, str]) -> list[str]:
    lines = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"][:2])
        origin = origins.get(key, "configuration")
        where = spelled(key, origin)
        where = f"{origin}: {key}" if where == origin else where
        value = fault["input"]
        given = "" if isinstance(value, dict) else f" (given: {str(value)[:100] or 'nothing'})"
        lines.append(f"{where} {_rule(key, fault)}{given}")
    return lines


def spelled(key: str, origin: str) -> str:
    """How the user wrote `section.name`: as a flag, a variable, or somewhere in `origin`."""
    if origin == COMMAND_LINE:
        return f"--{key.partition('.')[2].replace('_', '-')}"
    return f"{_ENV_PREFIX}{key.replace('.', '_').upper()}" if origin == _ENVIRONMENT else origin


def _rule(key: str, fault: Any) -> str:
    """What is wrong with a value, after its name: `must be 1 to 1280`."""
    if fault["type"] == "extra_forbidden":
        return "is not a key of this table"
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"])
    if fault["type"] == "path_type":
        return "must be a path"
    section, _, name = key.partition(".")
    limits = SECTIONS[section].model_fields[name].metadata if section in SECTIONS else []
    least = next((limit.ge for limit in limits if isinstance(limit, Ge)), None)
    most = next((limit.le for limit in limits if isinstance(limit, Le)), None)
    if fault["type"] in ("less_than_equal", "greater_than_equal") and None not in (least, most):
        return f"must be {least} to {most}"
    return re.sub(r"^\w+ should", "must", fault["msg"].partition(" after validation")[0])
