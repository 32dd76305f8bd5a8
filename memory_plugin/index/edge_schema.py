"""Changing what an embedded store holds while it serves: vectors added and dropped, another quantization.

The engine makes and removes a vector in each segment in turn, keeps what it did in a file of its own, and opens no
shard whose segments, file and caller disagree.  So the manifest's layout decides: a vector is there when the layout
names it.  Added: the vector first, flushed, then the layout.  Dropped: everything flushed, the layout, then the
vector.  Whatever a kill leaves, a segment has at least the vectors of the layout, and opening removes the others.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace

import qdrant_edge as qe

from memory_plugin.errors import IndexUnavailableError
from memory_plugin.index import edge_codec as codec
from memory_plugin.index import edge_files as files
from memory_plugin.index.edge_files import MIB, PROVIDER, RESERVE_BYTES, SMALL_RESERVE_BYTES
from memory_plugin.index.edge_shard import Opened, ShardDirectory
from memory_plugin.index.layout import check_key, check_quantization
from memory_plugin.types import Quantization

# More than a log segment holds: a record of this size makes the engine begin another.
_PADDING = 33 * MIB
_MAX_PADDINGS = 8
# A segment is rewritten when one point in ten thousand was deleted: see edge_codec.config.
_POINTS_A_SCRATCH = 5000


def add_vectors(directory: ShardDirectory, dense: Mapping[str, int], weighted: Sequence[str]) -> None:
    """Make vectors that no point has; other calls go on."""
    with directory.using() as opened, directory.writing(opened, RESERVE_BYTES):
        layout = directory.layout.with_vectors(dense, weighted)
        new = [name for name in layout.vectors if name not in directory.layout.vectors]
        if new:
            for operation in codec.add_operations(layout, new):
                opened.shard.update(operation)
            opened.shard.flush()
            files.sync_tree(directory.shard_path)
            directory.put_layout(layout)


def drop_vectors(directory: ShardDirectory, names: Sequence[str]) -> None:
    """Remove vectors from the segments, then from the log; what a killed call left undone, too."""
    wanted = {check_key(name) for name in names}
    with directory.using(alone=True) as opened:
        layout = directory.layout.without(wanted)
        if not layout.leaving:
            return
        files.require_room(directory.path, SMALL_RESERVE_BYTES)
        # A log record with a vector that is gone would not be read again: none may wait.
        opened.shard.flush()
        directory.put_layout(layout)
        for name in layout.leaving:
            if name not in layout.vectors:
                opened.shard.update(qe.UpdateOperation.delete_vector_name(name))
        opened.shard.flush()
        files.sync_tree(directory.shard_path)
    with directory.using() as opened:
        _scrub_log(directory, opened)
        with directory.writing(opened, SMALL_RESERVE_BYTES):
            left = tuple(name for name in directory.layout.leaving if name not in layout.leaving)
            directory.put_layout(replace(directory.layout, leaving=left))


def drop_payload(directory: ShardDirectory, keys: Sequence[str]) -> None:
    """Remove payload keys, write the segments anew without them, then the log."""
    wanted = [check_key(key) for key in keys]
    if not wanted:
        return
    with directory.using(alone=True) as opened, directory.writing(opened, RESERVE_BYTES):
        _require_rewriting(directory)
        lacking = qe.Filter(must=[qe.IsEmptyCondition(key) for key in wanted])
        opened.shard.update(qe.UpdateOperation.delete_payload_by_filter(qe.Filter(must_not=[lacking]), wanted))
        # The engine rewrites a segment for the sake of what was deleted from it, and a key is not a point.
        number = opened.shard.count(qe.CountRequest(exact=True)) // _POINTS_A_SCRATCH + 1
        scratch = [str(uuid.uuid4()) for _ in range(number)]
        opened.shard.update(qe.UpdateOperation.upsert_points([qe.Point(point, {}, {}) for point in scratch]))
        opened.shard.update(qe.UpdateOperation.delete_points(list(scratch)))
        opened.shard.optimize()
        opened.shard.flush()
    with directory.using() as opened:
        _scrub_log(directory, opened)


def _scrub_log(directory: ShardDirectory, opened: Opened) -> None:
    """Let the log move on until no file is left that holds a record of now."""
    holding = opened.wal.holding()
    for _ in range(_MAX_PADDINGS):
        with directory.writing(opened, RESERVE_BYTES + 2 * _PADDING):
            opened.shard.update(codec.no_operation(_PADDING))
            opened.shard.flush()
        if not holding & opened.wal.holding():
            return
    raise IndexUnavailableError(
        f"the log of {directory.path} keeps what was dropped: close the store, open it and drop again",
        provider=PROVIDER,
        retryable=True,
    )


def quantize(directory: ShardDirectory, quantization: Quantization) -> None:
    """Load the shard with another quantization, and compute it; other calls wait."""
    check_quantization(quantization)
    with directory.using(alone=True):
        if directory.layout.quantization != quantization:
            _require_rewriting(directory)
            directory.put_layout(replace(directory.layout, quantization=quantization))
            directory.reload()
    settle(directory)


def settle(directory: ShardDirectory) -> None:
    """Let the engine rewrite the segments whose vectors are not quantized as the others; the interpreter waits."""
    with directory.using() as opened, directory.writing(opened, RESERVE_BYTES):
        _require_rewriting(directory)
        opened.shard.optimize()
        opened.shard.flush()


def _require_rewriting(directory: ShardDirectory) -> None:
    """All segments may be written anew beside the old ones."""
    stored, _ = files.disk_usage(directory.shard_path / "segments")
    files.require_room(directory.path, RESERVE_BYTES + stored)
