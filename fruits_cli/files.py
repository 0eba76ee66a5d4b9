"""Files that appear as a whole or not at all, and folders that end with their command."""

from __future__ import annotations

import errno
import fcntl
import getpass
import json
import math
import os
import secrets
import shutil
import stat
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fruits_cli.errors import MachineError, UsageError

_PACKAGE_ROOT = Path(__file__).parent


def templates_dir() -> Path:
    """The folder of templates: inside the wheel, or beside the package in a checkout."""
    return _bundled("templates")


def example_config() -> Path:
    """config.example.toml of this version."""
    return _bundled("config.example.toml")


def _bundled(name: str) -> Path:
    shipped = _PACKAGE_ROOT / "_bundled" / name
    return shipped if shipped.exists() else _PACKAGE_ROOT.parent / name


def home_folder(environ: Mapping[str, str]) -> Path:
    """The user's home. Raises MachineError where there is none, as for a container's user id."""
    try:
        return Path(environ.get("HOME") or "~").expanduser()
    except RuntimeError as error:
        raise MachineError(
            "This user has no home folder.", hint="Set HOME to a folder that you may write to."
        ) from error


def xdg_folder(variable: str, otherwise: str, environ: Mapping[str, str]) -> Path:
    """Our folder below a base folder of the user: the variable's, else `otherwise` at home.

    A relative path is void, as the XDG Base Directory Specification says. Raises as `home_folder`.
    """
    given = environ.get(variable, "")
    return (Path(given) if os.path.isabs(given) else home_folder(environ) / otherwise) / "fruits"


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Where fruits keeps what it can make again: $XDG_CACHE_HOME/fruits or ~/.cache/fruits."""
    return xdg_folder("XDG_CACHE_HOME", ".cache", environ)


def read_toml(file: Path) -> dict[str, Any]:
    """What a TOML file says. Raises OSError, and ValueError where it is none."""
    # A pipe would block its reader for ever.
    if not stat.S_ISREG(os.stat(file).st_mode):
        raise ValueError("it is not a file.")
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply.") from error


# No document of ours comes near it, on this machine or on S3; anybody may have written one.
MOST_DOCUMENT_BYTES = 64 << 20


def read_document(file: Path) -> bytes:
    """The bytes of a manifest or the like. Raises OSError, for a pipe and for gigabytes as well."""
    found = os.stat(file)
    # A pipe would block its reader for ever.
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a file", str(file))
    if found.st_size > MOST_DOCUMENT_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MOST_DOCUMENT_BYTES >> 20} MiB", str(file))
    return file.read_bytes()


def parse_json(content: str | bytes) -> Any:
    """A JSON document that anybody may have written. Raises ValueError where it is none.

    NaN becomes None, so that what is made of it is JSON again.
    """
    try:
        return json.loads(content, parse_constant=lambda _: None, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


# The job begins its half-written files so, too; Spark and pyarrow skip such names.
SCRATCH = "._writing-"


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A name beside `file` to write to; it becomes `file` at the end, or is removed on an error.

    Makes the folder. Raises MachineError naming the file where the disk refuses.
    """
    scratch = file.with_name(f"{SCRATCH}{secrets.token_hex(8)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        os.replace(scratch, file)
    except OSError as error:
        raise MachineError(
            f"{file} cannot be written: {error.strerror or error}.",
            hint="Make room, or give another folder.",
        ) from error
    finally:
        with suppress(OSError):
            scratch.unlink()


def write_new(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Make a file that is not there yet: FileExistsError where one is, links and all.

    mode: its permissions, less the umask. Nothing is left of a write that fails or is interrupted.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def write_private(path: Path, text: str) -> None:
    """Replace `path` in one step by a file that only this user can read. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def working_folder() -> Path:
    """The folder that the command was called in. Raises MachineError where it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise MachineError(
            "The working folder does not exist any more.", hint="Change to another one: cd"
        ) from error


def nearest_folder(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    while not os.path.isdir(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def require_writable(folder: Path) -> None:
    """Raise MachineError where files cannot be made in a folder, which may not exist yet."""
    if not os.access(nearest_folder(folder), os.W_OK | os.X_OK):
        raise MachineError(
            f"{folder} cannot be written.", hint="Work in a folder that you may write to."
        )


def expanded(path: str | Path) -> Path:
    """The path with `~` as the home folder. Raises UsageError where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{path}: there is no home folder for it.", hint="Write the whole path."
        ) from error


def user_name() -> str:
    """Who runs this process; a container's user id may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


# Locked by the command whose folder it lies in, as long as that lives.
COMMAND_LOCK = "command.lock"
# A folder younger than this may not be locked yet by the command that made it.
_NEW_S = 60.0


def temporary_folder() -> Path:
    """The machine's folder for temporary files. Raises MachineError where none can be written."""
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise MachineError(
            f"{error.strerror}.", hint="TMPDIR=FOLDER names one that can be written."
        ) from error


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A private folder until the block ends; those that killed commands left are removed.

    Raises MachineError where there can be none.
    """
    temporary = temporary_folder()
    try:
        _sweep(temporary, prefix)
        folder = Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:
        raise MachineError(f"{temporary} cannot be written: {error.strerror or error}.") from error
    try:
        with (folder / COMMAND_LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(temp: Path, prefix: str) -> None:
    for folder in temp.glob(f"{prefix}*"):
        with suppress(OSError):
            is_ours = folder.stat().st_uid == os.getuid()
            if is_ours and time.time() - folder.stat().st_mtime > _NEW_S and _is_let_go(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_let_go(folder: Path) -> bool:
    try:
        with (folder / COMMAND_LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
