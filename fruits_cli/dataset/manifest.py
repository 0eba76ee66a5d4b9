"""dataset.json: which shards make a dataset, in order, and how to check them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fruits_cli.errors import UsageError

DATASET_FILE = "dataset.json"
# Beside it, by digest and never replaced: what a run is bound to.
MANIFESTS = "manifests"
_SHA256 = r"[0-9a-f]{64}"


class Shard(BaseModel):
    """One Parquet file of a dataset, named by the digest of its rows; `sha256` is of the file."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(pattern=rf"^{_SHA256}\.parquet$")]
    pictures: Annotated[int, Field(ge=1)]
    bytes: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern=f"^{_SHA256}$")]


class DatasetManifest(BaseModel):
    """What dataset.json says; `pictures` and `bytes` are the sums over the shards."""

    model_config = ConfigDict(frozen=True)

    format: Literal["fruits-dataset"] = "fruits-dataset"
    version: Literal[1] = 1
    pictures: int
    bytes: int
    shards: tuple[Shard, ...]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.pictures != sum(shard.pictures for shard in self.shards):
            raise ValueError("the shards do not hold as many pictures as it says")
        if self.bytes != sum(shard.bytes for shard in self.shards):
            raise ValueError("the shards do not hold as many bytes as it says")
        return self

    @property
    def digest(self) -> str:
        """sha256 of the text: the identity of the dataset."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The text of dataset.json; the same shards give the same text."""
        return self.model_dump_json(indent=1) + "\n"


def manifest_of(shards: Iterable[Shard]) -> DatasetManifest:
    """The manifest of these shards, in their order."""
    shards = tuple(shards)
    return DatasetManifest(
        pictures=sum(shard.pictures for shard in shards),
        bytes=sum(shard.bytes for shard in shards),
        shards=shards,
    )


def parse_manifest(text: str | bytes, *, origin: str) -> DatasetManifest:
    """The manifest in a dataset.json. Raises UsageError naming `origin` and the first fault."""
    try:
        return DatasetManifest.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise UsageError(
            f"{origin} is not a dataset of fruits: {place + ': ' if place else ''}{fault['msg']}.",
            hint="Pack the pictures again, or give another folder.",
        ) from error
