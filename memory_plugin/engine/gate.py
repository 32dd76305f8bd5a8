"""The gate before a switch: whether the new space finds what the old one finds.

Measured on the user's own questions where there are any; else on the memories themselves: a distinctive part of one has
to find it again (self-retrieval), and its neighbours have to be partly those of the old space (agreement).  Everything
is measured on the dense leg alone, since that is what changes: the lexical leg would hide what is broken.
docs/adr/0009-live-migration.md says where the floors come from.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from memory_plugin.dataset import Question
from memory_plugin.engine import sealed_vectors
from memory_plugin.engine.backfill import Item, open_page, visible
from memory_plugin.engine.convert import stored
from memory_plugin.engine.core import Engine, Model
from memory_plugin.engine.migration import Figure, Gate
from memory_plugin.engine.payload import RECORD, SUBJECT, open_record, vector_key
from memory_plugin.engine.spaces import eligible
from memory_plugin.errors import UnknownKeyError
from memory_plugin.metrics import recall_at
from memory_plugin.protocols import Sealer
from memory_plugin.types import And, AnyOf, Filter, LegQuery, Scored, Vector

K = 10
"""Of how many first hits recall and agreement are taken."""

SAMPLE = 200
"""Memories looked at."""

CROWD = 5
"""A subject has to have this many memories for each hit that is looked at, else anything is found."""

AGREEMENT_FLOOR = 0.1
"""Agreement below which a space is broken, or a far worse one: see the ADR."""

DEPTH = 10
"""How many times as many of the old space's neighbours are looked at: what lies beyond is far."""

COMPARED = 100
"""Neighbours that have to be compared for that share to mean anything."""

TIE = 1e-3
"""Cosines that differ less are equal: a stored vector is one of float32 that was turned."""

_WORD = re.compile(r"\w+")
_PART = 12


@dataclass(frozen=True, slots=True)
class _Probe:
    """A memory of the sample: what to ask for it, and among how many first hits it has to be."""

    item: Item
    query: str
    k: int
    crowd: int


async def measure(engine: Engine, old: Model, new: Model, *, questions: Sequence[Question], floor: float) -> Gate:
    """What the new space finds, beside what the old one finds.

    Args:
        engine: The open store, with both spaces filled.
        old: The model that is searched now.
        new: The model that it may be switched to.
        questions: The user's own; none: the memories themselves are asked.
        floor: Share of the old model's figure that the new one has to reach.

    Raises:
        EmbeddingError: A model failed.
    """
    if questions:
        before = await _recall(engine, old, questions)
        after = await _recall(engine, new, questions)
        name = f"recall@{K} on your questions"
        return Gate((_relative(name, after, before, floor, len(questions)),))
    probes = await _probes(engine, old, new)
    if not probes:
        return Gate()
    figures: list[Figure] = []
    if _embeds(old) and _embeds(new):
        one, other = [await _self_retrieval(engine, model, probes) for model in (old, new)]
        there = await _there(engine, probes)
        pairs = [pair for pair, stays in zip(zip(one, other, strict=True), there, strict=True) if stays]
        if pairs:
            before, after = (sum(found) / len(pairs) for found in zip(*pairs, strict=True))
            figures.append(_relative(f"self-retrieval@{K}", after, before, floor, len(pairs)))
    if sum(probe.k for probe in probes) >= COMPARED:
        agreed = await _agreement(engine, old, new, probes)
        if agreed:
            mean = sum(agreed) / len(agreed)
            figures.append(Figure(f"neighbour agreement@{K}", mean, AGREEMENT_FLOOR, None, len(agreed)))
    return Gate(tuple(figures))


def _relative(name: str, value: float, before: float, floor: float, number: int) -> Figure:
    """A figure that has to come near that of the old model; one question more or less does not decide."""
    return Figure(name, value, max(floor * before - 1 / number, 0.0), before, number)


def _embeds(model: Model) -> bool:
    return bool(getattr(model.embedder, "embeds", True))


# ── own questions ─────────────────────────────────────────────────────────────────────────────────


async def _recall(engine: Engine, model: Model, questions: Sequence[Question]) -> float:
    """Mean share of what answers a question among the first hits."""
    made = (await engine.embed(model, [one.text for one in questions], input_type="query")).vectors
    total = 0.0
    for question, vector in zip(questions, made, strict=True):
        sealer = await engine.sealer(question.namespace, create=False)
        if sealer is None:
            continue
        scope = engine.scope(sealer, question.namespace)
        # Several chunks of a document are one row.
        found = await nearest(engine, model, sealer, scope, vector, limit=3 * K, whole=len(question.namespace) == 1)
        points = await engine.index.fetch(engine.io, [one.id for one in found], payload=(RECORD,))
        records = await engine.io.call(
            lambda points=points, sealer=sealer: [open_record(sealer, one.id, one.payload) for one in points]  # type: ignore[misc]
        )
        total += recall_at(question.ranking(records), question.relevant, K)
    return total / len(questions)


# ── the memories themselves ───────────────────────────────────────────────────────────────────────


async def sample(engine: Engine, *models: Model) -> list[Item]:
    """Some memories, at random: ids are keyed hashes, so the first ones are as good as any."""
    where = And(tuple(eligible(engine, model.space) for model in models))
    sealed = engine.settings.vectors == "sealed"
    keys = (SUBJECT, RECORD, *(vector_key(model.space) for model in models if sealed))
    points, _ = await engine.index.scroll(engine.io, where, limit=SAMPLE, payload=keys)
    return visible(await open_page(engine, points, {}), *models)


