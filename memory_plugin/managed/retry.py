"""One call until it succeeds, by one policy for all vendors: the SDKs' own retries are switched off."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    stop_when_event_set,
    wait_random_exponential,
)

from memory_plugin.errors import InvalidInputError
from memory_plugin.managed.failure import CallError

R = TypeVar("R")

LONGEST_BACKOFF = 30.0
"""Seconds; what a vendor asks for may be more."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How long to try.

    Args:
        attempts: At most so many.
        timeout: Seconds for one of them.
        deadline: Seconds for all of them, the waits between them included.
        backoff: The first wait is a random part of this many seconds, later ones of twice as many each time.

    Raises:
        InvalidInputError: A value is out of range.
    """

    attempts: int = 6
    timeout: float = 60.0
    deadline: float = 180.0
    backoff: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise InvalidInputError(f"attempts is a whole number from 1 on, not {self.attempts!r:.80}")
        for name in ("timeout", "deadline", "backoff"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise InvalidInputError(f"{name} is a number of seconds above 0, not {value!r:.80}")


def persist(send: Callable[[float], R], policy: Policy, stop: threading.Event) -> R:
    """Call ``send`` until it succeeds, or there is no sense in going on.

    Args:
        send: Makes one attempt in at most the seconds that it is given; raises ``CallError``.
        policy: How long to try.
        stop: Set it to end the waits.

    Raises:
        CallError: The last one, with how many attempts there were and how many seconds they took.
    """
    began = time.monotonic()
    backoff = wait_random_exponential(multiplier=policy.backoff, max=LONGEST_BACKOFF)

    def wait(state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome is not None else None
        asked = failure.wait if isinstance(failure, CallError) else None
        # A little later than asked, and not all at the same moment.
        return backoff(state) if asked is None else asked + random.uniform(0, min(policy.backoff, 1.0))  # noqa: S311

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise CallError("another request failed meanwhile", retryable=True)

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, CallError) and error.retryable),
        wait=wait,
        stop=stop_after_attempt(policy.attempts) | stop_before_delay(policy.deadline) | stop_when_event_set(stop),
        sleep=sleep,
        reraise=True,
    )

    def attempt() -> R:
        left = policy.deadline - (time.monotonic() - began)
        return send(max(min(policy.timeout, left), 0.001))

    try:
        return retrying(attempt)
    except CallError as failure:
        failure.attempts = int(retrying.statistics["attempt_number"])
        failure.seconds = time.monotonic() - began
        raise
