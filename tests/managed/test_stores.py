"""Stores whose models are behind an API, both ways: made, found again, and what happens when the API fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import (
    EmbeddingError,
    ManifestMismatchError,
    QuotaError,
    RerankError,
    Settings,
)
from memory_plugin.testing.wire import WireServer
from tests.conftest import Opener
from tests.managed import providers
from tests.managed.providers import EMBEDDERS, RERANKERS, reranker

TEXTS = ["The cat sleeps on the sofa.", "Interest rates rose by a quarter point.", "Error E1042: certificate expired."]


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as wire:
        yield wire


QUICK = {"attempts": 2, "backoff": 0.01}
SMALL = {
    "openai": 64,
    "azure": 64,
    "ollama": 64,
    "cohere": 256,
    "voyage": 256,
    "jina": 64,
    "zeroentropy": 80,
    "tei": 64,
}


def embedder(vendor: str, wire: WireServer, **options: Any) -> Any:
    """With short vectors: what a store does with long ones takes a while."""
    return providers.embedder(vendor, wire, dimension=SMALL[vendor], **options)


@pytest.mark.parametrize("vendor", EMBEDDERS)
def test_a_store_is_made_and_opened_again(open_store: Opener, wire: WireServer, vendor: str) -> None:
    options = {"embedder": embedder(vendor, wire), "reranker": None}
    if vendor in RERANKERS:
        options["reranker"] = reranker(vendor, wire)
    store = open_store(**options)
    store.add(TEXTS, "alice")
    hit = store.search("where does the cat sleep", "alice", limit=1)[0]
    assert hit.text == TEXTS[0]
    assert ("rerank" in hit.stages) == (vendor in RERANKERS)
    store.close()
    again = open_store(**{**options, "embedder": embedder(vendor, wire)})
    assert again.search("interest rates", "alice", limit=1)[0].text == TEXTS[1]
    again.close()
    for one in options.values():
        if one is not None:
            one.close()


def test_a_name_makes_the_provider(open_store: Opener, wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIRE_KEY", wire.key)
    named = f"?base_url={wire.url('voyage')}&key_from=WIRE_KEY&dimension=256"
    store = open_store(
        embedder=f"voyage:voyage-code-3{named}", reranker=f"voyage{named.removesuffix('&dimension=256')}"
    )
    store.add(TEXTS, "alice")
    assert store.search("cat", "alice", limit=1)[0].text == TEXTS[0]
    assert {seen.body["output_dimension"] for seen in wire.asked("voyage")} == {256}


def test_another_address_is_another_model_unless_it_is_said_to_be_the_same(
    open_store: Opener, wire: WireServer
) -> None:
    with WireServer() as elsewhere:
        open_store(embedder=embedder("openai", wire)).close()
        with pytest.raises(ManifestMismatchError, match=r"revision +v1@127.0.0.1:\d+ +v1@127.0.0.1:\d+ +←"):
            open_store(embedder=embedder("openai", elsewhere))
        open_store("named", embedder=embedder("openai", wire, revision="ours")).close()
        open_store("named", embedder=embedder("openai", elsewhere, revision="ours")).close()


@pytest.mark.parametrize(("vendor", "model"), [("ollama", "nomic-embed-text"), ("tei", None)])
def test_a_service_that_tells_its_weights_may_move(
    open_store: Opener, wire: WireServer, vendor: str, model: str | None
) -> None:
    with WireServer() as elsewhere:
        open_store(embedder=embedder(vendor, wire)).close()
        open_store(embedder=embedder(vendor, elsewhere)).close()
        elsewhere.revision = "2"
        with pytest.raises(ManifestMismatchError, match="revision"):
            open_store(embedder=embedder(vendor, elsewhere))


@pytest.mark.parametrize("vendor", EMBEDDERS)
def test_when_the_vendor_fails_nothing_is_half_written(open_store: Opener, wire: WireServer, vendor: str) -> None:
    made = embedder(vendor, wire, **QUICK)
    store = open_store(embedder=made, reranker=None)
    store.add(TEXTS[:1], "alice")
    wire.fail(vendor, "server-error", times=None)
    with pytest.raises(EmbeddingError) as caught:
        store.add(TEXTS[1:], "alice")
    assert caught.value.retryable
    assert store.count("alice") == 1
    with pytest.raises(EmbeddingError):
        store.search("cat", "alice")
    wire.heal()
    wire.fail(vendor, "quota")
    with pytest.raises(QuotaError):
        store.add(TEXTS[1:], "alice")
    store.add(TEXTS[1:], "alice")
    assert store.count("alice") == 3
    made.close()


@pytest.mark.parametrize("vendor", RERANKERS)
def test_when_the_reranker_fails_it_is_as_the_settings_say(open_store: Opener, wire: WireServer, vendor: str) -> None:
    judge = reranker(vendor, wire, **QUICK)
    keeping = open_store(reranker=judge, settings=Settings(on_rerank_error="keep_fused"))
    raising = open_store("raising", reranker=judge)
    for store in (keeping, raising):
        store.add(TEXTS, "alice")
    wire.fail(vendor, "quota", times=1)
    found: Any = keeping.search("the cat", "alice")
    assert found.rerank == "failed"
    assert found[0].text == TEXTS[0]
    wire.fail(vendor, "unavailable", times=2)
    with pytest.raises(RerankError):
        raising.search("the cat", "alice")
    assert raising.search("the cat", "alice").rerank == "applied"
    judge.close()


def test_a_vendor_that_changes_its_model_in_silence_is_not_seen_by_its_identity(
    wire: WireServer, tmp_path: Path
) -> None:
    """Which is why a store keeps canaries."""
    made = embedder("openai", wire)
    before, identity = made.embed(["a cat"], input_type="document").vectors, made.identity
    wire.revision = "2"
    after = made.embed(["a cat"], input_type="document").vectors
    assert made.identity == identity
    assert float((before * after).sum()) < 0.5
    made.close()
