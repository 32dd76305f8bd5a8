"""What is shown of what vendors charge for: by the store, by ``add``, on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import Document, MemoryStore, Settings
from memory_plugin.embedders.jina import JinaEmbedder
from memory_plugin.rerankers.jina import JinaReranker
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.testing.wire import WireServer
from memory_plugin.types import Usage
from tests.command import Invoke, data
from tests.command import here as here
from tests.command import invoke as invoke
from tests.conftest import Opener

PRICE = 2.0
"""Dollars per million tokens."""


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as wire:
        yield wire


@pytest.fixture
def embedder(wire: WireServer) -> JinaEmbedder:
    return made(wire)


def made(wire: WireServer, **options: Any) -> JinaEmbedder:
    given: dict[str, Any] = {"dimension": 64, "prices": {"jina:jina-embeddings-v3": PRICE}, **options}
    return JinaEmbedder("jina-embeddings-v3", base_url=wire.url("jina"), api_key=wire.key, **given)


def test_added_tells_what_was_charged(open_store: Opener, embedder: JinaEmbedder) -> None:
    settings = Settings(staging=2, batch=2, chunk_tokens=32)
    store = open_store(embedder=embedder, reranker=None, settings=settings)
    before = embedder.usage
    done = store.add(["The old house.", "A river by the garden.", Document("word " * 200, source="long")], "alice")
    spent = embedder.usage.tokens - before.tokens
    assert done.billed_tokens == spent > 200
    assert done.cost == pytest.approx(spent * PRICE / 1e6)
    again = store.add("The old house.", "alice")
    assert (again.billed_tokens, again.cost) == (0, 0.0)


def test_a_price_that_is_not_known_is_not_made_up(open_store: Opener, wire: WireServer) -> None:
    unknown = JinaEmbedder("someones-model", base_url=wire.url("jina"), api_key=wire.key)
    done = open_store(embedder=unknown, reranker=None).add("The old house.", "alice")
    assert done.billed_tokens > 0
    assert done.cost is None


def test_the_store_shows_each_provider_that_counts(
    open_store: Opener, wire: WireServer, embedder: JinaEmbedder
) -> None:
    reranker = JinaReranker(base_url=wire.url("jina"), api_key=wire.key)
    store = open_store(embedder=embedder, reranker=reranker)
    store.add(["The old house.", "A river by the garden."], "alice")
    store.search("house", "alice")
    shown = store.usage()
    assert shown == {"embedder": embedder.usage, "reranker": reranker.usage}
    assert shown["reranker"].requests == 1
    assert open_store("other", embedder=HashEmbedder()).usage() == {}


def test_both_models_are_shown_while_there_are_two(tmp_path: Path, wire: WireServer, embedder: JinaEmbedder) -> None:
    other = made(wire, dimension=32)
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    with MemoryStore.open(tmp_path / "m", embedder=embedder, **parts) as store:
        store.add(["The old house.", "A river by the garden."], "alice")
        store.migrate(other, force=True)
        before = other.usage.tokens + embedder.usage.tokens
        done = store.add("A new text for both.", "alice")
        assert set(store.usage()) == {"embedder", "other_embedder"}
        assert done.billed_tokens == other.usage.tokens + embedder.usage.tokens - before
        assert done.cost == pytest.approx(done.billed_tokens * PRICE / 1e6)
        store.finish()
        assert set(store.usage()) == {"embedder"}


def test_something_else_of_that_name_is_no_usage(open_store: Opener) -> None:
    class Odd(HashEmbedder):
        usage = "none of your business"

    store = open_store(embedder=Odd())
    assert (store.usage(), store.add("a text", "alice").billed_tokens) == ({}, 0)


# ── on the command line ───────────────────────────────────────────────────────────────────────────


@pytest.fixture
def named(wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("WIRE_KEY", wire.key)
    return f"jina:jina-embeddings-v3?dimension=64&key_from=WIRE_KEY&base_url={wire.url('jina')}"


def test_commands_show_tokens_and_cost(invoke: Invoke, named: str) -> None:
    added = data(invoke("add", "notes.md", "-n", "alice", "--embedder", named, "--json"))
    assert added["billed_tokens"] > 0
    found = data(invoke("search", "Lisbon", "-n", "alice", "--embedder", named, "--rerank", "late", "--json"))
    assert found["usage"]["embedder"]["tokens"] > 0
    assert set(found["usage"]["embedder"]) == set(Usage.__slots__)
    assert "tokens billed" in invoke("search", "Lisbon", "-n", "alice", "--embedder", named).stderr
    assert "tokens billed" in invoke("add", "chat.jsonl", "-n", "alice", "--embedder", named).stderr


def test_nothing_is_shown_of_models_on_this_machine(invoke: Invoke) -> None:
    added = invoke("add", "notes.md", "-n", "alice", "--json")
    assert not {"usage", "billed_tokens", "cost"} & set(json.loads(added.stdout))
    found = invoke("search", "Lisbon", "-n", "alice", "--json")
    assert "usage" not in json.loads(found.stdout)
