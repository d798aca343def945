"""Opening a store: the file and who may read it, the schema and its version, every failure as one plain line.

The file is created by this module, not by SQLite, so that it is private (0600) before the first byte is in it; SQLite
gives the ``-wal`` and ``-shm`` files beside it the same mode.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mpbroadcast.errors import StoreError
from mpbroadcast.store.migration import SCHEMA_VERSION, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["APPLICATION_ID", "connect", "plain_error", "plain_errors"]

APPLICATION_ID: Final = 0x6D706276
"""Marks an SQLite file as an event store ("mpbv"); a file of another program is refused, not filled with tables."""

_MODE: Final = 0o600  # events name what runs on a machine and what fails there
_BUSY_TIMEOUT: Final = 5.0  # seconds to wait for another writer's transaction; a batch takes milliseconds
_CREATION_RETRY: Final = 0.01  # seconds between attempts to turn on WAL, where SQLite does not wait by itself

# Bytes of a page. An event with its index entries is about 1 KiB: with 8 KiB a batch rewrites fewer pages than with
# SQLite's 4 KiB (measured: 11 against 14 us per event), and a single event still writes under 100 KiB.
_PAGE_SIZE: Final = 8192
_WAL_PAGES: Final = 2000  # 16 MiB: between two checkpoints a page is often written many times, and copied once
_CACHE_KIB: Final = 16 * 1024  # of pages a writer may keep; random index pages are read again and again

# What the result codes of SQLite mean for a user, by the code's first word after SQLITE_.
_MEANINGS: Final = {
    "FULL": "the disk is full",
    "BUSY": "another process is writing and did not finish in time",
    "LOCKED": "another connection of this process is writing",
    "READONLY": "it can only be read",
    "CORRUPT": "the file is damaged",
    "NOTADB": "it is not an event store (not an SQLite file)",
    "IOERR": "the disk reports an error",
    "CANTOPEN": "it cannot be opened",
    "PERM": "permission denied",
}


def plain_error(path: str, error: sqlite3.Error) -> StoreError:
    """Return the error that says in one line what SQLite reports about the store at ``path``."""
    code = getattr(error, "sqlite_errorname", "")
    meaning = _MEANINGS.get(code.removeprefix("SQLITE_").partition("_")[0])
    detail = " ".join(str(error).split())
    return StoreError(f"event store {path}: {detail if meaning is None else f'{meaning} ({detail})'}")


@contextmanager
def plain_errors(path: str) -> Iterator[None]:
    """Turn what SQLite raises inside into a `StoreError` of one line."""
    try:
        yield
    except sqlite3.Error as error:
        raise plain_error(path, error) from error


def connect(path: str, *, read_only: bool) -> sqlite3.Connection:
    """Open the store at ``path``, creating it unless ``read_only``.

    Blocks for a few milliseconds; up to 5 s while another process creates or writes the same store.

    Returns:
        A connection without implicit transactions, usable from any thread, one at a time. TEXT comes as bytes: a
        store is not trusted to hold valid UTF-8.

    Raises:
        StoreError: with one line, when it cannot be opened or is not a store of this version.
    """
    if read_only:
        _require_readable(path)
    else:
        _create_file(path)
    with plain_errors(path):
        connection = _connection(path, "mode=ro" if read_only else "mode=rw")
        try:
            # What a foreign schema could make SQLite do (views, triggers, generated columns) is not done.
            connection.execute("PRAGMA trusted_schema = OFF")
            if read_only:
                connection = _readable(path, connection)
                connection.execute("PRAGMA query_only = ON")
            else:
                _prepare_writing(path, connection)
            _require_version(path, connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _connection(path: str, parameters: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(path)}?{parameters}",
        uri=True,
        timeout=_BUSY_TIMEOUT,
        isolation_level=None,  # transactions begin and end where this package says so
        check_same_thread=False,
    )
    connection.text_factory = bytes
    return connection


def _create_file(path: str) -> None:
    """Make sure that there is a private regular file that this user may write."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    except FileExistsError:
        _require_regular(path)
        # Asked, not tried: closing a descriptor of the file would drop the locks that SQLite holds in this process.
        if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            raise StoreError(f"event store {path}: permission denied to write it") from None
    except OSError as error:
        raise StoreError(f"event store {path} cannot be created: {_reason(path, error)}") from None
    else:
        os.fchmod(descriptor, _MODE)  # a strict umask must not take away what is needed either
        os.close(descriptor)


