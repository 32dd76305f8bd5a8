"""The MCP server by streamable HTTP: a real server, real clients with bearer tokens, and strangers."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp_types import ElicitRequestParams, ElicitResult

from memory_plugin import ConfigurationError, InvalidInputError, MemoryStore
from memory_plugin.adapters.mcp import Token, Tokens, memory_server, whose
from memory_plugin.adapters.mcp import http as serving
from tests.mcp_store import open_store, text_of

MODES = ("2026-07-28", "legacy")
ALICE, BOB = whose.make_token(), whose.make_token()
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryStore]:
    with open_store(tmp_path_factory.mktemp("http") / "memory") as opened:
        yield opened


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    file = tmp_path / "tokens.json"
    whose.save(file, [Token.of(ALICE, "alice", "laptop"), Token.of(BOB, ("bob",), "phone")])
    return file


Start = Callable[..., str]


@pytest.fixture
def start() -> Iterator[Start]:
    """Serves an application on a free port until the test ends; its address."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def begin(application: Any) -> str:
        ready = threading.Event()
        address: list[str] = []

        def listening(url: str) -> None:
            address.append(url)
            ready.set()

        server = serving.Listening(uvicorn.Config(application, port=0, **serving.QUIET), listening)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        assert ready.wait(20)
        return address[0]

    yield begin
    for server, thread in running:
        server.should_exit = server.force_exit = True
        thread.join(20)
        assert not thread.is_alive()


@asynccontextmanager
async def client(address: str, token: str, mode: str, **options: Any) -> AsyncIterator[Client]:
    async with (
        create_mcp_http_client(headers={"Authorization": f"Bearer {token}"}) as http,
        Client(streamable_http_client(address, http_client=http), mode=mode, **options) as made,
    ):
        yield made


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stateless", [False, True], ids=["sessions", "stateless"])
async def test_two_users_see_their_own_only(
    store: MemoryStore, tokens: Path, start: Start, mode: str, stateless: bool
) -> None:
    server = memory_server(store, Tokens(tokens), allow_forget="always")
    address = start(serving.app(server, stateless=stateless))
    mark = f"{mode} {stateless}"

    async def use(token: str, name: str, other: str) -> str:
        hostile = {"namespace": other, "user": other}
        async with client(address, token, mode) as one:
            made = await one.call_tool("add", {"text": f"{name}'s badge, {mark}.", **hostile})
            for _ in range(3):
                found = await one.call_tool("search", {"query": f"badge {other} {mark}", **hostile})
                listed = await one.call_tool("list", hostile)
                read = (await one.read_resource("memory://recent")).contents[0]
                for text in (text_of(found), text_of(listed), getattr(read, "text", "")):
                    assert f"{name}'s badge" in text
                    assert f"{other}'s badge" not in text
            return str((made.structured_content or {})["ids"][0])

    mine, theirs = await asyncio.gather(use(ALICE, "alice", "bob"), use(BOB, "bob", "alice"))
    async with client(address, ALICE, mode) as alice:
        assert (await alice.call_tool("forget", {"ids": [theirs]})).is_error
        assert not (await alice.call_tool("forget", {"ids": [mine]})).is_error
    assert store.get(theirs, "bob").text.startswith("bob's")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stateless", [False, True], ids=["sessions", "stateless"])
async def test_forget_asks_or_confirms(
    store: MemoryStore, tokens: Path, start: Start, mode: str, stateless: bool
) -> None:
    """A form where there is a way to send one; else, as to old clients without a session, a code."""
    address = start(serving.app(memory_server(store, Tokens(tokens)), stateless=stateless))
    (name,) = store.add(f"To forget, {mode} {stateless}.", "alice").ids
    shown: list[str] = []

    async def agree(_: object, params: ElicitRequestParams) -> ElicitResult:
        shown.append(params.message)
        return ElicitResult(action="accept", content={"delete": True})

    async with client(address, ALICE, mode, elicitation_callback=agree) as alice:
        done = (await alice.call_tool("forget", {"ids": [name]})).structured_content or {}
        if done["status"] == "confirmation_required":
            assert (mode, stateless) == ("legacy", True)
            async with client(address, BOB, mode) as bob:
                stolen = await bob.call_tool("forget", {"ids": [name], "confirmation": done["confirmation"]})
                assert stolen.is_error
            again = await alice.call_tool("forget", {"ids": [name], "confirmation": done["confirmation"]})
            done = again.structured_content or {}
        else:
            assert "To forget" in shown[0]
    assert done["status"] == "deleted"


async def test_nobody_is_told_of_anothers_changes(store: MemoryStore, tokens: Path, start: Start) -> None:
    address = start(serving.app(memory_server(store, Tokens(tokens))))
    async with client(address, ALICE, MODES[0]) as alice, client(address, BOB, MODES[0]) as bob:
        async with alice.listen(resource_subscriptions=["memory://recent"]) as changes:
            await bob.call_tool("add", {"text": "Bob writes."})
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(aiter(changes)), 0.3)
        async with alice.listen(resource_subscriptions=["memory://recent"]) as changes:
            await alice.call_tool("add", {"text": "Alice writes."})
            assert await asyncio.wait_for(anext(aiter(changes)), 10)