async def _probes(engine: Engine, *models: Model) -> list[_Probe]:
    """The sample, without subjects that have too few memories to tell anything."""
    items = await sample(engine, *models)
    rare = Counter(word for item in items for word in set(_words(item.record.text)))
    crowds: dict[str, int] = {}
    for item in items:
        subject = item.sealer.subject
        if subject not in crowds:
            where = And((eligible(engine, models[-1].space), AnyOf(SUBJECT, (subject,))))
            crowds[subject] = await engine.index.count(engine.io, where)
    return [
        _Probe(item, distinctive(item.record.text, rare), min(K, crowd // CROWD), crowd)
        for item in items
        if (crowd := crowds[item.sealer.subject]) >= CROWD
    ]


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def distinctive(text: str, frequency: Counter[str]) -> str:
    """The twelve words of a text that follow each other and are rarest among the memories."""
    found = list(_WORD.finditer(text))
    if len(found) <= _PART:
        return text
    weights = [-math.log(max(frequency[word[0].lower()], 1)) for word in found]
    sums = np.convolve(weights, np.ones(_PART), mode="valid")
    start = int(np.argmax(sums))
    return text[found[start].start() : found[start + _PART - 1].end()]


async def _self_retrieval(engine: Engine, model: Model, probes: Sequence[_Probe]) -> list[bool]:
    """Of each memory, whether a part of it finds it."""
    made = (await engine.embed(model, [probe.query for probe in probes], input_type="query")).vectors
    found = []
    for probe, vector in zip(probes, made, strict=True):
        sealer = probe.item.sealer
        hits = await nearest(engine, model, sealer, _all_of(sealer), vector, limit=probe.k)
        found.append(probe.item.point.id in {hit.id for hit in hits})
    return found


async def _there(engine: Engine, probes: Sequence[_Probe]) -> list[bool]:
    """Which memories were not deleted while they were asked for."""
    left = await engine.index.fetch(engine.io, [probe.item.point.id for probe in probes], payload=())
    ids = {point.id for point in left}
    return [probe.item.point.id in ids for probe in probes]


async def _agreement(engine: Engine, old: Model, new: Model, probes: Sequence[_Probe]) -> list[float]:
    """How near the new space's neighbours are by the old space's measure: 1 as near as its own, 0 as any memory.

    Not how many are the same ones: of many that are equally near, as in templated texts, any will do.
    """
    shares = []
    far, near = await neighbours(engine, old, probes, DEPTH), await neighbours(engine, new, probes)
    for probe, before, after in zip(probes, far, near, strict=True):
        if before and after:
            gains = {hit.id: hit.score - before[-1].score for hit in before}
            own = sum(hit.score - before[-1].score for hit in before[: probe.k]) / probe.k
            chance = sum(gains.values()) / max(probe.crowd - 1, 1)
            if own - chance > TIE:  # else all are equally near, and nothing can be told
                found = sum(gains.get(hit.id, 0.0) for hit in after) / probe.k
                shares.append((found - chance) / (own - chance))
    return shares


async def neighbours(
    engine: Engine, model: Model, probes: Sequence[_Probe], times: int = 1
) -> list[list[Scored] | None]:
    """The nearest memories of each, itself aside, best first; None for one that has no vector of the model."""
    rows = await stored(engine, model, [probe.item for probe in probes])
    found: list[list[Scored] | None] = []
    for probe, row in zip(probes, rows, strict=True):
        if row is None:
            found.append(None)
            continue
        sealer, limit = probe.item.sealer, times * probe.k
        hits = await nearest(engine, model, sealer, _all_of(sealer), row, limit=limit + 1)
        found.append([hit for hit in hits if hit.id != probe.item.point.id][:limit])
    return found


def _all_of(sealer: Sealer) -> Filter:
    return AnyOf(SUBJECT, (sealer.subject,))


async def nearest(
    engine: Engine, model: Model, sealer: Sealer, where: Filter, vector: Vector, *, limit: int, whole: bool = True
) -> list[Scored]:
    """The dense leg alone: memories nearest to a vector, as the model made it, best first.

    Nothing where the subject was forgotten meanwhile: what it has now is under keys of another life.
    """
    if engine.settings.vectors == "sealed":
        with suppress(UnknownKeyError):
            return await sealed_vectors.search(engine, model, sealer, where, vector, limit=limit, whole_subject=whole)
        return []
    row = sealer.rotate(vector[None])[0] if engine.settings.vectors == "rotated" else vector
    found = await engine.index.search(engine.io, [LegQuery(model.dense, row, where, limit)])
    return found[0]


Seen: TypeAlias = tuple[list[_Probe], list[list[Scored] | None]]
"""A sample with its neighbours."""


async def look(engine: Engine, model: Model) -> Seen:
    """A sample with its neighbours as the store finds them now, to compare with later."""
    probes = await _probes(engine, model)
    return probes, await neighbours(engine, model, probes)


async def kept(engine: Engine, model: Model, before: Seen, floor: float) -> Figure | None:
    """How many of the neighbours found now are as near as those found before; None where there are too few to tell.

    By their cosines, which do not depend on the quantization: of several that are equally near any will do.
    """
    probes, old = before
    shares = []
    for one, other in zip(old, await neighbours(engine, model, probes), strict=True):
        if one and other:
            worst = min(hit.score for hit in one) - TIE
            shares.append(sum(hit.score >= worst for hit in other) / len(one))
    return Figure(f"neighbours kept@{K}", sum(shares) / len(shares), floor, None, len(shares)) if shares else None
