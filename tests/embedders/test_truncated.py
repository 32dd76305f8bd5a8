"""Vectors cut short: the same numbers, of unit length, of models that were trained for it."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_plugin import AsyncMemoryStore, MemoryStore, registry
from memory_plugin.embedders.local import LocalEmbedder
from memory_plugin.embedders.truncated import FAMILIES, Truncated, family, shortened
from memory_plugin.errors import ConfigurationError
from memory_plugin.manifest import space
from memory_plugin.network import leaves_machine
from memory_plugin.testing.doubles import AsyncHashEmbedder, HashEmbedder
from memory_plugin.testing.providers import EmbedderTests
from memory_plugin.types import Embeddings, InputType, Usage

TEXTS = ["My sister Ana lives in Porto.", "The invoice of 12 May was paid twice."]


class Trained(HashEmbedder):
    """Says of itself that it may be cut."""

    matryoshka: Any = True
    usage = Usage(requests=3)

    def embed_images(self, images: Sequence[bytes], /) -> Embeddings:
        """As the text of the same bytes."""
        return self.embed([image.decode() for image in images], input_type="document")


class Named(HashEmbedder):
    """A model of that name."""

    def __init__(self, model: str, dimension: int = 768) -> None:
        super().__init__(dimension)
        self.identity = replace(self.identity, model=model)


class TestTruncated(EmbedderTests):
    @pytest.fixture
    def embedder(self) -> Truncated:
        return Truncated(LocalEmbedder(), 128, force=True)


def test_the_first_numbers_of_unit_length() -> None:
    inner = LocalEmbedder()
    whole = inner.embed(TEXTS, input_type="document")
    cut = Truncated(inner, 96, force=True).embed(TEXTS, input_type="document")
    assert isinstance(cut, Embeddings)
    first = whole.vectors[:, :96]
    assert cut.vectors.dtype == np.float32
    np.testing.assert_allclose(cut.vectors, first / np.linalg.norm(first, axis=1, keepdims=True), atol=1e-6)
    assert cut.tokens is not None
    assert whole.tokens is not None
    assert cut.tokens[0].vectors.shape == whole.tokens[0].vectors.shape  # late interaction sees the whole


def test_everything_else_is_the_inner_ones() -> None:
    inner = LocalEmbedder()
    cut = Truncated(inner, 128, force=True)
    assert cut.identity == replace(inner.identity, dimension=128)
    assert space(cut.identity) != space(inner.identity)
    assert (cut.encoder, cut.max_tokens, cut.count("a b")) == (inner.encoder, inner.max_tokens, inner.count("a b"))
    assert registry.pieces(cut) is cut
    assert not leaves_machine(cut)
    assert Truncated(Trained(), 8).usage == Usage(requests=3)
    assert not hasattr(cut, "embed_images")
    assert not hasattr(cut, "usage")
    assert copy.copy(cut).identity == pickle.loads(pickle.dumps(cut)).identity == cut.identity


def test_images_are_cut_too() -> None:
    cut = Truncated(Trained(), 16)
    image = cut.embed_images([TEXTS[0].encode()])
    text = cut.embed(TEXTS[:1], input_type="document")
    assert isinstance(text, Embeddings)
    np.testing.assert_array_equal(image.vectors, text.vectors)
    assert image.vectors.shape == (1, 16)


def test_plain_lists_and_a_zero_vector() -> None:
    class Lists:
        identity = HashEmbedder(4).identity
        matryoshka = (2, 3)

        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> list[list[float]]:
            return [[3.0, 4.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0]]

    made = Truncated(Lists(), 2).embed(["a", "b"], input_type="query")
    assert isinstance(made, Embeddings)
    np.testing.assert_allclose(made.vectors, np.array([[0.6, 0.8], [0, 0]]), atol=1e-7)
    assert Truncated(Lists(), 4).identity.dimension == 4  # whole: nothing to be trained for
    with pytest.raises(ConfigurationError, match="trained for the dimensions 2, 3, not 1"):
        Truncated(Lists(), 1)


def test_nomic_takes_the_mean_away_first() -> None:
    """Its card: layer norm, cut, unit length; the layer norm's scale goes with the length."""
    vectors = np.random.default_rng(1).normal(0.3, 1, (5, 768)).astype(np.float32)

    class Nomic(Named):
        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
            return Embeddings(vectors)

    made = Truncated(Nomic("nomic-ai/nomic-embed-text-v1.5"), 256).embed(["x"] * 5, input_type="document")
    assert isinstance(made, Embeddings)
    normed = (vectors - vectors.mean(axis=1, keepdims=True)) / vectors.std(axis=1, keepdims=True)
    expected = normed[:, :256] / np.linalg.norm(normed[:, :256], axis=1, keepdims=True)
    np.testing.assert_allclose(made.vectors, expected, atol=1e-5)
    assert not np.allclose(made.vectors, shortened(vectors, 256), atol=1e-3)


