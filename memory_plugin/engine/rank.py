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
from memory_plugin.protocols import LateInteraction
from memory_plugin.types import Embeddings, Hit, StageScore, TokenVectors

DENSE, LEXICAL, FUSED, LATE, RERANK = "dense", "lexical", "fused", "late", "rerank"

# Weights beside the late interaction score, all standardised over the candidates (docs/adr/0005-fusion.md).
LATE_DENSE = 0.25
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
    engine: Engine, model: Model, query: str, embedded: Embeddings, opened: list[Opened]
) -> list[Opened]:
    """Re-order by token vectors, blended with what the legs said.

    Raises:
        RerankError: The model failed, or what it returned is not one finite score a candidate.
    """
    late = engine.late
    assert late is not None
    with translate(RerankError, provider=late.model):
        scores = np.asarray(await _token_scores(engine, model, late, query, embedded, opened), dtype=np.float64)
        _require_scores(scores, len(opened), late.model)
    return _ordered(opened, _blend(engine, query, opened, scores), LATE)


def _require_scores(scores: NDArray[np.float64], number: int, model: str) -> None:
    if scores.shape != (number,) or not np.isfinite(scores).all():
        message = f"{model} returned scores of shape {scores.shape} or not finite, not {number} numbers"
        raise RerankError(message, provider=model)


async def _token_scores(
    engine: Engine, model: Model, late: LateInteraction, query: str, embedded: Embeddings, opened: list[Opened]
) -> NDArray[np.float32]:
    tokens: TokenVectors
    if embedded.tokens is not None and engine.shares_tokens(model):
        tokens = embedded.tokens[0]
    else:
        tokens = (await engine.io.call(late.tokens, [query]))[0]
    packed = [one.tokens for one in opened]
    missing = [place for place, one in enumerate(packed) if one is None]
    if missing:  # written while late interaction was off
        made = await engine.io.call(late.tokens, [opened[place].hit.record.passage for place in missing])
        for place, one in zip(missing, made, strict=True):
            packed[place] = late.pack(one)
    return await engine.io.call(late.score, tokens, [one for one in packed if one is not None])


def _blend(engine: Engine, query: str, opened: Sequence[Opened], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standardised late interaction score plus weighted dense and lexical ones."""
    rare = fragmentation(query)
    weights = {DENSE: LATE_DENSE, LEXICAL: LATE_LEXICAL + (LATE_LEXICAL_RARE - LATE_LEXICAL) * rare}
    total = standardise(scores)
    ids_ = [one.hit.id for one in opened]
    for leg, weight in weights.items():
        found = {one.hit.id: one.hit.stages[leg].score for one in opened if leg in one.hit.stages}
        complete = len(found) < engine.settings.leg_limit and leg == LEXICAL
        if found:
            total += weight * standardise(impute(found, ids_, complete=complete))
    if engine.settings.half_life_days is not None:
        # As far as halving moves a fused score, in units of the candidates' spread.
        total += np.array([np.log2(max(freshness(engine, one.hit), 2.0**-8)) for one in opened]) / 4
    return total


def _ordered(opened: Sequence[Opened], scores: NDArray[np.float64], stage: str) -> list[Opened]:
    order = sorted(range(len(opened)), key=lambda place: (-float(scores[place]), place))
    return [
        replace(opened[place], hit=_staged(opened[place].hit, stage, rank, float(scores[place])))
        for rank, place in enumerate(order, 1)
    ]


def _staged(hit: Hit, stage: str, rank: int, score: float) -> Hit:
    return replace(hit, score=score, stages={**hit.stages, stage: StageScore(rank, score)})


# ── cross-encoder ─────────────────────────────────────────────────────────────────────────────────


async def cross_encode(engine: Engine, query: str, hits: list[Hit]) -> tuple[list[Hit], Literal["applied", "failed"]]:
    """Let the cross-encoder read the best; the rest stay below them in their order."""
    reranker = engine.reranker
    assert reranker is not None
    head, tail = hits[: engine.settings.rerank_candidates], hits[engine.settings.rerank_candidates :]
    try:
        with translate(RerankError, provider=reranker.model):
            made = await engine.io.call(reranker.rerank, query, [hit.record.passage for hit in head])
            scores = np.asarray(made, dtype=np.float64)
            _require_scores(scores, len(head), reranker.model)
    except (RerankError, QuotaError):
        if engine.settings.on_rerank_error == "raise":
            raise
        return hits, "failed"
    before = np.array([hit.score for hit in head])
    # A model that reads word pieces is no judge of identifiers.
    weight = engine.settings.rerank_weight * (1 - fragmentation(query))
    blended = standardise(before) + weight * standardise(scores)
    order = sorted(range(len(head)), key=lambda place: (-float(blended[place]), place))
    ranked = [_staged(head[place], RERANK, rank, float(blended[place])) for rank, place in enumerate(order, 1)]
    # Scores of the tail are on another scale: below the worst that was read, in their own order.
    floor = ranked[-1].score
    return ranked + [replace(hit, score=floor - place) for place, hit in enumerate(tail, 1)], "applied"
