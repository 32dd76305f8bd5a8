"""What desktop clients and editors want to read in their settings, each in its own form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

NAME = "memory"
TOKEN_VARIABLE = "MEMORY_PLUGIN_MCP_TOKEN"  # noqa: S105 - its name


@dataclass(frozen=True, slots=True)
class Client:
    """A program with an MCP client.

    Args:
        title: As people call it.
        files: Where its settings are, as one would tell somebody.
        key: The object or table that servers stand in.
        typed: Whether a server that it starts says that it is one.
        remote: A server that is reached by HTTP, from its address; None where the settings take none.
        toml: Whether it reads TOML.
    """

    title: str
    files: str
    key: str = "mcpServers"
    typed: bool = False
    remote: Callable[[str], dict[str, Any]] | None = None
    toml: bool = False


def _headers(address: str, token: str, *, key: str = "url", **more: Any) -> dict[str, Any]:
    return {**more, key: address, "headers": {"Authorization": f"Bearer {token}"}}


CLIENTS: Mapping[str, Client] = MappingProxyType(
    {
        "claude-desktop": Client(
            "Claude Desktop",
            "~/Library/Application Support/Claude/claude_desktop_config.json on macOS, "
            "%APPDATA%\\Claude\\claude_desktop_config.json on Windows (Settings, Developer, Edit Config)",
        ),
        "claude-code": Client(
            "Claude Code",
            ".mcp.json in the project; for all projects: claude mcp add-json --scope user memory '{…}'",
            typed=True,
            remote=lambda address: _headers(address, f"${{{TOKEN_VARIABLE}}}", type="http"),
        ),
        "cursor": Client(
            "Cursor",
            "~/.cursor/mcp.json, or .cursor/mcp.json in the project",
            remote=lambda address: _headers(address, f"${{env:{TOKEN_VARIABLE}}}"),
        ),
        "vscode": Client(
            "VS Code",
            ".vscode/mcp.json in the project, or the command MCP: Open User Configuration",
            key="servers",
            typed=True,
            remote=lambda address: _headers(address, "${input:memory-token}", type="http"),
        ),
        "windsurf": Client(
            "Windsurf",
            "~/.codeium/windsurf/mcp_config.json",
            remote=lambda address: _headers(address, f"${{env:{TOKEN_VARIABLE}}}", key="serverUrl"),
        ),
        "zed": Client(
            "Zed",
            "settings.json (the command zed: open settings)",
            key="context_servers",
            remote=lambda address: _headers(address, "TOKEN"),
        ),
        "codex": Client(
            "Codex CLI",
            "~/.codex/config.toml",
            key="mcp_servers",
            remote=lambda address: {"url": address, "bearer_token_env_var": TOKEN_VARIABLE},
            toml=True,
        ),
        "gemini": Client(
            "Gemini CLI",
            "~/.gemini/settings.json, or .gemini/settings.json in the project",
            remote=lambda address: _headers(address, f"${TOKEN_VARIABLE}", key="httpUrl"),
        ),
    }
)
"""By name."""


def settings(client: str, command: Sequence[str]) -> str:
    """What to put into a client's settings so that it starts the server.

    Args:
        client: One of ``CLIENTS``.
        command: The program, by its whole path since desktop programs have another PATH, and its arguments.
    """
    program, *arguments = command
    kind = {"type": "stdio"} if CLIENTS[client].typed else {}
    return _written(CLIENTS[client], {**kind, "command": program, "args": arguments})


def remote_settings(client: str, address: str) -> str | None:
    """The same for a server that runs elsewhere; None where the settings take none.  The token is not in it."""
    known = CLIENTS[client]
    if known.remote is None:
        return None
    more = {}
    if client == "vscode":
        asked = {"type": "promptString", "id": "memory-token", "description": "Token of the memory", "password": True}
        more = {"inputs": [asked]}
    return _written(known, known.remote(address), **more)


def _written(client: Client, server: Mapping[str, Any], **more: Any) -> str:
    if client.toml:
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in server.items()]
        return "\n".join([f"[{client.key}.{NAME}]", *lines])
    return json.dumps({**more, client.key: {NAME: dict(server)}}, indent=2, ensure_ascii=False)
