"""What the embedded engine raises becomes ours, in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory_plugin.errors import (
    IndexUnavailableError,
    InvalidInputError,
    MemoryPluginError,
    StoreClosedError,
    StoreLockedError,
)
from memory_plugin.flow import Blocking, run
from memory_plugin.index import edge_codec, edge_files
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.index.edge_codec import mapped
from memory_plugin.testing.index_examples import EVERYTHING, example, filled

io = Blocking()


class PanicException(BaseException):
    """As the engine's binding names it."""


@pytest.mark.parametrize(
    ("error", "becomes", "says"),
    [
        (Exception("Service runtime error: No space left on device"), IndexUnavailableError, "no space left"),
        (OSError(28, "No space left on device"), IndexUnavailableError, "no space left"),
        (OSError(122, "Quota exceeded"), IndexUnavailableError, "no space left"),
        (OSError(5, "Input/output error"), IndexUnavailableError, "Input/output error"),
        (PermissionError(13, "Permission denied"), IndexUnavailableError, "Choose a directory"),
        (Exception("Can't init WAL: Kind(WouldBlock)"), StoreLockedError, "unknown"),
        (Exception("Shard is not initialized"), StoreClosedError, "closed"),
        (Exception("Vector dimension error: expected dim: 4, got 5"), InvalidInputError, "expected dim"),
        (Exception("Not existing vector name error: x"), InvalidInputError, "vector name"),
        (TypeError("no int"), InvalidInputError, "no int"),
        (OverflowError("too large"), InvalidInputError, "too large"),
        (Exception("something new"), IndexUnavailableError, "qdrant-edge failed on .*: Exception: something new"),
        (PanicException("index out of bounds"), IndexUnavailableError, "PanicException: index out of bounds"),
    ],
    ids=str,
)
def test_every_failure_is_mapped_and_keeps_its_cause(
    tmp_path: Path, error: BaseException, becomes: type[MemoryPluginError], says: str
) -> None:
    with pytest.raises(becomes, match=says) as raised, mapped(tmp_path):
        raise error
    assert type(raised.value) is becomes
    assert raised.value.__cause__ is error


def test_what_stops_a_program_is_not_mapped(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), mapped(tmp_path):
        raise KeyboardInterrupt


def test_a_call_beyond_what_a_log_record_holds_is_refused(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = EdgeIndex(scratch / "store")
    run(filled(index, io, 2))
    monkeypatch.setattr(edge_codec, "MAX_CALL_BYTES", 10_000)
    with pytest.raises(InvalidInputError, match="upsert fewer at a time"):
        run(index.upsert(io, [example(n, e="x" * 1000) for n in range(100)]))
    assert run(index.count(io, EVERYTHING)) == 2
    assert repr(index) == f"EdgeIndex({str(scratch / 'store')!r})"
    run(index.close(io))


def test_a_log_whose_files_are_renamed_meanwhile_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("open-1", "open-2", "closed-0"):
        (tmp_path / name).write_bytes(b"x")
    synced: list[str] = []
    vanish = 1

    def sync(file: Path) -> None:
        nonlocal vanish
        if vanish and file != tmp_path:
            vanish -= 1
            raise FileNotFoundError(file)
        synced.append(file.name)

    monkeypatch.setattr(edge_files, "sync_file", sync)
    wal = edge_files.Wal(tmp_path)
    wal.sync()
    assert set(synced) == {"open-1", "open-2", "closed-0", tmp_path.name}
    synced.clear()
    wal.sync()
    assert sorted(synced) == ["open-1", "open-2"]  # what is closed was made durable, and nothing was renamed
    vanish = 1000
    with pytest.raises(IndexUnavailableError, match="keep changing"):
        wal.sync()