def _require_readable(path: str) -> None:
    _require_regular(path)
    if not os.access(path, os.R_OK, effective_ids=True):
        raise StoreError(f"event store {path}: permission denied to read it")


def _require_regular(path: str) -> None:
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        raise StoreError(f"there is no event store at {path}") from None
    except OSError as error:
        raise StoreError(f"event store {path} cannot be opened: {_reason(path, error)}") from None
    if stat.S_ISDIR(mode):
        raise StoreError(f"event store {path}: it is a directory, not a file")
    if not stat.S_ISREG(mode):
        raise StoreError(f"event store {path}: it is not a regular file")


def _reason(path: str, error: OSError) -> str:
    directory = Path(path).parent
    if isinstance(error, FileNotFoundError):
        return f"the directory {directory} does not exist"
    if isinstance(error, PermissionError):
        return f"permission denied in {directory}"
    return (error.strerror or str(error)).lower()


def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the application id and the schema version of the file; reading them is also the first look into it."""
    [application_id] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    return application_id, version


def _is_blank(connection: sqlite3.Connection) -> bool:
    [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return tables == 0 and _identity(connection) == (0, 0)


def _prepare_writing(path: str, connection: sqlite3.Connection) -> None:
    if _is_blank(connection):
        connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # lets retention give space back to the disk
        Path(path).chmod(_MODE)  # of an empty file that was there before
    elif _identity(connection)[0] != APPLICATION_ID:
        return  # refused by the caller, and left as it is
    _turn_on_wal(connection)
    # With WAL, NORMAL means: a commit is in the kernel's hands when it returns, and synced at the next checkpoint.
    # kill -9 of this process loses nothing that was committed. Power loss or a kernel crash may lose the last
    # commits before it, never a part of one, and never damages the file.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    connection.execute("PRAGMA journal_size_limit = 33554432")  # 32 MiB; a long reader may make the WAL larger
    if _is_blank(connection):
        _create_tables(connection)
    else:
        migrate(connection)


def _turn_on_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL. Two processes that create one store meet here, and SQLite answers "busy" at once, unwaited."""
    deadline = time.monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_CREATION_RETRY)
        else:
            return


def _create_tables(connection: sqlite3.Connection) -> None:
    schema = resources.files("mpbroadcast.store").joinpath("schema.sql").read_text(encoding="utf-8")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _is_blank(connection):  # else another process was faster
            for statement in schema.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _readable(path: str, connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return a connection that can read.

    A reader in WAL mode shares an index with the writers, in a file that it may not be allowed to create: a store on
    a read-only disk. Without a ``-wal`` file nobody is writing, and the file can be read as one that never changes.
    """
    try:
        _identity(connection)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        if Path(f"{path}-wal").exists():
            raise
        connection.close()
        connection = _connection(path, "mode=ro&immutable=1")
        connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _require_version(path: str, connection: sqlite3.Connection) -> None:
    application_id, version = _identity(connection)
    if application_id != APPLICATION_ID:
        if _is_blank(connection):
            raise StoreError(f"event store {path} is empty: nothing has been recorded to it yet")
        raise StoreError(f"event store {path}: it is not an event store (an SQLite file of another program)")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"event store {path}: it was written by a newer mpbroadcast (schema {version}, this one knows "
            f"{SCHEMA_VERSION}); upgrade mpbroadcast"
        )
    if version < SCHEMA_VERSION:  # only a reader gets here: whoever may write has brought it up to date
        raise StoreError(
            f"event store {path}: it was written by an older mpbroadcast (schema {version}, this one reads "
            f"{SCHEMA_VERSION}); record one event to it to bring it up to date"
        )
