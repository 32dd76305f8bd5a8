"""A call that failed: what a vendor says about it in headers and body, and what follows from that."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_REQUEST_ID = ("x-request-id", "request-id", "apim-request-id", "x-debug-trace-id", "x-trace-id")
_LONGEST_MESSAGE = 500

_AGAIN = {408, 409, 425, 429}
"""Beside 5xx, statuses that may pass by themselves."""
_NEVER = {501, 505}

_QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_QUOTA_WORDS = re.compile(r"calls? */ *month|per month|insufficient (?:account )?balance|out of credit", re.IGNORECASE)


class CallError(Exception):
    """A call that failed, before it is known whether an embedder or a reranker made it.

    Args:
        message: What the vendor or the connection says.
        status: The HTTP status, where there was an answer.
        retryable: Whether the same call may succeed later.
        quota: Whether the account is out of credit: waiting does not help.
        wait: Seconds that the vendor asks to wait, if it does.
        request_id: The vendor's name of the call.
        cause: What the SDK raised.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retryable: bool = False,
        quota: bool = False,
        wait: float | None = None,
        request_id: str | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.retryable = retryable
        self.quota = quota
        self.wait = wait
        self.request_id = request_id
        self.cause = cause
        self.attempts = 1
        self.seconds = 0.0


def answered(
    status: int,
    headers: Mapping[str, str],
    body: object,
    *,
    cause: BaseException | None = None,
    now: float | None = None,
) -> CallError:
    """The failure that an answer with an error status is.

    Args:
        status: The HTTP status.
        headers: By lower-case name.
        body: JSON as a value, else the text.
        cause: What the SDK raised.
        now: Unix time, for dates in ``Retry-After``.
    """
    words, code = _told(_parsed(body))
    if 300 <= status < 400:
        words = f"a redirect to {headers.get('location')!r:.200}, which is not followed: give the address itself"
    quota = status == 402 or (status in (403, 429) and (code in _QUOTA_CODES or bool(_QUOTA_WORDS.search(words))))
    again = status in _AGAIN or (status >= 500 and status not in _NEVER)
    told = headers.get("x-should-retry")
    if told in ("true", "false"):
        again = told == "true"
    return CallError(
        words or "no explanation",
        status=status,
        retryable=again and not quota,
        quota=quota,
        wait=asked_wait(headers, time.time() if now is None else now),
        request_id=request_id(headers),
        cause=cause,
    )


def unreadable(why: str, *, headers: Mapping[str, str] | None = None, cause: BaseException | None = None) -> CallError:
    """The failure that an answer is which breaks off or is no JSON: a new one may be whole."""
    return CallError(f"an answer that {why}", retryable=True, request_id=request_id(headers or {}), cause=cause)


def request_id(headers: Mapping[str, str]) -> str | None:
    """The vendor's name of a call."""
    return next((headers[name] for name in _REQUEST_ID if headers.get(name)), None)


def asked_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by ``retry-after-ms`` or ``Retry-After`` (seconds, or a date); None where it asks for none.

    RFC 9110, section 10.2.3; milliseconds are OpenAI's and Azure's.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    try:
        return max(parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now, 0.0)
    except (TypeError, ValueError, OverflowError):
        return None


def _parsed(body: object) -> object:
    if isinstance(body, bytes):
        body = body.decode(errors="replace")
    if isinstance(body, str):
        try:
            return json.loads(body)
        except ValueError:
            return body
    return body


def _told(body: object) -> tuple[str, str]:
    """The message and the code in an error's body, whichever vendor's form it has."""
    if not isinstance(body, Mapping):
        return _short(body), ""
    inner = body.get("error")
    source = inner if isinstance(inner, Mapping) else body
    code = next((str(source[name]) for name in ("code", "type", "error_type") if source.get(name)), "")
    for name in ("message", "detail", "error"):
        if source.get(name):
            return _short(source[name]), code
    return _short(body), code


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str) if value is not None else ""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"


def harmless(error: BaseException | None) -> BaseException | None:
    """The exception without the frames it passed through, which hold headers, and so the key."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            waiting += [one.__cause__, one.__context__]
    return error


def chain(error: BaseException | None) -> list[str]:
    """What an exception and those behind it say of themselves."""
    found: list[str] = []
    while error is not None and len(found) < 40:
        found += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    return found
