"""Hard negatives out of a real store, and which of them are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import Document, MemoryStore, Message, RerankError
from memory_plugin.dataset import Dataset, Question
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker
from memory_plugin.train.mine import CANDIDATES, Example, Grader, Miner
from memory_plugin.train.pairs import Pairs

ROWS = {
    "answer": "The red bicycle costs forty euros.",
    "near": "The red bicycle costs much.",
    "far": "The red house is large.",
    "hidden": "The red bicycle is sold.",
    "other": "Nothing of that is here.",
}
QUESTION = Question("q", "what does the red bicycle costs", "", ("shop",), {"answer": 1})


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[MemoryStore]:
    with MemoryStore.open(
        tmp_path / "store", embedder=HashEmbedder(), late=None, reranker=None, keyring=tmp_path / "keys.json"
    ) as opened:
        opened.add([Document(text, source=row) for row, text in ROWS.items()], ("shop",))
        yield opened


def mine(
    memory: MemoryStore,
    question: Question = QUESTION,
    *,
    grade: Grader | None = None,
    hidden: frozenset[str] = frozenset(),
    grades: Mapping[str, Mapping[str, float]] | None = None,
) -> Example | None:
    pairs = Pairs(Dataset("shop", {}, (question,), {}), {}, grades or {})
    return Miner(memory, pairs, grade or OverlapReranker().rerank, hidden).example(question)


def graded(values: Mapping[str, float]) -> Grader:
    """A reranker that scores rows as told, others 0."""

    def grade(query: str, texts: Sequence[str]) -> list[float]:
        rows = {text: row for row, text in ROWS.items()}
        return [values.get(rows.get(text, ""), 0.0) for text in texts]

    return grade


def test_what_the_store_finds_and_does_not_answer(memory: MemoryStore) -> None:
    found = mine(memory, hidden=frozenset({"hidden"}), grade=graded({"answer": 9, "near": 4, "far": 2}))
    assert found is not None
    assert found.query == QUESTION.text
    assert found.answers == (ROWS["answer"],)
    assert found.negatives[0] == ROWS["near"], "the most misleading one first"
    assert ROWS["far"] in found.negatives
    assert ROWS["hidden"] not in found.negatives, "only a question that judges asks for it"
    assert found.doubtful == ()
    assert dict(zip((*found.answers, *found.negatives), found.grades, strict=True))[ROWS["near"]] == 4


def test_what_is_scored_near_the_answer_or_above_is_left_out(memory: MemoryStore) -> None:
    found = mine(memory, grade=graded({"answer": 10, "near": 9.9, "hidden": 12, "far": 5}))
    assert found is not None
    assert set(found.doubtful) == {ROWS["near"], ROWS["hidden"]}
    assert not set(found.doubtful) & set(found.negatives)
    assert ROWS["far"] in found.negatives


def test_a_reranker_that_scores_the_answer_last_decides_nothing(memory: MemoryStore) -> None:
    found = mine(memory, grade=graded({"answer": -1, "near": 9.9, "hidden": 12, "far": 5}))
    assert found is not None
    assert found.doubtful == ()
    assert ROWS["near"] in found.negatives


def test_wrong_passages_that_were_given_stay_whatever_the_reranker_says(memory: MemoryStore) -> None:
    question = Question("q", QUESTION.text, "", ("shop",), {"answer": 1, "near": 0})
    found = mine(memory, question, grade=graded({"answer": 10, "near": 11}))
    assert found is not None
    assert found.negatives[0] == ROWS["near"]
    assert ROWS["near"] not in found.doubtful


def test_own_grades_replace_the_rerankers(memory: MemoryStore) -> None:
    question = Question("q", QUESTION.text, "", ("shop",), {"answer": 1, "near": 0})
    told = {"q": {"answer": 0.9, "near": 0.2}}
    found = mine(memory, question, grade=graded({"answer": 10, "near": 3, "far": 7}), grades=told)
    assert found is not None
    grades = dict(zip((*found.answers, *found.negatives), found.grades, strict=True))
    assert (grades[ROWS["answer"]], grades[ROWS["near"]], grades[ROWS["far"]]) == (0.9, 0.2, 0.2)


def test_of_a_long_document_the_passage_that_answers_is_learned(memory: MemoryStore) -> None:
    padding = "Rivers and mountains have little to do with it. " * 40
    memory.add([Document(f"{padding}\n\n{ROWS['answer']}\n\n{padding}", source="long")], ("shop",))
    question = Question("q", QUESTION.text, "", ("shop",), {"long": 1})
    found = mine(memory, question)
    assert found is not None
    (answer,) = found.answers
    assert "forty euros" in answer
    others = [record.passage for record in memory.list(("shop",)).records if record.source == "long"]
    assert len(others) > 2
    assert set(found.doubtful) >= set(others) - {answer}, "its other passages are not wrong either"
    assert not set(found.negatives) & set(others)


def test_messages_are_learned_as_they_are_embedded(memory: MemoryStore) -> None:
    memory.add(
        [Message("user", "My bicycle is blue.", name="Ana", id="m1", time=datetime(2024, 5, 7, tzinfo=UTC))], ("chat",)
    )
    found = mine(memory, Question("q", "which colour has the bicycle", "", ("chat",), {"m1": 1}))
    assert found is not None
    assert found.answers == ("Ana, 7 May 2024: My bicycle is blue.",)
    assert found.negatives == ()


def test_an_answer_that_is_not_there(memory: MemoryStore) -> None:
    assert mine(memory, Question("q", "what", "", ("shop",), {"absent": 1})) is None


def test_a_reranker_that_fails_is_told(memory: MemoryStore) -> None:
    def failing(query: str, texts: Sequence[str]) -> Any:
        raise RuntimeError("out of memory")

    with pytest.raises(RerankError):
        mine(memory, grade=failing)


def test_no_more_is_read_than_is_needed(memory: MemoryStore) -> None:
    memory.add(
        [Document(f"The red bicycle number {n} of street {n * 7}.", source=f"r{n}") for n in range(40)], ("shop",)
    )
    seen: list[int] = []

    def grade(query: str, texts: Sequence[str]) -> list[float]:
        seen.append(len(texts))
        return OverlapReranker().rerank(query, texts)

    found = mine(memory, grade=grade)
    assert found is not None
    assert seen == [1 + CANDIDATES]
