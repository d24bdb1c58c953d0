"""The scalars of the contract beside GraphQL's own."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NewType

import numpy as np
import numpy.typing as npt
import strawberry
from graphql import GraphQLError, ValueNode, print_ast
from litestar.datastructures import UploadFile
from strawberry.types.scalar import ScalarDefinition

#: Largest whole number that every JSON reader keeps exactly.
MAX_LONG = 2**53

#: Rows of float32: an array of shape (rows, dimension), or rows one by one with None for a failed item.
FloatMatrix = NewType("FloatMatrix", object)
Long = NewType("Long", int)
Upload = NewType("Upload", UploadFile)

Rows = npt.NDArray[np.float32]


def float_matrix(rows: Rows, failed: Sequence[int] = ()) -> FloatMatrix:
    """Make a matrix of rows of shape (rows, dimension) with null in place of those that failed."""
    if not failed:
        return FloatMatrix(np.ascontiguousarray(rows, dtype=np.float32))
    missing = frozenset(failed)
    contiguous = np.ascontiguousarray(rows, dtype=np.float32)
    return FloatMatrix([None if index in missing else row for index, row in enumerate(contiguous)])


def _as_is(value: object) -> object:
    return value


def _parse_matrix(_value: object) -> object:
    raise GraphQLError("FloatMatrix is for answers only.")


def _parse_long(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_LONG:
        raise GraphQLError("Long needs a whole number up to 2^53.")
    return value


def _parse_long_literal(node: ValueNode, _variables: object = None) -> int:
    try:
        return _parse_long(int(print_ast(node)))
    except ValueError as error:
        raise GraphQLError("Long needs a whole number up to 2^53.", node) from error


def _serialize_datetime(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parse_datetime(value: object) -> datetime:
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise GraphQLError('DateTime needs a time with its zone, such as "2030-01-31T12:00:00Z".')
    try:
        return parsed.astimezone(UTC)
    except OverflowError as error:
        raise GraphQLError("DateTime is out of range.") from error


def _parse_upload(value: object) -> UploadFile:
    if not isinstance(value, UploadFile):
        raise GraphQLError("Upload needs a file part of a multipart request.")
    return value


def scalar_map() -> dict[object, ScalarDefinition]:
    """Return what strawberry needs to know about our scalars."""
    return {
        FloatMatrix: strawberry.scalar(
            name="FloatMatrix",
            description="Rows of numbers, in JSON a list of lists. Written straight from float32 arrays.",
            serialize=_as_is,
            parse_value=_parse_matrix,
        ),
        Long: strawberry.scalar(
            name="Long",
            description="A whole number up to 2^53, as a JSON number.",
            serialize=int,
            parse_value=_parse_long,
            parse_literal=_parse_long_literal,
        ),
        Upload: strawberry.scalar(
            name="Upload",
            description="A file part of a multipart request.",
            serialize=_as_is,
            parse_value=_parse_upload,
            specified_by_url="https://github.com/jaydenseric/graphql-multipart-request-spec",
        ),
        datetime: strawberry.scalar(
            name="DateTime",
            description="A moment in UTC after RFC 3339, such as 2030-01-31T12:00:00.000Z.",
            serialize=_serialize_datetime,
            parse_value=_parse_datetime,
            specified_by_url="https://scalars.graphql.org/andimarek/date-time",
        ),
    }
