"""The local embedder: repeatable to the bit, and never silent about what it cannot read."""

from __future__ import annotations

import random
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from semantic_text_splitter import TextSplitter

from memory_plugin.embedders.local import LocalEmbedder
from memory_plugin.errors import EmbeddingError, InvalidInputError
from memory_plugin.models import runtime
from memory_plugin.protocols import Embedder
from memory_plugin.types import Embeddings, InputType

TEXTS = [
    "My sister Ana lives in Porto.",
    "ok",
    "The invoice of 12 May was paid twice; the bank returned the second payment a week later.",
    "def area(width: float, height: float) -> float: return width * height",
    "Pears ripen off the tree, " * 20,
]


@pytest.fixture
def embedder() -> LocalEmbedder:
    return LocalEmbedder()


def one(embedder: Embedder, text: str, input_type: InputType = "document") -> Embeddings:
    found = embedder.embed([text], input_type=input_type)
    assert isinstance(found, Embeddings)
    return found


def test_identity_names_the_weights(embedder: LocalEmbedder) -> None:
    identity = embedder.identity
    assert (identity.provider, identity.model, identity.dimension) == ("local", "all-MiniLM-L6-v2", 384)
    assert len(identity.revision) == 16
    assert runtime.SHA256["model.onnx"].startswith(identity.revision)
    assert identity.normalized
    assert identity.query_prefix == identity.document_prefix == ""


def test_a_vector_a_text_in_order(embedder: LocalEmbedder) -> None:
    found = embedder.embed(TEXTS, input_type="document")
    assert found.vectors.shape == (len(TEXTS), 384)
    assert found.vectors.dtype == np.float32
    assert found.tokens is not None
    assert len(found.tokens) == len(TEXTS)
    assert found.billed_tokens is None
    for text, tokens in zip(TEXTS, found.tokens, strict=True):
        assert len(tokens.ids) == len(tokens.vectors) == embedder.count(text)


def test_no_texts_no_vectors(embedder: LocalEmbedder) -> None:
    found = embedder.embed([], input_type="document")
    assert found.vectors.shape == (0, 384)
    assert found.tokens == ()


def test_meaning_is_nearer_than_words(embedder: LocalEmbedder) -> None:
    texts = ["My sister Ana lives in Porto.", "The query planner picks an index.", "A city is made of questions."]
    query = embedder.embed(["In which city is Ana's sister at home?"], input_type="query").vectors[0]
    scores = embedder.embed(texts, input_type="document").vectors @ query
    assert int(scores.argmax()) == 0


# ── the same text gives the same bits ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_order_company_and_workers_change_no_bit(workers: int) -> None:
    alone = {text: one(LocalEmbedder(workers=1), text) for text in TEXTS}
    mixed = random.Random(workers).sample(TEXTS * 3, len(TEXTS) * 3)
    found = LocalEmbedder(workers=workers).embed(mixed, input_type="document")
    assert found.tokens is not None
    for text, vector, tokens in zip(mixed, found.vectors, found.tokens, strict=True):
        expected = alone[text]
        assert expected.tokens is not None
        assert vector.tobytes() == expected.vectors[0].tobytes()
        assert tokens.vectors.tobytes() == expected.tokens[0].vectors.tobytes()


def test_many_threads_change_no_bit(embedder: LocalEmbedder) -> None:
    expected = embedder.embed(TEXTS, input_type="document").vectors.tobytes()
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(embedder.embed, TEXTS, input_type="document") for _ in range(12)]
        assert {run.result().vectors.tobytes() for run in runs} == {expected}


# ── queries and documents ─────────────────────────────────────────────────────────────────────────


def test_documents_keep_special_tokens_and_queries_do_not(embedder: LocalEmbedder) -> None:
    document, query = one(embedder, "red apples"), one(embedder, "red apples", "query")
    assert document.tokens is not None
    assert query.tokens is not None
    assert document.tokens[0].ids[[0, -1]].tolist() == [runtime.CLS, runtime.SEP]
    assert query.tokens[0].ids.tolist() == document.tokens[0].ids[1:-1].tolist()
    assert (query.tokens[0].vectors == document.tokens[0].vectors[1:-1]).all()
    assert (query.vectors == document.vectors).all()


