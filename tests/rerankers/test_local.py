"""The shipped cross-encoder, as it ships."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import memory_plugin.rerankers.local as local
from memory_plugin.errors import InvalidInputError, RerankError
from memory_plugin.protocols import Reranker
from memory_plugin.rerankers.local import LocalReranker

# query, what answers it, what merely looks like it
TRIPLES = [
    (
        "When does the museum open on Sundays?",
        "On Sundays the museum opens its doors at ten in the morning.",
        ["The museum opened in 1924 and was rebuilt after the war.", "On Sundays the cafe sells fresh cake."],
    ),
    (
        "What is Maria allergic to?",
        "Maria: I can't eat peanuts, my throat swells up within minutes.",
        [
            "Maria: I love the peanut fields near my village.",
            "Tom: I'm allergic to cats, so I sneeze at Maria's place.",
        ],
    ),
    (
        "Who wrote the letter to the king?",
        "The letter to the king was written by his exiled brother, the duke.",
        ["The king wrote many letters to his ministers.", "The letter reached the king after three weeks."],
    ),
    (
        "How do I change the timeout of the HTTP client?",
        "Pass `timeout=30.0` to the client to wait at most thirty seconds for a response.",
        [
            "The HTTP client keeps connections open between requests.",
            "Change the log level of the client with `debug`.",
        ],
    ),
    (
        "What did Priya buy for her daughter's birthday?",
        "Priya: I finally got the red bicycle for Meera, she turns seven on Friday!",
        ["Priya: My birthday is in May.", "Sam: My daughter wants a telescope for her birthday."],
    ),
    (
        "Why was the flight cancelled?",
        "Because of a snow storm over Denver, the airline called off the flight.",
        ["The flight takes four hours and twenty minutes.", "You can cancel the flight on the airline's website."],
    ),
    (
        "Which river flows through Vienna?",
        "The Danube crosses the city of Vienna from north-west to south-east.",
        ["Vienna is the capital of Austria and its largest city.", "The Rhine flows through Basel and Cologne."],
    ),
    (
        "Does the hotel allow dogs?",
        "Pets of any size are welcome in our rooms free of charge.",
        ["The hotel has free parking for guests.", "Breakfast at the hotel is served until eleven."],
    ),
    (
        "What does retry_backoff_factor control?",
        "retry_backoff_factor: how much longer each attempt waits than the one before it.",
        ["retry_total: how many attempts are made in all.", "The factor of the zoom control is 1.5."],
    ),
    (
        "How many people live in the village?",
        "The village has a population of 312.",
        ["Many people visit the village in summer.", "People in the village live from fishing."],
    ),
    (
        "What are the symptoms of scurvy?",
        "Scurvy shows as bleeding gums, weakness and slow healing of wounds.",
        ["Scurvy is prevented by eating citrus fruit.", "The symptoms of flu are fever and a cough."],
    ),
    (
        "When did Jonas start his new job?",
        "Jonas: My first day at the bakery was the third of June.",
        ["Jonas: I'm looking for a new job.", "Lena: Jonas told me that his job is hard."],
    ),
]


@pytest.fixture(scope="module")
def reranker() -> LocalReranker:
    return LocalReranker()


def test_is_a_reranker(reranker: LocalReranker) -> None:
    protocol: Reranker = reranker
    assert protocol.model.startswith("local:cross-encoder@")
    assert repr(reranker).startswith("LocalReranker(")


def test_the_name_carries_the_hash_of_the_weights(reranker: LocalReranker) -> None:
    digest = hashlib.sha256((local.DIRECTORY / "model.onnx").read_bytes()).hexdigest()
    assert reranker.model.endswith(digest[:16])


@pytest.mark.parametrize("number", range(len(TRIPLES)))
def test_the_answer_is_above_what_has_nothing_to_do_with_it(reranker: LocalReranker, number: int) -> None:
    query, good, _ = TRIPLES[number]
    others = [text for i, (_, other, bad) in enumerate(TRIPLES) if i != number for text in (other, *bad)]
    first, *rest = reranker.rerank(query, [good, *others])
    assert first > max(rest)


def test_the_answer_is_mostly_above_what_merely_shares_its_words(reranker: LocalReranker) -> None:
    # Built to mislead: 8 of 12 when the model was made (9 by late interaction, 8 by cosine).
    scores = [reranker.rerank(query, [good, *bad]) for query, good, bad in TRIPLES]
    assert sum(first > max(others) for first, *others in scores) >= 8


def test_order_and_company_do_not_matter(reranker: LocalReranker) -> None:
    query = TRIPLES[0][0]
    texts = [text for _, good, bad in TRIPLES for text in (good, *bad)]
    scores = dict(zip(texts, reranker.rerank(query, texts), strict=True))
    shuffled = random.Random(5).sample(texts, len(texts))
    assert reranker.rerank(query, shuffled) == [scores[text] for text in shuffled]
    assert reranker.rerank(query, [texts[7]]) == [scores[texts[7]]]


def test_repeats_bit_for_bit_whatever_the_workers(reranker: LocalReranker) -> None:
    query, good, bad = TRIPLES[1]
    texts = [good, *bad] * 4
    assert reranker.rerank(query, texts) == LocalReranker(workers=1).rerank(query, texts)
    assert reranker.rerank(query, texts) == LocalReranker(workers=5).rerank(query, texts)


def test_from_many_threads() -> None:
    alone = LocalReranker(workers=1)
    expected = [alone.rerank(query, [good, *bad]) for query, good, bad in TRIPLES]
    shared = LocalReranker()
    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(shared.rerank, query, [good, *bad]) for query, good, bad in TRIPLES * 3]
        assert [future.result() for future in futures] == expected * 3


def test_no_texts_no_scores(reranker: LocalReranker) -> None:
    assert reranker.rerank("anything", []) == []


def test_long_texts_are_cut(reranker: LocalReranker) -> None:
    query, good, bad = TRIPLES[2]
    filler = " The weather was mild and the harvest was good." * 400
    with_answer, without = reranker.rerank(query, [good + filler, bad[1] + filler])
    assert with_answer > without
    assert reranker.rerank(query, [good + filler]) == reranker.rerank(query, [good + filler + " More."])


def test_long_queries_are_cut(reranker: LocalReranker) -> None:
    query, good, bad = TRIPLES[2]
    long = query + " please" * 500
    first, *others = reranker.rerank(long, [good, *bad])
    assert first > max(others)
    assert reranker.rerank(long, [good]) == reranker.rerank(long + " now", [good])


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "\x00\x07",
        "日本語のテキスト",
        "🦊" * 3000,
        "e\u0301" * 50,
        "x" * 100_000,
        "\u202eabc",
        "[SEP] [CLS]",
    ],
)
def test_any_unicode(reranker: LocalReranker, text: str) -> None:
    scores = reranker.rerank(text, [text, "Paris is the capital of France."])
    assert len(scores) == 2
    assert all(score == score and abs(score) < 1e6 for score in scores)


def test_control_words_in_a_text_are_only_words() -> None:
    ((ids, types),) = local._load().pairs("what is [SEP]", ["[CLS] a [SEP] b"])
    assert (ids == 101).sum() == 1
    assert (ids == 102).sum() == 2
    assert ids.shape == types.shape == (1, len(ids[0]))


def test_pairs_are_cut_to_what_the_model_reads() -> None:
    ((ids, types),) = local._load().pairs("why " * 1000, ["because " * 1000])
    assert ids.shape == (1, local.PAIR_PIECES)
    assert (types == 0).sum() == local.QUERY_PIECES


@pytest.mark.parametrize(("query", "texts"), [("\ud800", ["fine"]), ("fine", ["fine", "half \udfff"]), ("\ud800", [])])
def test_lone_surrogates_are_refused(reranker: LocalReranker, query: str, texts: list[str]) -> None:
    with pytest.raises(InvalidInputError, match="lone surrogate"):
        reranker.rerank(query, texts)


def test_workers_must_be_positive() -> None:
    with pytest.raises(InvalidInputError, match="at least 1"):
        LocalReranker(workers=0)


def test_a_missing_model_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local, "DIRECTORY", tmp_path)
    monkeypatch.setattr(local, "_process", local._Process())
    with pytest.raises(RerankError, match="reinstall memory-plugin"):
        LocalReranker().rerank("q", ["t"])


def test_a_damaged_model_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    monkeypatch.setattr(local, "DIRECTORY", tmp_path)
    monkeypatch.setattr(local, "_process", local._Process())
    with pytest.raises(RerankError, match="SHA-256 differs"):
        LocalReranker().rerank("q", ["t"])


def test_whatever_the_runtime_raises_becomes_a_rerank_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> local._Model:
        raise RuntimeError("no memory")

    monkeypatch.setattr(local, "_load", fail)
    with pytest.raises(RerankError, match="RuntimeError: no memory"):
        LocalReranker().rerank("q", ["t"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_works_in_a_forked_child() -> None:
    # In an interpreter of its own: this one may have threads.
    code = (
        "import os, sys\n"
        "from memory_plugin.rerankers.local import LocalReranker\n"
        "before = LocalReranker().rerank('who?', ['it was Ann', 'nobody'])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if LocalReranker().rerank('who?', ['it was Ann', 'nobody']) == before else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(local.__file__).parents[2])


def test_importing_loads_no_runtime() -> None:
    code = "import sys, memory_plugin.rerankers.local; sys.exit('onnxruntime' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(local.__file__).parents[2])
