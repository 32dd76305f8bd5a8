"""The key file: its JSON, and how it is read and replaced (docs/sealed-format.md, section 9)."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

from memory_plugin.crypto.encoding import from_text, to_text
from memory_plugin.crypto.kek import LocalKek
from memory_plugin.crypto.keys import KEY_BYTES, KEY_ID_BYTES
from memory_plugin.errors import KeyServiceError

FORMAT: Final = "memory_plugin key ring"
VERSION: Final = 1
Use: TypeAlias = Literal["full", "index"]
Stamp: TypeAlias = tuple[int, int, int]
"""Inode, modification time in ns, size: differs after a replacement, once the clock has moved on."""

# Coarser than any file system's clock that ``flock`` is to be trusted on.
_CLOCK_NS: Final = 100_000_000
_READABLE_BY_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """One key of a subject, as the file holds it.

    Args:
        id: Four bytes.
        use: "full", or "index" when it is retired.
        wrapped: Under the KEK.
    """

    id: bytes
    use: Use
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a key file says.

    Args:
        store: The store's id.
        kek_id: Of the KEK that wraps the keys.
        owned: That KEK, where the file holds it.
        subjects: Keys by subject, newest first.
    """

    store: str
    kek_id: str
    owned: LocalKek | None
    subjects: Mapping[str, tuple[WrappedKey, ...]]

    def to_json(self) -> bytes:
        """One line of UTF-8."""
        kek = {"id": self.kek_id} | ({"key": self.owned.to_text()} if self.owned else {})
        subjects = {
            subject: [{"id": key.id.hex(), "use": key.use, "wrapped": to_text(key.wrapped)} for key in keys]
            for subject, keys in self.subjects.items()
        }
        document = {"format": FORMAT, "version": VERSION, "store": self.store, "kek": kek, "subjects": subjects}
        return json.dumps(document).encode() + b"\n"


class _MalformedError(ValueError):
    """What is wrong with a file; carries none of its contents."""


def stamp(path: Path) -> Stamp | None:
    """Tells a file from the one that replaced it; None where there is no file.

    Raises:
        OSError: It cannot be looked up.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def load(path: Path) -> tuple[KeyFile, Stamp | None]:
    """Read a key file that exists.

    Returns:
        What it says, and the stamp by which to know it again: None where the file is so young that
        another one could replace it under the same stamp (an inode is soon used again).

    Raises:
        OSError: It cannot be read.
        KeyServiceError: Others may read it, or it is no key file.
    """
    # The problem leaves its frame as words before it is raised: a traceback that shows local
    # variables, or an exception's context, would otherwise hold the file with its KEK.
    problem = ""
    try:
        data, seen = _read(path)
        young = abs(time.time_ns() - seen[1]) < _CLOCK_NS
        return _parse(data), None if young else seen
    except _MalformedError as error:
        problem = str(error)
    del data
    raise KeyServiceError(
        f"{path} is not a usable key file: {problem}. Nothing was changed. Restore it from a backup; "
        "without it the store cannot be read",
        provider=str(path),
    )


def save(path: Path, content: KeyFile) -> None:
    """Replace a key file in one step, durably.  The caller holds its lock.

    Raises:
        OSError: It cannot be written; the old file is as it was.
    """
    temporary = path.with_name(path.name + ".tmp")
    # What lies there was left by a writer that was killed: nobody else holds the lock.
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 -- a descriptor, not a path
            file.write(content.to_json())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only writer of a key file among all processes and threads; makes its directory.

    Raises:
        OSError: The directory or the lock file cannot be made.
    """
    _make_private(path.parent)
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_private(directory: Path) -> None:
    if not directory.is_dir():
        _make_private(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _read(path: Path) -> tuple[bytes, Stamp]:
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if found.st_mode & _READABLE_BY_OTHERS:
            raise KeyServiceError(
                f"{path} holds keys and is open to others (mode {stat.S_IMODE(found.st_mode):04o}): chmod 600 {path}",
                provider=str(path),
            )
        return file.read(), (found.st_ino, found.st_mtime_ns, found.st_size)


def _parse(data: bytes) -> KeyFile:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise _MalformedError("it is not JSON") from None
    _require(isinstance(document, dict) and document.get("format") == FORMAT, "it is of another format")
    _require(document.get("version") == VERSION, f"version 1 is expected, not {document.get('version')!r:.20}")
    store, kek, subjects = (document.get(name) for name in ("store", "kek", "subjects"))
    _require(isinstance(store, str) and isinstance(kek, dict) and isinstance(subjects, dict), "a part is missing")
    kek_id = kek.get("id")
    _require(isinstance(kek_id, str), "the KEK has no id")
    owned = None
    if "key" in kek:
        key = _bytes(kek["key"], "the KEK")
        _require(len(key) == KEY_BYTES, "the KEK has not 32 bytes")
        owned = LocalKek(key)
        _require(owned.id == kek_id, "the KEK is not the one that its id names")
    return KeyFile(store, kek_id, owned, {subject: _keys(subject, keys) for subject, keys in subjects.items()})


def _keys(subject: str, entries: Any) -> tuple[WrappedKey, ...]:
    what = f"subject {subject!r:.50}"
    _require(isinstance(entries, list) and bool(entries), f"{what} has no list of keys")
    keys = []
    for entry in entries:
        _require(isinstance(entry, dict) and entry.get("use") in ("full", "index"), f"a key of {what} has no use")
        try:
            key_id = bytes.fromhex(entry.get("id"))
        except (TypeError, ValueError):
            key_id = b""
        _require(len(key_id) == KEY_ID_BYTES, f"a key of {what} has no id of 8 hex digits")
        keys.append(WrappedKey(key_id, cast("Use", entry["use"]), _bytes(entry.get("wrapped"), f"a key of {what}")))
    return tuple(keys)


def _bytes(text: Any, what: str) -> bytes:
    data = from_text(text) if isinstance(text, str) else None
    if data is None:
        raise _MalformedError(f"{what} is not base64")
    return data


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise _MalformedError(problem)
