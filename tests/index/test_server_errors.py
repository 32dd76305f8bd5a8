"""The served index: what a server may answer, what is half made, and what the local mode is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from memory_plugin.errors import (
    ConfigurationError,
    IndexUnavailableError,
    InvalidInputError,
    ManifestMismatchError,
    StoreClosedError,
)
from memory_plugin.flow import Blocking, run
from memory_plugin.index.server import ServerIndex
from memory_plugin.testing.index_examples import EVERYTHING, MANIFEST, create, example, filled
from memory_plugin.types import LegQuery, Point

io = Blocking()


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


class Answering:
    """A client of a server that answers in one way."""

    def __init__(self, answer: Callable[[], Any], version: str = "1.20.1") -> None:
        self._client = None
        self.init_options = {"url": "https://user:secret@example.org:6333", "api_key": "secret"}
        self._answer, self._version = answer, version

    def info(self) -> Any:
        return SimpleNamespace(version=self._version)

    def __getattr__(self, name: str) -> Any:
        return lambda **_: self._answer()


def failing(error: Exception) -> ServerIndex:
    def answer() -> Any:
        raise error

    return ServerIndex(Answering(answer), "memories")  # type: ignore[arg-type]


class Status(Exception):
    """As gRPC's errors are."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def code(self) -> Any:
        return SimpleNamespace(name=self.name)


def response(status: int) -> UnexpectedResponse:
    return UnexpectedResponse(status, "reason", b'{"status": "why"}', httpx.Headers())


@pytest.mark.parametrize(
    ("error", "retryable", "says"),
    [
        (response(500), True, "why"),
        (response(503), True, "why"),
        (response(408), True, "why"),
        (response(429), True, "why"),
        (response(400), False, "why"),
        (response(401), False, "check the API key"),
        (response(403), False, "check the API key"),
        (ResponseHandlingException(httpx.ConnectError("refused")), True, "refused"),
        (ResponseHandlingException(httpx.ReadTimeout("slow")), True, "slow"),
        (ResourceExhaustedResponse("later", 3), True, "later"),
        (TimeoutError("slow"), True, "slow"),
        (Status("UNAVAILABLE"), True, "UNAVAILABLE"),
        (Status("INVALID_ARGUMENT"), False, "INVALID_ARGUMENT"),
        (Status("PERMISSION_DENIED"), False, "check the API key"),
        (ValueError("odd"), False, "odd"),
    ],
    ids=str,
)
def test_whatever_the_client_raises_is_ours_and_says_whether_to_retry(
    error: Exception, retryable: bool, says: str
) -> None:
    with pytest.raises(IndexUnavailableError, match=says) as mapped:
        run(failing(error).read_manifest(io))
    assert mapped.value.retryable is retryable
    assert mapped.value.__cause__ is error
    assert mapped.value.provider == "qdrant"


@pytest.mark.parametrize("old", ["1.18.4", "0.11.0", "1.9.9", ""])
def test_an_old_server_is_refused_with_the_feature_it_lacks(old: str) -> None:
    index = ServerIndex(Answering(lambda: True, old), "memories")  # type: ignore[arg-type]
    for call in (index.read_manifest(io), create(index, io), index.count(io, EVERYTHING)):
        with pytest.raises(IndexUnavailableError, match=r"per-tenant IDF.* came with 1\.19: upgrade"):
            run(call)


@pytest.mark.parametrize("new", ["1.19.0", "1.20.1-dev", "2.0.0", "1.100.0"])
def test_a_newer_server_is_named(new: str) -> None:
    index = ServerIndex(Answering(lambda: False, new), "memories")  # type: ignore[arg-type]
    assert run(index.read_manifest(io)) is None
    assert index.name == f"qdrant {new}"


def test_a_server_is_told_everything_before_the_alias_makes_it_visible() -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    class Recording(Answering):
        def __getattr__(self, name: str) -> Any:
            def call(**arguments: Any) -> Any:
                asked.append((name, arguments))
                return [SimpleNamespace(points=[])] * 2 if name == "query_batch_points" else False

            return call

    client = Recording(lambda: None)
    index = ServerIndex(client, "memories", replication_factor=2, shard_number=6, write_consistency_factor=2)  # type: ignore[arg-type]
    run(create(index, io))
    assert [name for name, _ in asked] == [
        *["collection_exists"] * 2,
        "create_collection",
        *["create_payload_index"] * 4,
        "update_collection_aliases",
    ]
    made = asked[2][1]
    assert (made["replication_factor"], made["shard_number"], made["write_consistency_factor"]) == (2, 6, 2)
    assert made["quantization_config"].turbo.bits == models.TurboQuantBitSize.BITS4
    assert made["sparse_vectors_config"]["s"].modifier == models.Modifier.IDF
    schemas = {arguments["field_name"]: arguments["field_schema"] for _, arguments in asked[3:7]}
    assert [schemas[key].is_tenant for key in ("t", "k")] == [True, False]
    assert all(schemas[key].range and schemas[key].lookup for key in ("n", "m"))
    assert all(arguments["wait"] for _, arguments in asked[3:7])

    asked.clear()
    points = [example(1)]
    run(index.upsert(io, points))
    run(index.delete(io, [points[0].id]))
    run(index.set_payload(io, {"k": "x"}, where=EVERYTHING))
    assert all(arguments["wait"] for _, arguments in asked)
    legs = [LegQuery(name, points[0].vectors[name], EVERYTHING, 5, EVERYTHING) for name in ("d", "s")]
    run(index.search(io, legs))
    dense, lexical = asked[-1][1]["requests"]
    assert dense.params.quantization.rescore
    assert dense.params.idf is None
    assert lexical.params.idf.corpus is not None
    assert not dense.with_payload
    assert not dense.with_vector


