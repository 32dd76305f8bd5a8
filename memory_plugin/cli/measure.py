"""The command that measures retrieval: eval."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory_plugin.assembly import LOCAL
from memory_plugin.cli import show
from memory_plugin.cli.options import EMBEDDER, EmbedderOption, JsonOption
from memory_plugin.metrics import METRICS

if TYPE_CHECKING:
    from memory_plugin.evaluate import Evaluation, Row, Run

STAGES = ("embed", "index", "open", "late", "rerank", "neighbours", "total")
HEADINGS = {"recall@5": "R@5", "recall@10": "R@10", "ndcg@10": "NDCG@10", "mrr@10": "MRR@10"}


class Stage(StrEnum):
    """The last stage of a search."""

    none = "none"
    late = "late"
    local = "local"


class Leg(StrEnum):
    """What proposes candidates."""

    dense = "dense"
    lexical = "lexical"
    hybrid = "hybrid"


def evaluate(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Holds corpus.jsonl.gz, queries.jsonl.gz, qrels.tsv.", show_default=False),
    ],
    reranker: Annotated[
        list[Stage] | None,
        typer.Option(
            help="Last stage: fusion, late interaction, cross-encoder. Several to compare.", show_default="local"
        ),
    ] = None,
    legs: Annotated[
        list[Leg] | None,
        typer.Option(help="What proposes candidates. Several to compare.", show_default="hybrid"),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-k", help="Rows that a search returns.")] = 10,
    sample: Annotated[
        int | None, typer.Option(help="Ask that many questions only, always the same.", show_default=False)
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(help="Keep store and keys here, and do not embed again what is there.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    embedder: EmbedderOption = EMBEDDER,
) -> None:
    """Measure retrieval on questions with labels: quality, latency by stage, tokens returned.

    The corpus is added to a store of its own, which is deleted afterwards.
    """
    from memory_plugin.evaluate import evaluate as measured

    with show.progress() as tell:
        found = measured(
            directory,
            reranker=[one.value for one in reranker or (Stage.local,)],
            legs=[one.value for one in legs or (Leg.hybrid,)],
            limit=limit,
            sample=sample,
            store=store,
            embedder=embedder or LOCAL,
            progress=tell,
        )
    if as_json:
        show.emit(found.to_json())
    else:
        _print(found)


def _print(found: Evaluation) -> None:
    several = len(found.runs) > 1
    configuration = ["legs", "reranker"] if several else []
    rows = [_row(run, row, several=several) for run in found.runs for row in run.rows]
    show.table([*configuration, "type", "n", *HEADINGS.values(), "tokens"], rows)
    named = dict.fromkeys(name for run in found.runs for name in run.stages)
    stages = sorted(named, key=lambda name: STAGES.index(name) if name in STAGES else len(STAGES) - 1)
    latencies: list[list[object]] = [
        [*_configuration(run, several=several), name, *_latency(run, name)]
        for name in stages
        for run in found.runs
        if name in run.stages
    ]
    show.table([*configuration, "stage", "p50 ms", "p95 ms"], latencies)
    speed = found.ingest.texts_per_second
    facts: list[list[str]] = [
        ["dataset", f"{found.dataset}: {found.ingest.rows:,} rows, {found.questions:,} questions"],
        ["sampled", "yes" if found.sampled else "no"],
        ["embedded", f"{found.ingest.texts:,} texts" + (f", {speed:.0f} a second" if speed else "")],
        ["added in", f"{found.ingest.seconds:.1f} s"],
        ["tokens counted by", found.counter],
        *[[name, "none" if value is None else str(value)] for name, value in found.models.items()],
        *[[f"dropped: {reason}", str(number)] for reason, number in found.dropped.items()],
    ]
    show.table(["what", ""], facts)


def _row(run: Run, row: Row, *, several: bool) -> list[object]:
    cells = []
    for name in METRICS:
        low, high = row.intervals[name]
        cells.append(f"{show.figure(row.values[name])} [{show.figure(low)}, {show.figure(high)}]")
    return [*_configuration(run, several=several), row.type, row.n, *cells, round(row.tokens)]


def _configuration(run: Run, *, several: bool) -> list[object]:
    return [run.legs, run.reranker] if several else []


def _latency(run: Run, stage: str) -> list[object]:
    return [round(run.stages[stage].p50, 1), round(run.stages[stage].p95, 1)]
