"""An MCP client: it starts the server as desktop clients do, adds two memories, and finds one."""

import asyncio
import os
import sys
import tempfile

from mcp import Client, StdioServerParameters


async def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        options = ["--namespace", "alice", "--store", f"{place}/memory", "--keys", f"{place}/keys.json"]
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "memory_plugin", "mcp", *options], env=dict(os.environ)
        )
        async with Client(server) as client:
            print("tools:", *(tool.name for tool in (await client.list_tools()).tools))
            for text in ("Alice moved to Lisbon in May. Her badge is LX-2217.", "Trains are booked by Ines."):
                await client.call_tool("add", {"text": text})
            found = await client.call_tool("search", {"query": "What is the number on her badge?", "limit": 1})
            print(getattr(found.content[0], "text", ""))


asyncio.run(main())
