"""Streamable HTTP: who may connect from where, and uvicorn around it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

from memory_plugin import ConfigurationError
from memory_plugin.adapters.extras import needs

with needs("mcp", "the MCP server"):
    import uvicorn
    from mcp.server import MCPServer
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.applications import Starlette

PATH = "/mcp"
MAX_BODY = 1024 * 1024
"""Bytes of a request at most."""
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


def app(
    server: MCPServer[Any],
    *,
    host: str = "127.0.0.1",
    allowed_hosts: Sequence[str] = (),
    allowed_origins: Sequence[str] = (),
    stateless: bool = False,
    authenticated: bool = True,
) -> Starlette:
    """The ASGI application, at /mcp.

    Args:
        server: From ``memory_server``.
        host: Address that it will be bound to.
        allowed_hosts: Names by which clients reach it, beside those of this machine; what a Host header may say.
        allowed_origins: Origins of web pages that may use it; none are by default, whoever sends one is refused.
        stateless: Whether every request stands alone, for several processes behind one address.
        authenticated: Whether the server was given tokens.

    Raises:
        ConfigurationError: Others could reach it without a token, or under a name that is not known.
    """
    check(host, allowed_hosts, authenticated=authenticated)
    bound = [] if is_any(host) else [f"[{host}]" if ":" in host else host]
    names = list(dict.fromkeys([*LOCAL_NAMES, *bound, *allowed_hosts]))
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
        allowed_origins=list(allowed_origins),
    )
    return server.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=stateless,
        max_request_body_size=MAX_BODY,
        transport_security=security,
        host=host,
    )


def check(host: str, allowed_hosts: Sequence[str], *, authenticated: bool) -> None:
    """Refuse what would let strangers in.

    Raises:
        ConfigurationError: As ``app``.
    """
    beyond = [name for name in (host, *allowed_hosts) if not is_local(name)]
    if beyond and not authenticated:
        raise ConfigurationError(
            f"{beyond[0]} is reached from other machines, so clients need tokens: make them with `memory-plugin mcp "
            "token` and name their file with --tokens"
        )
    if is_any(host) and not allowed_hosts:
        raise ConfigurationError(
            f"{host} is every address of this machine: say with --allow-host by which names clients reach it"
        )


def serve(application: Starlette, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until a signal ends it.

    Args:
        application: From ``app``.
        host: Address to bind.
        port: 0 for any that is free.
        ready: Told the address, once it is reached.
    """
    Listening(uvicorn.Config(application, host=host, port=port, **QUIET), ready).run()


QUIET: dict[str, Any] = {
    "log_config": None,  # what logs, and where to, is the program's to say
    "access_log": False,
    "server_header": False,
    "ws": "none",
    "timeout_graceful_shutdown": 5,
}


class Listening(uvicorn.Server):
    """Says when it listens, and where."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self._ready(f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}")


def is_local(name: str) -> bool:
    """Whether a name can only be this machine."""
    bare = name.strip("[]")
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def is_any(host: str) -> bool:
    """Whether it stands for all addresses."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return host == ""