def test_strangers_stay_out(store: MemoryStore, tokens: Path, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    address = start(serving.app(memory_server(store, Tokens(tokens))))
    with httpx.Client(headers=ACCEPT) as http:

        def post(**headers: str) -> httpx.Response:
            return http.post(
                address, json=HELLO, headers={name.replace("_", "-"): one for name, one in headers.items()}
            )

        for wrong in (
            "",
            "Bearer",
            f"Basic {ALICE}",
            f"Bearer {ALICE[:-1]}",
            f"Bearer {ALICE}x",
            "Bearer é",
        ):
            answer = http.post(address, json=HELLO, headers={b"authorization": wrong.encode()})
            assert answer.status_code == 401, wrong
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert http.get(address).status_code == http.delete(address).status_code == 401
        mine = f"Bearer {ALICE}"
        assert post(authorization=mine).status_code == 200
        assert post(authorization=mine, host="evil.example").status_code == 421
        assert post(authorization=mine, origin="http://evil.example").status_code == 403
        assert post(authorization=mine, origin="http://localhost:3000").status_code == 403
        large = http.post(address, content=b"x" * (serving.MAX_BODY + 1), headers={"authorization": mine})
        assert large.status_code == 413
        # A session belongs to the token that opened it.
        session = post(authorization=mine).headers["mcp-session-id"]
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        for token, status in ((BOB, 404), (ALICE, 200)):
            used = http.post(
                address, json=ping, headers={"authorization": f"Bearer {token}", "mcp-session-id": session}
            )
            assert used.status_code == status
    for token in (ALICE, BOB):
        assert token not in caplog.text


def test_a_revoked_token_opens_nothing_any_more(store: MemoryStore, tokens: Path, start: Start) -> None:
    address = start(serving.app(memory_server(store, Tokens(tokens))))

    def status(token: str) -> int:
        return httpx.post(address, json=HELLO, headers={**ACCEPT, "Authorization": f"Bearer {token}"}).status_code

    assert (status(ALICE), status(BOB)) == (200, 200)
    whose.save(tokens, [one for one in whose.load(tokens) if one.name != "phone"])
    assert (status(ALICE), status(BOB)) == (200, 401)
    tokens.write_text("no JSON", encoding="utf-8")
    assert status(ALICE) == 401
    tokens.unlink()
    assert status(ALICE) == 401
    whose.save(tokens, [Token.of(ALICE, "alice", "laptop")])
    assert status(ALICE) == 200
    if os.name == "posix":
        tokens.chmod(0o666)
        assert status(ALICE) == 401


async def test_without_tokens_this_machine_only(store: MemoryStore, start: Start) -> None:
    server = memory_server(store, "carla")
    address = start(serving.app(server, authenticated=False))
    async with Client(address) as one:
        assert not (await one.call_tool("add", {"text": "Carla's note."})).is_error
    assert store.count("carla") == 1
    async with httpx.AsyncClient() as http:
        assert (await http.post(address, json=HELLO, headers={**ACCEPT, "Host": "evil.example"})).status_code == 421
    for host, names in (("0.0.0.0", ["m.example"]), ("192.0.2.7", []), ("127.0.0.1", ["m.example"]), ("m.example", [])):
        with pytest.raises(ConfigurationError, match="--tokens"):
            serving.check(host, names, authenticated=False)
    for host in ("0.0.0.0", "::", ""):
        with pytest.raises(ConfigurationError, match="--allow-host"):
            serving.check(host, [], authenticated=True)
    for host in ("127.0.0.1", "localhost", "::1", "127.8.0.1"):
        serving.check(host, [], authenticated=False)


def test_a_named_host_and_origin_are_let_in(store: MemoryStore, tokens: Path, start: Start) -> None:
    address = start(
        serving.app(
            memory_server(store, Tokens(tokens)),
            allowed_hosts=["memory.example"],
            allowed_origins=["https://app.example"],
        )
    )
    mine = {**ACCEPT, "Authorization": f"Bearer {ALICE}"}
    for more in ({"Host": "memory.example"}, {"Host": "memory.example:443", "Origin": "https://app.example"}):
        assert httpx.post(address, json=HELLO, headers={**mine, **more}).status_code == 200
    assert httpx.post(address, json=HELLO, headers={**mine, "Host": "memory.example.evil"}).status_code == 421


# ── the file of tokens ────────────────────────────────────────────────────────────────────────────


def test_a_token_is_kept_as_a_hash(tokens: Path) -> None:
    text = tokens.read_text(encoding="utf-8")
    assert ALICE not in text
    assert ALICE not in repr(Tokens(tokens).find(ALICE))
    if os.name == "posix":
        assert tokens.stat().st_mode & 0o777 == 0o600
    found = Tokens(tokens).find(BOB)
    assert found is not None
    assert found.namespace == ("bob",)
    assert Tokens(tokens).find(found.sha256) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"tokens": [{}]}',
        '{"tokens": [{"name": "a", "sha256": "zz", "namespace": ["a"]}]}',
        '{"tokens": [{"name": "a", "sha256": "00", "namespace": []}]}',
        '{"tokens": [{"name": "a", "sha256": "00", "namespace": "alice"}]}',
    ],
    ids=["nothing", "a list", "no tokens", "no fields", "no hash", "no namespace", "a string"],
)
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(content, encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="mcp token"):
        Tokens(file)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Tokens(tmp_path / "missing.json")


def test_tokens_that_can_be_guessed_are_refused() -> None:
    for bad in ("", "secret", "x" * 31, "é" * 40, "x" * 20 + " " + "x" * 20):
        with pytest.raises(InvalidInputError, match="mcp token"):
            Token.of(bad, "alice", "a")


def test_without_a_request_there_is_no_namespace(tokens: Path) -> None:
    with pytest.raises(PermissionError):
        Tokens(tokens).namespace()
    assert json.loads(tokens.read_text(encoding="utf-8"))["version"] == 1
