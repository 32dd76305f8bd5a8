"""A full disk, a directory that cannot be written, a limit on file sizes: errors that say what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace

import pytest

from memory_plugin.errors import IndexUnavailableError
from memory_plugin.flow import Blocking, run
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.index.edge_files import MIB
from memory_plugin.testing.index_examples import EVERYTHING, create, example, filled
from memory_plugin.types import AnyOf

io = Blocking()
Script = Callable[..., "Popen[str]"]


def test_writing_stops_before_the_disk_is_full_and_deleting_later(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = EdgeIndex(scratch / "store")
    run(filled(index, io, 10))
    for free, may_delete in ((12, True), (2, False)):
        usage = SimpleNamespace(free=free * MIB)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        for write in (
            index.upsert(io, [example(11)]),
            index.set_payload(io, {"k": "x"}, where=EVERYTHING),
        ):
            with pytest.raises(IndexUnavailableError, match=rf"no space left .* {free} MiB are free") as refused:
                run(write)
            assert refused.value.retryable
        assert run(index.facet(io, "k", AnyOf("k", ("x",)), limit=3)) == []
        if may_delete:
            run(index.delete(io, AnyOf("n", (1,))))
        else:
            with pytest.raises(IndexUnavailableError, match="no space left"):
                run(index.delete(io, AnyOf("n", (2,))))
            with pytest.raises(IndexUnavailableError, match="no space left"):
                run(create(EdgeIndex(scratch / "other"), io))
        assert run(index.count(io, EVERYTHING)) == 9
    run(index.close(io))


def test_the_room_asked_for_grows_with_what_is_written(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = EdgeIndex(scratch / "store")
    run(filled(index, io, 10))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=30 * MIB))
    run(index.upsert(io, [example(11, e="x" * MIB)]))
    with pytest.raises(IndexUnavailableError, match="no space left"):
        run(index.upsert(io, [example(12, e="x" * MIB * 10)]))
    run(index.close(io))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system of 80 MiB (a tmpfs would not do: it gives every hole that is read a page)."""
    disk, image = tmp_path / "disk", tmp_path / "image"
    if sys.platform != "linux" or os.geteuid() != 0 or not (shutil.which("mkfs.ext4") and shutil.which("mount")):
        pytest.skip("mounting a small disk needs root, mkfs.ext4 and mount on Linux")
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(80 * MIB)
    for command in (["mkfs.ext4", "-q", "-F", str(image)], ["mount", "-o", "loop", str(image), str(disk)]):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"{command[0]} is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


FILL = """
index = EdgeIndex(sys.argv[1])
run(create(index, io))
written = 0
try:
    while True:
        run(index.upsert(io, [example(written + i, e="x" * 2000) for i in range(64)]))
        written += 64
except IndexUnavailableError as error:
    say("refused", error)
assert run(index.count(io, EVERYTHING)) == written > 1000, written
run(index.delete(io, Range("n", lt=500)))
run(index.close(io))
index = EdgeIndex(sys.argv[1])
assert run(index.count(io, EVERYTHING)) == written - 500
run(index.close(io))
say("fine")
"""


def test_a_disk_that_fills_up_is_an_error_and_kills_nobody(small_disk: Path, script: Script) -> None:
    process = script(FILL, small_disk / "store")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, (process.returncode, output)
    assert "refused no space left on the disk" in output
    assert output.endswith("fine\n")


LIMIT = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))
try:
    run(create(EdgeIndex(sys.argv[1]), io))
except IndexUnavailableError as error:
    say("refused", error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_limit_on_file_sizes_is_an_error_and_leaves_no_store(scratch: Path, script: Script) -> None:
    process = script(LIMIT, scratch / "store")
    output, _ = process.communicate(timeout=60)
    assert output.startswith("refused"), output
    assert "File too large" in output
    assert not (scratch / "store" / "manifest.json").exists()


def test_a_path_that_is_a_file_or_below_one_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "store"):
        index = EdgeIndex(path)
        assert run(index.read_manifest(io)) is None
        with pytest.raises(IndexUnavailableError, match="Choose a directory"):
            run(create(index, io))
    assert file.read_text() == "mine"


DENIED = """
import pathlib, qdrant_edge
parent = pathlib.Path(sys.argv[1])
parent.chmod(0o500)
if os.geteuid() == 0:
    os.seteuid(65534)  # nobody: root may write everywhere
try:
    run(create(EdgeIndex(parent / "store"), io))
except IndexUnavailableError as error:
    say("refused", error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="other permissions there")
def test_a_directory_without_permission_is_an_error(tmp_path: Path, script: Script) -> None:
    output, _ = script(DENIED, tmp_path).communicate(timeout=60)
    tmp_path.chmod(0o700)
    assert output.startswith("refused"), output
    assert "Permission denied" in output
    assert "Choose a directory" in output
