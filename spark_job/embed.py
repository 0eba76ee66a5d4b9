r"""Features of picture files: `python -m spark_job.embed --model ARTEFACT < paths > features.arrow`

stdin: paths, each ended by a NUL byte (find -print0), for a path may hold a newline.
stdout: an Arrow IPC stream and nothing else, one row for each path, in their order (schema.py,
EMBEDDED_ROWS; bytes of a path that are not UTF-8 as \xNN). A picture that cannot be used is a row
with its error.
stderr: a line of JSON {"ready": ...} once the model has computed for the first time, before any
path is read, and at the end {"done": ...} with counts and, between the two, the seconds that passed
and those that the processor worked. A failure is
one sentence there, and the exit code says whose fault it is.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa

from spark_job import engines, faults, features, files, images, schema
from spark_job.engines import Engine
from spark_job.errors import JobError
from spark_job.features import ChunkResult
from spark_job.listing import MAX_PICTURE_BYTES, written
from spark_job.pictures import Picture, read_ahead

_ROWS, _READ_BYTES = 64, 1 << 16


def split_paths(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The NUL-ended paths of what `read` gives, block by block; the last one may lack its NUL."""
    rest = b""
    while block := read(_READ_BYTES):
        *whole, rest = (rest + block).split(b"\0")
        yield from whole
    if rest:
        yield rest


def embed_paths(
    paths: Iterable[bytes], engine: Engine, *, side_px: int
) -> Iterator[pa.RecordBatch]:
    """Rows of EMBEDDED_ROWS, one for each path and in their order, as they are computed."""
    waiting = iter(paths)
    while group := list(itertools.islice(waiting, _ROWS)):
        pictures = read_ahead(_picture, enumerate(group), readers=1)
        result = features.embed_chunk(pictures, engine.embed, side_px=side_px)
        yield _rows([written(path) for path in group], result)


def _picture(numbered: tuple[int, bytes]) -> Picture:
    # Two paths may be equal: a picture goes by its number in the group.
    number, path = numbered
    try:
        content = _content(path)
    except images.Refusal as why:
        return Picture(str(number), "", 0, b"", why)
    return Picture(str(number), "", len(content), content)


def _content(path: bytes) -> bytes:
    try:
        content, size, _ = files.read_local(path, limit=MAX_PICTURE_BYTES)
    except OSError as error:
        faults.require_own_fault(os.fsdecode(path), error, is_local=True)
        raise images.Refusal(schema.UNREADABLE, f"{error.strerror or error}"[:500]) from error
    if size > MAX_PICTURE_BYTES:
        limit = f"{size:,} bytes; the limit is {MAX_PICTURE_BYTES:,}."
        raise images.Refusal(schema.TOO_LARGE, limit)
    return content


def _rows(paths: list[str], result: ChunkResult) -> pa.RecordBatch:
    errors: list[str | None] = [None] * len(paths)
    messages: list[str | None] = [None] * len(paths)
    for number, _, _, error, message in result.rejected:
        errors[int(number)], messages[int(number)] = error, message
    is_rejected = np.array([error is not None for error in errors])
    lengths = np.where(is_rejected, 0, schema.FEATURES)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    values = np.concatenate([np.empty((0, schema.FEATURES), np.float32), *result.features])
    lists = pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(values.ravel()), mask=pa.array(is_rejected)
    )
    texts = [pa.array(column, pa.string()) for column in (paths, errors, messages)]
    return pa.RecordBatch.from_arrays(
        [texts[0], lists, texts[1], texts[2]], schema=schema.EMBEDDED_ROWS
    )


def run(asked: argparse.Namespace, read: Callable[[int], bytes], output: IO[bytes]) -> None:
    """Answer every path that `read` gives. Raises JobError, and OSError where `output` refuses."""
    artefact = engines.load_artefact(asked.model, asked.engine)
    engines.refuse_precision(artefact, engine=asked.engine, precision=asked.precision)
    engine = engines.engine_of(artefact, engine=asked.engine, precision=asked.precision)
    side_px = artefact.side_px
    engine.embed(np.zeros((engines.BATCH, side_px, side_px, 3), np.uint8))
    facts: dict[str, Any] = {"engine": engine.name, "precision": engine.precision}
    _tell({"ready": {**facts, "image_size": side_px}})
    began_s, cpu_began_s = time.perf_counter(), time.process_time()
    counts = {"pictures": 0, "rejected": 0}
    with pa.ipc.new_stream(output, schema.EMBEDDED_ROWS) as stream:
        for batch in embed_paths(split_paths(read), engine, side_px=side_px):
            stream.write_batch(batch)
            counts["pictures"] += batch.num_rows
            counts["rejected"] += batch.num_rows - batch.column("error").null_count
    output.flush()
    seconds = {
        "seconds": round(time.perf_counter() - began_s, 6),
        "cpu_seconds": round(time.process_time() - cpu_began_s, 6),
    }
    _tell({"done": {**facts, **counts, **seconds}})


def _tell(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), file=sys.stderr, flush=True)


def _own_stdout() -> IO[bytes]:
    """stdout for the stream alone: what libraries print there goes to stderr from now on."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return output


def main(argv: list[str]) -> int:
    """The exit code of `python -m spark_job.embed` with these arguments."""
    parser = argparse.ArgumentParser(prog="python -m spark_job.embed")
    parser.add_argument("--model", required=True)
    parser.add_argument("--engine", choices=("openvino", "tensorflow"), default="openvino")
    parser.add_argument("--precision", choices=engines.PRECISIONS, default="f32")
    asked = parser.parse_args(argv)
    try:
        # Not the buffered stdin, which waits for a full block: a caller may wait for rows first.
        run(asked, functools.partial(os.read, sys.stdin.fileno()), _own_stdout())
    except JobError as error:
        return _failed(error)
    except OSError as error:
        return _failed(JobError(1, f"The features could not be written: {error.strerror or error}"))
    except KeyboardInterrupt:
        return 130
    return 0


def _failed(error: JobError) -> int:
    print(f"Error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"Hint: {error.hint}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main(sys.argv[1:]))
