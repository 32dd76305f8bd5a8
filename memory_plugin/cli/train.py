"""The commands that make models: train embedder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory_plugin.cli import show
from memory_plugin.cli.options import JsonOption
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.train.recipe import Recipe

if TYPE_CHECKING:
    from memory_plugin.train.embedder import Plan, Trained

_JUDGE, _TRAIN = "Judging", "Training"


class Method(StrEnum):
    """What is learned from."""

    contrastive = "contrastive"
    distill = "distill"


def embedder(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS",
            help='A file of lines {"query": …, "passage": …}, or a directory as eval takes.',
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the new model is to be.", show_default=False)
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A sentence-transformers model to start from. Default: the shipped one.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        Method,
        typer.Option(help="Learn from answers and hard negatives, or from the reranker's grades as well."),
    ] = Method.contrastive,
    matryoshka: Annotated[
        str | None,
        typer.Option(
            metavar="N,N…",
            help="Train for these shorter dimensions too, e.g. 256,128.",
            show_default=False,
            rich_help_panel=_TRAIN,
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the pairs at most.", rich_help_panel=_TRAIN)] = 2,
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            help="Of training itself; then the best so far is kept.",
            show_default=False,
            rich_help_panel=_TRAIN,
        ),
    ] = None,
    rate: Annotated[float, typer.Option(help="Learning rate.", rich_help_panel=_TRAIN)] = 1e-4,
    batch: Annotated[int, typer.Option(help="Queries a step.", rich_help_panel=_TRAIN)] = 32,
    seed: Annotated[int, typer.Option(help="The same seed does the same.", rich_help_panel=_TRAIN)] = 1,
    threads: Annotated[
        int | None, typer.Option(help="Cores to use. Default: all.", show_default=False, rich_help_panel=_TRAIN)
    ] = None,
    hold_out: Annotated[
        float,
        typer.Option(help="Share of the questions that judges and is never learned.", rich_help_panel=_JUDGE),
    ] = 0.5,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Questions about rows of one value stay on one side, e.g. doc.",
            show_default=False,
            rich_help_panel=_JUDGE,
        ),
    ] = None,
    check: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Another set to judge on: what was unlearned? Several times for several.",
            show_default=False,
            rich_help_panel=_JUDGE,
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option(help="Questions of each set that judge, at most.", rich_help_panel=_JUDGE)
    ] = 1000,
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep the first model's stores here, for another run.",
            show_default=False,
            rich_help_panel=_JUDGE,
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="What the model is called. Default: after the pairs.", show_default=False)
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read, split and mine, and say what there is to learn.")
    ] = False,
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
