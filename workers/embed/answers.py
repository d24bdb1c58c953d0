"""Rows as messages carry them."""

from collections.abc import Iterator

from bus.messages import EmbedNow, ItemError, VectorsComputed
from workers.embed.items import Embedded, Matrix

#: Vectors in one answer of the interactive lane; more go into further answers.
MAX_VECTOR_BYTES = 200_000
_FLOAT_BYTES = 4


def answers(command: EmbedNow, embedded: Embedded) -> Iterator[VectorsComputed]:
    """Cut the rows of a command into answers, of at least one row each."""
    num_rows, dimension = embedded.vectors.shape
    rows_each = max(1, MAX_VECTOR_BYTES // (_FLOAT_BYTES * dimension))
    for start in range(0, num_rows, rows_each):
        rows = range(start, min(start + rows_each, num_rows))
        first_index = command.first_index + start
        yield VectorsComputed(
            request_id=command.request_id,
            first_index=first_index,
            count=len(rows),
            dimension=dimension,
            vectors=row_bytes(embedded.vectors[start : rows.stop]),
            truncated=embedded.truncated[start : rows.stop],
            tokens=embedded.tokens[start : rows.stop],
            failures=item_errors(embedded, rows, first_index),
            compute_s=sum(embedded.compute_s[start : rows.stop]),
        )


def item_errors(embedded: Embedded, rows: range, first_index: int) -> list[ItemError]:
    """List why some of ``rows`` have no vector; the first of the rows is ``first_index`` outside."""
    return [
        ItemError(index=first_index + index - rows.start, code=refusal.code, message=refusal.message)
        for index, refusal in sorted(embedded.refusals.items())
        if index in rows
    ]


def row_bytes(vectors: Matrix) -> bytes:
    """Write rows as little-endian float32, one after the other."""
    return vectors.astype("<f4", copy=False).tobytes()
