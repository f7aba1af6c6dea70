"""MLflow's SQLite database: its address, its state on disk, and how its tables are made."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

from cphloc.files import flush

SQLITE = "sqlite:///"
"""Start of the URI of a SQLite database."""

_NEW_SECONDS = 120.0


def sqlite_uri(path: Path) -> str:
    """Return the URI of a SQLite database, in which SQLAlchemy decodes ``%xx``.

    >>> sqlite_uri(Path("/data/100% new/mlflow.db"))
    'sqlite:////data/100%25 new/mlflow.db'
    """
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:  # a name that is not UTF-8 can be opened only from within its folder
        return SQLITE + os.path.relpath(path)
    return SQLITE + re.sub("[%?#]", lambda found: f"%{ord(found[0]):02X}", text)


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite database; ``None`` for servers, and for URIs with options of SQLite."""
    place = uri.removeprefix(SQLITE)
    return None if place == uri or place.startswith("file:") or "?" in place else Path(unquote(place)).absolute()


def database_state(uri: str) -> list[tuple[int, int]]:
    """Return size and time of the last change of the files of a SQLite database; an empty list for other URIs."""
    file = sqlite_file(uri)
    found = []
    for path in [] if file is None else [file, Path(f"{file}-journal"), Path(f"{file}-wal")]:
        with suppress(OSError):
            found.append((path.stat().st_size, path.stat().st_mtime_ns))
    return found


@contextmanager
def alone_if_new(file: Path) -> Iterator[None]:
    """Let one process at a time make the tables of a new SQLite database, which MLflow does without a lock.

    The lock is a file beside the database, which is removed when the tables are there.
    """
    import filelock

    lock = Path(f"{file}-lock")
    if file.stat().st_size and not lock.exists():
        yield
        return
    with filelock.FileLock(lock, timeout=_NEW_SECONDS):
        with _unsynchronized():
            yield
        flush(file)
        with suppress(OSError):  # Windows removes no file that is open
            lock.unlink()


@contextmanager
def _unsynchronized() -> Iterator[None]:
    """Let the operating system decide when it writes to the disk what SQLite writes.

    MLflow makes its tables in 460 transactions, each of which would wait for the disk. A process that is killed loses
    nothing by this; where the power fails meanwhile, the database, which is empty, can be damaged.
    """
    from sqlalchemy import Engine, event

    opened: list[sqlite3.Connection] = []

    def switch_off(connection: object, _: object) -> None:
        """Make a new connection to SQLite wait for no write to the disk."""
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")
            opened.append(connection)

    event.listen(Engine, "connect", switch_off)
    try:
        yield
    finally:
        event.remove(Engine, "connect", switch_off)
        for connection in opened:
            with suppress(sqlite3.ProgrammingError):  # it is closed
                connection.execute("PRAGMA synchronous = FULL")
