"""From an older schema to the present one. Runs in: the first writer that opens a store of an older version.

A new schema version is made in two places: ``schema.sql``, for new files, and one more entry at the end of
`MIGRATIONS`, for the old ones. `SCHEMA_VERSION` follows from that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3

__all__ = ["MIGRATIONS", "SCHEMA_VERSION", "migrate"]

_FIRST_VERSION: Final = 1

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = ()
"""For each version since the first the SQL statements that lead to the next one. They must keep every event and every
resource version; they run in one transaction with all that follow."""

SCHEMA_VERSION: Final = _FIRST_VERSION + len(MIGRATIONS)
"""The version of ``schema.sql``, kept as SQLite's ``user_version``."""


def migrate(connection: sqlite3.Connection, migrations: tuple[tuple[str, ...], ...] = MIGRATIONS) -> None:
    """Bring a store of an older version to the present one, or leave it exactly as it was.

    Blocks as long as the statements take; other writers wait meanwhile, readers see the old state. A store of the
    present or a newer version is not touched.

    Args:
        connection: to an event store, without an open transaction.
        migrations: see `MIGRATIONS`.

    Raises:
        sqlite3.Error: a statement failed; nothing was changed.
    """
    newest = _FIRST_VERSION + len(migrations)
    if not _is_older(connection, newest):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _is_older(connection, newest):  # else another process was faster
            for statements in migrations[_version(connection) - _FIRST_VERSION :]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk makes SQLite roll back by itself
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _is_older(connection: sqlite3.Connection, newest: int) -> bool:
    return _FIRST_VERSION <= _version(connection) < newest
