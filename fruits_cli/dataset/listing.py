r"""Lists a folder's pictures in the order of their paths, by the rules of spark_job.listing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from fruits_cli.errors import UsageError
from spark_job.listing import (
    MAX_PICTURE_BYTES,
    Chain,
    identity,
    is_folder,
    is_picture_name,
    may_be_picture,
    written,
)


class Stamp(NamedTuple):
    """Identifies an unchanged file without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Listed(NamedTuple):
    """A picture of the listing; `stamp` is None where not even its size can be had."""

    path: str
    label: str
    file: str
    stamp: Stamp | None
    # Another name in the folder is written alike, one of them with bytes that are not UTF-8.
    has_twin: bool = False

    @property
    def length(self) -> int:
        """Bytes of the file as listed, 0 where unknown."""
        return self.stamp.size if self.stamp else 0

    @property
    def is_readable(self) -> bool:
        """Whether its content may go into a shard, as far as the listing tells."""
        return self.stamp is not None and not self.has_twin and self.length <= MAX_PICTURE_BYTES


@dataclass(frozen=True)
class Totals:
    """Number of pictures of a folder, and their bytes."""

    pictures: int
    bytes: int


# The name as written (a folder's ends in "/"), the name on disk, and the folder that it lies in.
_Child = tuple[str, str, str]


class _Level(NamedTuple):
    """A folder that is being walked: the paths of its pictures begin with `prefix`.

    It stands for several folders of the disk where their names are written alike.
    """

    prefix: str
    label: str
    chains: Mapping[str, Chain]
    children: Iterator[tuple[str, Iterator[_Child]]]


def list_pictures(folder: Path, extensions: Iterable[str]) -> Iterator[Listed]:
    """The pictures below `folder`, sorted by path; holds the names of one folder at a time.

    Raises UsageError naming the folder that is none or cannot be listed.
    """
    endings = tuple(f".{extension.lower()}" for extension in extensions)
    root = Path(os.path.realpath(folder))
    # On its own level a name and "/" sorts as the paths below it do: no sort of whole paths.
    above = frozenset(_identity(str(parent)) for parent in root.parents)
    label = written(os.path.basename(os.path.abspath(folder)))
    levels = [_level("", label, {str(root): above}, endings)]
    while levels:
        level = levels[-1]
        name, group = next(level.children, ("", iter(())))
        if not name:
            levels.pop()
        elif name.endswith("/"):
            chains = {_joined(place, own): level.chains[place] for _, own, place in group}
            levels.append(_level(level.prefix + name, name[:-1], chains, endings))
        else:
            yield from _listed(level, name, list(group))


def count_pictures(folder: Path, extensions: Iterable[str]) -> Totals:
    """How many pictures `folder` has, and their bytes, from the listing alone.

    Raises UsageError as `list_pictures` does.
    """
    pictures = size = 0
    for picture in list_pictures(folder, extensions):
        pictures += 1
        size += picture.length
    return Totals(pictures, size)


def require_pictures(folder: Path, extensions: Iterable[str]) -> Totals:
    """The same as `count_pictures`; raises UsageError also where there is none."""
    extensions = tuple(extensions)
    totals = count_pictures(folder, extensions)
    if not totals.pictures:
        raise no_picture(folder, extensions)
    return totals


def require_a_picture(folder: Path, extensions: Iterable[str]) -> None:
    """Raise UsageError where there is no picture; stops at the first one."""
    extensions = tuple(extensions)
    if next(list_pictures(folder, extensions), None) is None:
        raise no_picture(folder, extensions)


def no_picture(folder: Path, extensions: Iterable[str]) -> UsageError:
    """The refusal of a folder without a picture."""
    return UsageError(
        f"There are no pictures in {folder}.",
        hint=f"Pictures are files that end in {', '.join(extensions)}.",
    )


def _level(prefix: str, label: str, above: Mapping[str, Chain], endings: tuple[str, ...]) -> _Level:
    chains = {place: chain | {_identity(place)} for place, chain in above.items()}
    children = sorted(
        child for place, chain in chains.items() for child in _children(place, chain, endings)
    )
    return _Level(prefix, label, chains, groupby(children, itemgetter(0)))


def _children(place: str, chain: Chain, endings: tuple[str, ...]) -> Iterator[_Child]:
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                name = entry.name
                if is_folder(entry, chain):
                    yield f"{written(name)}/", name, place
                elif is_picture_name(name, endings) and may_be_picture(entry):
                    yield written(name), name, place
    except OSError as error:
        raise _unlistable(place, error) from error


def _listed(level: _Level, name: str, twins: list[_Child]) -> Iterator[Listed]:
    for _, own, place in twins:
        file = _joined(place, own)
        yield Listed(level.prefix + name, level.label, file, stamp_of(file), len(twins) > 1)


def stamp_of(file: str | int) -> Stamp | None:
    """The stamp of a file by name or descriptor; None where it cannot be had."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _joined(place: str, name: str) -> str:
    return f"{place.rstrip('/')}/{name}"


def _identity(place: str) -> tuple[int, int]:
    try:
        return identity(place)
    except OSError as error:
        raise _unlistable(place, error) from error


def _unlistable(place: str, error: OSError) -> UsageError:
    return UsageError(
        f"The folder {place} cannot be listed: {error.strerror}.",
        hint="Check the name and the permissions.",
    )
