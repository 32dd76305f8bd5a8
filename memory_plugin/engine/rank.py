"""The two stages that re-order what was opened: late interaction, then the cross-encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memory_plugin.engine.core import Engine, Model
from memory_plugin.errors import QuotaError, RerankError, translate
from memory_plugin.fuse import decay, impute, standardise
from memory_plugin.lexical import fragmentation
from memory_plugin.network import may_see
from memory_plugin.protocols import LateInteraction
from memory_plugin.types import Embeddings, Hit, Record, StageScore, TokenVectors

DENSE, LEXICAL, LEARNED, FUSED, LATE, RERANK = "dense", "lexical", "learned", "fused", "late", "rerank"

# Weights beside the late interaction score, all standardised over the candidates (docs/adr/0005-fusion.md).
LATE_DENSE = 0.25
LATE_LEARNED = 0.25
LATE_LEXICAL = 0.5
LATE_LEXICAL_RARE = 2.0
"""The lexical weight grows to this as the query's words become identifiers."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A hit on its way, with its packed token vectors."""

    hit: Hit
    tokens: bytes | None


def freshness(engine: Engine, hit: Hit) -> float:
    """By how much a hit counts at its age."""
    assert engine.settings.half_life_days is not None
    age = (engine.clock() - hit.record.time).total_seconds() / 86_400
    return decay(age, engine.settings.half_life_days)


async def late_interaction(
    engine: Engine, model: Model, query: str, embedded: Embeddings | None, opened: list[Opened]
) -> list[Opened]:
    """Re-order by token vectors, blended with what the legs said; what it may not read keeps its place by the legs.

    Raises:
        RerankError: The model failed, or what it returned is not one finite score a candidate.
    """
    late = engine.late
    assert late is not None
    seen = [place for place, one in enumerate(opened) if reads(late, one.hit.record)]
    if not seen:
        return opened
    with translate(RerankError, provider=late.model):
        made = await _token_scores(engine, model, late, query, embedded, [opened[place] for place in seen])
        scores = np.asarray(made, dtype=np.float64)
        _require_scores(scores, len(seen), late.model)
    return await engine.io.call(_by_tokens, engine, model, query, opened, seen, scores)


def _by_tokens(
    engine: Engine,
    model: Model,
    query: str,
    opened: Sequence[Opened],
    seen: Sequence[int],
    scores: NDArray[np.float64],
) -> list[Opened]:
    blended = _blend(engine, model, query, opened)
    blended[seen] += standardise(scores)
    ordered = _ordered([one.hit for one in opened], blended, LATE, seen)
    return [replace(opened[place], hit=hit) for place, hit in ordered]


def reads(provider: object, record: Record) -> bool:
    """Whether a model that reads passages is given this one: it may see it, and there is something to read."""
    return record.text != "" and may_see(provider, local_only=record.local_only)


def _require_scores(scores: NDArray[np.float64], number: int, model: str) -> None:
    if scores.shape != (number,) or not np.isfinite(scores).all():
        message = f"{model} returned scores of shape {scores.shape} or not finite, not {number} numbers"
        raise RerankError(message, provider=model)


async def _token_scores(
    engine: Engine, model: Model, late: LateInteraction, query: str, embedded: Embeddings | None, opened: list[Opened]
) -> NDArray[np.float32]:
    tokens: TokenVectors
    if embedded is not None and embedded.tokens is not None and engine.shares_tokens(model):
        tokens = embedded.tokens[0]
    else:
        tokens = (await engine.io.call(late.tokens, [query]))[0]
    packed = [one.tokens for one in opened]
    missing = [place for place, one in enumerate(packed) if one is None]
    if missing:  # written while late interaction was off
        made = await engine.io.call(late.tokens, [opened[place].hit.record.passage for place in missing])
        fresh = await engine.io.call(lambda: [late.pack(vectors) for vectors in made])
        for place, one in zip(missing, fresh, strict=True):
            packed[place] = one
    return await engine.io.call(late.score, tokens, [one for one in packed if one is not None])


def _blend(engine: Engine, model: Model, query: str, opened: Sequence[Opened]) -> NDArray[np.float64]:
    """Weighted scores of the legs, standardised over the candidates that the leg can find at all."""
    rare = fragmentation(query)
    lexical = LATE_LEXICAL + (LATE_LEXICAL_RARE - LATE_LEXICAL) * rare
    weights = {DENSE: LATE_DENSE, LEXICAL: lexical, LEARNED: LATE_LEARNED}
    total = np.zeros(len(opened))
    for leg, weight in weights.items():
        found = {one.hit.id: one.hit.stages[leg].score for one in opened if leg in one.hit.stages}
        complete = len(found) < engine.settings.leg_limit and leg != DENSE
        if found:
            places = [place for place, one in enumerate(opened) if one.hit.id in found or _finds(leg, model, one)]
            ids_ = [opened[place].hit.id for place in places]
            total[places] += weight * standardise(impute(found, ids_, complete=complete))
    if engine.settings.half_life_days is not None:
        # As far as halving moves a fused score, in units of the candidates' spread.
        total += np.array([np.log2(max(freshness(engine, one.hit), 2.0**-8)) for one in opened]) / 4
    return total


def _finds(leg: str, model: Model, one: Opened) -> bool:
    """Whether it says something of a candidate that a leg did not find it: the leg has to know it."""
    return leg == LEXICAL or may_see(model.embedder, local_only=one.hit.record.local_only)


def _ordered(
    hits: Sequence[Hit], scores: NDArray[np.float64], stage: str, seen: Sequence[int]
) -> list[tuple[int, Hit]]:
    """The hits by their scores, each with the place where it was; the stage ranks those that it has seen."""
    order = sorted(range(len(hits)), key=lambda place: (-float(scores[place]), place))
    known, rank = set(seen), 0
    ordered = []
    for place in order:
        hit = replace(hits[place], score=float(scores[place]))
        if place in known:
            rank += 1
            hit = replace(hit, stages={**hit.stages, stage: StageScore(rank, hit.score)})
        ordered.append((place, hit))
    return ordered


# ── cross-encoder ─────────────────────────────────────────────────────────────────────────────────


async def cross_encode(
    engine: Engine, query: str, hits: list[Hit]
) -> tuple[list[Hit], Literal["off", "applied", "failed"]]:
    """Let the cross-encoder read the best; the rest stay below them in their order.

    What it may not read keeps its place by the stages before; where that is all, it is not called.
    """
    reranker = engine.reranker
    assert reranker is not None
    head, tail = hits[: engine.settings.rerank_candidates], hits[engine.settings.rerank_candidates :]
    seen = [place for place, hit in enumerate(head) if reads(reranker, hit.record)]
    if not seen:
        return hits, "off"
    try:
        with translate(RerankError, provider=reranker.model):
            made = await engine.io.call(reranker.rerank, query, [head[place].record.passage for place in seen])
            scores = np.asarray(made, dtype=np.float64)
            _require_scores(scores, len(seen), reranker.model)
    except (RerankError, QuotaError):
        if engine.settings.on_rerank_error == "raise":
            raise
        return hits, "failed"
    blended = standardise(np.array([hit.score for hit in head]))
    # A model that reads word pieces is no judge of identifiers.
    blended[seen] += engine.settings.rerank_weight * (1 - fragmentation(query)) * standardise(scores)
    ranked = [hit for _, hit in _ordered(head, blended, RERANK, seen)]
    # Scores of the tail are on another scale: below the worst that was read, in their own order.
    floor = ranked[-1].score
    return ranked + [replace(hit, score=floor - place) for place, hit in enumerate(tail, 1)], "applied"
