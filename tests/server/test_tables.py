"""Piccolo's tables and the migrated database agree."""

import os
import subprocess
import sys
from typing import Any

import pytest
from piccolo.table import Table

from server import tables
from server.database import Database

TABLES = [
    value
    for value in vars(tables).values()
    if isinstance(value, type) and issubclass(value, Table) and value is not Table
]

COLUMNS_IN_SQL = """
SELECT attname AS name, format_type(atttypid, NULL) AS type, NOT attnotnull AS nullable
FROM pg_attribute WHERE attrelid = {}::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
FOREIGN_KEYS_IN_SQL = """
SELECT attname AS name, confrelid::regclass::text AS target
FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
WHERE contype = 'f' AND conrelid = {}::text::regclass ORDER BY attname
"""


@pytest.fixture(autouse=True)
def piccolo_finds_its_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Piccolo asks the configured engine how some types are spelled."""
    monkeypatch.setenv("PICCOLO_CONF", "server.piccolo_conf")


async def test_every_table_has_a_class(database: Database) -> None:
    rows = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")

    names = {row["tablename"] for row in rows} - {"schema_migrations"}

    assert names == {table._meta.tablename for table in TABLES}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table._meta.tablename)
async def test_a_table_has_the_columns_of_the_database(database: Database, table: type[Table]) -> None:
    in_sql = await database.fetch(COLUMNS_IN_SQL, table._meta.tablename)

    assert in_sql == [
        {
            "name": column._meta.db_column_name,
            "type": await spelled(database, column.column_type),
            "nullable": column._meta.null,
        }
        for column in table._meta.columns
    ]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table._meta.tablename)
async def test_a_table_refers_to_what_the_database_says(database: Database, table: type[Table]) -> None:
    in_sql = await database.fetch(FOREIGN_KEYS_IN_SQL, table._meta.tablename)

    assert in_sql == [
        {
            "name": column._meta.db_column_name,
            "target": column._foreign_key_meta.resolved_references._meta.tablename,
        }
        for column in sorted(table._meta.foreign_key_columns, key=lambda column: column._meta.name)
    ]


def test_the_piccolo_command_finds_the_database(database_url: str) -> None:
    program = (
        "import asyncio\n"
        "from server.tables import Jobs\n"
        "print(asyncio.run(Jobs.select(Jobs.id, Jobs.user_id.email).run()))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ("[]\n", "") == (done.stdout, done.stderr)


async def spelled(database: Database, column_type: str) -> Any:  # noqa: ANN401 - a row's value
    [row] = await database.fetch("SELECT {}::text::regtype::text AS spelled", column_type)
    return row["spelled"]
