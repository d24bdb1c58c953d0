"""Ids in bodies. What is no id at all is answered as an id of nothing."""

from uuid import UUID

from server.errors import NotFound


def dataset_id_of(given: str) -> UUID:
    """Read the id of a data set.

    Raises:
        NotFound: there can't be one of this id.
    """
    return _read(given, "There is no such data set.", "dataset_id")


def file_id_of(given: str) -> UUID:
    """Read the id of a file.

    Raises:
        NotFound: there can't be one of this id.
    """
    return _read(given, "There is no such file.", "file_id")


def parent_model_id_of(given: str) -> UUID:
    """Read the id of a model to begin with.

    Raises:
        NotFound: there can't be one of this id.
    """
    return _read(given, "There is no such model.", "parent_model_id")


def _read(given: str, message: str, field: str) -> UUID:
    try:
        return UUID(given)
    except ValueError as error:
        raise NotFound(message, path=(field,)) from error
