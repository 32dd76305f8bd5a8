"""The lease on an embedded store: real stores, opened by several leases as if by several programs."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from memory_plugin import ConfigurationError, InvalidInputError, MemoryStore, StoreLockedError
from memory_plugin.adapters.mcp import Lease
from tests.mcp_store import open_store


class Door:
    """Opens one store, and counts how often."""

    def __init__(self, place: Path) -> None:
        self.place, self.opened = place, 0

    def __call__(self) -> MemoryStore:
        store = open_store(self.place)
        self.opened += 1
        return store

    @property
    def free(self) -> bool:
        try:
            open_store(self.place).close()
        except StoreLockedError:
            return False
        return True


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path / "memory")


def until(free: Door) -> None:
    deadline = time.monotonic() + 10
    while not free.free:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_opens_for_a_call_and_closes_after_a_moment(door: Door) -> None:
    lease = Lease(door, idle=0.1)
    assert door.opened == 0
    lease.call("add", "A note.", "alice")
    assert lease.call("count", "alice") == 1
    assert door.opened == 1
    until(door)
    assert lease.call("count", "alice") == 1
    assert door.opened == 2
    lease.close()
    assert door.free


def test_two_take_turns_under_load(door: Door) -> None:
    """Neither starves although both always have work, and nothing is lost."""
    leases = [Lease(door, idle=0.1, turn=0.3), Lease(door, idle=0.1, turn=0.3)]
    done: list[int] = []
    end = time.monotonic() + 60

    def changes() -> int:
        return sum(before != after for before, after in pairwise(list(done)))

    def work(which: int) -> int:
        number = 0
        while changes() < 3 and time.monotonic() < end:
            leases[which].call("add", f"Note {number} of {which}.", "alice")
            done.append(which)
            number += 1
        return number

    with ThreadPoolExecutor(2) as pool:
        written = list(pool.map(work, range(2)))
    for lease in leases:
        lease.close()
    assert all(written)
    assert changes() >= 3
    with open_store(door.place) as store:
        assert store.count("alice") == sum(written)


def test_it_waits_and_then_names_who_has_it(door: Door) -> None:
    lease = Lease(door, wait=0.3)
    with open_store(door.place):
        began = time.monotonic()
        with pytest.raises(StoreLockedError) as refused:
            lease.call("count", "alice")
        assert time.monotonic() - began >= 0.3
        assert refused.value.pid
        lease.wait = 10
        threading.Timer(0.2, lease.stop).start()
        with pytest.raises(StoreLockedError):  # whoever ends does not wait for all of it
            lease.call("count", "alice")
        assert time.monotonic() - began < 5


def test_an_error_of_a_call_leaves_it_usable(door: Door) -> None:
    lease = Lease(door, idle=0.1)
    with pytest.raises(InvalidInputError):
        lease.call("search", "", "alice")
    assert lease.call("count", "alice") == 0
    lease.close()


def test_what_cannot_be_opened_is_tried_again(door: Door) -> None:
    problems: list[Exception] = [InvalidInputError("no such place"), RuntimeError("boom")]

    def opener() -> MemoryStore:
        if problems:
            raise problems.pop()
        return door()

    lease = Lease(opener)
    with pytest.raises(RuntimeError):
        lease.call("count", "alice")
    with pytest.raises(ConfigurationError) as told:  # the caller of a tool did nothing wrong
        lease.call("count", "alice")
    assert not isinstance(told.value, InvalidInputError)
    assert lease.call("count", "alice") == 0
    lease.close()


def test_without_idle_it_stays_open(door: Door) -> None:
    lease = Lease(door, idle=None, turn=0)
    for _ in range(3):
        lease.call("count", "alice")
    assert door.opened == 1
    assert threading.active_count() < 50
    lease.close()
    assert door.free


def test_closing_waits_for_a_running_call(door: Door) -> None:
    lease = Lease(door)
    lease.call("count", "alice")
    with ThreadPoolExecutor(1) as pool:
        added = pool.submit(lease.call, "add", [f"Note {number}." for number in range(300)], "alice")
        time.sleep(0.05)
        lease.close()
        assert len(added.result().ids) == 300
    until(door)


def test_closing_does_not_wait_for_ever(door: Door) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        def verify(self, *, model: bool = False) -> None:  # type: ignore[override]
            entered.set()
            leave.wait(10)

    def opener() -> MemoryStore:
        store = door()
        store.__class__ = Slow
        return store

    lease = Lease(opener)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lease.call, "verify")
        entered.wait(10)
        lease.stop(timeout=0.1)
        leave.set()
        call.result()
    until(door)  # the call itself closes what was to be closed
