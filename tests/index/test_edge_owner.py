"""A store has one owner: a second opener, a fork, a pickle are refused."""

from __future__ import annotations

import copy
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from memory_plugin.errors import StoreLockedError
from memory_plugin.flow import Blocking, run
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.index_examples import EVERYTHING, MANIFEST, example

io = Blocking()
Script = Callable[..., "Popen[str]"]

OWNER = """
index = EdgeIndex(sys.argv[1])
run(index.read_manifest(io))
say("open")
sys.stdin.readline()
run(index.close(io))
say("closed")
sys.stdin.readline()
"""


def line(process: Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_second_process_is_told_who_has_it(store: Path, script: Script) -> None:
    owner = script(OWNER, store)
    assert line(owner) == "open"
    index = EdgeIndex(store)
    with pytest.raises(StoreLockedError, match=f"process {owner.pid} has it open.*server") as refused:
        run(index.read_manifest(io))
    assert refused.value.pid == owner.pid
    assert refused.value.retryable
    go_on(owner)
    assert line(owner) == "closed"
    assert run(index.read_manifest(io)) == MANIFEST  # the same object, once the other let go
    run(index.close(io))


def test_a_killed_owner_locks_nobody_out(store: Path, script: Script) -> None:
    owner = script(OWNER, store)
    assert line(owner) == "open"
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert (store / "lock").read_text() == f"{owner.pid}\n"  # stale, and harmless
    index = EdgeIndex(store)
    assert run(index.read_manifest(io)) == MANIFEST
    run(index.close(io))
    assert (store / "lock").read_text() == ""


def test_a_second_index_in_this_process_is_told_to_share(store: Path) -> None:
    first, second = EdgeIndex(store), EdgeIndex(store)
    run(first.read_manifest(io))
    with pytest.raises(StoreLockedError, match=r"this process .* share that store object") as refused:
        run(second.count(io, EVERYTHING))
    assert refused.value.pid == os.getpid()
    run(first.close(io))
    run(second.upsert(io, [example(1)]))
    run(second.close(io))


def test_an_index_that_was_dropped_unclosed_locks_nobody_out(store: Path) -> None:
    index = EdgeIndex(store)
    run(index.upsert(io, [example(1)]))
    del index
    index = EdgeIndex(store)
    assert run(index.count(io, EVERYTHING)) == 1
    run(index.close(io))


def test_a_user_of_the_bare_engine_is_reported_as_an_owner(store: Path, script: Script) -> None:
    body = "import qdrant_edge\nshard = qdrant_edge.EdgeShard.load(sys.argv[1])\nsay('open')\nsys.stdin.readline()"
    other = script(body, store / "shard")
    assert line(other) == "open"
    index = EdgeIndex(store)
    with pytest.raises(StoreLockedError, match="unknown"):
        run(index.read_manifest(io))
    go_on(other)
    other.wait()
    assert run(index.read_manifest(io)) == MANIFEST
    run(index.close(io))


def test_a_copy_is_refused(store: Path) -> None:
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="open the store where it is needed"):
            copied(EdgeIndex(store))


FORK = """
import gc, signal, subprocess
index = EdgeIndex(sys.argv[1])
run(index.upsert(io, [example(i) for i in range(1, 101)]))
before = subprocess.run(["find", sys.argv[1], "-type", "f", "-printf", "%p %s %b\\n"], capture_output=True).stdout
child = os.fork()
if child == 0:
    signal.alarm(20)  # a hang must not pass for patience
    for call in (lambda: index.count(io, EVERYTHING), lambda: index.upsert(io, [example(1)]),
                 lambda: index.search(io, []), lambda: index.read_manifest(io)):
        began = time.monotonic()
        try:
            run(call())
        except ForkedStoreError as error:
            assert "after the fork" in str(error) and time.monotonic() - began < 1
        else:
            os._exit(3)
    run(index.close(io))
    own = EdgeIndex(sys.argv[2])
    run(create(own, io)); run(own.upsert(io, [example(1)])); run(own.close(io))
    del index
    gc.collect()
    sys.exit(7)  # with all that an interpreter does at its end
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
after = subprocess.run(["find", sys.argv[1], "-type", "f", "-printf", "%p %s %b\\n"], capture_output=True).stdout
assert sorted(before.splitlines()) == sorted(after.splitlines()), "the child wrote to the parent's shard"
run(index.upsert(io, [example(i) for i in range(101, 111)]))
assert run(index.count(io, EVERYTHING)) == 110
run(index.close(io))
again = EdgeIndex(sys.argv[1])
assert run(again.count(io, EVERYTHING)) == 110
run(again.close(io))
say("fine")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_is_refused_at_once_and_leaves_the_store_alone(
    store: Path, scratch: Path, script: Script
) -> None:
    output, _ = script(FORK, store, scratch / "childs").communicate(timeout=60)
    assert output.splitlines()[-1] == "fine", output


ORPHAN = """
index = EdgeIndex(sys.argv[1])
run(index.upsert(io, [example(1)]))
child = os.fork()
if child == 0:
    say(os.getpid())  # what a fork does to the store was done before this
    time.sleep(30)
    os._exit(0)
sys.stdin.readline()
if sys.argv[2] == "close":
    run(index.close(io))
    say("closed")
    sys.stdin.readline()
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.parametrize("end", ["close", "exit"])
def test_a_forked_child_that_lives_on_keeps_no_lock(store: Path, script: Script, end: str) -> None:
    parent = script(ORPHAN, store, end)
    child = int(line(parent))
    go_on(parent)
    if end == "close":
        assert line(parent) == "closed"
    else:
        parent.wait()
    try:
        os.kill(child, 0)  # it is alive
        index = EdgeIndex(store)
        assert run(index.count(io, EVERYTHING)) == 1
        run(index.close(io))
    finally:
        os.kill(child, signal.SIGKILL)
