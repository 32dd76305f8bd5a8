"""search:  query ─embed→ Vectors ─one hybrid query→ [Candidate] ─open→ [Hit] ─late→ ─rerank→ [Hit]

Each stage is cheap enough for what it sees, and re-orders before anything is cut off.  Nothing before
``open`` sees plaintext, and what opens is checked against namespace and filter again: the tags that
Qdrant matched are not trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memory_plugin import ids
from memory_plugin.engine.add import scroll, sparse_vector
from memory_plugin.engine.core import Engine, Stopwatch
from memory_plugin.engine.payload import DOCUMENT, RECORD, SUBJECT, TOKENS, open_record
from memory_plugin.errors import DecryptionError, InvalidInputError, RerankError, translate
from memory_plugin.filters import matches
from memory_plugin.fuse import decay, impute, near_duplicates, reciprocal_rank_fusion, standardise
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
    Scored,
    StageScore,
    TokenVectors,
)

Legs: TypeAlias = Literal["hybrid", "dense", "lexical"]
Rerank: TypeAlias = Literal["none", "late", "full"]

DENSE, LEXICAL, FUSED, LATE, RERANK = "dense", "lexical", "fused", "late", "rerank"

MAX_QUERY_BYTES = 64 * 1024

# Weights beside the late interaction score, all standardised over the candidates; chosen on train/*.
LATE_DENSE = 0.25
LATE_LEXICAL = 0.25
LATE_LEXICAL_RARE = 2.0
"""The lexical weight grows to this as the query's words become identifiers."""


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
class _Opened:
    """A hit on its way, with its packed token vectors."""

    hit: Hit
    tokens: bytes | None


@dataclass(frozen=True, slots=True)
class _Found:
    """What the legs found, fused."""

    candidates: list[Candidate]
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
    if not query.strip():
        raise InvalidInputError("the query is empty: there is nothing to search for")
    if limit < 1:
        raise InvalidInputError(f"limit must be at least 1, not {limit}")
    if per_document is not None and per_document < 1:
        raise InvalidInputError(f"per_document must be at least 1, not {per_document}")
    if not 0 <= neighbours <= 16:
        raise InvalidInputError(f"neighbours must be from 0 to 16, not {neighbours}")
    if legs not in ("hybrid", "dense", "lexical") or rerank not in ("none", "late", "full"):
        raise InvalidInputError(f"no such legs or rerank: {legs!r}, {rerank!r}")
    return Request(query, ids.namespaces(namespaces), limit, filter_, legs, rerank, per_document, neighbours)


