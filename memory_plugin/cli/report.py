"""What eval prints: one table of candidates, what can be concluded, and the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memory_plugin import picture
from memory_plugin.cli import show
from memory_plugin.cli.sizing import amount, money
from memory_plugin.errors import InvalidInputError
from memory_plugin.metrics import METRICS

if TYPE_CHECKING:
    from memory_plugin.evaluate import Evaluation, Row

STAGES = ("embed", "index", "open", "late", "rerank", "neighbours", "total")
HEADINGS = {"recall@5": "R@5", "recall@10": "R@10", "ndcg@10": "NDCG@10", "mrr@10": "MRR@10"}
WIDTH = 100
QUALITY = "recall@10"


def show_evaluation(found: Evaluation, drawn: Path | None) -> None:
    """Print an evaluation.

    Args:
        found: The evaluation.
        drawn: Where its picture is, or None.
    """
    several = len(found.runs) > 1
    if several:
        _print_candidates(found)
        if show.is_terminal() and len(found.runs) <= picture.MOST:
            show.say(picture.characters(_marks(found), _axes(found), width=min(show.width(), WIDTH)) + "\n")
    if not several or len(found.runs[0].rows) > 2:
        _print_quality(found)
    if not several:
        _print_stages(found)
    _print_facts(found, drawn)


def draw(found: Evaluation, file: Path) -> None:
    """Write the picture as an SVG file.

    Raises:
        InvalidInputError: The file cannot be written, or there are too many configurations.
    """
    if len(found.runs) > picture.MOST:
        raise InvalidInputError(f"a picture has at most {picture.MOST} configurations, not {len(found.runs)}")
    title = f"{found.dataset}: {found.questions:,} questions"
    try:
        file.write_text(picture.svg(_marks(found), _axes(found), title=title), encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be written: {error.strerror or error}") from error


def _axes(found: Evaluation) -> picture.Named:
    planned = found.setups[0].planned_for
    size = f"memory for {planned:,} memories" if planned else "bytes of the store"
    return picture.Named(QUALITY, size, "p50 of a search")


def _marks(found: Evaluation) -> list[picture.Mark]:
    return [
        picture.Mark(
            label=label,
            quality=run.rows[0].values[QUALITY],
            low=run.rows[0].intervals[QUALITY].low,
            high=run.rows[0].intervals[QUALITY].high,
            size=max(1, run.setup.bytes if run.setup.plan is None else run.setup.plan.memory_bytes),
            milliseconds=max(run.stages["total"].p50, 1e-3),
        )
        for label, run in zip(found.labels, found.runs, strict=True)
    ]


def _print_candidates(found: Evaluation) -> None:
    """One line a candidate: quality, difference, size, time, cost."""
    planned = found.setups[0].planned_for
    differences = [None, *found.differences()]
    rows: list[list[object]] = []
    for label, run, difference in zip(found.labels, found.runs, differences, strict=True):
        first = run.rows[0]
        plan = run.setup.plan
        told = "–" if difference is None else _between(difference[QUALITY].mean, difference[QUALITY][1:])
        rows.append(
            [
                label,
                _between(first.values[QUALITY], first.intervals[QUALITY]),
                told,
                show.figure(first.values["ndcg@10"]),
                round(run.stages["total"].p50, 1),
                round(run.stages["total"].p95, 1),
                *([] if plan is None else [amount(plan.memory_bytes), amount(plan.disk_bytes), money(plan.cost)]),
            ]
        )
    sizes = [f"memory at {planned:,}", "disk", "cost"] if planned else []
    columns = ["candidate", "R@10", "above the first", "NDCG@10", "p50 ms", "p95 ms", *sizes]
    show.table(columns, rows)
    verdicts = [
        found.verdict(label, difference)
        for label, difference in zip(found.labels[1:], found.differences(), strict=True)
    ]
    show.table(["what can be concluded"], [[sentence] for one in verdicts for sentence in one.split("; ")])


def _between(value: float, bounds: Sequence[float]) -> str:
    return f"{_signed(value)} [{_signed(bounds[0])}, {_signed(bounds[1])}]"


def _signed(value: float) -> str:
    text = show.figure(abs(value))
    return f"−{text}" if value < 0 and float(text) else text


def _print_quality(found: Evaluation) -> None:
    several = len(found.runs) > 1
    rows = [
        [*([label] if several else []), *_row(row)]
        for label, run in zip(found.labels, found.runs, strict=True)
        for row in run.rows
    ]
    show.table([*(["candidate"] if several else []), "type", "n", *HEADINGS.values(), "tokens"], rows)


def _row(row: Row) -> list[object]:
    return [
        row.type, row.n, *(_between(row.values[name], row.intervals[name]) for name in METRICS), round(row.tokens)
    ]  # fmt: skip


def _print_stages(found: Evaluation) -> None:
    """Where the time of a search goes, of the only candidate."""
    (run,) = found.runs
    stages = sorted(run.stages, key=lambda name: STAGES.index(name) if name in STAGES else len(STAGES) - 1)
    show.table(
        ["stage", "p50 ms", "p95 ms"],
        [[name, round(run.stages[name].p50, 1), round(run.stages[name].p95, 1)] for name in stages],
    )


def _print_facts(found: Evaluation, drawn: Path | None) -> None:
    speed = found.ingest.texts_per_second
    spent = [setup.spent for setup in found.setups if setup.spent]
    facts: list[list[str]] = [
        ["dataset", f"{found.dataset}: {found.ingest.rows:,} rows, {found.questions:,} questions"],
        ["sampled", "yes" if found.sampled else "no"],
        ["embedded", f"{found.ingest.texts:,} texts" + (f", {speed:.0f} a second" if speed else "")],
        ["added in", f"{found.ingest.seconds:.1f} s"],
        ["tokens counted by", found.counter],
        *[[name, "none" if value is None else str(value)] for name, value in found.models.items()],
        *[[f"dropped: {reason}", str(number)] for reason, number in found.dropped.items()],
        *[["forced", one] for one in forced(found)],
    ]
    if spent:
        facts.append(["spent on this", money(sum(spent))])
    if drawn is not None:
        facts.append(["picture", str(drawn)])
    show.table(["what", ""], facts)


def forced(found: Evaluation) -> list[str]:
    """What was shortened without being trained for it."""
    return [
        f"{setup.embedder} is not known to be trained for {setup.dimension} dimensions: it was cut to show what is lost"
        for setup in {(one.embedder, one.dimension): one for one in found.setups if one.forced}.values()
    ]
