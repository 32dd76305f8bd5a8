"""The commands that make models: train embedder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from memory_plugin.cli import show
from memory_plugin.cli.options import JsonOption
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.train.recipe import Recipe

if TYPE_CHECKING:
    from memory_plugin.train.embedder import Plan, Trained


class Method(StrEnum):
    """What is learned from."""

    contrastive = "contrastive"
    distill = "distill"


def _judging(words: str, **more: Any) -> Any:
    return typer.Option(help=words, rich_help_panel="Judging", **more)


def _training(words: str, **more: Any) -> Any:
    return typer.Option(help=words, rich_help_panel="Training", **more)


Pairs: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="PAIRS",
        help='A file of lines {"query": …, "passage": …}, or a directory as eval takes.',
        show_default=False,
    ),
]
Out: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where the new model is to be.", show_default=False)
]
Base: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Start from this sentence-transformers model. Default: the shipped one.",
        show_default=False,
    ),
]
Name: TypeAlias = Annotated[
    str, typer.Option(help="What the model is called. Default: after the pairs.", show_default=False)
]
HowLearned: TypeAlias = Annotated[Method, _training("Learn from answers and hard negatives, or from grades as well.")]
Matryoshka: TypeAlias = Annotated[
    str | None, _training("Train for these shorter dimensions too, e.g. 256,128.", metavar="N,N…", show_default=False)
]
Epochs: TypeAlias = Annotated[int, _training("Passes over the pairs at most.")]
TimeLimit: TypeAlias = Annotated[
    float | None, _training("After which the best so far is kept.", metavar="MINUTES", show_default=False)
]
Rate: TypeAlias = Annotated[float, _training("Learning rate.")]
Batch: TypeAlias = Annotated[int, _training("Queries a step.")]
Seed: TypeAlias = Annotated[int, _training("The same seed does the same.")]
Threads: TypeAlias = Annotated[int | None, _training("Cores to use. Default: all.", show_default=False)]
HoldOut: TypeAlias = Annotated[float, _judging("Share of the questions that judges and is never learned.")]
GroupBy: TypeAlias = Annotated[
    str | None,
    _judging("Questions about rows of one value stay on one side, e.g. doc.", metavar="FIELD", show_default=False),
]
Check: TypeAlias = Annotated[
    list[Path] | None,
    _judging("Another set to judge by: what was unlearned? Several for several.", metavar="DIR", show_default=False),
]
Sample: TypeAlias = Annotated[int, _judging("Questions of each set that judge, at most.")]
Store: TypeAlias = Annotated[
    Path | None, _judging("Keep the first model's stores here, for another run.", metavar="DIR", show_default=False)
]


def embedder(
    source: Pairs,
    out: Out = None,
    base: Base = None,
    name: Name = "",
    method: HowLearned = Method.contrastive,
    matryoshka: Matryoshka = None,
    epochs: Epochs = 2,
    time_limit: TimeLimit = None,
    rate: Rate = 1e-4,
    batch: Batch = 32,
    seed: Seed = 1,
    threads: Threads = None,
    hold_out: HoldOut = 0.5,
    group_by: GroupBy = None,
    check: Check = None,
    sample: Sample = 1000,
    store: Store = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read, split, mine; say what there is to learn.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune an embedder on your own pairs of questions and passages, and measure what it gained.

    The result is a directory that any store takes as --embedder local:DIR, without the extra that training needs.
    """
    from memory_plugin.train.embedder import Options, plan_training, train_embedder

    recipe = Recipe(
        method=method.value,
        epochs=epochs,
        batch=batch,
        rate=rate,
        time_limit=None if time_limit is None else 60 * time_limit,
        seed=seed,
        dimensions=_numbers(matryoshka),
        threads=threads,
    )
    options = Options(hold_out, group_by, tuple(check or ()), sample, name, store)
    if dry_run:
        with show.progress() as tell:
            plan = plan_training(source, base=base, recipe=recipe, options=options, progress=tell)
        _print_plan(plan, as_json=as_json)
        return
    if out is None:
        raise ConfigurationError("say with --out where the new model is to be, or try --dry-run first")
    with show.progress() as tell:
        found = train_embedder(source, out, base=base, recipe=recipe, options=options, progress=tell)
    if as_json:
        show.emit(found.to_json())
    else:
        _print(found)
    if found.course.ended == "interrupted":
        raise KeyboardInterrupt


def _numbers(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(one) for one in text.split(",")) if text else ()
    except ValueError:
        raise InvalidInputError(f"--matryoshka is numbers with commas between them, not {text!r:.40}") from None


def _print_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        show.emit(plan.to_json())
    else:
        show.table(["what", ""], _planned(plan))


def _planned(plan: Plan) -> list[list[object]]:
    return [
        ["questions to learn from", f"{plan.mined.examples:,}"],
        ["hard negatives", f"{plan.mined.negatives:,}"],
        ["left out: may answer too", f"{plan.mined.doubtful:,}"],
        ["questions to stop by", f"{plan.stop:,}"],
        ["questions that judge", f"{plan.test:,}"],
        ["left out: nearly one that judges", f"{plan.near:,}"],
    ]


def _print(found: Trained) -> None:
    rows = [
        [
            one.of,
            one.stage,
            {"recall@10": "R@10", "ndcg@10": "NDCG@10"}[one.metric],
            one.n,
            show.figure(one.before),
            show.figure(one.after),
            f"{one.gain:+.3f} [{one.interval.low:+.3f}, {one.interval.high:+.3f}]",
        ]
        for one in found.differences
    ]
    if rows:
        show.table(["asked", "stage", "metric", "n", "before", "after", "difference [95 %]"], rows)
    course = found.course
    facts: list[list[object]] = [
        *_planned(found.plan),
        ["steps", f"{course.steps:,} in {course.seconds:.0f} s, ended by: {course.ended}"],
        ["kept", f"step {course.best:,}"],
        ["before", found.before],
        ["after", found.embedder],
        ["use it", f"memory-plugin migrate --to {found.embedder}"],
    ]
    show.table(["what", ""], facts)
