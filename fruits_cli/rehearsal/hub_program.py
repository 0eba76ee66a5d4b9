"""Whether this machine has JupyterHub, for the command line, which loads nothing heavy for it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

NOT_INSTALLED = "JupyterHub is not on this machine: pip install 'fruits[hub]'"


def find_hub() -> str | None:
    """The program jupyterhub, that of our own Python first."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return shutil.which("jupyterhub", path=os.pathsep.join(places))
