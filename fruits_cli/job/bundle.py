"""Packs spark_job into the two files that spark-submit is given."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from fruits_cli.errors import MachineError

# The same sources give the same zip, byte for byte, and so the same digest.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class JobBundle:
    """The two files that spark-submit is given, and a digest of both."""

    main: Path
    zip: Path
    digest: str


def job_bundle(folder: Path) -> JobBundle:
    """main.py and spark_job.zip, made in `folder`."""
    package = _spark_job_folder()
    archive, main = folder / "spark_job.zip", folder / "main.py"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for source in sorted(package.rglob("*.py")):
            name = f"spark_job/{source.relative_to(package).as_posix()}"
            bundle.writestr(zipfile.ZipInfo(name, _ZIP_DATE), source.read_bytes())
    # A copy: in its own folder, `import files` would find the modules beside it.
    shutil.copyfile(package / "main.py", main)
    digest = hashlib.sha256(archive.read_bytes() + main.read_bytes()).hexdigest()[:32]
    return JobBundle(main, archive, digest)


def _spark_job_folder() -> Path:
    # Found, not imported: the job's packages do not belong into this process.
    found = importlib.util.find_spec("spark_job")
    if found is None or found.origin is None:
        raise MachineError("The package spark_job is missing.", hint="Install fruits again.")
    return Path(found.origin).parent