async def search(engine: Engine, asked: Request) -> Results:
    """The memories that answer the query, best first.

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
        embedded = await engine.embed([asked.query], input_type="query")
    watch.lap("embed")

    opened = await _candidates(engine, asked, scopes, embedded, watch)
    if needs_tokens and opened:
        assert embedded is not None
        opened = await _late(engine, asked.query, embedded, opened)
        watch.lap("late")
    hits = [one.hit for one in opened]
    state: Literal["off", "applied", "failed"] = "off"
    if asked.rerank == "full" and engine.reranker is not None and hits:
        hits, state = await _rerank(engine, asked.query, hits)
        watch.lap("rerank")
    selected = _select(engine, asked, hits)
    if asked.neighbours:
        selected = await _with_neighbours(engine, asked, scopes, selected)
        watch.lap("neighbours")
    return Results(tuple(selected), watch.stop(), state)


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
    engine: Engine, asked: Request, scopes: Sequence[_Scope], embedded: Embeddings | None, watch: Stopwatch
) -> list[_Opened]:
    """Fuse the legs and open the best; dig deeper while a filter that runs after opening leaves too few."""
    settings = engine.settings
    reranks = asked.rerank != "none" and (engine.late is not None or engine.reranker is not None)
    # Without a stage that re-orders, only what is returned has to be opened, and some for duplicates.
    wanted = max(settings.candidates, asked.limit) if reranks else asked.limit + 10
    depth = max(settings.leg_limit, asked.limit)
    exact = all(scope.exact for scope in scopes)
    if asked.per_document is not None:
        wanted = max(wanted, 3 * asked.limit)
        depth = max(depth, wanted)
    while True:
        found = await _fused(engine, asked, scopes, embedded, depth)
        watch.lap("index")
        take = found.candidates[:wanted] if exact else found.candidates
        opened = await _open(engine, asked, scopes, take)
        watch.lap("open")
        if exact or found.exhausted or len(opened) >= asked.limit:
            return opened[:wanted]
        depth *= 4


async def _fused(
    engine: Engine, asked: Request, scopes: Sequence[_Scope], embedded: Embeddings | None, depth: int
) -> _Found:
    """Every leg of every namespace in one request; scores of a leg compare across namespaces."""
    words = terms(asked.query, engine.settings.language) if asked.legs != "dense" else []
    queries: list[LegQuery] = []
    owners: list[tuple[str, _Scope]] = []
    for scope in scopes:
        if asked.legs != "lexical" and embedded is not None:
            vectors = embedded.vectors
            vector = scope.sealer.rotate(vectors)[0] if engine.settings.vectors == "rotated" else vectors[0]
            queries.append(LegQuery(engine.dense, vector, scope.filter, depth))
            owners.append((DENSE, scope))
        if words:
            names = list(dict.fromkeys(words))
            sparse = sparse_vector(scope.sealer, names, [1.0] * len(names))
            corpus = AnyOf(SUBJECT, (scope.sealer.subject,))
            queries.append(LegQuery(engine.sparse, sparse, scope.filter, depth, corpus))
            owners.append((LEXICAL, scope))
    if not queries:
        return _Found([], exhausted=True)
    answers = await engine.index.search(engine.io, queries)
    legs: dict[str, list[Scored]] = {}
    subjects: dict[PointId, str] = {}
    for (leg, scope), answer in zip(owners, answers, strict=True):
        legs.setdefault(leg, []).extend(answer)
        subjects.update((scored.id, scope.sealer.subject) for scored in answer)
    exhausted = all(len(answer) < depth for answer in answers)
    return _Found(_fuse(engine, legs, subjects), exhausted)


def _fuse(engine: Engine, legs: Mapping[str, list[Scored]], subjects: Mapping[PointId, str]) -> list[Candidate]:
    stages: dict[PointId, dict[str, StageScore]] = {}
    order: dict[str, list[PointId]] = {}
    for leg, found in legs.items():
        # Several namespaces may overlap in nothing, but one point may come twice from nested ones.
        ranked = sorted({one.id: one for one in found}.values(), key=lambda one: (-one.score, one.id))
        order[leg] = [one.id for one in ranked]
        for rank, one in enumerate(ranked, 1):
            stages.setdefault(one.id, {})[leg] = StageScore(rank, one.score)
    settings = engine.settings
    scores = reciprocal_rank_fusion(order, k=settings.rrf_k, weights={LEXICAL: settings.lexical_weight})
    ranked_ids = sorted(scores, key=lambda point: (-scores[point], point))
    return [
        Candidate(point, subjects[point], scores[point], {**stages[point], FUSED: StageScore(rank, scores[point])})
        for rank, point in enumerate(ranked_ids, 1)
    ]


# ── open ──────────────────────────────────────────────────────────────────────────────────────────


async def _open(
    engine: Engine, asked: Request, scopes: Sequence[_Scope], candidates: Sequence[Candidate]
) -> list[_Opened]:
    """Fetch and open the candidates, in order; those that fail the filter are dropped."""
    late = asked.rerank != "none" and engine.late is not None
    wanted = (SUBJECT, RECORD, TOKENS) if late else (SUBJECT, RECORD)
    points = await engine.index.fetch(engine.io, [one.id for one in candidates], payload=wanted)
    payloads = {point.id: point.payload for point in points}  # one deleted meanwhile is missing
    return await engine.io.call(_open_all, engine, asked, scopes, candidates, payloads, late)


def _open_all(
    engine: Engine,
    asked: Request,
    scopes: Sequence[_Scope],
    candidates: Sequence[Candidate],
    payloads: Mapping[PointId, Mapping[str, object]],
    late: bool,
) -> list[_Opened]:
    owners = {scope.sealer.subject: scope.sealer for scope in scopes}
    opened = []
    for candidate in candidates:
        payload = payloads.get(candidate.id)
        if payload is None:
            continue
        sealer = owners[candidate.subject]
        record = open_record(sealer, candidate.id, payload)  # type: ignore[arg-type]
        if not any(record.namespace[: len(one)] == one for one in asked.namespaces):
            raise DecryptionError(f"point {candidate.id} was found in a namespace that it does not belong to")
        if asked.filter is not None and not matches(asked.filter, record):
            continue
        tokens = None
        if late and payload.get(TOKENS) is not None:
            tokens = sealer.open(candidate.id, "tokens", payload[TOKENS])
        hit = Hit(record, candidate.score, candidate.stages, engine.manifest.active)
        if engine.settings.half_life_days is not None:
            hit = replace(hit, score=hit.score * _freshness(engine, hit))
        opened.append(_Opened(hit, tokens))
    if engine.settings.half_life_days is not None:
        opened.sort(key=lambda one: -one.hit.score)
    return opened


def _freshness(engine: Engine, hit: Hit) -> float:
    assert engine.settings.half_life_days is not None
    age = (engine.clock() - hit.record.time).total_seconds() / 86_400
    return decay(age, engine.settings.half_life_days)


# ── late interaction ──────────────────────────────────────────────────────────────────────────────


async def _late(engine: Engine, query: str, embedded: Embeddings, opened: list[_Opened]) -> list[_Opened]:
    """Re-order by token vectors, blended with what the legs said."""
    late = engine.late
    assert late is not None
    tokens: TokenVectors
    if embedded.tokens is not None and engine.shares_tokens:
        tokens = embedded.tokens[0]
    else:
        tokens = (await engine.io.call(late.tokens, [query]))[0]
    packed = [one.tokens for one in opened]
    missing = [place for place, one in enumerate(packed) if one is None]
    if missing:  # written while late interaction was off
        made = await engine.io.call(late.tokens, [opened[place].hit.record.passage for place in missing])
        for place, one in zip(missing, made, strict=True):
            packed[place] = late.pack(one)
    scores = await engine.io.call(late.score, tokens, [one for one in packed if one is not None])
    return _ordered(opened, _blend(engine, query, opened, scores), LATE)


def _blend(engine: Engine, query: str, opened: Sequence[_Opened], scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Standardised late interaction score plus weighted dense and lexical ones."""
    rare = fragmentation(query)
    weights = {DENSE: LATE_DENSE, LEXICAL: LATE_LEXICAL + (LATE_LEXICAL_RARE - LATE_LEXICAL) * rare}
    total = standardise(scores.astype(np.float64))
    ids_ = [one.hit.id for one in opened]
    for leg, weight in weights.items():
        found = {one.hit.id: one.hit.stages[leg].score for one in opened if leg in one.hit.stages}
        complete = len(found) < engine.settings.leg_limit and leg == LEXICAL
        if found:
            total += weight * standardise(impute(found, ids_, complete=complete))
    if engine.settings.half_life_days is not None:
        # As far as halving moves a fused score, in units of the candidates' spread.
        total += np.array([np.log2(max(_freshness(engine, one.hit), 2.0**-8)) for one in opened]) / 4
    return total


