"""JSON over HTTP, for vendors whose SDK is not worth its dependencies."""

from __future__ import annotations

import ssl
import time
from functools import cache
from typing import Any

import httpx

from memory_plugin.managed.answers import parsed
from memory_plugin.managed.failure import CallError, answered, unreadable
from memory_plugin.managed.secret import Secret
from memory_plugin.managed.service import Service

CONNECT = 10.0
"""Seconds to wait for a connection."""
LARGEST = 2**28
"""Bytes of an answer."""


def guarded(service: Service) -> dict[str, Any]:
    """Arguments of a client of httpx or httpx2 that goes nowhere but to the service's address.

    It follows no redirect.  For an address on this machine it uses no proxy of the environment either, which would
    carry texts elsewhere.
    """
    secure = service.base_url.startswith("https:")
    return {
        "trust_env": service.leaves_machine,
        "follow_redirects": False,
        # Reading the certificates takes 20 ms; where no https is spoken, none is trusted.
        "verify": _certificates() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    }


@cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()


class HttpConnection:
    """Requests to one address, with the key in their headers.

    Args:
        service: Says where, and with which key.
        base_url: Another address of the same service.
    """

    def __init__(self, service: Service, base_url: str | None = None) -> None:
        self._client = httpx.Client(**guarded(service), headers=_headers(service.key()))
        self._base = base_url or service.base_url

    def post(self, path: str, body: Any, seconds: float) -> Any:
        """The JSON that the service answers.

        Args:
            path: Below the address.
            body: Sent as JSON.
            seconds: For all of it.

        Raises:
            CallError: It answered with an error, not in time, not whole, or not at all.
        """
        return self._call("POST", path, seconds, json=body)

    def get(self, path: str, seconds: float) -> Any:
        """Likewise, without a body."""
        return self._call("GET", path, seconds)

    def close(self) -> None:
        """Close the sockets."""
        self._client.close()

    def _call(self, method: str, path: str, seconds: float, **named: Any) -> Any:
        ends = time.monotonic() + seconds
        timeout = httpx.Timeout(seconds, connect=min(CONNECT, seconds))
        with (
            httpx_failures(seconds),
            self._client.stream(method, self._base + path, timeout=timeout, **named) as answer,
        ):
            content = bytearray()
            for piece in answer.iter_bytes():
                content += piece
                if time.monotonic() > ends:  # the timeout of httpx is for each piece
                    raise httpx.ReadTimeout("no whole answer")
                if len(content) > LARGEST:
                    raise CallError(f"an answer of more than {LARGEST} bytes")
            if answer.is_success:
                return parsed(bytes(content), answer.headers)
            raise answered(answer.status_code, answer.headers, bytes(content))


class httpx_failures:  # noqa: N801 - a context manager
    """Turns what httpx raises into ``CallError``.

    Args:
        seconds: What the attempt was given.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Translate."""
        if isinstance(error, httpx.TimeoutException):
            raise timed_out(self._seconds, error) from None
        if isinstance(error, httpx.RemoteProtocolError | httpx.DecodingError):
            raise unreadable(f"broke off ({error})", cause=error) from None
        if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
            raise unreachable(error) from None


def timed_out(seconds: float, cause: BaseException) -> CallError:
    """No answer in time."""
    return CallError(f"no answer within {seconds:.1f} s", retryable=True, cause=cause)


def unreachable(cause: BaseException) -> CallError:
    """No connection, or a broken one."""
    words = str(cause) or type(cause).__name__
    return CallError(f"cannot be reached ({words})", retryable=True, cause=cause)


def _headers(key: Secret | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key.reveal()}"}
