"""Slow things are made once a process, whatever threads and forks do."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from memory_plugin.models.once import Once


def test_threads_wait_for_the_one_that_makes_it() -> None:
    made: list[int] = []

    def make() -> int:
        time.sleep(0.05)
        made.append(1)
        return len(made)

    once = Once(make)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: once(), range(16))) == {1}


def test_what_fails_is_tried_again() -> None:
    answers: Iterator[Exception | str] = iter([ValueError("not yet"), "made"])

    def make() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    once = Once(make)
    with pytest.raises(ValueError, match="not yet"):
        once()
    assert once() == once() == "made"


def test_none_is_made_once_too() -> None:
    calls: list[int] = []
    once = Once(lambda: calls.append(1))
    assert once() is once() is None
    assert len(calls) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_its_own_though_a_thread_of_the_parent_is_at_it() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def make() -> int:
        if not begun.is_set():
            begun.set()
            go_on.wait(10)
        return os.getpid()

    once = Once(make)
    maker = threading.Thread(target=once)
    maker.start()
    begun.wait(10)
    child = os.fork()
    if child == 0:
        # The parent's lock is held by a thread that this process does not have.
        os._exit(0 if once() == os.getpid() else 1)
    go_on.set()
    maker.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert once() == os.getpid()
