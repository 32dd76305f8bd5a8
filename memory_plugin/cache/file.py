"""A cache's file: SQLite with a write-ahead log, for several threads and processes, of bounded size."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

APPLICATION: Final = 0x4D50_4543
"""What SQLite's header says of the file: "MPEC"."""
VERSION: Final = 1
WAIT_SECONDS: Final = 2.0
"""How long to wait for another writer."""
SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS entries (name BLOB PRIMARY KEY, sealed BLOB NOT NULL, used INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS entries_used ON entries (used)",
)
_MOST_NAMES = 500
_ROOM = 0.9
"""Share of the limit that is left filled when room is made."""
_ROW_BYTES = 64
"""What a row takes beside its value."""

_left: list[_Process] = []
"""Connections of a parent process: closing them in a child would drop the parent's locks."""


@dataclass(slots=True)
class _Process:
    """One process' connection, which its threads take turns with."""

    pid: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    connection: sqlite3.Connection | None = None


class CacheFile:
    """Values by name, the least recently used dropped first.

    Nothing is opened before the first call.  Methods raise ``sqlite3.Error`` or ``OSError``.

    Args:
        path: The file; it, and missing directories, are made for their owner only.
        max_bytes: About how large it may grow.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._max = max_bytes
        self._held = [_Process(os.getpid())]
        weakref.finalize(self, _close, self._held)

    def get(self, names: Sequence[bytes]) -> dict[bytes, object]:
        """Those of the names that are there, with whatever stands beside them."""
        found: dict[bytes, object] = {}
        with self._connected() as connection:
            for start in range(0, len(names), _MOST_NAMES):
                part = names[start : start + _MOST_NAMES]
                marks = ",".join("?" * len(part))
                found.update(connection.execute(f"SELECT name, sealed FROM entries WHERE name IN ({marks})", part))  # noqa: S608 -- question marks only
        return found

    def put(self, entries: Mapping[bytes, bytes], used: Sequence[bytes]) -> None:
        """Keep entries, and note which others were used."""
        if not entries and not used:
            return
        fitting: dict[bytes, bytes] = {}
        size = 0
        for name, value in entries.items():
            if size + len(value) <= self._max // 2:
                fitting[name] = value
                size += len(value) + _ROW_BYTES
        with self._connected() as connection, _transaction(connection):
            (tick,) = connection.execute("SELECT coalesce(max(used), 0) + 1 FROM entries").fetchone()
            connection.executemany("UPDATE entries SET used = ? WHERE name = ?", [(tick, name) for name in used])
            self._make_room(connection, size)
            rows = [(name, value, tick) for name, value in fitting.items()]
            connection.executemany("INSERT OR REPLACE INTO entries (name, sealed, used) VALUES (?, ?, ?)", rows)

    def clear(self) -> None:
        """Drop all entries, and give their room back."""
        with self._connected() as connection:
            connection.execute("DELETE FROM entries")
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        _close(self._held)

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    def _make_room(self, connection: sqlite3.Connection, size: int) -> None:
        """Drop what was not used for longest until so many more bytes fit."""
        if _bytes(connection) + size <= self._max:
            return
        goal = int(self._max * _ROOM) - size
        while (over := _bytes(connection) - goal) > 0:
            oldest = connection.execute("SELECT name, length(sealed) FROM entries ORDER BY used LIMIT 256").fetchall()
            if not oldest:
                return
            gone = []
            for name, length in oldest:
                gone.append((name,))
                over -= int(length) + _ROW_BYTES
                if over <= 0:
                    break
            connection.executemany("DELETE FROM entries WHERE name = ?", gone)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        process = self._held[-1]
        if process.pid != os.getpid():
            _left.extend(self._held)
            process = _Process(os.getpid())
            self._held[:] = [process]
        with process.lock:
            if process.connection is None:
                process.connection = _patiently_opened(self.path)
            yield process.connection


def _patiently_opened(path: Path) -> sqlite3.Connection:
    """The file, once no other process is making it: SQLite does not wait while the kind of its log changes."""
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return _opened(path)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.02)


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # the log beside it gets the same mode
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and (application, version) != (APPLICATION, VERSION):
            raise sqlite3.DatabaseError(f"{path} is no embedding cache of this version: name another file")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 4194304")
        with _transaction(connection):
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _bytes(connection: sqlite3.Connection) -> int:
    """What is in use of the file."""

    def asked(name: str) -> int:
        return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

    return (asked("page_count") - asked("freelist_count")) * asked("page_size")


def _close(held: list[_Process]) -> None:
    for process in held:
        if process.pid != os.getpid():
            _left.append(process)
        elif process.connection is not None:
            process.connection.close()
            process.connection = None
