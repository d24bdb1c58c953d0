"""SQL of data sets that several services share."""

from typing import Final
from uuid import UUID

from server.database import Database
from server.dataset_facts import dataset_record, first_issue
from server.errors import DatasetInvalid
from server.training_records import DatasetRecord, DatasetStatus

#: Data sets that their owner has not deleted.
OF_USER: Final = "user_id = {} AND deleted_at IS NULL"


def folder_of(dataset_id: UUID) -> str:
    """Return what the keys of all objects of a data set begin with."""
    return f"datasets/{dataset_id}"


async def find_dataset(db: Database, user_id: UUID, dataset_id: UUID) -> DatasetRecord | None:
    """Return a data set of the user."""
    row = await db.fetch_one(
        f"SELECT * FROM datasets WHERE id = {{}} AND {OF_USER}",  # noqa: S608 - SQL of ours
        dataset_id,
        user_id,
    )
    return None if row is None else dataset_record(row)


async def hold_dataset(db: Database, user_id: UUID, dataset_id: UUID) -> DatasetStatus | None:
    """Keep a data set of the user as it is until the transaction ends; None if it is not there.

    Whoever is about to find out what is in it waits, and then sees what this transaction has written.
    """
    row = await db.fetch_one(
        f"SELECT status FROM datasets WHERE id = {{}} AND {OF_USER} FOR SHARE",  # noqa: S608 - SQL of ours
        dataset_id,
        user_id,
    )
    return None if row is None else DatasetStatus(row["status"])


def invalid_dataset(dataset: DatasetRecord) -> DatasetInvalid:
    """Return the refusal of a data set that is INVALID, with its first issue."""
    return DatasetInvalid(f"The data set is invalid. {first_issue(dataset)}", path=("dataset_id",))
