"""search:  query ─embed→ Vectors ─one hybrid query→ [Candidate] ─open→ [Hit] ─late→ ─rerank→ [Hit].

Each stage is cheap enough for what it sees, and re-orders before anything is cut off.  Nothing before
``open`` sees plaintext, and what opens is checked against namespace and filter again: the tags that
Qdrant matched are not trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from memory_plugin import ids
from memory_plugin.engine import sealed_vectors
from memory_plugin.engine.core import Engine, Model, Stopwatch, scroll
from memory_plugin.engine.payload import DOCUMENT, RECORD, SUBJECT, TOKENS, open_record, require_inside
from memory_plugin.engine.rank import DENSE, FUSED, LEXICAL, Opened, cross_encode, freshness, late_interaction
from memory_plugin.engine.sealing import sparse_vector
from memory_plugin.errors import InvalidInputError
from memory_plugin.filters import check, matches
from memory_plugin.fuse import Distinct, reciprocal_rank_fusion
from memory_plugin.lexical import fragmentation, terms
from memory_plugin.protocols import Sealer
from memory_plugin.types import (
    And,
    AnyOf,
    Candidate,
    Embeddings,
    Filter,
    Hit,
    LegQuery,
    Namespace,
    PointId,
    Record,
    Results,
    StageScore,
)

Legs: TypeAlias = Literal["hybrid", "dense", "lexical"]
Rerank: TypeAlias = Literal["none", "late", "full"]

MAX_QUERY_BYTES = 64 * 1024
MAX_NEIGHBOURS = 16

MIN_DEPTH = 30
"""Candidates of each leg at least."""

MAX_CANDIDATES = 1000
"""Where the search for further documents ends when the candidates are near duplicates or of few documents."""


@dataclass(frozen=True, slots=True)
class Request:
    """A search, checked.

    Args:
        query: Not empty.
        namespaces: Where to look.
        limit: Hits at most.
        filter: Or None.
        legs: Which legs propose candidates.
        rerank: The last stage to run: fusion, late interaction, or the cross-encoder.
        per_document: Hits of one document at most, or None.
        neighbours: Chunks to bring along on each side of a hit.
    """

    query: str
    namespaces: tuple[Namespace, ...]
    limit: int
    filter: Filter | None = None
    legs: Legs = "hybrid"
    rerank: Rerank = "full"
    per_document: int | None = None
    neighbours: int = 0


@dataclass(frozen=True, slots=True)
class _Scope:
    """One namespace of a request, with the keys that open it."""

    namespace: Namespace
    sealer: Sealer
    filter: Filter
    exact: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """What the legs found, fused.

    Args:
        candidates: The best.
        total: How many there are.
        exhausted: Whether no leg has more.
    """

    candidates: list[Candidate]
    total: int
    exhausted: bool


def request(
    query: str,
    namespaces: ids.NamespacesLike,
    *,
    limit: int,
    filter_: Filter | None,
    legs: Legs,
    rerank: Rerank,
    per_document: int | None,
    neighbours: int,
) -> Request:
    """Check what a user asked for.

    Raises:
        InvalidInputError: Something cannot be used.
    """
    ids.utf8(query, "the query", limit=MAX_QUERY_BYTES)
    if not ids.visible(query):
        raise InvalidInputError("the query is empty: there is nothing to search for")
    ids.whole(limit, "limit")
    if per_document is not None:
        ids.whole(per_document, "per_document")
    if ids.whole(neighbours, "neighbours", least=0) > MAX_NEIGHBOURS:
        raise InvalidInputError(f"neighbours must be at most {MAX_NEIGHBOURS}, not {neighbours:,}")
    if filter_ is not None:
        check(filter_)
    if legs not in ("hybrid", "dense", "lexical") or rerank not in ("none", "late", "full"):
        raise InvalidInputError(f"no such legs or rerank: {legs!r:.40}, {rerank!r:.40}")
    return Request(query, ids.namespaces(namespaces), limit, filter_, legs, rerank, per_document, neighbours)


async def search(engine: Engine, model: Model, asked: Request) -> Results:
    """The memories that answer the query, best first, found in one model's space.

    Raises:
        EmbeddingError: The embedder failed.
        IndexUnavailableError: Qdrant failed.
        RerankError: The reranker failed and the settings say "raise".
        SealError: A candidate is not sealed, was tampered with, or its key is gone.
    """
    watch = Stopwatch()
    scopes = await _scopes(engine, asked)
    if not scopes:
        return Results((), watch.stop())
    needs_tokens = asked.rerank != "none" and engine.late is not None
    embedded = None
    if asked.legs != "lexical" or needs_tokens:
        embedded = await engine.embed(model, [asked.query], input_type="query")
    watch.lap("embed")
    wanted = _wanted(engine, asked)
    while True:
        opened, more = await _candidates(engine, model, asked, scopes, embedded, wanted, watch)
        hits, state = await _ranked(engine, model, asked, embedded if needs_tokens else None, opened, watch)
        selected = _select(engine, asked, hits)
        if len(selected) == asked.limit or not more or wanted > MAX_CANDIDATES:
            break
        wanted *= 3  # too many were near duplicates, or of one document
    if asked.neighbours:
        selected = await _with_neighbours(engine, asked, scopes, selected)
        watch.lap("neighbours")
    return Results(tuple(selected), watch.stop(), state)


def _wanted(engine: Engine, asked: Request) -> int:
    """How many candidates to open: without a stage that re-orders, those that are returned."""
    reranks = asked.rerank != "none" and (engine.late is not None or engine.reranker is not None)
    if reranks or engine.settings.half_life_days is not None:
        return max(engine.settings.candidates, asked.limit)
    return asked.limit if asked.per_document is None else 3 * asked.limit


async def _ranked(
    engine: Engine, model: Model, asked: Request, embedded: Embeddings | None, opened: list[Opened], watch: Stopwatch
) -> tuple[list[Hit], Literal["off", "applied", "failed"]]:
    """The opened candidates after the stages that were asked for."""
    if embedded is not None and opened:
        opened = await late_interaction(engine, model, asked.query, embedded, opened)
        watch.lap("late")
    hits = [one.hit for one in opened]
    if asked.rerank != "full" or engine.reranker is None or not hits:
        return hits, "off"
    ranked = await cross_encode(engine, asked.query, hits)
    watch.lap("rerank")
    return ranked


async def _scopes(engine: Engine, asked: Request) -> list[_Scope]:
    """Namespaces that hold anything: a subject without keys has no memories."""
    scopes = []
    for namespace in asked.namespaces:
        sealer = await engine.sealer(namespace, create=False)
        if sealer is not None:
            blind = engine.within(sealer, namespace, asked.filter)
            scopes.append(_Scope(namespace, sealer, blind.filter, blind.exact))
    return scopes


# ── candidates ────────────────────────────────────────────────────────────────────────────────────


async def _candidates(
    engine: Engine,
    model: Model,
    asked: Request,
    scopes: Sequence[_Scope],
    embedded: Embeddings | None,
    wanted: int,
    watch: Stopwatch,
) -> tuple[list[Opened], bool]:
    """Fuse the legs and open the best; whether there are more.

    Digs deeper while a filter that runs after opening leaves too few.
    """
    # What a leg ranks far below the hits wanted cannot lift another above them.
    depth = max(min(engine.settings.leg_limit, MIN_DEPTH + 2 * wanted), wanted)
    exact = all(scope.exact for scope in scopes)
    while True:
        found = await _fused(engine, model, asked, scopes, embedded, depth, top=wanted if exact else None)
        watch.lap("index")
        opened = await _open(engine, model, asked, scopes, found.candidates)
        watch.lap("open")
        if exact or found.exhausted or len(opened) >= wanted:
            return opened[:wanted], not found.exhausted or found.total > wanted
        depth *= 4


async def _fused(
    engine: Engine,
    model: Model,
    asked: Request,
    scopes: Sequence[_Scope],
    embedded: Embeddings | None,
    depth: int,
    *,
    top: int | None,
) -> _Found:
    """Every leg of every namespace in one request; scores of a leg compare across namespaces."""
    words = list(dict.fromkeys(terms(asked.query, engine.settings.language))) if asked.legs != "dense" else []
    vectors = embedded.vectors if embedded is not None and asked.legs != "lexical" else None
    queries: list[LegQuery] = []
    owners: list[tuple[str, _Scope]] = []
    for scope in scopes:
        if vectors is not None and engine.settings.vectors != "sealed":
            vector = scope.sealer.rotate(vectors)[0] if engine.settings.vectors == "rotated" else vectors[0]
            queries.append(LegQuery(model.dense, vector, scope.filter, depth))
            owners.append((DENSE, scope))
        if words:
            sparse = sparse_vector(scope.sealer, words, [1.0] * len(words))
            corpus = AnyOf(SUBJECT, (scope.sealer.subject,))
            queries.append(LegQuery(engine.sparse, sparse, scope.filter, depth, corpus))
            owners.append((LEXICAL, scope))
    answers = await engine.index.search(engine.io, queries) if queries else []
    if vectors is not None and engine.settings.vectors == "sealed":
        for scope in scopes:
            whole = len(scope.namespace) == 1 and asked.filter is None
            nearest = sealed_vectors.search(
                engine, model, scope.sealer, scope.filter, vectors[0], limit=depth, whole_subject=whole
            )
            answers.append(await nearest)
            owners.append((DENSE, scope))
    exhausted = all(len(answer) < depth for answer in answers)
    legs: dict[str, dict[PointId, float]] = {}
    subjects: dict[PointId, str] = {}
    for (leg, scope), answer in zip(owners, answers, strict=True):
        legs.setdefault(leg, {}).update(answer)
        subjects.update(dict.fromkeys((point for point, _ in answer), scope.sealer.subject))
    candidates = _fuse(engine, asked.query, legs, subjects, top)
    return _Found(candidates, len(subjects), exhausted)


def _fuse(
    engine: Engine,
    query: str,
    legs: Mapping[str, Mapping[PointId, float]],
    subjects: Mapping[PointId, str],
    top: int | None,
) -> list[Candidate]:
    """The best of all legs, with their rank and score in each."""
    # Ties are broken by id: the engine gives them in no order.
    order = {leg: sorted(found, key=lambda point, found=found: (-found[point], point)) for leg, found in legs.items()}  # type: ignore[misc]
    # What a model reads of an identifier are fragments: there the words themselves count more.
    lexical = engine.settings.lexical_weight * (1 + 2 * fragmentation(query))
    scores = reciprocal_rank_fusion(order, k=engine.settings.rrf_k, weights={LEXICAL: lexical})
    best = sorted(scores, key=lambda point: (-scores[point], point))[:top]
    ranks = {leg: {point: rank for rank, point in enumerate(found, 1)} for leg, found in order.items()}
    candidates = []
    for rank, point in enumerate(best, 1):
        stages = {leg: StageScore(ranks[leg][point], found[point]) for leg, found in legs.items() if point in found}
        stages[FUSED] = StageScore(rank, scores[point])
        candidates.append(Candidate(point, subjects[point], scores[point], stages))
    return candidates


# ── open ──────────────────────────────────────────────────────────────────────────────────────────


async def _open(
    engine: Engine, model: Model, asked: Request, scopes: Sequence[_Scope], candidates: Sequence[Candidate]
) -> list[Opened]:
    """Fetch and open the candidates, in order; those that fail the filter are dropped."""
    late = asked.rerank != "none" and engine.late is not None
    wanted = (SUBJECT, RECORD, TOKENS) if late else (SUBJECT, RECORD)
    points = await engine.index.fetch(engine.io, [one.id for one in candidates], payload=wanted)
    payloads = {point.id: point.payload for point in points}  # one deleted meanwhile is missing
    return await engine.io.call(_open_all, engine, model, asked, scopes, candidates, payloads, late)


def _open_all(
    engine: Engine,
    model: Model,
    asked: Request,
    scopes: Sequence[_Scope],
    candidates: Sequence[Candidate],
    payloads: Mapping[PointId, Mapping[str, object]],
    late: bool,
) -> list[Opened]:
    owners = {scope.sealer.subject: scope.sealer for scope in scopes}
    opened = []
    for candidate in candidates:
        payload = payloads.get(candidate.id)
        if payload is None:
            continue
        sealer = owners[candidate.subject]
        record = open_record(sealer, candidate.id, payload)  # type: ignore[arg-type]
        require_inside(record, asked.namespaces)
        if asked.filter is not None and not matches(asked.filter, record):
            continue
        tokens = None
        if late and payload.get(TOKENS) is not None:
            tokens = sealer.open(candidate.id, "tokens", payload[TOKENS])
        hit = Hit(record, candidate.score, candidate.stages, model.space)
        if engine.settings.half_life_days is not None:
            hit = replace(hit, score=hit.score * freshness(engine, hit))
        opened.append(Opened(hit, tokens))
    if engine.settings.half_life_days is not None:
        opened.sort(key=lambda one: -one.hit.score)
    return opened


# ── what is returned ──────────────────────────────────────────────────────────────────────────────


def _select(engine: Engine, asked: Request, hits: Sequence[Hit]) -> list[Hit]:
    """The best, without near duplicates and without more of one document than asked."""
    similarity = engine.settings.duplicate_similarity
    distinct = Distinct(similarity) if similarity is not None else None
    selected: list[Hit] = []
    counts: dict[str, int] = {}
    for hit in hits:
        seen = counts.get(hit.record.document, 0)
        if asked.per_document is not None and seen >= asked.per_document:
            continue
        if distinct is not None and distinct.repeats(hit.record.passage):
            continue
        counts[hit.record.document] = seen + 1
        selected.append(hit)
        if len(selected) == asked.limit:
            break
    return selected


async def _with_neighbours(engine: Engine, asked: Request, scopes: Sequence[_Scope], hits: list[Hit]) -> list[Hit]:
    """The hits with the chunks before and after them in their documents."""
    owners = {scope.sealer.subject: scope.sealer for scope in scopes}
    tags = tuple(dict.fromkeys(hit.record.document for hit in hits if hit.record.chunks > 1))
    if not tags:
        return hits
    chunks: dict[tuple[str, int], Record] = {}
    where = And((AnyOf(SUBJECT, tuple(owners)), AnyOf(DOCUMENT, tags)))
    async for point in scroll(engine, where, payload=(SUBJECT, RECORD)):
        record = open_record(owners[str(point.payload[SUBJECT])], point.id, point.payload)
        chunks[record.document, record.index] = record

    def beside(record: Record, steps: range) -> tuple[Record, ...]:
        found = (chunks.get((record.document, record.index + step)) for step in steps)
        return tuple(one for one in found if one is not None)

    reach = asked.neighbours
    return [
        replace(hit, before=beside(hit.record, range(-reach, 0)), after=beside(hit.record, range(1, reach + 1)))
        for hit in hits
    ]
