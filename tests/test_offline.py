"""allow_network=False: whatever leaves this machine, or does not tell, is refused before anything is read or sent."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import AsyncMemoryStore, MemoryStore
from memory_plugin.errors import ConfigurationError, NetworkForbiddenError
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.network import is_loopback, leaves_machine
from memory_plugin.rerankers.late_interaction import MaxSim
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker
from tests.recorders import RemoteEmbedder, RemoteReranker, WordLate

Store = Callable[..., Any]


class Silent:
    """Has what an embedder, a reranker and late interaction need, and tells nothing of where it works."""

    model = encoder = "silent"
    identity = HashEmbedder().identity

    def embed(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("it was reached")

    rerank = pack = tokens = score = embed


LEAVING: dict[str, Any] = {
    "embedder": RemoteEmbedder(),
    "reranker": RemoteReranker(),
    "late": WordLate(leaves_machine=True),
}


@pytest.fixture(params=[MemoryStore, AsyncMemoryStore])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket can be made."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def parts(**given: Any) -> dict[str, Any]:
    return {"embedder": HashEmbedder(), "reranker": None, "late": None, "allow_network": False, **given}


@pytest.mark.parametrize("what", LEAVING)
def test_a_provider_that_leaves_is_refused_at_construction(kind: Any, offline: None, tmp_path: Path, what: str) -> None:
    with pytest.raises(NetworkForbiddenError, match=f"{what}: .* reaches another machine"):
        kind.open(tmp_path / "m", **parts(**{what: LEAVING[what]}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", LEAVING)
def test_one_that_does_not_tell_is_refused_and_told_how(kind: Any, offline: None, tmp_path: Path, what: str) -> None:
    with pytest.raises(NetworkForbiddenError, match=f"{what}: Silent does not tell .* leaves_machine = False"):
        kind.open(tmp_path / "m", **parts(**{what: Silent()}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address", ["https://qdrant.example:6333", "http://10.0.0.5:6333", "http://[2001:db8::1]:6333"]
)
def test_a_server_elsewhere_is_refused_before_there_is_a_client(kind: Any, offline: None, address: str) -> None:
    with pytest.raises(NetworkForbiddenError, match="is another machine"):
        kind.open(address, **parts())


def test_an_index_elsewhere_is_refused_too(kind: Any) -> None:
    from qdrant_client import AsyncQdrantClient, QdrantClient

    from memory_plugin.index.server import ServerIndex

    make: Any = QdrantClient if kind is MemoryStore else AsyncQdrantClient
    away = ServerIndex(make(url="http://qdrant.example:6333", check_compatibility=False), "memory")
    here = ServerIndex(make(url="http://127.0.0.1:6333", check_compatibility=False), "memory")
    inside = ServerIndex(make(":memory:"), "memory")
    assert [leaves_machine(one) for one in (away, here, inside)] == [True, False, False]
    with pytest.raises(NetworkForbiddenError, match="index: ServerIndex reaches another machine"):
        kind(away, **parts())


def test_what_works_here_passes_without_a_socket(offline: None, tmp_path: Path) -> None:
    with MemoryStore.open(tmp_path / "m", reranker=None, keyring=tmp_path / "k.json", allow_network=False) as store:
        store.add("The house by the river.", "alice")
        assert store.search("house", "alice")[0].text == "The house by the river."
    late = WordLate(leaves_machine=False)
    AsyncMemoryStore(EdgeIndex(tmp_path / "n"), **parts(late=late, reranker=OverlapReranker()))
    AsyncMemoryStore(EdgeIndex(tmp_path / "n"), **parts(late=MaxSim()))
    AsyncMemoryStore(EdgeIndex(tmp_path / "n"), embedder="local", allow_network=False)


def test_a_word_that_is_neither_is_no_permission(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="allow_network is True or False"):
        kind.open(tmp_path / "m", **parts(allow_network="no"))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://localhost:6333", True), ("http://127.8.9.1", True), ("http://[::1]:80/x", True), ("localhost", True),
        ("http://models.localhost:1", True), ("http://localhost.example.com", False), ("http://0.0.0.0:80", False),
        ("https://api.example.com", False), ("http://localhost@example.com", False), ("", False), ("http://[", False),
        ("http://127.0.0.1.example.com", False), ("http://192.168.0.2:8080", False),
    ],
)  # fmt: skip
def test_which_addresses_are_this_machine(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


class Probing:
    """An embedding object of LangChain that would be asked for its dimension."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise AssertionError(f"it was sent {texts}")

    def embed_query(self, text: str) -> list[float]:
        raise AssertionError(f"it was sent {text}")


def test_nobody_is_asked_for_anything_before_being_refused(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from memory_plugin import registry
    from memory_plugin.embedders.bridges import Bridge

    for given in (Probing(), Bridge(Probing())):
        with pytest.raises(NetworkForbiddenError, match="embedder: Bridge reaches another machine"):
            kind.open("m", **parts(embedder=given))

    class Asks(RemoteEmbedder):
        def __init__(self) -> None: ...

        @property
        def identity(self) -> Any:  # type: ignore[override]
            raise AssertionError("its service was asked for the dimension")

    monkeypatch.setattr(registry, "EMBEDDERS", {**registry.EMBEDDERS, "asks": (f"{__name__}:Asks", "")})
    monkeypatch.setattr(f"{__name__}.Asks", Asks, raising=False)
    for named in (Asks(), "asks", "asks?dimension=32"):
        with pytest.raises(NetworkForbiddenError, match="embedder: Asks reaches another machine"):
            kind.open("m", **parts(embedder=named))
