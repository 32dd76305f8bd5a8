"""Retrieval measured on questions with labels: how good, how long it takes, how much it returns.

from memory_plugin.evaluate import evaluate

print(evaluate("data/locomo", reranker="late", sample=200).runs[0].rows[0].values["ndcg@10"])

A retrieved chunk counts as the row it came from, and a row counts once.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from memory_plugin import dataset as sets
from memory_plugin import registry
from memory_plugin.assembly import LOCAL
from memory_plugin.dataset import Dataset, Question
from memory_plugin.engine.request import Legs
from memory_plugin.errors import InvalidInputError
from memory_plugin.metrics import METRICS, Interval, bootstrap, measure
from memory_plugin.protocols import Embedder, LateInteraction, Reranker, TokenCounter
from memory_plugin.settings import Settings
from memory_plugin.store import MemoryStore
from memory_plugin.tokens import counter
from memory_plugin.types import InputType, Json

RerankStage: TypeAlias = Literal["none", "late", "local"]
Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

RERANK: Mapping[str, Literal["none", "late", "full"]] = {"none": "none", "late": "late", "local": "full"}
ALL = "all"


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one type of question.

    Args:
        type: "all", or the type.
        n: Questions.
        values: Mean by metric, see ``METRICS``.
        intervals: 95 % bootstrap interval of the mean, by metric.
        tokens: Mean tokens of the texts returned for a question.
    """

    type: str
    n: int
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    tokens: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Wall time of a stage over the questions, in milliseconds."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Run:
    """One configuration on all questions.

    Args:
        reranker: The last stage: "none" (fusion), "late", or "local" (the cross-encoder).
        legs: Which legs proposed candidates.
        rows: "all" first, then each type as it first appears.
        stages: Latency by stage of a search.
    """

    reranker: RerankStage
    legs: Legs
    rows: tuple[Row, ...]
    stages: Mapping[str, Latency]