def test_credentials_are_not_part_of_the_location(client: QdrantClient) -> None:
    index = ServerIndex(Answering(lambda: None), "memories")  # type: ignore[arg-type]
    assert index.location == "https://example.org:6333/memories"
    assert "secret" not in repr(index)
    assert ServerIndex(client, "memories").location == ":memory:/memories"


def test_the_collection_stands_behind_an_alias(client: QdrantClient) -> None:
    index = ServerIndex(client, "memories", replication_factor=2, shard_number=3, write_consistency_factor=1)
    run(filled(index, io, 3))
    (alias,) = client.get_aliases().aliases
    assert (alias.alias_name, alias.collection_name) == ("memories", "memories__v1")
    run(index.write_manifest(io, {"new": 1}))
    assert run(ServerIndex(client, "memories").read_manifest(io)) == {"new": 1}
    assert run(ServerIndex(client, "memories").count(io, EVERYTHING)) == 3


def test_a_collection_without_its_alias_is_half_made_unless_it_holds_points(client: QdrantClient) -> None:
    delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="memories"))
    run(create(ServerIndex(client, "memories"), io))
    client.update_collection_aliases(change_aliases_operations=[delete])
    index = ServerIndex(client, "memories")
    assert run(index.read_manifest(io)) is None
    with pytest.raises(IndexUnavailableError, match="create it"):
        run(index.count(io, EVERYTHING))
    run(create(index, io))
    assert run(index.read_manifest(io)) == MANIFEST
    run(index.upsert(io, [example(1)]))
    client.update_collection_aliases(change_aliases_operations=[delete])
    with pytest.raises(IndexUnavailableError, match="holds points but the alias"):
        run(create(ServerIndex(client, "memories"), io))
    assert client.count("memories__v1").count == 1


def test_somebody_elses_collection_is_left_alone(client: QdrantClient) -> None:
    client.create_collection("memories", vectors_config={})
    index = ServerIndex(client, "memories")
    with pytest.raises(ManifestMismatchError, match="not made by this library"):
        run(index.read_manifest(io))
    with pytest.raises(IndexUnavailableError, match="already"):
        run(create(index, io))
    with pytest.raises(InvalidInputError):
        ServerIndex(client, "a/b")


def test_an_async_client_asks_for_the_async_store() -> None:
    index = ServerIndex(AsyncQdrantClient(":memory:"), "memories")
    with pytest.raises(ConfigurationError, match="use AsyncMemoryStore"):
        run(index.read_manifest(io))


@pytest.mark.parametrize("owns", [True, False])
def test_only_its_own_client_is_closed(owns: bool) -> None:
    client = QdrantClient(":memory:")
    index = ServerIndex(client, "memories", owns_client=owns)
    run(create(index, io))
    run(index.close(io))
    run(index.close(io))
    with pytest.raises(StoreClosedError):
        run(index.count(io, EVERYTHING))
    if owns:
        with pytest.raises(RuntimeError, match="closed"):
            client.get_collections()
    else:
        assert client.collection_exists("memories")
        client.close()


# What the client's local mode does otherwise than a server, and why no test of it stands for a server's.
LOCAL_DIFFERENCES = {
    "payload indexes": "it has none and warns when asked for one, so none is asked for; facets work without",
    "quantization": "it is ignored, and search parameters but IDF are warned about, so none are sent",
    "version": "info() tells the client's version, not a server's, so it is not checked",
    "cluster": "replication, shard number and write consistency are accepted and mean nothing",
    "validation": "a dimension is checked by numpy, if at all, so ours must come first",
}


def test_the_local_mode_differs_as_listed(client: QdrantClient) -> None:
    shown = set()
    index = ServerIndex(client, "memories", replication_factor=7)
    run(filled(index, io, 5))
    with pytest.warns(UserWarning, match="no effect"):
        client.create_payload_index("memories", "t", models.PayloadSchemaType.KEYWORD)
    assert run(index.facet(io, "k", EVERYTHING, limit=1))
    shown.add("payload indexes")
    stored = client.get_collection("memories").config
    assert stored.quantization_config is None
    shown.add("quantization")
    assert stored.params.replication_factor != 7
    shown.add("cluster")
    assert index.name.endswith("local mode")
    assert client.info().version == index.name.split()[1]
    shown.add("version")
    with pytest.raises(ValueError, match=r"shape|dimension"):  # numpy's, and only on comparing
        client.query_points("memories", query=[1.0], using="d")
    with pytest.raises(InvalidInputError):
        run(index.upsert(io, [Point(example(1).id, {}, {"d": example(1).vectors["d"][:1]})]))  # type: ignore[index]
    shown.add("validation")
    assert shown == LOCAL_DIFFERENCES.keys()
