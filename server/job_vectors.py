"""The vectors of a job: one object a chunk as workers leave them, one .npy file as the owner gets them."""

from io import BytesIO

import numpy as np
import numpy.typing as npt

from bus.errors import ObjectStoreError
from bus.objects import ObjectStore
from server.job_payloads import ChunkEmbedded
from server.object_access import reaching_objects


async def read_chunk(objects: ObjectStore, chunk: ChunkEmbedded) -> npt.NDArray[np.float32]:
    """Return the rows of a chunk, shape (count, dimension), float32, read-only.

    Raises:
        ObjectNotFound: the vectors are gone.
        ObjectsUnavailable: they can't be read now.
        ObjectStoreError: they are not as many as the chunk says.
    """
    with reaching_objects():
        raw = await objects.get(chunk.vectors_key)
    if len(raw) != 4 * chunk.count * chunk.dimension:
        raise ObjectStoreError(f"{chunk.vectors_key} has {len(raw)} bytes")
    return np.frombuffer(raw, dtype="<f4").reshape(chunk.count, chunk.dimension)


def npy_header(rows: int, dimension: int) -> bytes:
    """Return the head of a .npy file of this shape, little-endian float32 in C order.

    The format is NEP 1, version 1.0: https://numpy.org/neps/nep-0001-npy-format.html
    """
    head = BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (rows, dimension)}
    )
    return head.getvalue()


async def npy_rows(objects: ObjectStore, chunk: ChunkEmbedded) -> bytes:
    """Return the bytes of a chunk's rows in the file, those of failed items as NaN."""
    vectors = await read_chunk(objects, chunk)
    if chunk.failures:
        vectors = vectors.copy()
        vectors[[failure.index - chunk.first_index for failure in chunk.failures]] = np.nan
    return vectors.tobytes()
