"""``memory-plugin mcp`` as clients start it: processes of its own, over pipes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from memory_plugin import MemoryStore
from tests.mcp_store import text_of
from tests.test_examples import environment

SECRET = "The spare key is under the blue pot."


def command(place: Path, *options: str) -> list[str]:
    store = ["--store", str(place / "store"), "--keys", str(place / "keys.json")]
    return ["-m", "memory_plugin", "mcp", "--namespace", "alice", *store, *options]


def server(place: Path, *options: str) -> StdioServerParameters:
    return StdioServerParameters(command=sys.executable, args=command(place, *options), env=environment(place))


def process(place: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command(place, *options)],
        text=True,
        env={**environment(place), "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread runs here
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def exchange(running: subprocess.Popen[str], number: int, method: str, **params: Any) -> Any:
    """One request and its answer, as JSON-RPC lines."""
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n")
    running.stdin.flush()
    answer = json.loads(running.stdout.readline())
    assert answer["id"] == number
    return answer["result"]


def handshake(running: subprocess.Popen[str]) -> None:
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    assert exchange(running, 1, "initialize", **hello)["serverInfo"]["name"] == "memory"
    assert running.stdin is not None
    running.stdin.write('{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')


async def test_two_clients_share_one_store(tmp_path: Path) -> None:
    """Each starts a server of its own; with the models that ship."""
    async with Client(server(tmp_path)) as one, Client(server(tmp_path)) as other:

        async def work(client: Client, name: str) -> None:
            for number in range(3):
                added = await client.call_tool("add", {"text": f"{name} booked train {number * 7 + 100}."})
                assert not added.is_error, text_of(added)
                found = await client.call_tool("search", {"query": f"train {number * 7 + 100}", "limit": 5})
                assert name in text_of(found)

        await asyncio.gather(work(one, "Ines"), work(other, "Tomas"), work(one, "Bruno"))
        for client in (one, other):
            listed = (await client.call_tool("list", {"limit": 100})).structured_content or {}
            assert len(listed["memories"]) == 9
        answer = await one.call_tool("context", {"query": "Which trains did Tomas book?"})
        assert "Tomas booked train 100." in text_of(answer)
        await one.call_tool("add", {"text": "Ticket ZX-4471-B was closed when the greenhouse sensors were replaced."})
        found = await other.call_tool("search", {"query": "ZX-4471-B", "limit": 1})
        assert "greenhouse" in text_of(found)  # by a word alone that says nothing to a model
    with MemoryStore.open(tmp_path / "store", keyring=tmp_path / "keys.json") as store:
        assert store.count("alice") == 10


def test_the_handshake_opens_and_loads_nothing(tmp_path: Path) -> None:
    with process(tmp_path) as running:
        handshake(running)
        tools = exchange(running, 2, "tools/list")["tools"]
        assert len(tools) == 5
        assert not (tmp_path / "store").exists()
        if Path(f"/proc/{running.pid}/maps").exists():
            assert "onnxruntime" not in Path(f"/proc/{running.pid}/maps").read_text(encoding="utf-8")
        assert running.stdin is not None
        running.stdin.write("a stray line that is no JSON\n")
        assert exchange(running, 3, "ping") == {}
        _, err = running.communicate(timeout=20)  # closes its input
    assert running.returncode == 0
    assert "Traceback" not in err


@pytest.mark.parametrize("how", ["end of input", "SIGTERM", "SIGINT", "SIGKILL"])
def test_it_ends_and_lets_go_of_the_store(tmp_path: Path, how: str) -> None:
    with process(tmp_path) as running:
        handshake(running)
        added = exchange(running, 2, "tools/call", name="add", arguments={"text": SECRET})
        assert not added.get("isError"), added
        began = time.monotonic()
        if how == "end of input":
            out, err = running.communicate(timeout=20)
        else:
            running.send_signal(getattr(signal, how))
            running.wait(20)
            assert running.stdout is not None
            assert running.stderr is not None
            out, err = running.stdout.read(), running.stderr.read()
        assert time.monotonic() - began < 10
    ended = 0 if how == "end of input" else getattr(signal, how)
    assert running.returncode in {-ended, 128 + ended} if ended else running.returncode == 0
    assert out == ""  # nothing but answers was written
    assert err == ""
    with MemoryStore.open(tmp_path / "store", keyring=tmp_path / "keys.json", reranker=None) as store:
        assert [one.text for one in store.list("alice").records] == [SECRET]


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [("mcp", ["config", "--client", "zed"]), ("mcp.server.mcpserver", [])],
    ids=["no SDK", "an SDK before 2"],
)
def test_without_the_sdk_it_says_what_to_install(tmp_path: Path, missing: str, arguments: list[str]) -> None:
    words = ["mcp", *arguments, "-n", "alice"]
    code = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = {words!r}"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nfrom memory_plugin.cli import main; main()"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'memory-plugin[mcp]'" in done.stderr
    assert "Traceback" not in done.stderr
