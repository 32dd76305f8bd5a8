"""Fine-tuning of an embedder from end to end: pairs in, a model directory and a table out.

    from memory_plugin.train.embedder import train_embedder

    print(train_embedder("pairs.jsonl", "my-model").embedder)

Questions are split; hard negatives are mined by a store of the model that training starts from; the new model is
written as a directory, and both answer the questions that training saw nothing of.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory_plugin import dataset as sets
from memory_plugin import registry
from memory_plugin.assembly import LOCAL
from memory_plugin.dataset import Dataset, Question
from memory_plugin.errors import InvalidInputError, TrainingError
from memory_plugin.store import MemoryStore
from memory_plugin.train import base as bases
from memory_plugin.train import output, pairs
from memory_plugin.train.measure import Difference, Progress, Stage, ask, differences
from memory_plugin.train.mine import Example, Miner
from memory_plugin.train.pairs import Pairs
from memory_plugin.train.split import Split, split
from memory_plugin.types import Json

if TYPE_CHECKING:
    from memory_plugin.train.loop import Course, Recipe

SAMPLE = 1000
"""Questions that judge, at most."""
STAGES: tuple[Stage, ...] = ("dense leg", "full pipeline")


@dataclass(frozen=True, slots=True)
class Mined:
    """What there is to learn from.

    Args:
        examples: Questions with an answer in the store.
        negatives: Hard negatives in all.
        doubtful: Candidates left out since the reranker took them for answers too.
    """

    examples: int
    negatives: int
    doubtful: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What training would do: the questions on each side and what was mined for them.

    Args:
        train: Questions to learn from.
        stop: Questions kept back to stop by.
        test: Questions to judge by.
        near: Questions left out for being nearly the same as one that judges.
        mined: What there is to learn from.
    """

    train: int
    stop: int
    test: int
    near: int
    mined: Mined


@dataclass(frozen=True, slots=True)
class Trained:
    """A new model.

    Args:
        directory: Where it is.
        embedder: Its name: for ``MemoryStore``, ``--embedder`` and ``migrate``.
        before: Name of the embedder that training started from.
        plan: What it learned from.
        course: How training went.
        differences: Before and after; none where training was interrupted.
    """

    directory: Path
    embedder: str
    before: str
    plan: Plan
    course: Course
    differences: tuple[Difference, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """One object."""
        return {
            "directory": str(self.directory),
            "embedder": self.embedder,
            "before": self.before,
            **_facts(self.plan, self.course, self.differences),
        }


def _facts(plan: Plan, course: Course, found: Sequence[Difference]) -> dict[str, Any]:
    return {
        "questions": {**{name: value for name, value in asdict(plan).items() if name != "mined"}},
        "mined": asdict(plan.mined),
        "course": asdict(course),
        "differences": [one.to_json() for one in found],
    }


@dataclass(frozen=True, slots=True)
class Options:
    """What to judge by, and what is kept.

    Args:
        hold_out: Share of the questions to judge by; 0 trains on all of them, for when the share has told its figures.
        group_by: A field of a directory's rows; questions about rows of one value stay together.
        checks: Further sets to judge by, which shows what was unlearned.
        sample: Questions of each set to judge by at most.
        name: What the new model is called in a store's identity; "" for a name after the pairs.
        store: Keep the stores of the first model here, and do not embed again what is there.
    """

    hold_out: float = 0.5
    group_by: str | None = None
    checks: tuple[str | os.PathLike[str], ...] = ()
    sample: int = SAMPLE
    name: str = ""
    store: str | os.PathLike[str] | None = None


def plan_training(
    source: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    options: Options | None = None,
    seed: int = 1,
    progress: Progress | None = None,
) -> Plan:
    """Read, split and mine, and train nothing: it needs no extra.

    Args:
        source: Pairs, see ``memory_plugin.train.pairs``.
        base: See ``train_embedder``.
        options: See the class.
        seed: Of the split.
        progress: Told about every batch and question.

    Raises:
        InvalidInputError: The pairs cannot be read or split.
    """
    chosen = options or Options()
    with _Bench(chosen, _name_of(base), progress or _silent) as bench:
        return _prepare(bench, source, seed)[3]


def _silent(what: str, done: int, of: int) -> None:
    """No progress shown."""


def _name_of(base: str | os.PathLike[str] | None) -> str:
    return LOCAL if base is None else output.embedder_name(Path(base).expanduser())
