"""Hard negatives: what the store finds for a question and does not answer it, found by all its own legs.

A passage that answers although nobody labelled it would teach the opposite of what is meant.  So a reranker reads the
best of them beside the labelled answer, and what it scores near the answer or above is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory_plugin.dataset import Question
from memory_plugin.errors import RerankError, translate
from memory_plugin.filters import eq, not_
from memory_plugin.ids import NamespaceLike
from memory_plugin.store import MemoryStore
from memory_plugin.train.pairs import Pairs
from memory_plugin.types import Namespace, Record

Grader = Callable[[str, Sequence[str]], Sequence[float]]
"""Scores texts for a query, as ``Reranker.rerank`` does."""

DEPTH = 30
"""Passages that a search for hard negatives looks at."""
CANDIDATES = 12
"""Of these, what is read by the reranker at most."""
ANSWERS = 4
"""Answers that are learned from at most; of a long document it is the passage that answers best."""
NEAR = 0.95
"""Where between the worst of the candidates (0) and the answer (1) a candidate counts as one more answer."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question to learn from.

    Args:
        query: The question.
        answers: Passages that answer it, the best first; at least one.
        negatives: Passages that look as if they did, the most misleading first; may be none.
        grades: How well each of ``answers`` and then ``negatives`` answers, by the user or the reranker.
        doubtful: Passages that may answer it too: neither.
    """

    query: str
    answers: tuple[str, ...]
    negatives: tuple[str, ...]
    grades: tuple[float, ...]
    doubtful: tuple[str, ...]


class Miner:
    """Makes examples of questions over a store that holds their corpus.

    Args:
        memory: The store.
        pairs: What it holds.
        grade: The reranker.
        hidden: Rows that must not be shown in training: only questions that judge ask for them.
    """

    def __init__(self, memory: MemoryStore, pairs: Pairs, grade: Grader, hidden: frozenset[str]) -> None:
        self._memory = memory
        self._grades = pairs.grades
        self._grade = grade
        self._hidden = hidden
        self._passages: dict[Namespace, dict[str, list[str]]] = {}

    def example(self, question: Question) -> Example | None:
        """What is to be learned of a question; None when no passage of its answers is in the store."""
        held = self._held(question.namespace)
        rows = [held[row] for row, gain in question.relevant.items() if gain > 0 and row in held]
        answers = [text for row in rows for text in row]
        if not answers:
            return None
        given = [text for row, gain in question.relevant.items() if gain <= 0 for text in held.get(row, ())]
        found = self._found(question, set(answers) | set(given))
        texts = [*answers, *given, *found]
        with translate(RerankError, provider="reranker"):
            grades = dict(zip(texts, map(float, self._grade(question.text, texts)), strict=True))
        of_row = dict.fromkeys(max(row, key=lambda text: grades[text]) for row in rows)
        best = sorted(of_row, key=lambda text: -grades[text])[:ANSWERS]
        doubtful = _too_good(grades, best[0], found)
        negatives = [*dict.fromkeys(given), *(text for text in found if text not in doubtful)]
        if told := self._told(question, held):
            # On the user's scale nothing is known of what was only found: it is no better than the worst.
            grades = dict.fromkeys(texts, min(told.values())) | told
        return Example(
            query=question.text,
            answers=tuple(best),
            negatives=tuple(negatives),
            grades=tuple(grades[text] for text in (*best, *negatives)),
            doubtful=(*doubtful, *(text for text in dict.fromkeys(answers) if text not in best)),
        )

    def _held(self, namespace: Namespace) -> Mapping[str, list[str]]:
        """The passages of each row, as models see them."""
        if namespace not in self._passages:
            rows: dict[str, list[str]] = {}
            for record in _everything(self._memory, namespace):
                rows.setdefault(record.source or record.id, []).append(record.passage)
            self._passages[namespace] = rows
        return self._passages[namespace]

    def _found(self, question: Question, known: set[str]) -> list[str]:
        """What the store finds that is neither known to answer nor hidden, best first, each once."""
        hits = self._memory.search(question.text, question.namespace, limit=DEPTH, rerank="none")
        texts = (
            hit.record.passage
            for hit in hits
            if hit.record.source not in self._hidden and question.relevant.get(hit.record.source or "", 0) <= 0
        )
        return [text for text in dict.fromkeys(texts) if text not in known][:CANDIDATES]

    def _told(self, question: Question, held: Mapping[str, list[str]]) -> dict[str, float]:
        """The user's own grades by passage, where there are any."""
        told = self._grades.get(question.id, {})
        return {text: grade for row, grade in told.items() for text in held.get(row, ())}


def _too_good(grades: Mapping[str, float], answer: str, found: Sequence[str]) -> list[str]:
    """Candidates that the reranker scores near the answer or above it."""
    if not found:
        return []
    low, high = min(grades[text] for text in found), grades[answer]
    if high <= low:  # the reranker understands nothing of this question: it says nothing of its candidates
        return []
    return [text for text in found if grades[text] > low + NEAR * (high - low)]


def _everything(memory: MemoryStore, namespace: NamespaceLike) -> Iterator[Record]:
    after = None
    while True:
        page = memory.list(namespace, filter=not_(eq("$kind", "value")), limit=10_000, after=after)
        yield from page.records
        after = page.next
        if after is None:
            return


def standardised(grades: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Grades of one question on a scale of their own: mean 0, standard deviation 1; zeros where all are the same."""
    values = np.asarray(grades, np.float64)
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)
