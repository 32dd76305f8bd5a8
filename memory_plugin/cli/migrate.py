"""The command that changes the model of a store: migrate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from memory_plugin.cli import show
from memory_plugin.cli.check import size
from memory_plugin.cli.options import (
    EMBEDDER,
    EmbedderOption,
    JsonOption,
    KeysOption,
    OfflineOption,
    Place,
    PlaintextOption,
    StoreOption,
)
from memory_plugin.engine.migrate import FLOOR
from memory_plugin.engine.migration import Estimate, Migration, MigrationProgress, Pending
from memory_plugin.errors import InvalidInputError
from memory_plugin.store import MemoryStore
from memory_plugin.types import ModelIdentity


def migrate(
    to: Annotated[str | None, typer.Option("--to", metavar="NAME", help="The new model.", show_default=False)] = None,
    quantization: Annotated[
        str | None,
        typer.Option(help="Or another form of the vectors: turbo4, turbo2, int8, binary, none.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and change nothing.")] = False,
    questions: Annotated[
        str | None,
        typer.Option(metavar="FILE|DIR", help="Your own questions, to be found as well as before.", show_default=False),
    ] = None,
    floor: Annotated[float, typer.Option(help="Share of what the old model finds that the new one must find.")] = FLOOR,
    rate: Annotated[
        float | None, typer.Option(help="Memories a second at most. Default: as fast as it goes.", show_default=False)
    ] = None,
    batch: Annotated[int, typer.Option(help="Memories embedded and written together.")] = 64,
    force: Annotated[bool, typer.Option("--force", help="Switch whatever was measured.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the model before the last switch.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Drop the space that was left by the last switch.")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Give up a migration before its switch.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say how far a migration is.")] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Change the model of a store while it serves; cut off, it goes on when called again.

    The old model's vectors are kept until --finish, and --rollback goes back to them at once.
    """
    if sum((rollback, finish, abandon, status, (to or quantization) is not None and not rollback)) != 1:
        raise InvalidInputError("migrate needs one of: --to, --quantization, --rollback, --finish, --abandon, --status")
    place = Place(store, keys, plaintext, embedder, offline)
    with place.open(successor=to if rollback else None) as memory:
        if status:
            _status(memory, as_json=as_json)
        elif finish or abandon:
            _dropped(memory.finish() if finish else memory.abandon(), as_json=as_json)
        elif rollback:
            _report(memory.rollback(to, rate=rate, batch=batch), as_json=as_json)
        else:
            with show.progress() as tell:
                done = memory.migrate(
                    to,
                    questions=questions,
                    floor=floor,
                    rate=rate,
                    batch=batch,
                    progress=_teller(tell),
                    dry_run=dry_run,
                    force=force,
                    quantization=quantization,  # type: ignore[arg-type]  # it is checked there
                )
            _report(done, as_json=as_json)


def _teller(tell: Callable[..., None]) -> Callable[[MigrationProgress], None]:
    def told(at: MigrationProgress) -> None:
        tell("Filling", at.done, at.total, f"{at.rate:.0f}/s" if at.rate else "")

    return told


def _report(done: Migration, *, as_json: bool) -> None:
    if as_json:
        show.emit(_json(done))
        return
    if done.estimate is not None:
        _estimate(done.estimate)
        return
    for figure in done.gate.figures if done.gate else ():
        show.say(str(figure))
    made = f"{done.embedded:,} embedded, {done.converted:,} made of stored vectors, {duration(done.seconds)}"
    show.say(f"searched with {_name(done.model)}: {done.memories:,} memories have its vectors ({made})")
    if done.missing:
        show.say(f"{done.missing:,} memories have none, and are found by their words: migrate again, or verify")
    if done.exempt:
        show.say(f"{done.exempt:,} memories are local only: this model does not see them")
    if done.state == "switched":
        show.say("the earlier model's vectors are kept: --rollback goes back to them, --finish drops them")


def _estimate(found: Estimate) -> None:
    cost = "unknown: the price table does not have this model" if found.cost is None else f"${found.cost:,.4f}"
    rows = [
        ["memories to fill", f"{found.memories:,}"],
        ["tokens to embed (estimated)", f"{found.tokens:,}"],
        ["cost (list price)", cost],
        ["more bytes while both are kept", size(found.bytes_during)],
        ["more bytes afterwards", ("-" if found.bytes_after < 0 else "") + size(abs(found.bytes_after))],
        ["time", "unknown: give --rate" if found.seconds is None else duration(found.seconds)],
    ]
    show.table(["what it would take", ""], rows)


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _status(memory: MemoryStore, *, as_json: bool) -> None:
    found = memory.migration()
    if as_json:
        show.emit({"state": "stable"} if found is None else asdict(found))
    elif found is None:
        show.say("no migration is pending")
    else:
        show.say(_told(found))


def _told(found: Pending) -> str:
    if found.state == "filling":
        done = f"{found.memories - found.missing:,} of {found.memories:,} memories have its vectors"
        return f"being moved from {_name(found.active)} to {_name(found.other)}: {done}\n{found.next}"
    lacking = f"; {found.missing_active:,} memories lack a vector of it" if found.missing_active else ""
    kept = f"{found.memories - found.missing:,} of {found.memories:,} memories have vectors of {_name(found.other)}"
    return f"searched with {_name(found.active)}{lacking}; {kept}, which was left\n{found.next}"


def _dropped(freed: int | None, *, as_json: bool) -> None:
    if as_json:
        show.emit({"dropped": True, "bytes": freed})
    else:
        show.say("dropped" if freed is None else f"dropped, {size(freed)} freed")


def _name(identity: ModelIdentity) -> str:
    return f"{identity.provider}:{identity.model} ({identity.dimension} dimensions)"


def _json(done: Migration) -> dict[str, Any]:
    made = asdict(done)
    if done.gate is not None:
        made["gate"] = {"ok": done.gate.ok, "figures": [{**asdict(one), "ok": one.ok} for one in done.gate.figures]}
    return made
