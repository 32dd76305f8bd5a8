"""What providers really send, as the server saw it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from memory_plugin.errors import EmbeddingError, InvalidInputError, ManifestMismatchError
from memory_plugin.testing.wire import WireServer
from memory_plugin.types import Embeddings, Matrix
from tests.managed.providers import EMBEDDERS, RERANKERS, embedder, reranker

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as wire:
        yield wire


def sizes(wire: WireServer, vendor: str, key: str, operation: str = "embed") -> list[int]:
    return [len(seen.body[key]) for seen in wire.asked(vendor, operation)]


def vectors(provider: Any, texts: list[str], input_type: str = "document") -> Matrix:
    made = provider.embed(texts, input_type=input_type)
    assert isinstance(made, Embeddings)
    provider.close()
    return made.vectors


def body(wire: WireServer, vendor: str, operation: str = "embed") -> Any:
    return wire.asked(vendor, operation)[-1].body


# ── how many texts go into a request ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("vendor", "key", "number", "expected"),
    [
        ("openai", "input", 2050, [2, 2048]),
        ("ollama", "input", 70, [1, 6, 32, 32]),  # one word asks for the dimension
        ("cohere", "texts", 200, [8, 96, 96]),
        ("voyage", "input", 1001, [1, 1000]),
        ("jina", "input", 600, [88, 512]),
        ("zeroentropy", "input", 300, [44, 128, 128]),
        ("tei", "inputs", 70, [1, 6, 32, 32]),
    ],
)
def test_requests_keep_to_the_vendors_number(
    wire: WireServer, vendor: str, key: str, number: int, expected: list[int]
) -> None:
    provider = embedder(vendor, wire, dimension=None)
    assert len(vectors(provider, [f"text {place}" for place in range(number)])) == number
    assert sorted(sizes(wire, vendor, key)) == expected


def test_requests_keep_to_the_vendors_tokens(wire: WireServer) -> None:
    texts = [f"{'word ' * 7000} {place}" for place in range(44)]  # 308,000 tokens
    vectors(embedder("openai", wire, dimension=8), texts)
    assert sorted(sizes(wire, "openai", "input")) == [2, 42]
    wire.heal()
    vectors(embedder("voyage", wire, model="voyage-code-3"), texts[:18])
    assert max(sizes(wire, "voyage", "input")) < 18
    assert sum(sizes(wire, "voyage", "input")) == 18


def test_a_smaller_batch_is_kept_to(wire: WireServer) -> None:
    vectors(embedder("openai", wire, batch=10), [f"text {place}" for place in range(25)])
    assert sorted(sizes(wire, "openai", "input")) == [5, 10, 10]


@pytest.mark.parametrize("vendor", RERANKERS)
def test_a_score_does_not_depend_on_the_request(wire: WireServer, vendor: str) -> None:
    texts = [f"the cat sleeps {place}" if place % 3 else f"rates {place}" for place in range(50)]
    whole, parted = reranker(vendor, wire), reranker(vendor, wire, batch=7)
    assert parted.rerank("a cat sleeps", texts) == pytest.approx(whole.rerank("a cat sleeps", texts))
    assert len(wire.asked(vendor, "rerank")) > 8
    whole.close()
    parted.close()


def test_a_model_that_reads_all_texts_together_gets_them_in_one_request(wire: WireServer) -> None:
    provider = reranker("jina", wire, model="jina-reranker-v3", batch=20)
    provider.rerank("cat", ["a cat"] * 20)
    with pytest.raises(InvalidInputError, match="reads all texts together, at most 20, not 21"):
        provider.rerank("cat", ["a cat"] * 21)
    provider.close()
    assert sizes(wire, "jina", "documents", "rerank") == [20]


# ── what the model is told ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("vendor", "key", "query", "document"),
    [
        ("cohere", "input_type", "search_query", "search_document"),
        ("voyage", "input_type", "query", "document"),
        ("jina", "task", "retrieval.query", "retrieval.passage"),
        ("zeroentropy", "input_type", "query", "document"),
    ],
)
def test_queries_and_documents_are_told_apart(
    wire: WireServer, vendor: str, key: str, query: str, document: str
) -> None:
    provider = embedder(vendor, wire)
    asked, kept = vectors(provider, ["a cat"], "query"), vectors(provider, ["a cat"])
    assert [seen.body[key] for seen in wire.asked(vendor)] == [query, document]
    assert 0.5 < float(asked[0] @ kept[0]) < 0.999
    identity = provider.identity
    assert (identity.query_prefix, identity.document_prefix) == (f"[{query}]", f"[{document}]")


@pytest.mark.parametrize("vendor", ["openai", "ollama", "tei"])
def test_prefixes_are_put_where_the_service_puts_none(wire: WireServer, vendor: str) -> None:
    provider = embedder(vendor, wire, query_prefix="query: ", document_prefix="passage: ")
    provider.embed(["a cat"], input_type="query")
    assert "query: a cat" in str(body(wire, vendor))
    provider.embed(["a cat"], input_type="document")
    assert "passage: a cat" in str(body(wire, vendor))
    assert (provider.identity.query_prefix, provider.identity.document_prefix) == ("query: ", "passage: ")
    provider.close()


@pytest.mark.parametrize(
    ("vendor", "dimension", "key"),
    [
        ("openai", 256, "dimensions"),
        ("azure", 256, "dimensions"),
        ("ollama", 256, "dimensions"),
        ("cohere", 256, "output_dimension"),
        ("voyage", 256, "output_dimension"),
        ("jina", 256, "dimensions"),
        ("zeroentropy", 320, "dimensions"),
        ("tei", 128, "dimensions"),
    ],
)
def test_shorter_vectors_are_asked_for(wire: WireServer, vendor: str, dimension: int, key: str) -> None:
    provider = embedder(vendor, wire, dimension=dimension)
    assert provider.identity.dimension == dimension
    assert len(wire.asked(vendor)) == 0
    made = vectors(provider, ["a cat", "a dog"])
    assert made.shape == (2, dimension)
    assert np.linalg.norm(made, axis=1) == pytest.approx(np.ones(2), abs=1e-5)
    assert body(wire, vendor)[key] == dimension


@pytest.mark.parametrize("vendor", EMBEDDERS)
def test_the_models_own_dimension_is_not_asked_for(wire: WireServer, vendor: str) -> None:
    vectors(embedder(vendor, wire), ["a cat"])
    assert not {"dimensions", "output_dimension"} & set(body(wire, vendor))


@pytest.mark.parametrize(
    ("vendor", "model", "dimension"),
    [
        ("openai", "text-embedding-3-small", 1537),
        ("openai", "text-embedding-ada-002", 256),
        ("cohere", "embed-english-v3.0", 512),
        ("voyage", "voyage-3", 512),
        ("zeroentropy", "zembed-1", 100),
    ],
)
def test_a_dimension_that_the_model_does_not_have_is_refused(
    wire: WireServer, vendor: str, model: str, dimension: int
) -> None:
    with pytest.raises(InvalidInputError, match="dimensions, not"):
        embedder(vendor, wire, model=model, dimension=dimension) if vendor != "ollama" else None
    assert wire.requests == []


@pytest.mark.parametrize("vendor", ["cohere", "voyage"])
def test_whole_numbers_may_travel_instead_of_floats(wire: WireServer, vendor: str) -> None:
    floats, whole = embedder(vendor, wire), embedder(vendor, wire, output_type="int8")
    assert whole.identity.output_type == "int8"
    assert whole.identity != floats.identity
    texts = ["a cat sleeps", "rates rose"]
    cosines = (vectors(floats, texts) * vectors(whole, texts)).sum(axis=1)
    assert cosines == pytest.approx(np.ones(2), abs=0.01)
    assert (cosines < 1 - 1e-9).all()
    assert "int8" in str(body(wire, vendor))


# ── texts that are too long ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("vendor", "named", "words"),
    [
        ("openai", {}, 20_000),
        ("cohere", {"model": "embed-english-v3.0"}, 1500),
        ("jina", {}, 20_000),
        ("tei", {}, 1500),
    ],
)
def test_a_text_too_long_is_embedded_in_parts(wire: WireServer, vendor: str, named: dict[str, Any], words: int) -> None:
    long = " ".join(f"{['cat', 'dog', 'rate'][place % 3]}{place % 50}" for place in range(words))
    provider = embedder(vendor, wire, **named)
    alone, both = vectors(provider, ["a cat"]), vectors(provider, ["a cat", long, "a dog"])
    assert both.shape == (3, provider.identity.dimension)
    assert both[0] @ alone[0] == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(both, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    # The mean of the parts is what the whole would have been, since these vectors are sums of words.
    start = vectors(provider, [" ".join(long.split()[:150])])
    assert float(both[1] @ start[0]) > 0.9


@pytest.mark.parametrize(("vendor", "words"), [("openai", 9000), ("cohere", 600), ("jina", 9000), ("tei", 600)])
def test_a_text_too_long_is_refused_where_it_is_to_be(wire: WireServer, vendor: str, words: int) -> None:
    provider = embedder(vendor, wire, too_long="refuse")
    if vendor == "cohere":
        provider = embedder(vendor, wire, too_long="refuse", model="embed-english-v3.0")
    before = len(wire.asked(vendor))
    with pytest.raises(InvalidInputError, match=r"texts\[1\] has some \d+ tokens, more than the \d+ that the model"):
        provider.embed(["fine", "word " * words], input_type="document")
    assert provider.max_tokens is not None
    assert embedder(vendor, wire).max_tokens is None
    provider.close()
    assert [seen.body for seen in wire.asked(vendor)[before:] if "fine" in str(seen.body)] == []


def test_a_text_too_long_for_a_reranker_counts_as_its_best_part(wire: WireServer) -> None:
    provider = reranker("tei", wire)
    long = "filler " * 700 + "the cat sleeps"
    low, high, best = provider.rerank("the cat sleeps", ["filler filler", "the cat sleeps", long])
    assert low < best
    assert best == pytest.approx(high)
    refusing = reranker("tei", wire, too_long="refuse")
    with pytest.raises(InvalidInputError, match=r"texts\[0\] has some"):
        refusing.rerank("the cat sleeps", [long])
    with pytest.raises(InvalidInputError, match="the query has more than"):
        refusing.rerank("cat " * 700, ["a cat"])
    assert len(provider.rerank("cat " * 700, ["a cat"])) == 1
    provider.close()
    refusing.close()


@pytest.mark.parametrize("vendor", [*EMBEDDERS])
@pytest.mark.parametrize("text", ["", " \n\t", "a\udc80b"], ids=ascii)
def test_what_nobody_can_embed_is_refused_before_it_is_sent(wire: WireServer, vendor: str, text: str) -> None:
    provider = embedder(vendor, wire)
    with pytest.raises(InvalidInputError, match=r"texts\[1\]"):
        provider.embed(["fine", text], input_type="document")
    with pytest.raises(InvalidInputError, match="list of texts"):
        provider.embed("a text", input_type="document")
    with pytest.raises(InvalidInputError, match=r"texts\[0\] is a int"):
        provider.embed([7], input_type="document")
    with pytest.raises(InvalidInputError, match="input_type"):
        provider.embed(["fine"], input_type="passage")
    assert wire.requests == []


# ── images ────────────────────────────────────────────────────────────────────────────────────────


def test_images_are_embedded_in_the_space_of_texts(wire: WireServer) -> None:
    provider = embedder("cohere", wire)
    made = provider.embed_images([PNG, PNG + b"2", b"\xff\xd8\xff0"])
    assert made.vectors.shape == (3, provider.identity.dimension)
    assert np.linalg.norm(made.vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    sent = body(wire, "cohere")
    assert sent["input_type"] == "image"
    assert sent["images"][0] == "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert sent["images"][2].startswith("data:image/jpeg;")
    assert provider.embed_images([]).vectors.shape == (0, 1536)
    provider.close()


def test_images_keep_to_the_vendors_number_and_bytes(wire: WireServer) -> None:
    old = embedder("cohere", wire, model="embed-english-v3.0")
    old.embed_images([PNG] * 3)
    assert sizes(wire, "cohere", "images") == [1, 1, 1]
    wire.heal()
    new = embedder("cohere", wire)
    new.embed_images([PNG + bytes(8 * 2**20)] * 3)
    assert sorted(sizes(wire, "cohere", "images")) == [1, 1, 1]
    with pytest.raises(InvalidInputError, match=r"images\[0\] has \d+ bytes, more than"):
        old.embed_images([PNG + bytes(6 * 2**20)])
    with pytest.raises(InvalidInputError, match=r"images\[1\] is no PNG"):
        new.embed_images([PNG, b"%PDF-1.7"])
    with pytest.raises(InvalidInputError, match=r"images\[0\] is a str"):
        new.embed_images(["cat.png"])
    old.close()
    new.close()


# ── several at a time ─────────────────────────────────────────────────────────────────────────────


def test_no_more_requests_at_a_time_than_allowed_whoever_makes_them(wire: WireServer) -> None:
    provider = embedder("voyage", wire, batch=1, concurrency=3)
    wire.fail("voyage", "slow", times=None, seconds=0.05)
    inside, most, guard = 0, 0, threading.Lock()
    post = type(provider)._request

    def counted(*given: Any) -> Any:
        nonlocal inside, most
        with guard:
            inside += 1
            most = max(most, inside)
        try:
            return post(*given)
        finally:
            with guard:
                inside -= 1

    provider._request = lambda *given: counted(provider, *given)
    texts = [f"text {place}" for place in range(12)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: provider.embed(texts, input_type="document").vectors, range(4)))
    assert all(np.allclose(made[0], one) for one in made)
    assert most == 3
    assert provider.usage.texts == provider.usage.requests == 48
    provider.close()


def test_after_a_failure_no_further_request_is_begun(wire: WireServer) -> None:
    provider = embedder("openai", wire, batch=1, concurrency=2)
    wire.fail("openai", "unauthorized", times=None)
    with pytest.raises(EmbeddingError):
        provider.embed([f"text {place}" for place in range(100)], input_type="document")
    provider.close()
    assert len(wire.asked("openai")) <= 4


@pytest.mark.parametrize("vendor", EMBEDDERS)
def test_an_argument_that_there_is_not_is_refused(wire: WireServer, vendor: str) -> None:
    with pytest.raises(InvalidInputError, match=r"no argument 'dimensions'; beside its own there are: api_key, attem"):
        embedder(vendor, wire, dimensions=256)


def test_an_error_with_status_200_is_told(wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = embedder("voyage", wire, attempts=1)
    monkeypatch.setattr(provider, "_request", lambda *given: {"error": "the model is asleep"})
    with pytest.raises(EmbeddingError, match="without 'data': it says 'the model is asleep'"):
        provider.embed(["a cat"], input_type="document")
    provider.close()


# ── what a server says of itself ──────────────────────────────────────────────────────────────────


def test_tei_is_asked_once(wire: WireServer) -> None:
    provider = embedder("tei", wire, dimension=128)
    assert wire.requests == []
    for _ in range(3):
        provider.embed(["a cat"], input_type="document")
    provider.close()
    assert len(wire.asked("tei", "info")) == 1
    identity = provider.identity
    assert (identity.model, identity.revision) == ("BAAI/bge-small-en-v1.5", "1c9745ed1d9f2074+float32")


def test_tei_with_another_model_is_refused(wire: WireServer) -> None:
    provider = embedder("tei", wire, model="BAAI/bge-m3")
    with pytest.raises(ManifestMismatchError, match=r"runs 'BAAI/bge-small-en-v1.5', not 'BAAI/bge-m3'"):
        provider.embed(["a cat"], input_type="document")
    provider.close()


def test_an_unknown_models_dimension_is_asked_for_once(wire: WireServer) -> None:
    provider = embedder("openai", wire, model="some-model")
    assert provider.identity.dimension == wire.dimension
    assert provider.identity.dimension == wire.dimension
    assert [seen.body["input"] for seen in wire.asked("openai")] == [["dimension"]]
    vectors(provider, ["a cat"])
    assert len(wire.asked("openai")) == 2
