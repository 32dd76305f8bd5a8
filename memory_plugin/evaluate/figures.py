"""What an evaluation found, as values, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memory_plugin.engine.request import Legs
from memory_plugin.metrics import METRICS, Difference, Interval, paired, shares
from memory_plugin.plan import Plan
from memory_plugin.types import Json, Quantization

RerankStage: TypeAlias = Literal["none", "late", "local"]

ALL = "all"
TARGET = 0.02
"""A difference that people care about: how many questions would show it is told."""


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
class Ingest:
    """What it took to add the corpus.

    Args:
        rows: Rows given.
        texts: Passages embedded now; 0 when a kept store, or another candidate of the same model, had them all.
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
class Setup:
    """A store that was measured.

    Args:
        embedder: As it was named.
        dimension: Of the stored vectors.
        quantization: Of the first pass of a search.
        memories: Passages in it.
        bytes: Of its files, without the log.
        ingest: Adding the corpus.
        models: Which models made the figures.
        plan: What a store of ``planned_for`` memories like these takes; None of a store on a server.
        planned_for: Memories.
        spent: What a vendor charged for it, in US dollars, as far as it is known.
        forced: Whether the model was shortened without being trained for it.
    """

    embedder: str
    dimension: int
    quantization: Quantization
    memories: int
    bytes: int
    ingest: Ingest
    models: Mapping[str, Json]
    plan: Plan | None
    planned_for: int
    spent: float | None = None
    forced: bool = False

    def to_json(self) -> dict[str, Any]:
        """One object."""
        return {
            "embedder": self.embedder,
            "dimension": self.dimension,
            "quantization": self.quantization,
            "forced": self.forced,
            "memories": self.memories,
            "bytes": self.bytes,
            "spent_usd": self.spent,
            "ingest": _ingest_json(self.ingest),
            "models": dict(self.models),
            "planned_for": self.planned_for,
            "plan": None if self.plan is None else self.plan.to_json(),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One configuration on all questions.

    Args:
        reranker: The last stage: "none" (fusion), "late", or "local" (the cross-encoder).
        legs: Which legs proposed candidates.
        rows: "all" first, then each type as it first appears.
        stages: Latency by stage of a search.
        scores: ``METRICS`` of every question, shape (questions, metrics).
        setup: The store that was asked.
    """

    reranker: RerankStage
    legs: Legs
    rows: tuple[Row, ...]
    stages: Mapping[str, Latency]
    scores: NDArray[np.float64]
    setup: Setup


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured.

    Args:
        dataset: Name of the directory, or of the file of questions.
        limit: Rows a search returned at most.
        questions: How many were asked, in each configuration.
        sampled: Whether they are a sample of those in the set.
        dropped: What of the set was left out, by reason.
        runs: One a configuration; the first is what the others are compared with.
        counter: What counted tokens.
    """

    dataset: str
    limit: int
    questions: int
    sampled: bool
    dropped: Mapping[str, int]
    runs: tuple[Run, ...]
    counter: str

    @property
    def setups(self) -> tuple[Setup, ...]:
        """The stores, in order."""
        return tuple({id(run.setup): run.setup for run in self.runs}.values())

    @property
    def ingest(self) -> Ingest:
        """Of the first store."""
        return self.setups[0].ingest

    @property
    def models(self) -> Mapping[str, Json]:
        """Of the first store."""
        return self.setups[0].models

    @property
    def labels(self) -> tuple[str, ...]:
        """What tells each run from the others."""
        parts = [
            (
                run.setup.embedder,
                str(run.setup.dimension),
                run.setup.quantization,
                run.legs,
                {"none": "fusion", "late": "late", "local": "cross-encoder"}[run.reranker],
            )
            for run in self.runs
        ]
        differ = [len(set(column)) > 1 for column in zip(*parts, strict=True)]
        return tuple(" ".join(part for part, told in zip(one, differ, strict=True) if told) or one[0] for one in parts)

    def differences(self) -> tuple[dict[str, Difference], ...]:
        """By metric, how far each run but the first is above the first."""
        first = self.runs[0].scores
        return tuple(dict(zip(METRICS, paired(run.scores, first), strict=True)) for run in self.runs[1:])

    def to_json(self) -> dict[str, Any]:
        """One object; its rows name their configuration, and the stages are a list where there are several."""
        stages = [{**_names(run), **{name: _ms(one) for name, one in run.stages.items()}} for run in self.runs]
        one = {name: _ms(latency) for name, latency in self.runs[0].stages.items()}
        tokens = {f"{run.legs}/{run.reranker}": run.rows[0].tokens for run in self.runs}
        setups = self.setups
        found = {
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
            "ingest": _ingest_json(self.ingest),
            "stores": [setup.to_json() for setup in setups],
        }
        if len(self.runs) > 1:
            found["differences"] = self._differences_json()
        return found

    def verdict(self, label: str, by_metric: Mapping[str, Difference]) -> str:
        """What can be concluded of a run, compared with the first: by recall, and by NDCG, which tells sooner."""
        first = self.labels[0]
        told = {name: verdict(by_metric[name], label, first, self.questions) for name in ("recall@10", "ndcg@10")}
        return "; ".join(f"{name}: {sentence}" for name, sentence in told.items())

    def _differences_json(self) -> list[dict[str, Any]]:
        """Each run against the first, with what can be concluded."""
        labels = self.labels
        return [
            {
                "of": label,
                "from": labels[0],
                **{name: found._asdict() for name, found in by_metric.items()},
                "verdict": self.verdict(label, by_metric),
            }
            for label, by_metric in zip(labels[1:], self.differences(), strict=True)
        ]


def verdict(found: Difference, one: str, other: str, questions: int) -> str:
    """What can be concluded of a difference, and what cannot, in a sentence.

    Args:
        found: Of ``one`` from ``other``.
        one: Its label.
        other: Its label.
        questions: How many were asked.
    """
    half = (found.high - found.low) / 2
    digits = 2 if half >= 0.015 else 3
    low, high = (signed(bound, digits) for bound in (found.low, found.high))
    if found.low > 0:
        return f"{one} is better than {other} by {signed(found.mean, digits)} [{low}, {high}]"
    if found.high < 0:
        by, least, most = (signed(-value, digits) for value in (found.mean, found.high, found.low))
        return f"{one} is worse than {other} by {by} [{least}, {most}]"
    text = f"{questions} questions cannot tell {one} from {other}: the difference is between {low} and {high}"
    if half <= TARGET:
        return text
    needed = math.ceil(questions * (half / TARGET) ** 2 / 50) * 50
    return f"{text} (some {needed:,} would tell {TARGET:.2f})"


def signed(number: float, digits: int = 2) -> str:
    """A difference, its sign a minus that reads as one."""
    text = f"{abs(number):.{digits}f}"
    return f"−{text}" if number < 0 and float(text) else text


def rows(types: Sequence[str], values: NDArray[np.float64], tokens: NDArray[np.float64]) -> tuple[Row, ...]:
    """A row for all questions, and one a type where the set has types."""
    kinds = np.array(types)
    found = [_row(ALL, values, tokens)]
    for kind in dict.fromkeys(one for one in types if one):
        of_kind = kinds == kind
        found.append(_row(kind, values[of_kind], tokens[of_kind]))
    return tuple(found)


def _row(kind: str, values: NDArray[np.float64], tokens: NDArray[np.float64]) -> Row:
    means = [float(one) for one in values.mean(axis=0)]
    return Row(
        type=kind,
        n=len(values),
        values=dict(zip(METRICS, means, strict=True)),
        intervals=dict(zip(METRICS, shares(values), strict=True)),
        tokens=float(tokens.mean()),
    )


def _names(run: Run) -> dict[str, Json]:
    return {
        "reranker": run.reranker,
        "legs": run.legs,
        "embedder": run.setup.embedder,
        "dimension": run.setup.dimension,
        "quantization": run.setup.quantization,
    }


def _flat(run: Run, row: Row) -> dict[str, Json]:
    intervals: dict[str, Json] = {f"{name}_interval": list(bounds) for name, bounds in row.intervals.items()}
    return {"type": row.type, "n": row.n, **row.values, **intervals, "tokens": row.tokens, **_names(run)}


def _ms(latency: Latency) -> dict[str, float]:
    return {"p50_ms": latency.p50, "p95_ms": latency.p95}


def _ingest_json(ingest: Ingest) -> dict[str, Json]:
    return {
        "rows": ingest.rows,
        "texts": ingest.texts,
        "texts_per_second": ingest.texts_per_second,
        "embed_seconds": ingest.embed_seconds,
        "seconds": ingest.seconds,
    }
