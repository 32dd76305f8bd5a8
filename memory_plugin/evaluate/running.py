"""One store: the corpus added, every question asked, in each configuration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from memory_plugin.dataset import Dataset, Question
from memory_plugin.engine.request import Legs
from memory_plugin.errors import InvalidInputError
from memory_plugin.evaluate.figures import Ingest, Latency, RerankStage, Run, Setup, rows
from memory_plugin.evaluate.reuse import Once, Repacking
from memory_plugin.metrics import METRICS, measure
from memory_plugin.protocols import TokenCounter
from memory_plugin.store import MemoryStore
from memory_plugin.types import Record, Results

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

RERANK: Mapping[str, Literal["none", "late", "full"]] = {"none": "none", "late": "late", "local": "full"}
WARM_UP = "what is this about"


def silent(what: str, done: int, of: int) -> None:
    """No progress shown."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What is run over every store.

    Args:
        rerankers: Last stages.
        legs: Which legs propose candidates.
        limit: Rows that a search returns at most.
    """

    rerankers: tuple[RerankStage, ...]
    legs: tuple[Legs, ...]
    limit: int

    @classmethod
    def of(cls, rerankers: RerankStage | Sequence[RerankStage], legs: Legs | Sequence[Legs], limit: int) -> Stages:
        """From what users may give.

        Raises:
            InvalidInputError: There is no such stage or leg, or nothing is to be returned.
        """
        if limit < 1:
            raise InvalidInputError(f"limit must be at least 1, not {limit}")
        known = several(rerankers, get_args(RerankStage), "reranker"), several(legs, get_args(Legs), "legs")
        return cls(*known, limit)

    @property
    def cross_encodes(self) -> bool:
        """Whether the cross-encoder is needed."""
        return "local" in self.rerankers


def several(value: Any, known: Sequence[str], what: str) -> tuple[Any, ...]:
    """One or several, each once, all of them known.

    Raises:
        InvalidInputError: There is none, or it is not known.
    """
    found = tuple(dict.fromkeys([value] if isinstance(value, str) else value))
    for one in found or ("nothing",):
        if one not in known:
            raise InvalidInputError(f"{what} is one of {', '.join(known)}, not {one!r}")
    return found


class Counted:
    """Counts the tokens of a memory once, however often it is returned."""

    def __init__(self, count: TokenCounter) -> None:
        self._count = count
        self._known: dict[str, int] = {}
        self.name = count.name

    def __call__(self, text: str) -> int:
        """How many tokens the text has."""
        if text not in self._known:
            self._known[text] = self._count(text)
        return self._known[text]


def ingest(memory: MemoryStore, data: Dataset, once: Once, late: Repacking | None, tell: Progress) -> Ingest:
    """Add the corpus."""
    start, texts, seconds = time.perf_counter(), once.texts, once.seconds
    before = 0
    if late is not None:
        late.adding = True
    for namespace, items in data.corpus.items():

        def batch(done: int, _of: int, before: int = before) -> None:
            tell("add", before + done, data.rows)

        memory.add(list(items), namespace, progress=batch)
        before += len(items)
        tell("add", before, data.rows)
    if late is not None:
        late.adding = False
    return Ingest(data.rows, once.texts - texts, once.seconds - seconds, time.perf_counter() - start)


def runs(
    memory: MemoryStore, setup: Setup, data: Dataset, stages: Stages, count: Counted, tell: Progress, once: Once | None
) -> Iterable[Run]:
    """Every combination of stages and legs over one store."""
    for leg in stages.legs:
        for stage in stages.rerankers:
            yield _run(memory, setup, data, stage, leg, stages.limit, count, tell, once)


def _run(
    memory: MemoryStore,
    setup: Setup,
    data: Dataset,
    reranker: RerankStage,
    legs: Legs,
    limit: int,
    count: Counted,
    tell: Progress,
    once: Once | None,
) -> Run:
    def ask(text: str, question: Question) -> Results:
        per_document = None if question.expected else 1  # what is expected may be a part of a document
        return memory.search(
            text, question.namespace, limit=limit, legs=legs, rerank=RERANK[reranker], per_document=per_document
        )

    ask(WARM_UP, data.questions[0])  # loads the models
    values = np.empty((len(data.questions), len(METRICS)))
    tokens = np.empty(len(data.questions))
    seconds: dict[str, list[float]] = {}
    for place, question in enumerate(data.questions):
        found = ask(question.text, question)
        records = [_original(data, hit.record) for hit in found]
        values[place] = measure(question.ranking(records), question.relevant)
        tokens[place] = sum(count(hit.text) for hit in found)
        for stage, spent in found.seconds.items():
            saved = once.saved if once is not None and stage in ("embed", "total") else 0.0
            seconds.setdefault(stage, []).append(spent + saved)
        tell(f"search {legs}, {reranker}", place + 1, len(data.questions))
    latencies = {
        name: Latency(*(1000 * float(one) for one in np.percentile(spent, [50, 95]))) for name, spent in seconds.items()
    }
    kinds = [one.type for one in data.questions]
    return Run(reranker, legs, rows(kinds, values, tokens), latencies, values, setup)


def _original(data: Dataset, record: Record) -> Record:
    """The memory that a copy was made of."""
    return data.originals.get(record.source or "", record)
