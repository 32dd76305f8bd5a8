"""What a failure says, and how long one keeps trying."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from email.utils import formatdate

import pytest

from memory_plugin.errors import InvalidInputError
from memory_plugin.managed.failure import CallError, answered, asked_wait
from memory_plugin.managed.retry import Policy, persist

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90.0),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "99999999999999999999999"}, 1e23),
    ],
)
def test_how_long_a_vendor_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers, NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("status", "body", "message", "quota", "retryable"),
    [
        (429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, "slow down", False, True),
        (429, {"error": {"message": "no credit", "code": "insufficient_quota"}}, "no credit", True, False),
        (429, {"error": {"message": "no credit", "type": "insufficient_quota"}}, "no credit", True, False),
        (429, {"message": "limited to 10 API calls / minute"}, "limited to 10 API calls / minute", False, True),
        (429, {"message": "limited to 1000 API calls / month"}, "limited to 1000 API calls / month", True, False),
        (403, {"detail": "Insufficient account balance"}, "Insufficient account balance", True, False),
        (402, b'{"detail": "pay"}', "pay", True, False),
        (400, {"detail": [{"loc": ["body"], "msg": "no"}]}, '[{"loc": ["body"], "msg": "no"}]', False, False),
        (424, {"error": "Inference failed", "error_type": "Backend"}, "Inference failed", False, False),
        (503, "<html>\n  down </html>", "<html> down </html>", False, True),
        (500, None, "no explanation", False, True),
        (501, "", "no explanation", False, False),
        (408, "", "no explanation", False, True),
        (418, "x" * 5000, "x" * 500 + "…", False, False),
    ],
)
def test_what_an_answer_means(status: int, body: object, message: str, quota: bool, retryable: bool) -> None:
    error = answered(status, {}, body)
    assert (error.message, error.quota, error.retryable) == (message, quota, retryable)


def test_a_vendor_that_says_whether_to_try_again_is_believed() -> None:
    assert not answered(503, {"x-should-retry": "false"}, "").retryable
    assert answered(400, {"x-should-retry": "true"}, "").retryable
    assert not answered(402, {"x-should-retry": "true"}, "").retryable


def failing(times: int, **named: object) -> tuple[Callable[[float], str], list[float]]:
    given: list[float] = []

    def send(seconds: float) -> str:
        given.append(seconds)
        if len(given) <= times:
            raise CallError("no", **{"retryable": True, **named})  # type: ignore[arg-type]
        return "yes"

    return send, given


def test_it_succeeds_in_the_end() -> None:
    send, given = failing(3)
    assert persist(send, Policy(attempts=4, backoff=0.01, timeout=7), threading.Event()) == "yes"
    assert len(given) == 4
    assert given[0] == 7


def test_it_says_how_often_and_how_long_it_tried() -> None:
    send, given = failing(9)
    with pytest.raises(CallError) as caught:
        persist(send, Policy(attempts=3, backoff=0.01), threading.Event())
    assert len(given) == caught.value.attempts == 3
    assert caught.value.seconds > 0


def test_what_is_not_to_be_tried_again_is_not() -> None:
    send, given = failing(9, retryable=False)
    with pytest.raises(CallError):
        persist(send, Policy(), threading.Event())
    assert len(given) == 1


def test_no_attempt_goes_beyond_the_deadline() -> None:
    send, given = failing(99, wait=0.3)
    began = time.monotonic()
    with pytest.raises(CallError):
        persist(send, Policy(attempts=50, deadline=1.0, timeout=0.8, backoff=0.01), threading.Event())
    assert time.monotonic() - began < 10
    assert len(given) in (2, 3, 4)
    assert given[0] == 0.8
    assert given[-1] < 0.75


def test_a_wait_ends_when_it_is_told_to() -> None:
    send, given = failing(99, wait=60)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(CallError):
        persist(send, Policy(deadline=600), stop)
    assert time.monotonic() - began < 30
    assert len(given) == 1


def test_another_error_is_not_caught() -> None:
    def send(seconds: float) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        persist(send, Policy(), threading.Event())


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"attempts": 1.5}, {"attempts": True}, {"timeout": 0}, {"deadline": -1}, {"backoff": "1"}],
)
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        Policy(**wrong)  # type: ignore[arg-type]
