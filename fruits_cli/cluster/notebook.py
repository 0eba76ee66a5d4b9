"""The notebook of a cluster: the template with the bucket's own paths, for JupyterHub; pure."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fruits_cli.cloud.layout import Places
from fruits_cli.cloud.protocols import Storage
from fruits_cli.files import templates_dir
from fruits_cli.job.bundle import job_bundle
from fruits_cli.job.shipment import send_new, sending_of
from fruits_cli.s3uri import S3Uri


def ship_notebook(places: Places, storage: Storage) -> S3Uri:
    """The notebook that reads this bucket's runs, where JupyterHub finds it, and its code.

    One that is there already stays as it is. Raises CloudError.
    """
    template = (templates_dir() / "notebook.ipynb").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="fruits-code-") as scratch:
        made = job_bundle(Path(scratch))
        code = places.code(made.digest) / made.zip.name
        send_new([sending_of(made.zip, code)], storage)
    notebook = cluster_notebook(template, runs=places.runs, code=code)
    storage.put_if_absent(notebook.content, notebook.uri)
    return notebook.uri


# Where EMR keeps the notebooks of JupyterHub's users, and those of its own. Source: EMR Release
# Guide, JupyterHub, Amazon S3 persistence.
_NOTEBOOKS = "jupyter/"
_FOLDER = f"{_NOTEBOOKS}jovyan"
# As `cluster_notebook` writes the address of the code.
_CODE = re.compile(rb"/code/([0-9a-f]+)/")
_PARAMETERS = "parameters"


def code_of_notebooks(bucket: str, storage: Storage) -> frozenset[str]:
    """The digests of the code that notebooks of the bucket read, those of copies too.

    Raises CloudError where one cannot be read.
    """
    digests: set[bytes] = set()
    for stored in storage.list_objects(S3Uri(bucket, _NOTEBOOKS)):
        if stored.uri.key.endswith(".ipynb") and (found := storage.fetch_bytes(stored.uri)):
            digests.update(_CODE.findall(found.content))
    return frozenset(digest.decode() for digest in digests)


@dataclass(frozen=True)
class Notebook:
    """A notebook and its place in the bucket."""

    uri: S3Uri
    content: bytes


def cluster_notebook(template: str, *, runs: S3Uri, code: S3Uri) -> Notebook:
    """The notebook that reads the runs below `runs` with the job's code at `code` (a zip).

    The digest in its name is of all that is in it: one that the user has worked on since is never
    overwritten, and new code comes as a new notebook beside it.
    """
    content = filled(template, {"RUNS": str(runs), "CODE": str(code)}).encode()
    digest = hashlib.sha256(content).hexdigest()[:8]
    return Notebook(S3Uri(runs.bucket, f"{_FOLDER}/fruits-{digest}.ipynb"), content)


def filled(template: str, values: Mapping[str, Any]) -> str:
    """The notebook with these values in its cell of parameters, one line for each name.

    Raises KeyError for a name that the cell does not set.
    """
    notebook = json.loads(template)
    (cell,) = (
        cell
        for cell in notebook["cells"]
        if _PARAMETERS in cell.get("metadata", {}).get("tags", ())
    )
    lines = list(cell["source"])
    for name, value in values.items():
        lines[_line_of(name, lines)] = f"{name} = {value!r}\n"
    lines[-1] = lines[-1].rstrip("\n")
    cell["source"] = lines
    return f"{json.dumps(notebook, indent=1, ensure_ascii=False)}\n"


def _line_of(name: str, lines: list[str]) -> int:
    for number, line in enumerate(lines):
        if re.match(rf"{re.escape(name)} = ", line):
            return number
    raise KeyError(name)