@pytest.mark.parametrize(
    ("model", "least"),
    [
        ("text-embedding-3-large", 256),
        ("embed-v4.0", 256),
        ("voyage-3.5-lite", 256),
        ("voyage-code-3", 256),
        ("nomic-ai/nomic-embed-text-v1.5", 64),
        ("nomic-embed-text:latest", 64),
        ("nomic-ai/nomic-embed-text-v2-moe", 256),
        ("jinaai/jina-embeddings-v3", 32),
        ("mixedbread-ai/mxbai-embed-large-v1", 64),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", 256),
        ("Alibaba-NLP/gte-multilingual-base", 128),
        ("Qwen/Qwen3-Embedding-0.6B", 32),
        ("qwen3-embedding:0.6b-fp16", 32),
        ("google/embeddinggemma-300m", 128),
        ("tomaarsen/mpnet-base-nli-matryoshka", 1),
        ("sentence-transformers/static-retrieval-mrl-en-v1", 1),
    ],
)
def test_models_that_were_trained_for_it(model: str, least: int) -> None:
    found = family(model)
    assert found is not None
    assert found.least == least
    assert Truncated(Named(model), 512).identity.dimension == 512
    if least > 1:
        with pytest.raises(ConfigurationError, match=rf"trained for {least} dimensions and more, not {least - 1}"):
            Truncated(Named(model), least - 1)
        assert Truncated(Named(model), least - 1, force=True).identity.dimension == least - 1


@pytest.mark.parametrize(
    "model",
    [
        "all-MiniLM-L6-v2",
        "text-embedding-ada-002",
        "embed-english-v3.0",
        "voyage-3",
        "voyage-3-lite",
        "nomic-ai/nomic-embed-text-v1",
        "jina-embeddings-v2-base-en",
        "BAAI/bge-m3",
        "BAAI/bge-small-en-v1.5",
        "intfloat/e5-large-v2",
        "zembed-1",
        "snowflake-arctic-embed-l",
        "my-text-embedding-3-small-copy",
    ],
)
def test_models_that_were_not(model: str) -> None:
    assert family(model) is None
    with pytest.raises(ConfigurationError, match=r"not known to be trained for shorter vectors.*force=True"):
        Truncated(Named(model), 256)
    assert Truncated(Named(model), 256, force=True).identity.dimension == 256


def test_a_model_that_says_no_is_not_looked_up() -> None:
    class Changed(Named):
        matryoshka = False

    with pytest.raises(ConfigurationError, match="not known to be trained"):
        Truncated(Changed("text-embedding-3-small"), 256)


def test_families_are_told_apart() -> None:
    assert len({one.name for one in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("dimension", [0, -1, 65, 1.5, True, "32", None])
def test_what_is_no_dimension(dimension: Any) -> None:
    with pytest.raises(ConfigurationError, match="a whole number from 1 to 64"):
        Truncated(HashEmbedder(64), dimension, force=True)


def test_an_asynchronous_one(tmp_path: Path) -> None:
    class AsyncTrained(AsyncHashEmbedder):
        matryoshka = True

    async def asked() -> list[str]:
        cut = Truncated(AsyncTrained(), 32)
        where = AsyncMemoryStore.open(
            tmp_path / "memory", embedder=cut, late=None, reranker=None, keyring=tmp_path / "keys.json"
        )
        async with where as store:
            await store.add(TEXTS, "alice")
            return [hit.text for hit in await store.search("invoice", "alice", legs="dense", limit=1)]

    assert asyncio.run(asked()) == [TEXTS[1]]


def test_in_a_name(tmp_path: Path) -> None:
    """A provider whose model gives one dimension only is cut by the registry."""
    with pytest.raises(ConfigurationError, match="local:all-MiniLM-L6-v2 is not known to be trained"):
        registry.embedder("local?dimension=128")
    made = registry.embedder("local?dimension=128&force=true&workers=1")
    assert made.identity.dimension == 128
    with MemoryStore.open(tmp_path / "memory", embedder=made, reranker=None, keyring=tmp_path / "keys.json") as store:
        store.add(TEXTS, "alice")
        assert store.search("Where does Ana live?", "alice", limit=1)[0].text == TEXTS[0]
        assert store.describe()["models"]["dimension"] == 128  # type: ignore[index,call-overload]
    with pytest.raises(ConfigurationError, match="no option 'force'"):
        registry.embedder("local?force=true")