def test_a_document_may_fill_the_window_but_not_pass_it(embedder: LocalEmbedder) -> None:
    fits = "word " * (embedder.max_tokens - 2)
    assert embedder.count(fits) == embedder.max_tokens == 256
    assert one(embedder, fits).vectors.shape == (1, 384)
    with pytest.raises(InvalidInputError, match=r"texts\[1\] has 257 word pieces, more than the 256 .* split it first"):
        embedder.embed(["fine", fits + "more"], input_type="document")


def test_a_long_query_keeps_its_beginning(embedder: LocalEmbedder) -> None:
    beginning = "apple " * 254
    cut, whole = one(embedder, beginning + "pear " * 500, "query"), one(embedder, beginning, "query")
    assert (cut.vectors == whole.vectors).all()
    assert cut.tokens is not None
    assert len(cut.tokens[0].ids) == 254


# ── texts that are not plain ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["", " \n\t", "\x00\x01", "\u200b\u200d", "\ufeff"])
@pytest.mark.parametrize("input_type", ["query", "document"])
def test_a_text_without_anything_to_read_is_refused(embedder: LocalEmbedder, text: str, input_type: InputType) -> None:
    with pytest.raises(InvalidInputError, match=r"texts\[0\] is empty"):
        embedder.embed([text], input_type=input_type)


def test_a_lone_surrogate_is_refused_and_named(embedder: LocalEmbedder) -> None:
    with pytest.raises(InvalidInputError, match=r"texts\[1\]: the text holds a lone surrogate at offset 2"):
        embedder.embed(["fine", "ab\udc80"], input_type="document")
    with pytest.raises(InvalidInputError, match="lone surrogate"):
        embedder.count("\ud800")


@pytest.mark.parametrize(
    "text",
    [
        "🙂👩‍👩‍👧🏽",
        "مرحبا بالعالم",
        "今日は天気がいい",
        "a\x00b",
        "Z̷̢a̸͝l̵͘g̶o̸",
        "\U0010ffff",
        "x" * 5_000,
        "<s>[SEP]</s>",
        "ﬁ ½ ™",
    ],
    ids=ascii,
)
def test_odd_texts_have_finite_unit_vectors(embedder: LocalEmbedder, text: str) -> None:
    vectors = one(embedder, text).vectors
    assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-5)


def test_composed_and_decomposed_letters_are_one(embedder: LocalEmbedder) -> None:
    text = "Zürich café Łódź"
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert (one(embedder, composed).vectors == one(embedder, decomposed).vectors).all()


# ── with a chunker, and when something breaks ─────────────────────────────────────────────────────


def test_a_chunker_that_uses_the_tokenizer_makes_chunks_that_fit(embedder: LocalEmbedder) -> None:
    splitter = TextSplitter.from_huggingface_tokenizer(embedder.tokenizer, embedder.max_tokens - 2)
    text = " ".join(f"Sentence {i} tells of [SEP] x{i}_y, naïvely." for i in range(300))
    chunks = splitter.chunks(text)
    counts = [embedder.count(chunk) for chunk in chunks]
    assert max(counts) <= embedder.max_tokens
    assert max(counts) > 0.9 * embedder.max_tokens, "counts as the embedder does, so little is wasted"
    embedder.embed(chunks[:2], input_type="document")


def test_what_breaks_below_is_an_embedding_error(embedder: LocalEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(runtime.MiniLM, "encode", fail)
    with pytest.raises(EmbeddingError, match="out of memory") as caught:
        embedder.embed(["a", "b", "c"], input_type="document")
    assert caught.value.provider == "local:all-MiniLM-L6-v2"
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_must_be_positive(workers: int) -> None:
    with pytest.raises(InvalidInputError, match="at least 1"):
        LocalEmbedder(workers=workers)
