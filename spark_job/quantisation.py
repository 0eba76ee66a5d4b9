"""Makes an int8 artefact: calibrated on some of the user's pictures, compared on others.

NNCF is needed only where the artefact is made.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import heapq
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from spark_job import engines, files, images, price
from spark_job.engines import GRAPH_DATA_FILE, GRAPH_FILE, MODEL_FILE, Artefact
from spark_job.errors import JobError
from spark_job.files import Found
from spark_job.listing import MAX_PICTURE_BYTES
from spark_job.model import making

VERSION = 1
# Calibrating with 100 or 300 pictures gave the same; comparing needs more.
_CALIBRATING, _COMPARED, _LEAST = 300, 600, 60


@dataclass(frozen=True)
class Sample:
    """Decoded pictures (n, side, side, 3): those to calibrate with, those to compare with f32."""

    calibrating: npt.NDArray[np.uint8]
    compared: npt.NDArray[np.uint8]
    labels: list[str]
    digest: str
    folder: str


def sample_of(folder: str, extensions: Iterable[str], side_px: int) -> Sample:
    """Up to 900 of the folder's pictures, chosen by the digest of their paths.

    digest: of the calibrating pictures' bytes. Raises JobError (2) where there are fewer than 60.
    """
    source = files.place(folder)
    try:
        found = heapq.nsmallest(2 * (_CALIBRATING + _COMPARED), source.walk(extensions), key=_rank)
    except OSError as error:
        raise JobError(2, f"The pictures of {folder} cannot be listed: {error}") from error
    pixels: list[npt.NDArray[np.uint8]] = []
    labels: list[str] = []
    digests: list[str] = []
    for row in found:
        if len(pixels) == _CALIBRATING + _COMPARED:
            break
        if (usable := _decoded(source, row, side_px)) is not None:
            pixels.append(usable[0])
            digests.append(usable[1])
            labels.append(PurePosixPath(row.path).parent.name)
    if len(pixels) < _LEAST:
        raise JobError(
            2,
            f"--precision int8 is calibrated on pictures and compared with f32 on others: {_LEAST} "
            f"are needed, {len(pixels)} of {folder} can be used.",
            hint="Use --precision f32, or give --calibration a folder of more such pictures.",
        )
    cut = min(_CALIBRATING, len(pixels) // 3)
    digest = hashlib.sha256("".join(digests[:cut]).encode()).hexdigest()[:32]
    calibrating, compared = np.stack(pixels[:cut]), np.stack(pixels[cut:])
    return Sample(calibrating, compared, labels[cut:], digest, _digest_of(folder))


def _digest_of(folder: str) -> str:
    # The artefact goes to S3, where the names of the user's folders are nobody's business.
    return hashlib.sha256(os.path.abspath(folder).encode(errors="surrogateescape")).hexdigest()


def _rank(row: Found) -> bytes:
    # So that adding pictures to a folder changes the sample as little as possible.
    return hashlib.sha256(row.path.encode(errors="surrogateescape")).digest()


def _decoded(
    source: files.Place, row: Found, side_px: int
) -> tuple[npt.NDArray[np.uint8], str] | None:
    try:
        content, _, _ = files.read_local(
            files.on_disk(source.base, row.path), limit=MAX_PICTURE_BYTES
        )
        return images.decoded(content, side_px), hashlib.sha256(content).hexdigest()
    except (OSError, images.Refusal):
        return None


def kept(base: Path, folder: str) -> Path | None:
    """The 8-bit artefact of the f32 one in `base` that was last made or found for this folder.

    With it the features of a folder that grew stay those of its earlier runs.
    """
    try:
        made = base.parent / (base.parent / _note(base, _digest_of(folder))).read_text()
    except OSError:
        return None
    return made if (made / MODEL_FILE).is_file() else None


def _note(base: Path, folder: str) -> str:
    """The file that names the artefact of a folder: several with equal pictures share one."""
    return f"calibrated/{base.name}-{folder[:32]}"


def _fingerprint(f32: str, calibration: str) -> str:
    return hashlib.sha256(f"{f32}:int8:{calibration}:{VERSION}".encode()).hexdigest()[:32]


def quantised(base: Path, sample: Sample) -> Path:
    """The 8-bit artefact beside the f32 one in `base`, made if absent, and noted for its folder.

    Raises JobError (2) where NNCF is missing.
    """
    made_of = engines.load_artefact(str(base))
    fingerprint = _fingerprint(made_of.fingerprint, sample.digest)
    folder = base.parent / fingerprint
    if not (folder / MODEL_FILE).is_file():
        _require_nncf()
        with making(folder) as scratch:
            _make(scratch, made_of, sample, fingerprint)
    files.place(str(base.parent)).write(_note(base, sample.folder), folder.name.encode())
    return folder


def _require_nncf() -> None:
    if importlib.util.find_spec("nncf") is None:
        raise JobError(
            2,
            "--precision int8 needs the package nncf where the model is made.",
            hint="pip install 'fruits[int8]', or use another --precision.",
        )


def _make(folder: Path, made_of: Artefact, sample: Sample, fingerprint: str) -> None:
    # NNCF prints its progress to stdout, where this process answers.
    with contextlib.redirect_stdout(sys.stderr):
        version = _save_graph(folder, made_of, sample)
    digests = {name: files.digest_of_file(folder / name) for name in (GRAPH_FILE, GRAPH_DATA_FILE)}
    calibration = {"pictures": len(sample.calibrating), "digest": sample.digest}
    facts = {
        **made_of.facts,
        "fingerprint": fingerprint,
        "precision": "int8",
        "f32_fingerprint": made_of.fingerprint,
        "calibration": calibration,
        "versions": {**made_of.facts["versions"], "nncf": version},
        "files": digests,
    }
    (folder / MODEL_FILE).write_text(json.dumps(facts))
    prices = _prices(made_of, engines.load_artefact(str(folder)), sample)
    (folder / MODEL_FILE).write_text(json.dumps({**facts, "prices": prices}, indent=2))


def _save_graph(folder: Path, made_of: Artefact, sample: Sample) -> str:
    ov = engines.imported_openvino()
    import nncf

    nncf.set_log_level(logging.ERROR)
    graph = engines.graph_of(made_of)
    graph.reshape([1, made_of.side_px, made_of.side_px, 3])
    quantise = functools.partial(
        nncf.quantize,
        graph,
        nncf.Dataset(
            sample.calibrating, lambda picture: picture[None].astype(np.float32) / 127.5 - 1
        ),
        # Symmetric: then all convolutions, depthwise ones too, get the kernels of AMX and VNNI;
        # with zero points (MIXED) a third of them does not.
        preset=nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(sample.calibrating),
        # Weights of 7 bits: without VNNI products of 8 are added in 16 bits, and cut off.
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.quantization.advanced_parameters.OverflowFix.ENABLE
        ),
    )
    # Its cores of OpenVINO leave their signal stacks (see engines.openvino_core) to this thread.
    with ThreadPoolExecutor(1) as pool:
        quantised = pool.submit(quantise).result()
    ov.save_model(quantised, folder / GRAPH_FILE, compress_to_fp16=False)
    return str(nncf.__version__)


def _prices(f32: Artefact, int8: Artefact, sample: Sample) -> dict[str, Any]:
    """The price of int8, and of bf16 where this machine computes it, by precision."""
    reference = engines.openvino_engine(f32, "f32").embed(sample.compared)
    contenders = {"int8": int8, **({"bf16": f32} if engines.computes_bf16() else {})}
    return {
        precision: price.price_of(
            reference,
            engines.openvino_engine(artefact, precision).embed(sample.compared),
            sample.labels,
        ).as_dict()
        for precision, artefact in contenders.items()
    }