@dataclass(frozen=True, slots=True)
class Ingest:
    """What it took to add the corpus.

    Args:
        rows: Rows given.
        texts: Passages embedded now; 0 when a kept store had them all.
        embed_seconds: Spent in the embedder.
        seconds: Spent in all.
    """

    rows: int
    texts: int
    embed_seconds: float
    seconds: float

    @property
    def texts_per_second(self) -> float | None:
        """Passages embedded a second of the embedder's time; None when none was embedded."""
        return self.texts / self.embed_seconds if self.texts and self.embed_seconds > 0 else None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured.

    Args:
        dataset: Name of the directory.
        limit: Rows a search returned at most.
        questions: How many were asked, in each configuration.
        sampled: Whether they are a sample of those in the set.
        dropped: What of the set was left out, by reason.
        runs: One a configuration.
        ingest: Adding the corpus.
        models: Which models made the figures.
        counter: What counted tokens.
    """

    dataset: str
    limit: int
    questions: int
    sampled: bool
    dropped: Mapping[str, int]
    runs: tuple[Run, ...]
    ingest: Ingest
    models: Mapping[str, Json]
    counter: str

    def to_json(self) -> dict[str, Any]:
        """One object; its rows name their configuration, and the stages are a list where there are several."""
        stages = [
            {"reranker": run.reranker, "legs": run.legs, **{name: _ms(one) for name, one in run.stages.items()}}
            for run in self.runs
        ]
        one = {name: _ms(latency) for name, latency in self.runs[0].stages.items()}
        tokens = {f"{run.legs}/{run.reranker}": run.rows[0].tokens for run in self.runs}
        return {
            "dataset": self.dataset,
            "limit": self.limit,
            "questions": self.questions,
            "sampled": self.sampled,
            "dropped": dict(self.dropped),
            "rows": [_flat(run, row) for run in self.runs for row in run.rows],
            "stages": one if len(self.runs) == 1 else stages,
            "tokens": self.runs[0].rows[0].tokens if len(self.runs) == 1 else tokens,
            "token_counter": self.counter,
            "models": dict(self.models),
            "ingest": {
                "rows": self.ingest.rows,
                "texts": self.ingest.texts,
                "texts_per_second": self.ingest.texts_per_second,
                "embed_seconds": self.ingest.embed_seconds,
                "seconds": self.ingest.seconds,
            },
        }


def _flat(run: Run, row: Row) -> dict[str, Json]:
    intervals: dict[str, Json] = {f"{name}_interval": list(bounds) for name, bounds in row.intervals.items()}
    return {
        "type": row.type,
        "n": row.n,
        **row.values,
        **intervals,
        "tokens": row.tokens,
        "reranker": run.reranker,
        "legs": run.legs,
    }


def _ms(latency: Latency) -> dict[str, float]:
    return {"p50_ms": latency.p50, "p95_ms": latency.p95}


def evaluate(
    directory: str | Path,
    *,
    reranker: RerankStage | Sequence[RerankStage] = "local",
    legs: Legs | Sequence[Legs] = "hybrid",
    limit: int = 10,
    sample: int | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
    store: str | Path | None = None,
    embedder: Embedder | str = LOCAL,
    late: LateInteraction | str = LOCAL,
    cross_encoder: Reranker | str = LOCAL,
) -> Evaluation:
    """Add a corpus to a store of its own, ask every question, and report.

    Args:
        directory: See ``memory_plugin.dataset``.
        reranker: The last stage to run, or several to compare over one store.
        legs: Which legs propose candidates, or several.
        limit: Rows a search returns at most.
        sample: Ask that many questions only, always the same ones; the corpus stays whole.
        settings: Of the store.
        progress: Told about every batch and question.
        store: Keep the store and its keys in this directory, and use what is there; None: a temporary one.
        embedder: Makes the vectors.
        late: Makes the late interaction scores.
        cross_encoder: What "local" runs.

    Returns:
        Figures of every combination of ``reranker`` and ``legs``.

    Raises:
        InvalidInputError: The directory holds no set, or an option has no such value.
        MemoryPluginError: As ``MemoryStore.add`` and ``MemoryStore.search``.
    """
    stages = _several(reranker, get_args(RerankStage), "reranker")
    chosen = _several(legs, get_args(Legs), "legs")
    if limit < 1:
        raise InvalidInputError(f"limit must be at least 1, not {limit}")
    whole = sets.read(directory)
    data = whole.sample(sample) if sample is not None else whole
    timed = _Timed(registry.embedder(embedder) if isinstance(embedder, str) else embedder)
    timed = _Timed(registry.embedder(embedder) if isinstance(embedder, str) else embedder)
    with (
        _place(store) as where,
        MemoryStore.open(
            where / "store",
            embedder=timed,
            late=late,
            reranker=cross_encoder if "local" in stages else None,
            keyring=where / "keys.json",
            settings=settings,
        ) as memory,
    ):
        found = _measure(memory, data, timed, stages, chosen, limit, progress or _silent)
    return replace(found, sampled=len(data.questions) < len(whole.questions))


def _silent(what: str, done: int, of: int) -> None:
    """No progress shown."""


def _measure(
    memory: MemoryStore,
    data: Dataset,
    timed: _Timed,
    stages: Sequence[RerankStage],
    legs: Sequence[Legs],
    limit: int,
    tell: Progress,
) -> Evaluation:
    """Every combination of stages and legs over one store."""
    ingest = _ingest(memory, data, timed, tell)
    count = _Counted(counter(registry.pieces(timed).count))
    runs = tuple(_run(memory, data, stage, leg, limit, count, tell) for leg in legs for stage in stages)
    models = memory.describe()["models"]
    assert isinstance(models, dict)
    return Evaluation(
        dataset=data.name,
        limit=limit,
        questions=len(data.questions),
        sampled=False,
        dropped=data.dropped,
        runs=runs,
        ingest=ingest,
        models=models,
        counter=count.name,
    )


def _several(value: Any, known: Sequence[str], what: str) -> tuple[Any, ...]:
    """One or several, each once, all of them known."""
    found = tuple(dict.fromkeys([value] if isinstance(value, str) else value))
    for one in found or ("nothing",):
        if one not in known:
            raise InvalidInputError(f"{what} is one of {', '.join(known)}, not {one!r}")
    return found


@contextlib.contextmanager
def _place(store: str | Path | None) -> Iterator[Path]:
    """Where data and keys are kept: together, which is fit for public questions only."""
    if store is not None:
        where = Path(store)
        try:
            where.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InvalidInputError(f"{where} cannot be made: {error.strerror or error}") from error
        yield where
    else:
        with tempfile.TemporaryDirectory(prefix="memory-plugin-eval-") as made:
            yield Path(made)


class _Timed:
    """An embedder that remembers how many documents it embedded in how many seconds."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self.texts = 0
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Any:
        """As the embedder does."""
        start = time.perf_counter()
        made = self._inner.embed(texts, input_type=input_type)
        if input_type == "document":
            self.texts += len(texts)
            self.seconds += time.perf_counter() - start
        return made


