"""One model's space to another's, while the store serves.

    stable ──begin──→ filling ──switch──→ switched ──finish──→ stable
                         │                  ↑  │
                         └─abandon→ stable  └──┘ rollback

*begin* gives the collection the new vectors; from then on every write fills both spaces.  The *back-fill* gives them to
what was there before.  The *gate* measures.  The *switch* is one write of the manifest: searches that have begun stay
in the old space, those that begin are in the new one.  The old space goes on being written, so that *rollback* is one
write too, until *finish* drops it.

A kill at any moment leaves one of these states; calling ``migrate`` again with the same model goes on from it.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from memory_plugin import ids
from memory_plugin.dataset import Question
from memory_plugin.engine import gate
from memory_plugin.engine.backfill import BATCH, Done, Embedding, Maker, Pace, fill
from memory_plugin.engine.convert import Shortening, having, shortening
from memory_plugin.engine.core import Engine, Model
from memory_plugin.engine.estimate import estimate, estimate_quantization
from memory_plugin.engine.migration import Figure, Gate, Migration, MigrationProgress, Tell
from memory_plugin.engine.payload import OURS
from memory_plugin.engine.spaces import eligible, lacking
from memory_plugin.engine.transitions import admitted, begin, quantize, state, swap, switch
from memory_plugin.errors import InvalidInputError, MigrationError, ProviderError
from memory_plugin.protocols import Embedder
from memory_plugin.types import Quantization
from memory_plugin.vectors import QUANTIZATIONS

FLOOR = 0.9
"""Share of what the old model finds that the new one has to find."""

PASSES = 100
"""Passes over the to-do list before writers that know the old model alone are blamed."""


def silent(_progress: MigrationProgress) -> None:
    """No progress shown."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to migrate.

    Args:
        questions: The user's own, for the gate.
        floor: Share of the old model's figure that the new one has to reach.
        rate: Memories a second at most; None: as fast as it goes.
        batch: Memories embedded and written together.
        tell: Told of progress.
        force: Switch whatever the gate says.
    """

    questions: Sequence[Question] = ()
    floor: float = FLOOR
    rate: float | None = None
    batch: int = BATCH
    tell: Tell = silent
    force: bool = False


class _Run:
    """One call of ``migrate``: what it has done so far."""

    def __init__(self, engine: Engine, model: Model, plan: Plan) -> None:
        self.engine = engine
        self.model = model
        self.plan = plan
        self.way: Maker = Embedding()
        self.filled = 0
        self.unreadable: dict[str, str] = {}
        self.gate: Gate | None = None
        self.start = time.monotonic()

    async def to_the_switch(self) -> None:
        """Begin, fill, measure, switch."""
        engine, model = self.engine, self.model
        await engine.io.uninterrupted(begin(engine, model))
        self.way = await shortening(engine, model) or Embedding()
        await self._fill_all()
        if isinstance(self.way, Shortening):  # images, too, of which only a stored vector is left
            where = having(engine, engine.active)
            done = await fill(engine, model, self.way, where=where, batch=self.plan.batch, images=True)
            self.filled += done.filled
        await engine.index.settle(engine.io)
        measured = await gate.measure(
            engine, engine.active, model, questions=self.plan.questions, floor=self.plan.floor
        )
        for _ in range(PASSES):
            if not await self._fill_once():
                break  # nothing is left, or what cannot be read
        self.gate = Gate((await self._counted(), *measured.figures))
        if not self.gate.ok and not self.plan.force:
            raise MigrationError(self._refusal(self.gate))
        for _ in range(PASSES):
            if await engine.io.uninterrupted(switch(engine, model, force=self.plan.force)):
                return
            await self._fill_once()
        raise MigrationError(
            f"other processes go on adding memories without vectors of {model.name}: open their stores with "
            "successor= the new model, then migrate again; what was done is kept"
        )

    async def sweep(self) -> None:
        """What a writer wrote that did not know of the switch yet."""
        self.filled += (await fill(self.engine, self.model, self.way, batch=self.plan.batch)).filled

    async def _fill_all(self) -> None:
        """Passes over the list until one finds nothing to do."""
        for _ in range(PASSES):
            if not await self._fill_once():
                return

    async def _fill_once(self) -> int:
        engine, plan = self.engine, self.plan
        total = await engine.index.count(engine.io, eligible(engine, self.model.space))
        before = total - await engine.index.count(engine.io, lacking(engine, self.model.space))
        start, already = time.monotonic(), self.filled

        def tell(filled: int) -> None:
            rate = filled / max(time.monotonic() - start, 1e-6) if filled else None
            left = max(total - before - filled, 0)
            plan.tell(MigrationProgress(min(before + filled, total), total, rate, left / rate if rate else None))

        tell(0)
        done: Done = await fill(engine, self.model, self.way, batch=plan.batch, pace=Pace(plan.rate), tell=tell)
        self.filled = already + done.filled
        self.unreadable = done.unreadable
        return done.filled

    async def _counted(self) -> Figure:
        engine, name = self.engine, self.model.space
        total = await engine.index.count(engine.io, eligible(engine, name))
        missing = await engine.index.count(engine.io, lacking(engine, name))
        return Figure("share of memories with a vector", 1 - missing / max(total, 1), 1.0, None, total)

    def _refusal(self, found: Gate) -> str:
        bad = "; ".join(str(figure) for figure in found.figures if not figure.ok)
        why = [f"  {point}: {reason}" for point, reason in list(self.unreadable.items())[:5]]
        advice = (
            f"It serves as before with {self.engine.active.name}, and both spaces go on being written. Look at both "
            "models with `memory-plugin eval`; then migrate again, with force to switch all the same, or abandon() "
            "(`memory-plugin migrate --abandon`) to give the new space up"
        )
        return "\n".join([f"the store was not switched to {self.model.name}: {bad}.", *why, advice])

    async def told(self) -> Migration:
        """What was done."""
        made = self.way.made
        return await report(
            self.engine,
            Migration(
                state="stable",
                model=self.model.embedder.identity,
                memories=0,
                embedded=made,
                converted=self.filled - made,
                seconds=time.monotonic() - self.start,
                gate=self.gate,
            ),
        )


def plan(
    questions: Sequence[Question] = (),
    *,
    floor: float = FLOOR,
    rate: float | None = None,
    batch: int = BATCH,
    tell: Tell | None = None,
    force: bool = False,
) -> Plan:
    """What a user asked for, checked.

    Raises:
        InvalidInputError: A number is out of range.
    """
    if isinstance(floor, bool) or not isinstance(floor, int | float) or not 0 <= floor <= 1:
        raise InvalidInputError(f"floor is a share from 0 to 1 of what the old model finds, not {floor!r:.40}")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf):
        raise InvalidInputError(f"rate is a number of memories a second above 0, not {rate!r:.40}")
    return Plan(questions, floor, rate, ids.whole(batch, "batch"), tell or silent, force)


async def run(
    engine: Engine, embedder: Embedder | None, asked: Plan, *, quantization: Quantization | None, dry_run: bool
) -> Migration:
    """Another model, another quantization, or both, the model first.

    Raises:
        InvalidInputError: Neither is given, or the quantization is unknown.
        MigrationError: See ``migrate`` and ``requantize``.
    """
    if embedder is None and quantization is None:
        raise InvalidInputError("migrate needs the model to change to, quantization=, or both")
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise InvalidInputError(f"quantization is one of {', '.join(QUANTIZATIONS)}, not {quantization!r:.40}")
    if dry_run:
        return await _tried(engine, embedder, asked, quantization)
    done = await migrate(engine, embedder, asked) if embedder is not None else None
    if quantization is None:
        assert done is not None
        return done
    again = await requantize(engine, quantization, asked)
    if done is None:
        return again
    figures = (*(done.gate.figures if done.gate else ()), *(again.gate.figures if again.gate else ()))
    return replace(done, seconds=done.seconds + again.seconds, gate=Gate(figures))


async def _tried(
    engine: Engine, embedder: Embedder | None, asked: Plan, quantization: Quantization | None
) -> Migration:
    """What it would take."""
    if embedder is not None:
        model = await admitted(engine, embedder)
        wanted = quantization or engine.settings.quantization
        found = await estimate(engine, model, rate=asked.rate, quantization=wanted)
    else:
        assert quantization is not None
        found = await estimate_quantization(engine, quantization)
    return await report(engine, Migration("stable", engine.active.embedder.identity, 0, estimate=found))


async def migrate(engine: Engine, embedder: Embedder, plan: Plan) -> Migration:
    """Move the store to another model: begin, fill, measure, switch; or go on where that was cut off.

    Raises:
        MigrationError: Another one is pending, or the gate refuses; the store serves as before.
        EmbeddingError: A model failed; what was done stays done.
        IndexUnavailableError: Qdrant failed, likewise.
    """
    model = await admitted(engine, embedder)
    async with _alone(engine):
        run = _Run(engine, model, plan)
        if engine.active.space != model.space:
            await run.to_the_switch()
        await run.sweep()
    return await run.told()


async def rollback(engine: Engine, embedder: Embedder | None, plan: Plan) -> Migration:
    """Search the space that was left again: at once, then fill in what was not written to it.

    Raises:
        MigrationError: Nothing was switched, or this process does not have the model.
    """
    start = time.monotonic()
    await engine.io.uninterrupted(swap(engine, embedder))
    way = Embedding()
    with suppress(ProviderError, InvalidInputError):  # the store serves all the same; the answer says what is missing
        await fill(engine, engine.active, way, batch=plan.batch, pace=Pace(plan.rate))
    identity = engine.active.embedder.identity
    return await report(engine, Migration("stable", identity, 0, embedded=way.made, seconds=time.monotonic() - start))


async def requantize(engine: Engine, quantization: Quantization, plan: Plan) -> Migration:
    """Keep vectors for the first pass in another form; taken back where that finds too little of what was found.

    Raises:
        MigrationError: Vectors are sealed, or too few of the neighbours found before are found after.
    """
    start = time.monotonic()
    if engine.settings.vectors == "sealed":
        raise MigrationError("sealed vectors are compared in this process, in full: there is nothing to quantize")
    async with _alone(engine):
        before, old = await gate.look(engine, engine.active), engine.settings.quantization
        await engine.io.uninterrupted(quantize(engine, quantization))
        kept = await gate.kept(engine, engine.active, before, plan.floor)
        found = Gate(() if kept is None else (kept,))
        if not found.ok and not plan.force:
            await engine.io.uninterrupted(quantize(engine, old))
            raise MigrationError(
                f"the vectors are kept as {old} as before, since as {quantization} too little is found: "
                f"{found.figures[0]}. Choose another quantization, or force it"
            )
    identity = engine.active.embedder.identity
    return await report(engine, Migration("stable", identity, 0, seconds=time.monotonic() - start, gate=found))


async def report(engine: Engine, made: Migration) -> Migration:
    """With the figures that are the same whatever was done."""
    name, count = engine.active.space, engine.index.count
    total = await count(engine.io, eligible(engine, name))
    missing = await count(engine.io, lacking(engine, name))
    every = await count(engine.io, OURS)
    return replace(made, state=state(engine.manifest), memories=total - missing, missing=missing, exempt=every - total)


@asynccontextmanager
async def _alone(engine: Engine) -> AsyncIterator[None]:
    """One at a time in a process; of two processes the later finds the work done.

    Raises:
        MigrationError: One is running.
    """
    async with engine.writing:
        if engine.migrating:
            raise MigrationError("a migration of this store is running in this process already: wait for it")
        engine.migrating = True
    try:
        yield
    finally:
        engine.migrating = False
