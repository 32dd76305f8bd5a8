"""The served index while others change it: what it sees, what it tells the server, how long it waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from memory_plugin.errors import IndexUnavailableError, InvalidInputError
from memory_plugin.flow import Blocking, run
from memory_plugin.index import server_collection
from memory_plugin.index.layout import Layout, pack_manifest
from memory_plugin.index.server import ServerIndex
from memory_plugin.testing.index_changing import found, only, row
from memory_plugin.testing.index_examples import EVERYTHING, MANIFEST, example, filled, point_id, sparse
from memory_plugin.types import HasVector, LegQuery
from memory_plugin.vectors import QUANTIZATIONS

io = Blocking()


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


def test_what_another_process_adds_is_seen_without_opening_again(client: QdrantClient) -> None:
    mine, others = ServerIndex(client, "memories"), ServerIndex(client, "memories")
    run(filled(mine, io, 5))
    run(others.add_vectors(io, dense={"later": 5}, weighted=["w"]))
    run(mine.update_vectors(io, [only(3, later=row(3))]))
    assert run(found(mine, io, "later", row(3))) == [point_id(3)]
    assert run(found(others, io, "w", sparse({1: 1.0}))) == []
    run(mine.write_manifest(io, {"mine": 1}))
    run(others.drop_vectors(io, ["d2"]))
    run(mine.write_manifest(io, {"mine": 2}))
    assert run(others.read_manifest(io)) == {"mine": 2}
    assert run(others.count(io, HasVector("later"))) == 1


def test_a_vector_that_another_process_dropped_is_an_input_error(client: QdrantClient) -> None:
    mine, others = ServerIndex(client, "memories"), ServerIndex(client, "memories")
    run(filled(mine, io, 5))
    run(others.drop_vectors(io, ["d2"]))
    for call in (
        lambda: mine.upsert(io, [only(1, d2=row(1, 3))]),
        lambda: mine.search(io, [LegQuery("d2", row(1, 3), EVERYTHING, 3)]),
        lambda: mine.update_vectors(io, [only(1, d2=row(1, 3))]),
    ):
        with pytest.raises(InvalidInputError, match="d2"):
            run(call())
    assert run(mine.count(io, EVERYTHING)) == 5


def test_another_quantization_is_noticed_within_a_minute(client: QdrantClient, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, others = ServerIndex(client, "memories"), ServerIndex(client, "memories")
    run(filled(mine, io, 5))
    run(others.quantize(io, "binary"))
    clock = time.monotonic() + 61
    monkeypatch.setattr(server_collection, "time", SimpleNamespace(monotonic=lambda: clock))
    run(found(mine, io, "d", row(1, 8)))
    assert run(mine._collection.layout(io)).quantization == "binary"


def response(status: int, text: str) -> UnexpectedResponse:
    return UnexpectedResponse(status, "reason", text.encode(), httpx.Headers())


class Server:
    """A client of a server that says what it is told to, and writes down what it was asked."""

    def __init__(self, **answers: Callable[..., Any]) -> None:
        self._client = None
        self.init_options = {"url": "https://example.org:6333"}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._statuses = ["green"]
        self._answers = answers

    def statuses(self, *statuses: str) -> None:
        self._statuses = list(statuses)

    def get_collection(self, **_: Any) -> Any:
        layout = Layout({"d": 8}, ("s",), ("t",), (), "t", ("w",))
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        params = models.CollectionParams(
            vectors={"d": models.VectorParams(size=8, distance=models.Distance.COSINE)},
            sparse_vectors={
                "s": models.SparseVectorParams(modifier=models.Modifier.IDF),
                "w": models.SparseVectorParams(),
            },
        )
        return SimpleNamespace(
            status=SimpleNamespace(value=status),
            optimizer_status="why",
            config=SimpleNamespace(metadata={"memory_plugin": pack_manifest(layout, MANIFEST)}, params=params),
        )

    def info(self) -> Any:
        return SimpleNamespace(version="1.20.1")

    def collection_exists(self, **_: Any) -> bool:
        return True

    def get_aliases(self) -> Any:
        return SimpleNamespace(aliases=[SimpleNamespace(alias_name="memories", collection_name="memories__v1")])

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.asked.append((name, arguments))
            answer = self._answers.get(name)
            return None if answer is None else answer(**arguments)

        return call


def served(server: Server) -> ServerIndex:
    return ServerIndex(server, "memories")  # type: ignore[arg-type]


def test_a_server_is_told_of_each_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    run(served(server).add_vectors(io, dense={"later": 5, "d": 8}, weighted=["w", "v"]))
    run(served(server).drop_vectors(io, ["w", "absent"]))
    assert [(name, arguments["vector_name"], arguments["wait"]) for name, arguments in server.asked] == [
        ("create_vector_name", "later", True),
        ("create_vector_name", "v", True),
        ("delete_vector_name", "w", True),
    ]
    dense, weighted = (arguments["vector_name_config"] for _, arguments in server.asked[:2])
    assert (dense.dense.size, dense.dense.distance) == (5, models.Distance.COSINE)
    assert weighted.sparse.modifier is None


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_server_is_told_of_the_quantization_and_waited_for(
    quantization: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, slept = Server(), list[float]()
    monkeypatch.setattr(time, "sleep", slept.append)
    server.statuses("green", "green", "grey", "yellow", "yellow", "green")
    run(served(server).quantize(io, quantization))
    (name, changed), (begun, _) = server.asked
    assert name == begun == "update_collection"
    assert changed["collection_name"] == "memories__v1"
    assert f'"quantization": "{quantization}"' in changed["metadata"]["memory_plugin"]
    told = {
        "none": models.Disabled.DISABLED,
        "turbo4": models.TurboQuantization(
            turbo=models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS4)
        ),
        "turbo2": models.TurboQuantization(
            turbo=models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS2)
        ),
        "int8": models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99)
        ),
        "binary": models.BinaryQuantization(binary=models.BinaryQuantizationConfig()),
    }
    assert changed["quantization_config"] == told[quantization]
    assert slept == [1.0] * 3


def test_a_server_that_cannot_optimize_is_an_error_and_one_that_goes_on_is_retryable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server()
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for status, says, retryable in (("red", "why; look into its log", False), ("yellow", "settle again later", True)):
        server.statuses(status)
        with pytest.raises(IndexUnavailableError, match=says) as raised:
            run(served(server).settle(io))
        assert raised.value.retryable is retryable


@pytest.mark.parametrize("weighted", [True, False])
def test_only_a_vector_with_idf_is_asked_with_a_corpus(weighted: bool) -> None:
    server = Server(query_batch_points=lambda **_: [SimpleNamespace(points=[])])
    leg = LegQuery("w" if weighted else "s", sparse({1: 1.0}), EVERYTHING, 3, EVERYTHING)
    run(served(server).search(io, [leg]))
    (request,) = server.asked[0][1]["requests"]
    assert (request.params is None) is weighted


@pytest.mark.parametrize("times", [1, 2, 99])
def test_points_that_are_deleted_while_their_vectors_are_set_are_passed_over(times: int) -> None:
    failures = iter(range(times))

    def update(**_: Any) -> None:
        if next(failures, None) is not None:
            raise response(404, '{"status":{"error":"Not found: No point with id 00000000 found"}}')

    alive = [models.Record(id=point_id(n)) for n in (1, 2)]
    server = Server(update_vectors=update, retrieve=lambda **_: alive)
    points = [only(n, d=np.ones(8, dtype=np.float32)) for n in (1, 2, 3)]
    if times == 99:
        with pytest.raises(IndexUnavailableError, match="No point with id"):
            run(served(server).update_vectors(io, points))
        return
    run(served(server).update_vectors(io, points))
    sent = [arguments["points"] for name, arguments in server.asked if name == "update_vectors"]
    assert len(sent) == times + 1
    assert [point.id for point in sent[-1]] == [point_id(1), point_id(2)]


def test_another_failure_of_setting_vectors_is_not_tried_again() -> None:
    def update(**_: Any) -> None:
        raise response(500, "why")

    server = Server(update_vectors=update, retrieve=lambda **_: [models.Record(id=point_id(1))])
    with pytest.raises(IndexUnavailableError, match="why"):
        run(served(server).update_vectors(io, [only(1, d=example(1).vectors["d"])]))
    assert [name for name, _ in server.asked] == ["retrieve", "update_vectors"]
