"""The first stage of a search: every leg of every namespace in one request, fused, and the best opened.

Nothing before ``open`` sees plaintext, and what opens is checked against namespace and filter again: the tags that
Qdrant matched are not trusted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from memory_plugin.engine import sealed_vectors
from memory_plugin.engine.core import Engine, Model, Stopwatch
from memory_plugin.engine.payload import RECORD, SUBJECT, TOKENS, open_record, require_inside, require_passage
from memory_plugin.engine.rank import DENSE, FUSED, LEARNED, LEXICAL, Opened, freshness
from memory_plugin.engine.request import Request
from memory_plugin.engine.sealing import learned, sparse_vector
from memory_plugin.filters import matcher
from memory_plugin.fuse import reciprocal_rank_fusion
from memory_plugin.lexical import fragmentation, terms
from memory_plugin.protocols import Sealer
from memory_plugin.types import (
    AnyOf,
    Candidate,
    Embeddings,
    Filter,
    Hit,
    LegQuery,
    Namespace,
    PointId,
    Scored,
    StageScore,
)

MIN_DEPTH = 30
"""Candidates of each leg at least."""


@dataclass(frozen=True, slots=True)
class Scope:
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


async def scopes_of(engine: Engine, asked: Request) -> list[Scope]:
    """Namespaces that hold anything: a subject without keys has no memories."""
    scopes = []
    for namespace in asked.namespaces:
        sealer = await engine.sealer(namespace, create=False)
        if sealer is not None:
            blind = await engine.blind(sealer, namespace, asked.filter)
            scopes.append(Scope(namespace, sealer, blind.filter, blind.exact))
    return scopes


async def gather(
    engine: Engine,
    model: Model,
    asked: Request,
    scopes: Sequence[Scope],
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
        opened: list[Opened] = []
        read = 0
        # What comes after those wanted is opened only as far as a filter leaves too few of them.
        while read < len(found.candidates) and len(opened) < wanted:
            opened += await _open(engine, model, asked, scopes, found.candidates[read : read + wanted])
            read += wanted
        watch.lap("open")
        if exact or found.exhausted or len(opened) >= wanted:
            best = opened[:wanted]
            if engine.settings.half_life_days is not None:
                best.sort(key=lambda one: -one.hit.score)
            # Of a filter that runs after opening, all that passed may be known: what did not, is not more.
            left = found.total > wanted if exact else read < len(found.candidates) or len(opened) > wanted
            return best, not found.exhausted or left
        depth *= 4


# ── legs ──────────────────────────────────────────────────────────────────────────────────────────


async def _fused(
    engine: Engine,
    model: Model,
    asked: Request,
    scopes: Sequence[Scope],
    embedded: Embeddings | None,
    depth: int,
    *,
    top: int | None,
) -> _Found:
    """Every leg of every namespace in one request; scores of a leg compare across namespaces."""
    # Apart from what Qdrant and the models do, a search is arithmetic: none of it belongs on a loop's thread.
    queries, owners = await engine.io.call(_queries, engine, model, asked, scopes, embedded, depth)
    answers = await engine.index.search(engine.io, queries) if queries else []
    if embedded is not None and asked.searches("dense") and engine.settings.vectors == "sealed":
        for scope in scopes:
            whole = len(scope.namespace) == 1 and asked.filter is None
            nearest = sealed_vectors.search(
                engine, model, scope.sealer, scope.filter, embedded.vectors[0], limit=depth, whole_subject=whole
            )
            answers.append(await nearest)
            owners.append((DENSE, scope))
    return await engine.io.call(_merged, engine, asked, owners, answers, depth, top)


def _merged(
    engine: Engine,
    asked: Request,
    owners: Sequence[tuple[str, Scope]],
    answers: Sequence[Sequence[Scored]],
    depth: int,
    top: int | None,
) -> _Found:
    exhausted = all(len(answer) < depth for answer in answers)
    legs: dict[str, dict[PointId, float]] = {}
    subjects: dict[PointId, str] = {}
    for (leg, scope), answer in zip(owners, answers, strict=True):
        legs.setdefault(leg, {}).update(answer)
        subjects.update(dict.fromkeys((point for point, _ in answer), scope.sealer.subject))
    candidates = _fuse(engine, asked.query, legs, subjects, top)
    return _Found(candidates, len(subjects), exhausted)


def _queries(
    engine: Engine,
    model: Model,
    asked: Request,
    scopes: Sequence[Scope],
    embedded: Embeddings | None,
    depth: int,
) -> tuple[list[LegQuery], list[tuple[str, Scope]]]:
    """What Qdrant is asked, and which leg of which namespace each answer is."""
    words = list(dict.fromkeys(terms(asked.query, engine.settings.language))) if asked.searches("lexical") else []
    vectors = embedded.vectors if embedded is not None and asked.searches("dense") else None
    weights = embedded.terms[0] if embedded is not None and embedded.terms and asked.searches("learned") else None
    queries: list[LegQuery] = []
    owners: list[tuple[str, Scope]] = []
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
        for name, sparse in learned(engine, scope.sealer, model, weights, query=True).items():
            queries.append(LegQuery(name, sparse, scope.filter, depth))
            owners.append((LEARNED, scope))
    return queries, owners


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
    weights = {LEXICAL: lexical, LEARNED: engine.settings.learned_weight}
    scores = reciprocal_rank_fusion(order, k=engine.settings.rrf_k, weights=weights)
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
    engine: Engine, model: Model, asked: Request, scopes: Sequence[Scope], candidates: Sequence[Candidate]
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
    scopes: Sequence[Scope],
    candidates: Sequence[Candidate],
    payloads: Mapping[PointId, Mapping[str, object]],
    late: bool,
) -> list[Opened]:
    owners = {scope.sealer.subject: scope.sealer for scope in scopes}
    fits = matcher(asked.filter) if asked.filter is not None else None
    opened = []
    for candidate in candidates:
        payload = payloads.get(candidate.id)
        if payload is None:
            continue
        sealer = owners[candidate.subject]
        record = open_record(sealer, candidate.id, payload)  # type: ignore[arg-type]
        require_inside(record, asked.namespaces)
        require_passage(record)
        if fits is not None and not fits(record):
            continue
        tokens = None
        if late and payload.get(TOKENS) is not None:
            tokens = sealer.open(candidate.id, "tokens", payload[TOKENS])
        hit = Hit(record, candidate.score, candidate.stages, model.space)
        if engine.settings.half_life_days is not None:
            hit = replace(hit, score=hit.score * freshness(engine, hit))
        opened.append(Opened(hit, tokens))
    return opened
