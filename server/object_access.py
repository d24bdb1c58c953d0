"""What a caller hears when the object store does not do what a service asks of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from bus.errors import ObjectStoreError
from server.errors import Busy


class ObjectsUnavailable(Busy):
    """The object store can't be reached, or fails."""

    def __init__(self) -> None:
        super().__init__("The object store can't be used right now; try again shortly.", retry_after_s=1.0)


@contextmanager
def reaching_objects() -> Iterator[None]:
    """Turn a failure of the store into a refusal that a caller may read.

    Raises:
        ObjectsUnavailable: the store failed. What is simply not there stays `ObjectNotFound`.
    """
    try:
        yield
    except ObjectStoreError as error:
        raise ObjectsUnavailable from error