class _Counted:
    """Counts the tokens of a memory once, however often it is returned."""

    def __init__(self, count: TokenCounter) -> None:
        self._count = count
        self._known: dict[str, int] = {}
        self.name = count.name

    def __call__(self, point: str, text: str) -> int:
        if point not in self._known:
            self._known[point] = self._count(text)
        return self._known[point]


def _ingest(memory: MemoryStore, data: Dataset, timed: _Timed, tell: Progress) -> Ingest:
    start = time.perf_counter()
    before = 0
    for namespace, items in data.corpus.items():

        def batch(done: int, _of: int, before: int = before) -> None:
            tell("add", before + done, data.rows)

        memory.add(list(items), namespace, progress=batch)
        before += len(items)
        tell("add", before, data.rows)
    return Ingest(data.rows, timed.texts, timed.seconds, time.perf_counter() - start)


def _run(
    memory: MemoryStore, data: Dataset, reranker: RerankStage, legs: Legs, limit: int, count: _Counted, tell: Progress
) -> Run:
    def ask(question: Question) -> Any:
        return memory.search(
            question.text, question.namespace, limit=limit, legs=legs, rerank=RERANK[reranker], per_document=1
        )

    what = f"search {legs}, {reranker}"
    ask(data.questions[0])  # loads the models
    values = np.empty((len(data.questions), len(METRICS)))
    tokens = np.empty(len(data.questions))
    seconds: dict[str, list[float]] = {}
    for place, question in enumerate(data.questions):
        found = ask(question)
        ranking = list(dict.fromkeys(hit.record.source for hit in found))
        values[place] = measure(ranking, question.relevant)
        tokens[place] = sum(count(hit.id, hit.text) for hit in found)
        for stage, spent in found.seconds.items():
            seconds.setdefault(stage, []).append(spent)
        tell(what, place + 1, len(data.questions))
    stages = {
        name: Latency(*(1000 * float(one) for one in np.percentile(spent, [50, 95]))) for name, spent in seconds.items()
    }
    return Run(reranker, legs, _rows([one.type for one in data.questions], values, tokens), stages)


def _rows(types: Sequence[str], values: NDArray[np.float64], tokens: NDArray[np.float64]) -> tuple[Row, ...]:
    """A row for all questions, and one a type where the set has types."""
    kinds = np.array(types)
    rows = [_row(ALL, values, tokens)]
    for kind in dict.fromkeys(one for one in types if one):
        of_kind = kinds == kind
        rows.append(_row(kind, values[of_kind], tokens[of_kind]))
    return tuple(rows)


def _row(kind: str, values: NDArray[np.float64], tokens: NDArray[np.float64]) -> Row:
    means = [float(one) for one in values.mean(axis=0)]
    return Row(
        type=kind,
        n=len(values),
        values=dict(zip(METRICS, means, strict=True)),
        intervals=dict(zip(METRICS, bootstrap(values), strict=True)),
        tokens=float(tokens.mean()),
    )
