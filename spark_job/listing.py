r"""Which files of a folder are pictures: the rules that the job and `fruits upload` share.

A picture is an entry with a listed ending, in any case, whose name does not begin with a dot and
that is a regular file, a link to one, or a link that leads nowhere (its row will be a rejected
one). Folders are walked whatever their name; a link to a folder is followed unless it leads to one
of the folders that it lies in. Imports nothing but the standard library.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import AnyStr

MAX_PICTURE_BYTES = 128 * 2**20
# What a read fails of for all files alike, or only this time: no fault of the picture's.
MACHINE_FAULTS = frozenset(
    (
        errno.EAGAIN,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ETIMEDOUT,
    )
)
# The folders from the root of the disk down to one, as (st_dev, st_ino).
Chain = frozenset[tuple[int, int]]


def is_picture_name(name: str, endings: tuple[str, ...]) -> bool:
    """Whether a file's own name makes it a picture; `endings` are lower-case, with their dot."""
    return not name.startswith(".") and name.lower().endswith(endings)


def written(name: str | bytes) -> str:
    r"""A file name as text that is valid everywhere: bytes that are not UTF-8 become \xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def identity(folder: str | bytes | os.PathLike[str]) -> tuple[int, int]:
    """(st_dev, st_ino) of what a name leads to. Raises OSError."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def is_folder(entry: os.DirEntry[AnyStr], chain: Chain) -> bool:
    """Whether the entry is walked; `chain` are the folders that it lies in."""
    if not entry.is_symlink():
        return entry.is_dir(follow_symlinks=False)
    try:
        status = entry.stat()
    except OSError:
        return False
    # A link to a folder that it lies in would be walked for ever.
    return stat.S_ISDIR(status.st_mode) and (status.st_dev, status.st_ino) not in chain


def may_be_picture(entry: os.DirEntry[AnyStr]) -> bool:
    """Whether the entry, by its kind, may be read as a picture."""
    # A pipe or device would block its reader for ever; a broken link is a picture that is gone.
    if not entry.is_symlink():
        return entry.is_file(follow_symlinks=False)
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True
