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
from memory_plugin.metrics import recall_at
from memory_plugin.protocols import Sealer
from memory_plugin.types import And, AnyOf, Filter, LegQuery, Scored, Vector

K = 10
"""Of how many first hits recall and agreement are taken."""

SAMPLE = 200
"""Memories looked at."""

CROWD = 5
"""A subject has to have this many memories for each hit that is looked at, else anything is found."""

AGREEMENT_FLOOR = 0.05
"""Share of neighbours kept, what chance gives taken away, below which a space is broken: see the ADR."""

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
        before, after = [await _self_retrieval(engine, model, probes) for model in (old, new)]
        figures.append(_relative(f"self-retrieval@{K}", after, before, floor, len(probes)))
    if sum(probe.k for probe in probes) >= COMPARED:
        agreed = _agreement(probes, await neighbours(engine, old, probes), await neighbours(engine, new, probes))
        figures.append(Figure(f"neighbour agreement@{K}", agreed, AGREEMENT_FLOOR, None, len(probes)))
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


async def _self_retrieval(engine: Engine, model: Model, probes: Sequence[_Probe]) -> float:
    """Share of memories that a part of them finds."""
    made = (await engine.embed(model, [probe.query for probe in probes], input_type="query")).vectors
    found = 0
    for probe, vector in zip(probes, made, strict=True):
        sealer = probe.item.sealer
        hits = await nearest(engine, model, sealer, _all_of(sealer), vector, limit=probe.k)
        found += probe.item.point.id in {hit.id for hit in hits}
    return found / len(probes)


async def neighbours(engine: Engine, model: Model, probes: Sequence[_Probe]) -> list[list[Scored] | None]:
    """The nearest memories of each, itself aside, best first; None for one that has no vector of the model."""
    rows = await stored(engine, model, [probe.item for probe in probes])
    found: list[list[Scored] | None] = []
    for probe, row in zip(probes, rows, strict=True):
        if row is None:
            found.append(None)
            continue
        sealer = probe.item.sealer
        hits = await nearest(engine, model, sealer, _all_of(sealer), row, limit=probe.k + 1)
        found.append([hit for hit in hits if hit.id != probe.item.point.id][: probe.k])
    return found


def _agreement(
    probes: Sequence[_Probe], old: Sequence[list[Scored] | None], new: Sequence[list[Scored] | None]
) -> float:
    """Mean share of neighbours that both have, above chance: 1 for the same, 0 for unrelated spaces."""
    shares = []
    for probe, one, other in zip(probes, old, new, strict=True):
        if one is not None and other is not None:
            chance = probe.k / max(probe.crowd - 1, 1)
            both = {hit.id for hit in one} & {hit.id for hit in other}
            shares.append((len(both) / probe.k - chance) / (1 - chance))
    return sum(shares) / len(shares) if shares else 0.0


def _all_of(sealer: Sealer) -> Filter:
    return AnyOf(SUBJECT, (sealer.subject,))


async def nearest(
    engine: Engine, model: Model, sealer: Sealer, where: Filter, vector: Vector, *, limit: int, whole: bool = True
) -> list[Scored]:
    """The dense leg alone: memories nearest to a vector, as the model made it, best first."""
    if engine.settings.vectors == "sealed":
        return await sealed_vectors.search(engine, model, sealer, where, vector, limit=limit, whole_subject=whole)
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
