"""Fine-tuning of an embedder from end to end: pairs in, a model directory and a table out.

    from memory_plugin.train.embedder import train_embedder

    print(train_embedder("pairs.jsonl", "my-model").embedder)

Questions are split; hard negatives are mined by a store of the model that training starts from; the new model is
written as a directory, and both answer the questions that training saw nothing of.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from memory_plugin import dataset as sets
from memory_plugin import registry
from memory_plugin.assembly import LOCAL
from memory_plugin.dataset import Question
from memory_plugin.errors import InvalidInputError, TrainingError
from memory_plugin.train import base as bases
from memory_plugin.train import output, pairs
from memory_plugin.train.bench import Bench
from memory_plugin.train.measure import Difference, Progress, Stage, ask, differences
from memory_plugin.train.mine import Example, Grader, Miner
from memory_plugin.train.pairs import Pairs
from memory_plugin.train.recipe import Course, Recipe
from memory_plugin.train.split import split

SAMPLE = 1000
"""Questions that judge, at most."""
STAGES: tuple[Stage, ...] = ("dense leg", "full pipeline")
Values = Mapping[tuple[str, Stage], NDArray[np.float64]]
"""Metrics of every question by what was asked and how."""


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

    def to_json(self) -> dict[str, Any]:
        """One object."""
        return asdict(self)


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
    differences: tuple[Difference, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """One object."""
        return {
            "directory": str(self.directory),
            "embedder": self.embedder,
            "before": self.before,
            "plan": asdict(self.plan),
            "course": asdict(self.course),
            "differences": [one.to_json() for one in self.differences],
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
    recipe: Recipe | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Read, split and mine, and train nothing: for the shipped model it needs no extra.

    Args:
        source: Pairs, see ``memory_plugin.train.pairs``.
        base: See ``train_embedder``.
        recipe: Its seed decides the split.
        options: See the class.
        progress: Told about every batch and question.

    Raises:
        InvalidInputError: The pairs cannot be read or split.
    """
    chosen, tell = options or Options(), progress or _silent
    found = pairs.read(source, group_by=chosen.group_by)
    with Bench(_kept(chosen), tell) as bench:
        return _Work(bench, found, _before(base), recipe or Recipe(), chosen, tell).prepare()[2]