def _ordered(opened: Sequence[_Opened], scores: NDArray[np.float64], stage: str) -> list[_Opened]:
    order = sorted(range(len(opened)), key=lambda place: (-float(scores[place]), place))
    return [
        replace(opened[place], hit=_staged(opened[place].hit, stage, rank, float(scores[place])))
        for rank, place in enumerate(order, 1)
    ]


def _staged(hit: Hit, stage: str, rank: int, score: float) -> Hit:
    return replace(hit, score=score, stages={**hit.stages, stage: StageScore(rank, score)})


# ── cross-encoder ─────────────────────────────────────────────────────────────────────────────────


async def _rerank(engine: Engine, query: str, hits: list[Hit]) -> tuple[list[Hit], Literal["applied", "failed"]]:
    """Let the cross-encoder read the best; the rest stay below them in their order."""
    reranker = engine.reranker
    assert reranker is not None
    head, tail = hits[: engine.settings.rerank_candidates], hits[engine.settings.rerank_candidates :]
    try:
        with translate(RerankError, provider=reranker.model):
            made = await engine.io.call(reranker.rerank, query, [hit.record.passage for hit in head])
            scores = np.asarray(made, dtype=np.float64)
            if scores.shape != (len(head),) or not np.isfinite(scores).all():
                message = (
                    f"{reranker.model} returned scores of shape {scores.shape} or not finite, not {len(head)} numbers"
                )
                raise RerankError(message, provider=reranker.model)
    except RerankError:
        if engine.settings.on_rerank_error == "raise":
            raise
        return hits, "failed"
    before = np.array([hit.score for hit in head])
    blended = standardise(before) + engine.settings.rerank_weight * standardise(scores)
    order = sorted(range(len(head)), key=lambda place: (-float(blended[place]), place))
    ranked = [_staged(head[place], RERANK, rank, float(blended[place])) for rank, place in enumerate(order, 1)]
    # Scores of the tail are on another scale: below the worst that was read, in their own order.
    floor = ranked[-1].score
    return ranked + [replace(hit, score=floor - place) for place, hit in enumerate(tail, 1)], "applied"


# ── what is returned ──────────────────────────────────────────────────────────────────────────────


def _select(engine: Engine, asked: Request, hits: Sequence[Hit]) -> list[Hit]:
    """The best, without near duplicates and without more of one document than asked."""
    similarity = engine.settings.duplicate_similarity
    selected: list[Hit] = []
    counts: dict[str, int] = {}
    pool = hits[: 4 * asked.limit] if asked.per_document is None else hits
    repeated = (
        near_duplicates([hit.record.passage for hit in pool], similarity=similarity)
        if similarity is not None
        else [False] * len(pool)
    )
    for hit, duplicate in zip(pool, repeated, strict=True):
        seen = counts.get(hit.record.document, 0)
        if duplicate or (asked.per_document is not None and seen >= asked.per_document):
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
