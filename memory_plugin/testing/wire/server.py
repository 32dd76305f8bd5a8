"""The HTTP side of the server: connections, keys, faults, and a log of what was asked."""

from __future__ import annotations

import hmac
import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from memory_plugin.testing.wire.asks import Ask, Format, Refused
from memory_plugin.testing.wire.chats import Events
from memory_plugin.testing.wire.faults import NO_FAULT, STATUSES, Fault
from memory_plugin.testing.wire.formats import FORMATS

LARGEST = 64 * 2**20
"""Bytes of a request."""
PAUSE = 0.05
"""Seconds between the pieces of an answer that drips."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in.

    Args:
        vendor: In whose format.
        operation: "embed", "rerank", "chat" or "info".
        body: Its JSON.
        status: What it was answered with; 0 where the connection was closed.
        at: ``time.monotonic`` when it was there.
    """

    vendor: str
    operation: str
    body: Any
    status: int
    at: float


class WireServer:
    """Speaks the vendors' formats on a port of this machine, from construction until it is closed.

    Args:
        port: 0 for a free one.
        key: The key that requests have to carry; "" for any.
        revision: Another one is another model under the same name; may be set at any time.
        dimension: Of models that are not known.
    """

    def __init__(self, *, port: int = 0, key: str = "wire-key", revision: str = "1", dimension: int = 64) -> None:
        self.key = key
        self.revision = revision
        self.dimension = dimension
        self.requests: list[Seen] = []
        self.stopping = threading.Event()
        self._faults: dict[str, list[Fault]] = {name: [] for name in FORMATS}
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._server = _Http(("127.0.0.1", port), _Handler)
        self._server.wire = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="wire", daemon=True)
        self._thread.start()

    def url(self, vendor: str) -> str:
        """The address to give to a vendor's provider, or to its SDK."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{vendor}{FORMATS[vendor].base}"

    def fail(self, vendor: str, kind: str, **options: Any) -> None:
        """Let some of the next requests fail, after those that are to fail already.

        Args:
            vendor: Whose.
            kind: See ``FAULTS``.
            options: See ``Fault``.
        """
        with self._lock:
            self._faults[vendor].append(Fault(kind, **options))

    def heal(self) -> None:
        """Let nothing fail any more, and forget what was asked."""
        with self._lock:
            for faults in self._faults.values():
                faults.clear()
            self.requests.clear()

    def asked(self, vendor: str, operation: str = "embed") -> list[Seen]:
        """The requests of that kind, in the order in which they were answered."""
        with self._lock:
            return [one for one in self.requests if (one.vendor, one.operation) == (vendor, operation)]

    def close(self) -> None:
        """Stop; twice is no error."""
        self.stopping.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.close()

    def due(self, vendor: str, operation: str) -> Fault:
        """The fault that strikes the next request."""
        with self._lock:
            for fault in self._faults[vendor]:
                if fault.is_for(operation):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return NO_FAULT

    def saw(self, seen: Seen) -> None:
        """Write down a request."""
        with self._lock:
            self.requests.append(seen)

    def opened(self, connection: socket.socket) -> None:
        """Remember a connection."""
        with self._lock:
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._lock:
            self._connections.discard(connection)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    wire: WireServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def setup(self) -> None:
        super().setup()
        self.server.wire.opened(self.connection)

    def finish(self) -> None:
        self.server.wire.closed(self.connection)
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Nothing on standard error."""

    def do_POST(self) -> None:
        self._answer("POST")

    def do_GET(self) -> None:
        self._answer("GET")

    # ── one request ───────────────────────────────────────────────────────────────────────────────

    def _answer(self, method: str) -> None:
        with suppress(OSError):  # the client went away
            content = self._content()
            if content is None:
                self._send(413, {"error": "too large"}, {})
                return
            _, vendor, *rest = self.path.partition("?")[0].split("/")
            form = FORMATS.get(vendor)
            route = _route(form, method, "/" + "/".join(rest)) if form is not None else None
            if form is None or route is None:
                self._send(404, {"error": f"no such address: {method} {self.path}"}, {})
                return
            self._serve(vendor, form, route, content)

    def _serve(self, vendor: str, form: Format, route: tuple[str, Any], content: bytes) -> None:
        wire, (operation, handler) = self.server.wire, route
        fault = wire.due(vendor, operation)
        fault = fault if fault is not NO_FAULT else Fault("slow", times=0, seconds=0)
        path = self.path.partition("?")[0].removeprefix(f"/{vendor}")
        body: Any = None
        try:
            self._check_key(form)
            body = json.loads(content) if content else {}
            if not isinstance(body, dict):
                raise Refused(400, "the body is no JSON object")
            self._refuse(fault, form)
            answer = handler(Ask(path, body, fault, wire.revision, wire.dimension))
            status = 200
        except Refused as refused:
            answer, status = form.error(refused.status, refused.message, refused.code), refused.status
        except ValueError:
            answer, status = form.error(400, "the body is no JSON", ""), 400
        wire.saw(Seen(vendor, operation, body, 0 if fault.kind == "drop" else status, time.monotonic()))
        self._deliver(status, answer, {form.request_id: f"req-{len(wire.requests)}", **fault.headers}, fault)

    def _check_key(self, form: Format) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        given = given or self.headers.get("api-key", "") or self.headers.get("x-api-key", "")
        wanted = self.server.wire.key
        if form.auth and (not given or (wanted and not hmac.compare_digest(given.encode(), wanted.encode()))):
            raise Refused(401, f"Incorrect API key provided: {given}. Find yours in the dashboard.", "invalid_api_key")

    def _refuse(self, fault: Fault, form: Format) -> None:
        if fault.kind == "quota":
            status, message, code = form.quota
            raise Refused(status, fault.message or message, code)
        if fault.kind in STATUSES:
            status = STATUSES[fault.kind]
            code = "rate_limit_exceeded" if status == 429 else ""
            raise Refused(status, fault.message or f"{fault.kind}, on request", code)

    # ── reading and writing ───────────────────────────────────────────────────────────────────────

    def _content(self) -> bytes | None:
        """The body, whole or in chunks; None where it is too large."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            length = int(self.headers.get("Content-Length") or 0)
            return self.rfile.read(length) if length <= LARGEST else None
        content = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
            if len(content) > LARGEST:
                return None
        while self.rfile.readline().strip():
            pass  # trailers
        return bytes(content)

    def _deliver(self, status: int, answer: Any, headers: dict[str, str], fault: Fault) -> None:
        wire, kind = self.server.wire, fault.kind
        if kind == "drop":
            self._hang_up()
            return
        if kind == "slow" and fault.seconds:
            wire.stopping.wait(fault.seconds)
        if kind == "redirect":
            self._send(307, {}, {**headers, "Location": "http://127.0.0.1:9/elsewhere"})
            return
        content, media = json.dumps(answer).encode(), "application/json"
        if isinstance(answer, Events):
            content, media = answer.content(), "text/event-stream"
        if kind == "html":
            self._write(200, b"<html><body>Please log in to the network.</body></html>", headers, "text/html")
        elif kind == "malformed":
            self._write(status, content[: len(content) // 2], headers, media)
        elif kind == "truncated":
            self._write(status, content, headers, media, only=len(content) // 2)
            self._hang_up()
        elif kind == "drip":
            self._drip(status, content, headers, fault.seconds)
        else:
            self._write(status, content, headers, media)

    def _send(self, status: int, answer: Any, headers: dict[str, str]) -> None:
        self._write(status, json.dumps(answer).encode(), headers)

    def _write(
        self,
        status: int,
        content: bytes,
        headers: dict[str, str],
        kind: str = "application/json",
        only: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[:only])

    def _drip(self, status: int, content: bytes, headers: dict[str, str], seconds: float) -> None:
        self._write(status, content, headers, only=0)
        step = max(int(len(content) * PAUSE / max(seconds, PAUSE)), 1)
        for start in range(0, len(content), step):
            self.wfile.write(content[start : start + step])
            if self.server.wire.stopping.wait(PAUSE):
                return

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def _route(form: Format, method: str, path: str) -> tuple[str, Any] | None:
    for pattern, found in form.routes.items():
        wanted, _, place = pattern.partition(" ")
        parts, given = place.split("/"), path.split("/")
        same = len(parts) == len(given) and all(part in ("*", one) for part, one in zip(parts, given, strict=True))
        if wanted == method and same:
            return found
    return None
