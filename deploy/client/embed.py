"""`towhee-api embed`: files to vectors, as one .npy file or a line of JSON for each."""

import argparse
import base64
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from deploy.client.api import Api, Json
from deploy.errors import CommandFailed, WrongUse

#: Files of one request; the server takes more, and has to be done within its deadline.
_AT_ONCE = 32


class Row(msgspec.Struct, frozen=True):
    """What became of one file: its vector, or why it has none."""

    file: str
    pipeline: str
    vector: npt.NDArray[np.float32] | None
    error: Json | None = None


def embed(api: Api, arguments: argparse.Namespace) -> int:
    """Do what was typed; give the exit code.

    Raises:
        WrongUse: a file can't be read, or the server refuses what was typed.
        CommandFailed: some files have no vector.
    """
    paths = [Path(file) for file in arguments.files]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise WrongUse(f"{missing} is no file")
    rows = _embed(api, paths, arguments.pipeline)
    if arguments.output is None:
        failed = _write_lines(rows, sys.stdout.buffer.write)
    elif arguments.output.endswith(".npy"):
        failed = _write_matrix(list(rows), Path(arguments.output))
    else:
        with _opened(Path(arguments.output)) as output:
            failed = _write_lines(rows, output.write)
    if failed:
        reason = (failed[0].error or {}).get("message")
        raise CommandFailed(f"{len(failed)} of {len(paths)} files have no vector; {failed[0].file}: {reason}")
    return os.EX_OK


def _embed(api: Api, paths: Sequence[Path], pipeline: str) -> Iterator[Row]:
    """Give a row for each file, in order. What is uploaded for it goes again."""
    for start in range(0, len(paths), _AT_ONCE):
        some = paths[start : start + _AT_ONCE]
        file_ids: list[str] = []
        try:
            for path in some:
                file_ids.append(api.upload(path))  # noqa: PERF401 - what was sent is removed when one fails
            wanted = {"file_ids": file_ids, "model": pipeline, "encoding_format": "base64"}
            answer = api.post("/v1/embeddings/files", wanted)
        finally:
            for file_id in file_ids:
                api.delete(f"/v1/files/{file_id}")
        yield from _rows(some, answer)


def _rows(paths: Sequence[Path], answer: Json) -> Iterator[Row]:
    failures = {failure["index"]: failure for failure in answer.get("failures") or ()}
    for path, item in zip(paths, answer["data"], strict=True):
        failure = failures.get(item["index"])
        error = failure and {"code": failure["code"], "message": failure["message"]}
        raw = item["embedding"]
        vector = None if raw is None else np.frombuffer(base64.b64decode(raw), dtype="<f4")
        yield Row(str(path), answer["model"], vector, error)


def _write_lines(rows: Iterable[Row], write: Callable[[bytes], object]) -> list[Row]:
    """Write each row as it comes; give those without a vector."""
    failed = []
    for row in rows:
        line: Json = {"file": row.file, "pipeline": row.pipeline, "vector": row.vector}
        if row.vector is None:
            line = {"file": row.file, "pipeline": row.pipeline, "error": row.error}
            failed.append(row)
        write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()
    return failed


def _write_matrix(rows: Sequence[Row], path: Path) -> list[Row]:
    """Write a row for each file, NaN where there is no vector; give those.

    Raises:
        CommandFailed: the files are of several kinds, whose vectors have nothing in common.
    """
    pipelines = sorted({row.pipeline for row in rows})
    if len(pipelines) > 1:
        raise CommandFailed(
            f"{path} takes vectors of one pipeline, and these are of {', '.join(pipelines)}:"
            " name one with --pipeline"
        )
    dimension = max((len(row.vector) for row in rows if row.vector is not None), default=0)
    matrix = np.full((len(rows), dimension), np.nan, dtype=np.float32)
    for at, row in enumerate(rows):
        if row.vector is not None:
            matrix[at] = row.vector
    with _opened(path) as output:
        np.save(output, matrix)
    return [row for row in rows if row.vector is None]


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise WrongUse(f"{path} can't be written: {error.strerror}") from error
