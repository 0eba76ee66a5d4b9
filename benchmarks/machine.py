"""The machine that is measured: its CPU, what that has instructions for, the packages."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

from spark_job import engines

_FLAGS = {"amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx512f", "avx2"}
_PACKAGES = ("openvino", "tensorflow", "pyspark", "numpy", "pillow", "simplejpeg", "pyarrow")
_MISSING = {
    "bf16": "bf16: this CPU has neither amx_bf16 nor avx512_bf16.",
    "int8": "int8: this CPU has none of amx_int8, avx512_vnni and avx_vnni, which make it fast.",
}


def machine() -> str:
    """The machine and the versions that were measured."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    cpu = next(
        (line.split(":")[1].strip() for line in text.splitlines() if "model name" in line), ""
    )
    flags = ", ".join(sorted(_FLAGS.intersection(text.split())))
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    cores = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    return f"{time.strftime('%Y-%m-%d')}: {cpu} ({flags}), {cores}, {versions}"


def missing(precision: str) -> str:
    """A sentence on the instructions that this CPU lacks for the precision; empty if none."""
    return "" if precision in engines.fast_precisions() else _MISSING[precision]
