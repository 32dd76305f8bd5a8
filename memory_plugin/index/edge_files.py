"""The embedded store's files that the engine does not look after: lock, manifest, durability, room.

<path>/              0700
  lock               held with flock while the store is open; holds the owner's pid, for people
  manifest.json      written last when a store is made: without it there is no store
  shard/             the engine's: segments/, wal/, edge_config.json
  shard.partial/     a shard being made; only ever left behind by a killed process
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import weakref
from pathlib import Path

from memory_plugin.errors import IndexUnavailableError, StoreLockedError

if sys.platform != "win32":
    import fcntl

PROVIDER = "qdrant-edge"
MIB = 2**20
# Writes refused below this much free space: see ``require_room``.
RESERVE_BYTES = 16 * MIB
# Deleting must still work on a disk too full for adding.
SMALL_RESERVE_BYTES = 4 * MIB
# Closed WAL segments (32 MiB each) that may wait before a flush lets the engine drop them.
MAX_CLOSED_SEGMENTS = 3


class LockFile:
    """Exclusive use of a directory, for as long as it is held.

    The engine locks its WAL too, but its message names no owner.  A lock file is never removed: a process could
    be waiting on the one removed while another locks a new one.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            StoreLockedError: Somebody holds it.
            OSError: The file cannot be made or locked.
        """
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if sys.platform != "win32":  # there, only the engine's own lock on the WAL holds
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = self._owner()
            os.close(self._file)
            raise locked(path.parent, owner) from error
        except BaseException:
            os.close(self._file)
            raise
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())
        # An index that was dropped without close() must not stay locked until the process ends.
        self._closing = weakref.finalize(self, os.close, self._file)

    def _owner(self) -> int | None:
        text = os.read(self._file, 32).decode("ascii", "replace").strip()
        return int(text) if text.isdecimal() else None

    def release(self) -> None:
        """Let others in, even while a forked child still has the file open."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, 0)
        if sys.platform != "win32":
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._closing()

    def abandon(self) -> None:
        """In a forked child: keep nothing of the parent's lock alive."""
        _point_at_nothing(self._file)


def locked(store: Path, owner: int | None) -> StoreLockedError:
    """The error for a second opener."""
    if owner == os.getpid():
        who = f"this process (pid {owner}) has it open already: share that store object between threads"
    else:
        who = (
            f"process {owner if owner is not None else '(unknown)'} has it open: wait for it, end it, "
            "or serve several processes from a Qdrant server"
        )
    return StoreLockedError(f"the store at {store} is in use; {who}", provider=PROVIDER, pid=owner)


def _point_at_nothing(descriptor: int) -> None:
    # dup2 instead of close: whoever believes to own the descriptor may close it later, and must not then close
    # some other file that was opened under its number.
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(nothing, descriptor, inheritable=False)
    finally:
        os.close(nothing)


def abandon_descriptors(directory: Path) -> None:
    """In a forked child: let go of the inherited descriptors of a directory, whose locks they keep alive (Linux)."""
    listing = Path("/proc/self/fd")
    if not listing.is_dir():
        return
    for entry in list(listing.iterdir()):
        with contextlib.suppress(OSError):
            if entry.readlink() == directory:
                _point_at_nothing(int(entry.name))


def sync_tree(directory: Path) -> None:
    """Make every file and directory below durable."""
    for folder, _, names in os.walk(directory):
        for name in names:
            sync_file(Path(folder, name))
        sync_directory(Path(folder))


def sync_file(file: Path) -> None:
    """Make a file's content durable."""
    # Windows syncs only what is open for writing.
    flags = os.O_RDONLY if sys.platform != "win32" else os.O_RDWR
    descriptor = os.open(file, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Make the directory's entries durable."""
    if sys.platform != "win32":  # directories cannot be opened there
        sync_file(directory)


def write_durably(path: Path, text: str) -> None:
    """Replace a file in one step: after a crash it holds the old text or the new one."""
    temporary = path.with_name(f"{path.name}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def private_directory(directory: Path) -> None:
    """Make a directory that only its owner can enter; one that exists is left as it is."""
    if directory.is_dir():
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)  # whatever the umask took away


def clear_leftovers(shard: Path) -> None:
    """Remove the scratch segments that a killed process left; the engine never does.  Only under the lock."""
    scratch = shard / "temp_segments"
    if scratch.is_dir():
        for entry in list(scratch.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


class Wal:
    """The write-ahead log's files: what makes a write durable for a hundredth of what ``flush`` costs.

    The engine writes the log through a shared map and never syncs it.  On Linux, ``fsync`` of the file writes the
    map's pages out: 0.1 to 0.4 ms, and it lets other threads run, which ``flush`` does not.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._durable: set[str] = set()
        self._closed: set[str] = set()

    def sync(self) -> None:
        """Make all that was logged durable.

        Raises:
            IndexUnavailableError: The files change all the time.
            OSError: The disk failed: what was logged last may or may not be durable.
        """
        for _ in range(8):
            names = {entry.name for entry in os.scandir(self._directory)}
            try:
                for name in names:
                    if name.startswith("open-") or name not in self._durable:
                        sync_file(self._directory / name)
            except FileNotFoundError:
                continue  # the engine renamed a segment meanwhile: look again
            if names != self._durable:
                sync_directory(self._directory)
                self._durable = names
            return
        raise IndexUnavailableError(
            f"the files of {self._directory} keep changing: something else is writing there", provider=PROVIDER
        )

    def holding(self) -> set[int]:
        """The files (by inode: they are renamed) that hold a record."""
        found = set()
        for entry in os.scandir(self._directory):
            if entry.name.startswith(("open-", "closed-")):
                with contextlib.suppress(FileNotFoundError), Path(entry.path).open("rb") as file:
                    if any(file.read(64)[8:]):  # behind the head that an empty one has, too
                        found.add(os.fstat(file.fileno()).st_ino)
        return found

    def long(self) -> bool:
        """Whether a flush is due: a further segment was closed, and several wait to be dropped.

        Only a flush lets the engine drop closed segments; without one the log grows by all that is ever
        written, and is replayed whole by the next open after a crash.
        """
        closed = {entry.name for entry in os.scandir(self._directory) if entry.name.startswith("closed-")}
        due = len(closed) >= MAX_CLOSED_SEGMENTS and not closed <= self._closed
        self._closed = closed
        return due


def disk_usage(directory: Path) -> tuple[int, int]:
    """Bytes allocated and bytes apparent: the engine's files are sparse, so the second is far larger."""
    allocated = apparent = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - a Path a file would double the time
                allocated += getattr(status, "st_blocks", status.st_size // 512) * 512
                apparent += status.st_size
    return allocated, apparent


def require_room(directory: Path, needed: int) -> None:
    """Refuse a write that could fill the disk.

    The engine writes through maps of sparse files: on a full disk the kernel kills the process (SIGBUS), and kills
    it again whenever the store is opened, instead of giving anybody an error.  Another process can still
    fill the disk between this look and the write; the reserve makes that unlikely.  A tmpfs needs some 200 MiB more:
    there, a hole in a file takes room as soon as it is read.

    Raises:
        IndexUnavailableError: Too little space is free.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise disk_full(directory, f"{free // MIB} MiB are free, {-(-needed // MIB)} MiB are needed")


def disk_full(where: Path, detail: str) -> IndexUnavailableError:
    """The error for a disk without room."""
    return IndexUnavailableError(
        f"no space left on the disk of {where}: {detail}; nothing was written. Free some space, or move the store",
        provider=PROVIDER,
        retryable=True,
    )
