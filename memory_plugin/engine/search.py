"""search:  query ─embed→ Vectors ─one hybrid query→ [Candidate] ─open→ [Hit] ─late→ ─rerank→ [Hit].

Each stage is cheap enough for what it sees, and re-orders before anything is cut off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from memory_plugin.engine.candidates import Scope, gather, scopes_of
from memory_plugin.engine.core import Engine, Model, Stopwatch, pages
from memory_plugin.engine.payload import DOCUMENT, MARKS, RECORD, SUBJECT, open_record
from memory_plugin.engine.rank import Opened, cross_encode, late_interaction
from memory_plugin.engine.request import Request
from memory_plugin.errors import InvalidInputError
from memory_plugin.fuse import Distinct
from memory_plugin.network import leaves_machine
from memory_plugin.protocols import Sealer
from memory_plugin.types import And, AnyOf, Embeddings, Hit, Not, Point, Record, Results
from memory_plugin.vectors import unit

MAX_CANDIDATES = 1000
"""Where the search for further documents ends when the candidates are near duplicates or of few documents."""


async def search(engine: Engine, model: Model, asked: Request) -> Results:
    """The memories that answer the query, best first, found in one model's space.

    Raises:
        EmbeddingError: The embedder failed.
        IndexUnavailableError: Qdrant failed.
        RerankError: The reranker failed and the settings say "raise".
        SealError: A candidate is not sealed, was tampered with, or its key is gone.
    """
    watch = Stopwatch()
    scopes = await scopes_of(engine, asked)
    if not scopes:
        return Results((), watch.stop())
    embedded = await _embed(engine, model, asked)
    watch.lap("embed")
    wanted = _wanted(engine, asked)
    while True:
        opened, more = await gather(engine, model, asked, scopes, embedded, wanted, watch)
        hits, state = await _ranked(engine, model, asked, embedded, opened, watch)
        selected = await engine.io.call(_select, engine, asked, hits)
        if len(selected) == asked.limit or not more or wanted > MAX_CANDIDATES:
            break
        wanted *= 3  # too many were near duplicates, or of one document
    if asked.neighbours:
        selected = await _with_neighbours(engine, asked, scopes, selected)
        watch.lap("neighbours")
    return Results(tuple(selected), watch.stop(), state)


async def _embed(engine: Engine, model: Model, asked: Request) -> Embeddings | None:
    """What the model makes of the query, where a leg needs it; the vector that was given in its place.

    The lexical leg alone needs none: then only a model on this machine is asked, for the token vectors that late
    interaction wants.

    Raises:
        InvalidInputError: The vector has another dimension than the store's, or its model has no such leg.
    """
    if asked.vector is not None:
        return Embeddings(unit(asked.vector, engine.manifest.spaces[model.space].dimension)[np.newaxis])
    if asked.legs == "learned" and engine.weighted(model) is None:
        why = "vectors are sealed" if model.weighted is not None else f"{model.name} weighs no terms"
        raise InvalidInputError(f"this store has no learned terms to search: {why}")
    if asked.legs == "lexical" and (
        not _late(engine, asked) or not engine.shares_tokens(model) or leaves_machine(model.embedder)
    ):
        return None
    return await engine.embed(model, [asked.query], input_type="query")


def _late(engine: Engine, asked: Request) -> bool:
    return asked.rerank != "none" and engine.late is not None and asked.query != ""


def _wanted(engine: Engine, asked: Request) -> int:
    """How many candidates to open: without a stage that re-orders, those that are returned."""
    reranks = _late(engine, asked) or (asked.rerank != "none" and engine.reranker is not None)
    if reranks or engine.settings.half_life_days is not None:
        return max(engine.settings.candidates, asked.limit)
    return asked.limit if asked.per_document is None else 3 * asked.limit


async def _ranked(
    engine: Engine, model: Model, asked: Request, embedded: Embeddings | None, opened: list[Opened], watch: Stopwatch
) -> tuple[list[Hit], Literal["off", "applied", "failed"]]:
    """The opened candidates after the stages that were asked for."""
    if _late(engine, asked) and opened:
        opened = await late_interaction(engine, model, asked.query, embedded, opened)
        watch.lap("late")
    hits = [one.hit for one in opened]
    if asked.rerank != "full" or engine.reranker is None or not hits or not asked.query:
        return hits, "off"
    ranked = await cross_encode(engine, asked.query, hits)
    watch.lap("rerank")
    return ranked


# ── what is returned ──────────────────────────────────────────────────────────────────────────────


def _select(engine: Engine, asked: Request, hits: Sequence[Hit]) -> list[Hit]:
    """The best, without near duplicates and without more of one document than asked."""
    similarity = engine.settings.duplicate_similarity if not asked.duplicates else None
    distinct = Distinct(similarity) if similarity is not None else None
    pictures: set[str | None] = set()
    selected: list[Hit] = []
    counts: dict[str, int] = {}
    for hit in hits:
        seen = counts.get(hit.record.document, 0)
        if asked.per_document is not None and seen >= asked.per_document:
            continue
        if distinct is not None and _repeats(hit.record, distinct, pictures):
            continue
        counts[hit.record.document] = seen + 1
        selected.append(hit)
        if len(selected) == asked.limit:
            break
    return selected


def _repeats(record: Record, distinct: Distinct, pictures: set[str | None]) -> bool:
    """Whether a better hit says the same; two images are the same when their files are, whatever their captions."""
    if record.kind != "image":
        return distinct.repeats(record.passage)
    seen = record.sha256 in pictures
    pictures.add(record.sha256)
    return seen


async def _with_neighbours(engine: Engine, asked: Request, scopes: Sequence[Scope], hits: list[Hit]) -> list[Hit]:
    """The hits with the chunks before and after them in their documents."""
    owners = {scope.sealer.subject: scope.sealer for scope in scopes}
    tags = tuple(dict.fromkeys(hit.record.document for hit in hits if hit.record.chunks > 1))
    if not tags:
        return hits
    records: list[Record] = []
    where = And((AnyOf(SUBJECT, tuple(owners)), AnyOf(DOCUMENT, tags), Not(MARKS["value"])))
    async for page in pages(engine, where, payload=(SUBJECT, RECORD)):
        records += await engine.io.call(_open_all, owners, page)
    chunks = {(record.document, record.index): record for record in records}

    def beside(record: Record, steps: range) -> tuple[Record, ...]:
        found = (chunks.get((record.document, record.index + step)) for step in steps)
        return tuple(one for one in found if one is not None)

    reach = asked.neighbours
    return [
        replace(hit, before=beside(hit.record, range(-reach, 0)), after=beside(hit.record, range(1, reach + 1)))
        for hit in hits
    ]


def _open_all(owners: Mapping[str, Sealer], page: Sequence[Point]) -> list[Record]:
    return [open_record(owners[str(point.payload[SUBJECT])], point.id, point.payload) for point in page]
