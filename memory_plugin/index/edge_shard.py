"""A shard directory and its one owner: opening, making, writing durably, closing, and what a fork must not do."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias
from weakref import WeakSet

import qdrant_edge as qe

from memory_plugin.errors import ForkedStoreError, IndexUnavailableError
from memory_plugin.index import edge_codec as codec
from memory_plugin.index import edge_files as files
from memory_plugin.index import edge_repair as repair
from memory_plugin.index.edge_files import PROVIDER, RESERVE_BYTES, SMALL_RESERVE_BYTES
from memory_plugin.index.edge_gate import Gate
from memory_plugin.index.layout import Layout, pack_manifest, unpack_manifest
from memory_plugin.types import Json

Durability: TypeAlias = Literal["disk", "flush", "process"]
DURABILITIES: tuple[Durability, ...] = ("disk", "flush", "process")


@dataclass(frozen=True, slots=True)
class Opened:
    """What there is while a store is open."""

    shard: qe.EdgeShard
    lock: files.LockFile
    wal: files.Wal
    layout: Layout


class ShardDirectory:
    """The blocking half of ``EdgeIndex``: who may use the shard, and when a write counts.

    Args:
        path: The store's directory, absolute.
        durability: When ``write`` returns.
        search_threads: The engine's own threads.
    """

    def __init__(self, path: Path, durability: Durability, search_threads: int) -> None:
        self.path = path
        self.shard_path = path / "shard"
        self.manifest_path = path / "manifest.json"
        self._durability = durability
        self._threads = search_threads
        self._pid = os.getpid()
        self._gate = Gate(path)
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._opened: Opened | None = None
        _LIVE.add(self)

    @contextmanager
    def _entered(self, *, alone: bool = False) -> Iterator[None]:
        # Before any lock: a thread that the fork did not copy may have held it.
        if os.getpid() != self._pid:
            raise ForkedStoreError(
                f"the store at {self.path} was opened by process {self._pid} before it forked this one: "
                "open it after the fork (gunicorn: no preload; multiprocessing: start method 'spawn')",
                provider=PROVIDER,
            )
        with self._gate.alone() if alone else self._gate, codec.mapped(self.path):
            yield

    @contextmanager
    def using(self, *, alone: bool = False) -> Iterator[Opened]:
        """The open shard, opened and locked by the first who asks; it stays open meanwhile.

        Args:
            alone: Wait until no other call is inside, and let none in until this one is out.

        Raises:
            ForkedStoreError: This is a child of the process that made this object.
            StoreClosedError: It was closed.
            StoreLockedError: Somebody else has it.
            IndexUnavailableError: There is no store, or the engine failed.
        """
        with self._entered(alone=alone):
            opened = self._open()
            if opened is None:
                raise IndexUnavailableError(f"there is no store at {self.path}: create it first", provider=PROVIDER)
            yield opened

    def _open(self) -> Opened | None:
        if self._opened is None:
            with self._opening:
                if self._opened is None and self.manifest_path.is_file():
                    lock = files.LockFile(self.path / "lock")
                    try:
                        layout, _ = self._manifest()
                        self._opened = self._load(lock, layout)
                    except BaseException:
                        lock.release()
                        raise
        return self._opened

    def _manifest(self) -> tuple[Layout, dict[str, Json]]:
        text = self.manifest_path.read_bytes().decode("utf-8", "replace")
        return unpack_manifest(text, str(self.manifest_path))

    def _load(self, lock: files.LockFile, layout: Layout) -> Opened:
        files.clear_leftovers(self.shard_path)
        files.require_room(self.path, SMALL_RESERVE_BYTES)
        repair.remove_unknown(self.shard_path, layout.vectors)
        shard = qe.EdgeShard.load(str(self.shard_path), codec.config(layout, self._threads))
        # What the log knows of a change that was cut short is there again.
        for name in repair.vectors(self.shard_path) - set(layout.vectors):
            shard.update(qe.UpdateOperation.delete_vector_name(name))
        return Opened(shard, lock, files.Wal(self.shard_path / "wal"), layout)

    def read_manifest(self) -> dict[str, Json] | None:
        """The caller's manifest; None where there is no store."""
        with self._entered():
            return None if self._open() is None else self._manifest()[1]

    def create(self, layout: Layout, manifest: Mapping[str, Json]) -> None:
        """Make shard, payload indexes, and last the manifest: before it is there, there is no store."""
        text = pack_manifest(layout, manifest)
        with self._entered(), self._opening:
            if self._opened is not None:
                raise self._exists()
            files.private_directory(self.path)
            lock = files.LockFile(self.path / "lock")
            try:
                if self.manifest_path.exists():
                    raise self._exists()
                files.require_room(self.path, RESERVE_BYTES)
                self._make_shard(layout)
                opened = self._load(lock, layout)
                try:
                    files.write_durably(self.manifest_path, text)
                except BaseException:
                    opened.shard.close()
                    raise
                self._opened = opened
            except BaseException:
                lock.release()
                raise

    def _exists(self) -> IndexUnavailableError:
        return IndexUnavailableError(
            f"there is a store at {self.path} already: open it, or choose another directory", provider=PROVIDER
        )

    def _make_shard(self, layout: Layout) -> None:
        """Make the shard aside and move it into place whole."""
        partial = self.path / "shard.partial"
        if partial.exists():
            shutil.rmtree(partial)
        if self.shard_path.exists():
            self._require_empty(self.shard_path)
            self.shard_path.rename(partial)  # so that being killed in the removal leaves a partial one, again
            shutil.rmtree(partial)
        files.private_directory(partial)
        shard = qe.EdgeShard.create(str(partial), codec.config(layout, self._threads))
        for operation in codec.index_operations(layout):
            shard.update(operation)
        shard.flush()
        shard.close()
        files.sync_tree(partial)
        partial.rename(self.shard_path)
        files.sync_directory(self.path)

    def _require_empty(self, leftover: Path) -> None:
        """A shard without a manifest is one whose making was cut short, unless it holds points."""
        shard = qe.EdgeShard.load(str(leftover))
        points = shard.count(qe.CountRequest(exact=True))
        shard.close()
        if points:
            raise IndexUnavailableError(
                f"{leftover} holds {points} points but {self.manifest_path} is gone: restore it from a backup, "
                "or move the directory away",
                provider=PROVIDER,
            )

    def close(self) -> None:
        """Wait for running calls, write out, unlock; nothing in a forked child."""
        if os.getpid() != self._pid or not self._gate.shut():
            return
        opened, self._opened = self._opened, None
        if opened is None:
            return
        with codec.mapped(self.path):
            try:
                opened.shard.flush()
            finally:
                try:
                    opened.shard.close()
                finally:
                    opened.lock.release()

    def abandon(self) -> None:
        """In a forked child: neither hold the parent's locks nor ever write to its shard."""
        opened = self._opened
        if opened is None:
            return
        # Destroying the copy would flush it into files that the parent goes on writing: it must outlive the child.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(opened.shard))
        files.abandon_descriptors(self.shard_path / "wal")
        opened.lock.abandon()

    @contextmanager
    def writing(self, opened: Opened, room: int) -> Iterator[None]:
        """Be the only writer; on leaving, what was written is durable.

        Args:
            opened: From ``using``.
            room: Bytes that must be free on the disk.

        Raises:
            IndexUnavailableError: Too little room; nothing was written.
        """
        with self._writing:
            files.require_room(self.path, room)
            yield
            if self._durability == "flush" or (self._durability == "disk" and sys.platform != "linux"):
                opened.shard.flush()
                return
            if self._durability == "disk":
                opened.wal.sync()
            if opened.wal.long():
                opened.shard.flush()

    def write(self, opened: Opened, operation: qe.UpdateOperation, room: int) -> None:
        """Apply one operation, one log record, and return when it is durable: see ``writing``."""
        with self.writing(opened, room):
            opened.shard.update(operation)

    def write_manifest(self, manifest: Mapping[str, Json]) -> None:
        """Replace the manifest in one step."""
        with self.using(), self._writing:
            files.require_room(self.path, SMALL_RESERVE_BYTES)
            layout, _ = self._manifest()
            files.write_durably(self.manifest_path, pack_manifest(layout, manifest))

    # ── for changes of the layout; only inside ``writing`` or alone ──────────────────────────────────

    @property
    def layout(self) -> Layout:
        """As it is now; what ``using`` gave may be older."""
        assert self._opened is not None
        return self._opened.layout

    def put_layout(self, layout: Layout) -> None:
        """Replace the layout in one step, the caller's manifest unchanged."""
        assert self._opened is not None
        _, manifest = self._manifest()
        files.write_durably(self.manifest_path, pack_manifest(layout, manifest))
        self._opened = replace(self._opened, layout=layout)

    def reload(self) -> Opened:
        """Close the shard and load it by its layout; only while alone.  If that fails, the next call opens it."""
        opened = self._opened
        assert opened is not None
        try:
            opened.shard.flush()
            opened.shard.close()
            self._opened = self._load(opened.lock, opened.layout)
        except BaseException:
            self._opened = None
            opened.lock.release()
            raise
        return self._opened


_LIVE: WeakSet[ShardDirectory] = WeakSet()


def _abandon_all() -> None:
    for directory in list(_LIVE):
        directory.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
