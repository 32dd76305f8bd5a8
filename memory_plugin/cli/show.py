"""What commands print: tables on a terminal, tab separated lines in a pipe, one object as JSON.

Stored text may hold anything, so control characters never reach a terminal.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from memory_plugin.types import Hit, Record, Usage

if TYPE_CHECKING:
    from rich.console import Console

SNIPPET = 240
SOURCE_WIDTH, WIDE_TERMINAL = 26, 130
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def is_terminal() -> bool:
    """Whether people read what is printed."""
    return sys.stdout.isatty()


def can_ask() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def clean(text: str) -> str:
    """The text without what would steer a terminal: escapes, and characters that turn writing around."""
    return _CONTROL.sub("�", text.replace("\r\n", "\n"))


def line(text: object) -> str:
    """One line of it."""
    return clean(" ".join(str(text).split()))


def emit(value: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    plain = (sys.stdout.encoding or "ascii").lower().replace("-", "") != "utf8"
    sys.stdout.write(json.dumps(value, ensure_ascii=plain, indent=2 if is_terminal() else None) + "\n")


def say(text: str) -> None:
    """Print text."""
    sys.stdout.write(clean(text) + "\n")


def note(text: str) -> None:
    """Tell people something that is no output."""
    sys.stderr.write(clean(text) + "\n")


def failure(kind: str, message: str, *, as_json: bool) -> None:
    """Say what went wrong: a line for people, and for those who asked for JSON an object in place of the answer."""
    with contextlib.suppress(OSError):
        if as_json:
            emit({"error": {"type": kind, "message": message}})
            sys.stdout.flush()
        else:
            note(f"memory-plugin: {message}")


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, wide: str | None = None) -> None:
    """Print rows under a heading.

    Args:
        columns: Their names; one that begins with "#" or ends with one of numbers is set to the right.
        rows: A cell for each column.
        wide: The column that takes the room that is left.
    """
    if not is_terminal():
        for row in (columns, *rows):
            sys.stdout.write("\t".join(line(cell) for cell in row) + "\n")
        return
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=wide is not None)
    for place, name in enumerate(columns):
        number = bool(rows) and all(isinstance(row[place], int | float) or row[place] in ("", "–") for row in rows)
        made.add_column(
            name,
            justify="right" if number else "left",
            no_wrap=number or name == "id",
            ratio=1 if name == wide else None,
            overflow="fold",
        )
    for row in rows:
        made.add_row(
            *(_ending(cell) if name == "source" else _cell(cell) for name, cell in zip(columns, row, strict=True))
        )
    _console().print(made)


def _cell(cell: object) -> str:
    text = line(cell)
    return text if len(text) <= SNIPPET else text[: SNIPPET - 1] + "…"


def _ending(cell: object) -> str:
    """The end of a path tells more than its beginning."""
    text = line(cell)
    return text if len(text) <= SOURCE_WIDTH else "…" + text[1 - SOURCE_WIDTH :]


def is_narrow() -> bool:
    """Whether this is a terminal without room for the columns that one can do without."""
    return is_terminal() and _console().width < WIDE_TERMINAL


def width() -> int:
    """Columns of the terminal."""
    return _console().width


def bill(tokens: int, cost: float | None) -> str:
    """What vendors charged for."""
    return f"{tokens:,} tokens billed, " + ("at a price that is not known" if cost is None else f"about ${cost:.6f}")


def usage_json(found: Mapping[str, Usage]) -> dict[str, Any]:
    """What providers that count were used for, as JSON; nothing where there are none."""
    return {"usage": {what: asdict(one) for what, one in found.items()}} if found else {}


def figure(number: float) -> str:
    """A score with the digits that tell."""
    return f"{number:.3f}"


@contextlib.contextmanager
def progress() -> Iterator[Callable[..., None]]:
    """A bar on standard error, for terminals only; call it with what, how much is done, how much there is, a remark."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _of, _note="": None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, of: int, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of, note=note)
            bars.update(tasks[what], completed=done, total=of, note=note)

        yield tell


def when(record: Record) -> str:
    """The record's time in UTC, to the minute."""
    return f"{record.time:%Y-%m-%d %H:%M}"


def place(record: Record) -> str:
    """Where it came from: its document, or its speaker."""
    return record.source or record.name or record.role or ""


def words(record: Record) -> str:
    """A memory's text; of an image without a caption, that it is one."""
    return record.text or f"({record.media_type or record.kind})"


def record_json(record: Record) -> dict[str, Any]:
    """A memory as JSON."""
    return {
        "id": record.id,
        "namespace": list(record.namespace),
        "text": record.text,
        "context": record.context,
        "source": record.source,
        "kind": record.kind,
        "role": record.role,
        "name": record.name,
        "time": record.time.isoformat(),
        "metadata": dict(record.metadata),
        "start": record.start,
        "end": record.end,
        "index": record.index,
        "chunks": record.chunks,
        "document": record.document,
        "local_only": record.local_only,
        "media_type": record.media_type,
        "sha256": record.sha256,
        "value": record.value,
    }


def hit_json(rank: int, hit: Hit) -> dict[str, Any]:
    """A hit as JSON."""
    return {
        "rank": rank,
        "score": hit.score,
        "stages": {name: {"rank": one.rank, "score": one.score} for name, one in hit.stages.items()},
        **record_json(hit.record),
        "space": hit.space,
        "before": [record_json(one) for one in hit.before],
        "after": [record_json(one) for one in hit.after],
    }
