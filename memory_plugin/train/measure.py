"""Before and after, question by question: what a new model is worth, with the interval of the difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memory_plugin.dataset import Question
from memory_plugin.metrics import METRICS, Interval, bootstrap, measure
from memory_plugin.store import MemoryStore
from memory_plugin.types import Json

Progress = Callable[[str, int, int], None]
Stage = Literal["dense leg", "full pipeline"]

STAGES: Mapping[Stage, tuple[Literal["dense", "hybrid"], Literal["none", "full"]]] = {
    "dense leg": ("dense", "none"),
    "full pipeline": ("hybrid", "full"),
}
SHOWN = ("recall@10", "ndcg@10")
LIMIT = 10


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure before and after, over the same questions.

    Args:
        of: What was asked: a set's name, and a dimension where vectors were cut.
        stage: "dense leg" alone, or the "full pipeline" with late interaction and cross-encoder.
        metric: "recall@10" or "ndcg@10".
        n: Questions.
        before: Mean with the model that training started from.
        after: Mean with the new one.
        interval: 95 % bootstrap interval of the mean difference, questions resampled in pairs.
    """

    of: str
    stage: Stage
    metric: str
    n: int
    before: float
    after: float
    interval: Interval

    @property
    def gain(self) -> float:
        """After less before."""
        return self.after - self.before

    def to_json(self) -> dict[str, Json]:
        """As one object."""
        return {**asdict(self), "interval": list(self.interval), "gain": self.gain}


def ask(
    memory: MemoryStore, questions: Sequence[Question], stage: Stage, tell: Progress, what: str
) -> NDArray[np.float64]:
    """All metrics of every question, shape (questions, metrics).

    Args:
        memory: Holds the corpus.
        questions: What to ask.
        stage: How.
        tell: Told about every question.
        what: What it is told.
    """
    legs, rerank = STAGES[stage]
    values = np.empty((len(questions), len(METRICS)))
    for place, question in enumerate(questions):
        found = memory.search(question.text, question.namespace, limit=LIMIT, legs=legs, rerank=rerank, per_document=1)
        values[place] = measure(question.ranking([hit.record for hit in found]), question.relevant)
        tell(f"{what}, {stage}", place + 1, len(questions))
    return values


def differences(of: str, stage: Stage, before: NDArray[np.float64], after: NDArray[np.float64]) -> list[Difference]:
    """The metrics that are shown, of the same questions before and after."""
    intervals = dict(zip(METRICS, bootstrap(after - before), strict=True))
    means = [dict(zip(METRICS, map(float, values.mean(axis=0)), strict=True)) for values in (before, after)]
    return [Difference(of, stage, name, len(before), means[0][name], means[1][name], intervals[name]) for name in SHOWN]