def train_embedder(
    source: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    recipe: Recipe | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Fine-tune an embedder on pairs.

    Args:
        source: Pairs, see ``memory_plugin.train.pairs``.
        directory: Where the new model is to be; it must not be there yet.
        base: The model to start from: a sentence-transformers directory, or one that training wrote; None for the
            shipped model.
        recipe: How to train.
        options: What to judge by.
        progress: Told about every batch, question and step.

    Returns:
        The new model, with what it is worth.  After Ctrl-C while it was training, the best model so far, not judged.

    Raises:
        MissingExtraError: The extra "train" is not installed.
        InvalidInputError: The pairs cannot be read or split, or an option has no such value.
        ConfigurationError: ``base`` is no model, or ``directory`` cannot be written.
        TrainingError: Nothing was better than the model that training started from.  Nothing was written.
        MemoryPluginError: As ``MemoryStore.add`` and ``MemoryStore.search``.
    """
    bases.require_extra()
    chosen, how, tell = options or Options(), recipe or Recipe(), progress or _silent
    where = output.require_free(directory)
    found = pairs.read(source, group_by=chosen.group_by)
    with Bench(_kept(chosen), tell) as bench:
        return _Work(bench, found, _before(base), how, chosen, tell).run(base, where)


def _silent(what: str, done: int, of: int) -> None:
    """No progress shown."""


def _kept(options: Options) -> Path | None:
    return None if options.store is None else Path(options.store).expanduser()


def _before(base: str | os.PathLike[str] | None) -> str:
    """Name of the embedder that training starts from."""
    if base is None:
        return LOCAL
    return output.embedder_name(Path(base).expanduser())


class _Work:
    """One training, from pairs to table."""

    def __init__(
        self, bench: Bench, found: Pairs, before: str, recipe: Recipe, options: Options, tell: Progress
    ) -> None:
        if options.sample < 1:
            raise InvalidInputError(f"sample must be at least 1, not {options.sample}")
        self.bench = bench
        self.pairs = found
        self.before = before
        self.recipe = recipe
        self.tell = tell
        self.split = split(found.data.questions, hold_out=options.hold_out, seed=recipe.seed, groups=found.groups)
        judged = [
            replace(found.data, questions=self.split.test),
            *(sets.read(Path(one).expanduser()) for one in options.checks),
        ]
        self.judged = [data.sample(options.sample) for data in judged if data.questions]
        self.dimensions = self._dimensions()
        self.name = options.name or f"{registry.embedder(before).identity.model}-{found.data.name}"

    def _dimensions(self) -> tuple[int, ...]:
        """Those to be cut to, the longest first."""
        whole = registry.embedder(self.before).identity.dimension
        if any(one > whole for one in self.recipe.dimensions):
            raise InvalidInputError(f"the model has {whole} dimensions: it cannot be cut to {self.recipe.dimensions}")
        return tuple(sorted({*self.recipe.dimensions} - {whole}, reverse=True))

    def prepare(self) -> tuple[list[Example], list[Example], Plan]:
        """Examples to learn from, examples to stop by, and what they are."""
        asked = {row for one in (*self.split.train, *self.split.stop) for row in _answers(one)}
        hidden = frozenset({row for one in self.split.test for row in _answers(one)} - asked)
        with self.bench.store(self.pairs.data, self.before, keep=True) as memory:
            miner = Miner(memory, self.pairs, cast("Grader", registry.reranker(LOCAL).rerank), hidden)
            examples = self._mined(miner, self.split.train, "mine")
            stop = self._mined(miner, self.split.stop, "mine, to stop by")
        if not examples:
            raise InvalidInputError("no question to learn from has an answer in the corpus: there is nothing to learn")
        sides = self.split
        mined = Mined(
            examples=len(examples),
            negatives=sum(len(one.negatives) for one in examples),
            doubtful=sum(len(one.doubtful) for one in examples),
        )
        return examples, stop, Plan(len(sides.train), len(sides.stop), len(sides.test), sides.near, mined)

    def _mined(self, miner: Miner, questions: Sequence[Question], what: str) -> list[Example]:
        made = []
        for place, question in enumerate(questions, 1):
            made.append(miner.example(question))
            self.tell(what, place, len(questions))
        return [one for one in made if one is not None]

    def run(self, base: str | os.PathLike[str] | None, where: Path) -> Trained:
        """All of it."""
        from memory_plugin.train.loop import train

        examples, stop, plan = self.prepare()
        before = self._figures(self.before, keep=True)
        model = bases.load(base)
        course = train(model, examples, stop, self.recipe, self.tell)
        if course.ended == "interrupted" and not course.best:
            raise KeyboardInterrupt
        if not course.best:
            raise TrainingError(
                f"training made nothing better: on the {len(stop)} questions kept back, NDCG@10 went from"
                f" {course.checks[0]:.3f} to {max(course.checks[1:], default=0):.3f} at best; nothing was written."
                " Give more pairs, or try a lower --rate"
            )
        facts = {
            "matryoshka": sorted({*self.recipe.dimensions}, reverse=True),
            "base": self.before,
            "recipe": asdict(self.recipe),
            "plan": asdict(plan),
            "course": asdict(course),
        }
        with output.whole(where) as partial:
            output.save(model, partial, self.name, facts)
        made = Trained(where, output.embedder_name(where), self.before, plan, course)
        if course.ended == "interrupted":
            return made
        after = self._figures(made.embedder, keep=False)
        found = [one for of, stage in before for one in differences(of, stage, before[of, stage], after[of, stage])]
        output.record(where, differences=[one.to_json() for one in found])
        return replace(made, differences=tuple(found))

    def _figures(self, embedder: str, *, keep: bool) -> Values:
        """What a model finds for every question that judges."""
        values: dict[tuple[str, Stage], NDArray[np.float64]] = {}
        for data in self.judged:
            with self.bench.store(data, embedder, keep=keep) as memory:
                for stage in STAGES:
                    values[data.name, stage] = ask(memory, data.questions, stage, self.tell, f"{data.name}, {embedder}")
            for dimension in self.dimensions:
                shorter = f"{embedder}?dimension={dimension}&force=true"
                of = f"{data.name}, {dimension} dimensions"
                with self.bench.store(data, shorter, keep=keep, late=None) as memory:
                    values[of, "dense leg"] = ask(memory, data.questions, "dense leg", self.tell, of)
        return values


def _answers(question: Question) -> Iterator[str]:
    return (row for row, gain in question.relevant.items() if gain > 0)
