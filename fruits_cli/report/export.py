"""Exports a run for TensorBoard's projector and for Embedding Atlas."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fruits_cli.files import replacing
from fruits_cli.report.facts import Report
from fruits_cli.report.files import write_text
from fruits_cli.report.pictures import Album
from fruits_cli.report.thumbnails import Sheets, make_sheets

_SPRITE_PX = 32


def write_projector(report: Report, album: Album, folder: Path) -> Path:
    """Write the map's points as a folder that TensorBoard's projector shows; the folder.

    Raises MachineError where the disk refuses. Source: TensorBoard's projector_config.proto; a
    tensor_path needs no checkpoint.
    """
    rows = report.source.rows
    vectors = "\n".join("\t".join(f"{value:.6g}" for value in row) for row in rows.components)
    pairs = zip(rows.labels, rows.paths, strict=True)
    names = "".join(f"{_cell(label)}\t{_cell(path)}\n" for label, path in pairs)
    write_text(folder / "vectors.tsv", f"{vectors}\n")
    write_text(folder / "metadata.tsv", f"label\tpath\n{names}")
    config = 'tensor_name: "components"\ntensor_path: "vectors.tsv"\nmetadata_path: "metadata.tsv"'
    sheets = make_sheets(rows.paths, album, side_px=_SPRITE_PX)
    if sheets.cells:
        with replacing(folder / "sprite.png") as scratch:
            scratch.write_bytes(_sprite(sheets, report))
        side = f"single_image_dim: {_SPRITE_PX}"
        config += f'\nsprite {{ image_path: "sprite.png" {side} {side} }}'
    write_text(folder / "projector_config.pbtxt", f"embeddings {{\n{config}\n}}\n")
    return folder


def _cell(text: str) -> str:
    return " ".join(text.split())


def _sprite(sheets: Sheets, report: Report) -> bytes:
    """One square picture with a cell for each row, in their order, as the projector wants it."""
    from PIL import Image

    images = [Image.open(io.BytesIO(image)) for image in sheets.images]
    paths, side = report.source.rows.paths, sheets.side_px
    columns = int(np.ceil(np.sqrt(len(paths))))
    sprite = Image.new("RGB", (columns * side, columns * side), (128, 128, 128))
    for row, path in enumerate(paths):
        if path in sheets.cells:
            number, place = divmod(sheets.cells[path], sheets.columns**2)
            left, top = place % sheets.columns * side, place // sheets.columns * side
            cell = images[number].crop((left, top, left + side, top + side))
            sprite.paste(cell, (row % columns * side, row // columns * side))
    stream = io.BytesIO()
    sprite.save(stream, "PNG")
    return stream.getvalue()


def write_atlas(report: Report, folder: Path) -> Path:
    """Write the map's points as one Parquet that Embedding Atlas shows; the file.

    Columns: path, label, x and y (the first two components), components, neighbors. Raises
    MachineError where the disk refuses.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, near = report.source.rows, report.near
    second = rows.components[:, 1] if report.k > 1 else np.zeros(len(rows), np.float32)
    nearest = [
        {"ids": ids, "distances": distances}
        for ids, distances in zip(near.rows.tolist(), near.distances.tolist(), strict=True)
    ]
    columns = {
        "path": pa.array(rows.paths, pa.string()),
        "label": pa.array(rows.labels, pa.string()),
        "x": pa.array(rows.components[:, 0] if report.k else second),
        "y": pa.array(second),
        "components": pa.array(list(rows.components), pa.list_(pa.float32())),
        "neighbors": pa.array(nearest),
    }
    with replacing(folder / "atlas.parquet") as scratch:
        pq.write_table(pa.table(columns), scratch)
    return folder / "atlas.parquet"
