from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Awaitable
from typing import Any

import pytest

from memory_plugin.errors import ConfigurationError
from memory_plugin.flow import IO, Blocking, OnLoop, run


def double(value: int, *, plus: int = 0) -> int:
    return 2 * value + plus


async def double_async(value: int, *, plus: int = 0) -> int:
    await asyncio.sleep(0)
    return 2 * value + plus


class Hidden:
    """A callable object whose call is a coroutine function."""

    async def __call__(self, value: int, *, plus: int = 0) -> int:
        return await double_async(value, plus=plus)


async def work(io: IO, fn: Any) -> int:
    first: int = await io.call(fn, 3)
    second: int = await io.call(fn, first, plus=1)
    return second


def promises(value: int, *, plus: int = 0) -> Awaitable[int]:
    """No coroutine function, but what it returns awaits."""
    return double_async(value, plus=plus)


ASYNC = [double_async, Hidden(), functools.partial(double_async), promises]


def test_blocking_needs_no_loop() -> None:
    assert run(work(Blocking(), double)) == 13


def test_blocking_works_inside_a_running_loop() -> None:
    async def notebook() -> int:
        return run(work(Blocking(), double))

    assert asyncio.run(notebook()) == 13


@pytest.mark.parametrize("fn", ASYNC)
def test_blocking_refuses_what_awaits(fn: Any) -> None:
    with pytest.raises(ConfigurationError, match="is async: use AsyncMemoryStore"):
        run(work(Blocking(), fn))


def test_blocking_refuses_an_awaitable_that_is_no_coroutine() -> None:
    class Promise:
        def __await__(self) -> Any:
            yield None

    def promised(value: int) -> Awaitable[int]:
        return Promise()

    with pytest.raises(ConfigurationError, match="promised is async"):
        run(work(Blocking(), promised))


@pytest.mark.parametrize("fn", [double, *ASYNC])
def test_on_a_loop_both_kinds_work(fn: Any) -> None:
    assert asyncio.run(work(OnLoop(), fn)) == 13


def test_on_a_loop_what_blocks_goes_to_a_thread_and_what_awaits_does_not() -> None:
    async def here() -> int:
        return threading.get_ident()

    async def both() -> tuple[int, int]:
        return await OnLoop().call(threading.get_ident), await OnLoop().call(here)

    blocked, awaited = asyncio.run(both())
    assert awaited == threading.get_ident()
    assert blocked != awaited


def broken(error: Exception) -> int:
    raise error


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("k")])
def test_errors_come_through_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as blocking:
        run(Blocking().call(broken, error))
    with pytest.raises(type(error)) as on_loop:
        asyncio.run(OnLoop().call(broken, error))
    assert blocking.value is on_loop.value is error


def test_stop_iteration_hangs_neither() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        run(Blocking().call(broken, StopIteration()))
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(asyncio.wait_for(OnLoop().call(broken, StopIteration()), 30))


def test_a_coroutine_that_suspends_is_refused_and_closed() -> None:
    closed = []

    async def suspends() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(True)

    with pytest.raises(ConfigurationError, match="use AsyncMemoryStore"):
        run(suspends())
    assert closed == [True]


def test_a_coroutine_that_suspends_again_when_it_is_closed_is_refused_too() -> None:
    async def clings() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)

    with pytest.raises(ConfigurationError):
        run(clings())


def test_uninterrupted_returns_what_the_work_returns() -> None:
    async def answer() -> int:
        return 42

    assert run(Blocking().uninterrupted(answer())) == 42
    assert asyncio.run(OnLoop().uninterrupted(answer())) == 42


@pytest.mark.parametrize("cancellations", [1, 2, 3])
def test_a_cancellation_waits_for_the_work(cancellations: int) -> None:
    async def main() -> list[str]:
        log: list[str] = []
        started, go_on = asyncio.Event(), asyncio.Event()

        async def save() -> None:
            started.set()
            await go_on.wait()
            log.append("saved")

        async def caller() -> None:
            try:
                await OnLoop().uninterrupted(save())
            except asyncio.CancelledError:
                log.append("cancelled")
                raise

        task = asyncio.create_task(caller())
        await started.wait()
        for _ in range(cancellations):
            task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        assert log == []
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        return log

    assert asyncio.run(main()) == ["saved", "cancelled"]


def test_work_that_fails_after_a_cancellation_is_told_of() -> None:
    async def main() -> BaseException | None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        started, go_on = asyncio.Event(), asyncio.Event()

        async def save() -> None:
            started.set()
            await go_on.wait()
            raise OSError("disk full")

        task = asyncio.create_task(OnLoop().uninterrupted(save()))
        await started.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        del task
        assert complaints == []
        return caught.value.__cause__

    assert isinstance(asyncio.run(main()), OSError)


def test_work_that_cancels_itself_is_cancelled() -> None:
    async def gives_up() -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await OnLoop().uninterrupted(gives_up())

    asyncio.run(main())


def test_a_lock_on_a_loop_lets_one_task_in() -> None:
    async def main() -> int:
        lock = OnLoop().lock()
        inside = most = 0

        async def enter() -> None:
            nonlocal inside, most
            async with lock:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1

        await asyncio.gather(*(enter() for _ in range(5)))
        return most

    assert asyncio.run(main()) == 1


def pause() -> None:
    time.sleep(0.001)


def test_a_blocking_lock_lets_one_thread_in_and_is_let_go_on_errors() -> None:
    lock = Blocking().lock()
    inside: list[int] = []
    most: list[int] = []

    async def enter(fail: bool) -> None:
        async with lock:
            inside.append(1)
            most.append(len(inside))
            pause()
            inside.pop()
            if fail:
                raise ValueError

    def thread() -> None:
        for turn in range(10):
            try:
                run(enter(turn % 2 == 0))
            except ValueError:
                continue

    threads = [threading.Thread(target=thread) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert len(most) == 40
    assert max(most) == 1
