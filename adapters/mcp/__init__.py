"""A Model Context Protocol server over a store: any MCP client gets a memory.

from mcp import Client
from memory_plugin.adapters.mcp import memory_server

async with Client(memory_server(store, "alice")) as client:
    await client.call_tool("search", {"query": "Where does Alice live?"})
"""

from memory_plugin.adapters.mcp.lease import Lease
from memory_plugin.adapters.mcp.server import memory_server
from memory_plugin.adapters.mcp.whose import Token, Tokens

__all__ = ["Lease", "Token", "Tokens", "memory_server"]
