"""Finding items: by words, by conditions, and which namespaces they are in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from memory_plugin import eq, ids, not_
from memory_plugin.adapters.extras import needs
from memory_plugin.adapters.langgraph.filters import both, passes, wider
from memory_plugin.adapters.langgraph.items import EXPIRY, MARK, Kept, Place, kept
from memory_plugin.adapters.langgraph.shelf import Shelf
from memory_plugin.errors import InvalidInputError
from memory_plugin.flow import IO
from memory_plugin.types import Filter, Namespace, Page, Record, Results

with needs("langgraph", "the LangGraph store"):
    from langgraph.store.base import ListNamespacesOp, MatchCondition, SearchItem, SearchOp

LEAST = 50
"""Hits to ask for at least: some may be no items, or fail the filter; what is opened and re-ranked is the same."""
MOST = 1000
"""Hits to ask for at most, before all items that pass are listed."""
PAGE = 256
STEP = 8
"""How fast the number of items grows that are fetched for a filter to look at."""

VALUES = eq("$kind", "value")

Found: TypeAlias = "list[tuple[Kept, float | None]]"
"""Items with their scores."""


async def search(io: IO, shelf: Shelf, op: SearchOp) -> tuple[list[SearchItem], list[Kept]]:
    """A page of items, and the same as they are kept.

    With a query: those found by it, best first, then those that are found by nothing.  Without: newest first.
    """
    namespace = shelf.place.of(op.namespace_prefix)
    needed = op.offset + op.limit
    if not op.limit:
        return [], []
    if op.query and ids.visible(op.query):
        found = await _by_words(io, shelf, namespace, op, needed)
    else:
        found = [(one, None) for one in await _newest(io, shelf, namespace, op.filter, needed)]
    chosen = found[op.offset : needed]
    return [item.found(shelf.place, score) for item, score in chosen], [item for item, _ in chosen]


async def _by_words(io: IO, shelf: Shelf, namespace: Namespace, op: SearchOp, needed: int) -> Found:
    """Items by the hits of a search; where too few of them pass, by all that pass."""
    limit = min(max(2 * needed, LEAST), MOST)
    hits = await _hits(io, shelf, namespace, op, limit)
    scores = await io.call(_scores, hits)
    found = await _first(io, shelf, scores, op, needed)
    if len(found) >= needed:
        return found
    everything = await _newest(io, shelf, namespace, op.filter, None)
    if len(hits) >= limit and len(everything) > len(found):
        count: Any = shelf.store.count  # of either store
        passages = await io.call(count, namespace, filter=not_(VALUES))
        scores = await io.call(_scores, await _hits(io, shelf, namespace, op, max(passages, 1)))
    return await io.call(_ranked, everything, scores)


async def _hits(io: IO, shelf: Shelf, namespace: Namespace, op: SearchOp, limit: int) -> Results:
    searching: Any = shelf.store.search  # of either store
    where = both(*wider(op.filter))
    found: Results = await io.call(
        searching, op.query, namespace, limit=limit, filter=where, per_document=1, duplicates=True
    )
    return found


async def _first(
    io: IO, shelf: Shelf, scores: Mapping[tuple[Namespace, str], float], op: SearchOp, needed: int
) -> Found:
    """The best that pass, as many as needed: of the others, no value is read."""
    places = list(scores)
    found: Found = []
    start, size = 0, needed
    while start < len(places) and len(found) < needed:
        some = places[start : start + size]
        items = await shelf.get(io, _wanted(some))
        there = [items[place] for place in some if place in items]
        found += [(one, scores[one.place]) for one in await io.call(_passing, there, op.filter)]
        start, size = start + size, size * STEP
    return found[:needed]


def _ranked(items: Sequence[Kept], scores: Mapping[tuple[Namespace, str], float]) -> Found:
    """All of them: what was found, best first, then the rest as it comes."""
    order = {place: number for number, place in enumerate(scores)}
    inside = sorted((one for one in items if one.place in order), key=lambda one: order[one.place])
    outside = [one for one in items if one.place not in order]
    return [(one, scores[one.place]) for one in inside] + [(one, None) for one in outside]


def _scores(hits: Results) -> dict[tuple[Namespace, str], float]:
    """Scores of what may be items, best first."""
    found: dict[tuple[Namespace, str], float] = {}
    for hit in hits:
        told = hit.record.metadata.get(MARK)
        if isinstance(told, dict) and isinstance(told.get("key"), str):
            found.setdefault((hit.record.namespace, str(told["key"])), hit.score)
    return found


def _wanted(places: Iterable[tuple[Namespace, str]]) -> Mapping[Namespace, list[str]]:
    wanted: dict[Namespace, list[str]] = {}
    for namespace, key in places:
        wanted.setdefault(namespace, []).append(key)
    return wanted


def _passing(items: Iterable[Kept], filter_: Mapping[str, Any] | None) -> list[Kept]:
    return [one for one in items if passes(one.value, filter_)]


async def _newest(
    io: IO, shelf: Shelf, namespace: Namespace, filter_: Mapping[str, Any] | None, needed: int | None
) -> list[Kept]:
    """Items that pass and have not expired, last put first; as many as needed or more, or all."""
    where = both(VALUES, *wider(filter_))
    found: dict[tuple[Namespace, str], Kept] = {}
    after: str | None = None
    more = True
    while more and (needed is None or len(found) < needed):
        items, after = await _page(io, shelf, namespace, where, after, None if found or after else needed)
        living = await shelf.living(io, items)
        await io.call(_gather, found, living, filter_)
        await io.call(items.clear)  # where it is done: letting go of many takes time
        more = after is not None
    return await io.call(lambda: list(found.values()))


def _gather(found: dict[tuple[Namespace, str], Kept], items: list[Kept], filter_: Mapping[str, Any] | None) -> None:
    for one in _passing(items, filter_):
        found.setdefault(one.place, one)
    items.clear()


async def _page(
    io: IO, shelf: Shelf, namespace: Namespace, where: Filter | None, after: str | None, needed: int | None
) -> tuple[list[Kept], str | None]:
    """Items, newest first: as many as may do, or all the rest, since a page opens the whole of its days."""
    listing: Any = shelf.store.list  # of either store
    count: Any = shelf.store.count
    limit = max(PAGE, await io.call(count, namespace, filter=VALUES) if needed is None else 2 * needed)
    page: Page = await io.call(listing, namespace, filter=where, limit=limit, after=after, newest_first=True)
    return await io.call(_items, page.records), page.next


def _items(records: Sequence[Record]) -> list[Kept]:
    """Each item once: while one is being replaced, both are there, and the newer one comes first."""
    found: dict[tuple[Namespace, str], Kept] = {}
    for record in records:
        item = kept((record,))
        if item is not None and EXPIRY not in record.namespace[1:2]:
            found.setdefault(item.place, item)
    return list(found.values())


# ── namespaces ────────────────────────────────────────────────────────────────────────────────────


async def namespaces(io: IO, shelf: Shelf, op: ListNamespacesOp) -> list[tuple[str, ...]]:
    """Those that hold items, in order."""
    found = await _newest(io, shelf, shelf.place.of(stem(op.match_conditions or ())), None, None)
    listed: list[tuple[str, ...]] = await io.call(_listed, shelf.place, found, op)
    return listed


def _listed(place: Place, found: Iterable[Kept], op: ListNamespacesOp) -> list[tuple[str, ...]]:
    every = map(place.labels, {one.namespace for one in found})
    matching = {one[: op.max_depth] for one in every if all(_matches(it, one) for it in op.match_conditions or ())}
    return sorted(matching)[op.offset : op.offset + op.limit]


def stem(conditions: Sequence[MatchCondition]) -> tuple[str, ...]:
    """The labels that all that is wanted begins with.

    Raises:
        InvalidInputError: A condition is of no kind that there is.
    """
    longest: tuple[str, ...] = ()
    for condition in conditions:
        if condition.match_type not in ("prefix", "suffix"):
            raise InvalidInputError(f"namespaces match by prefix or suffix, not by {condition.match_type!r:.60}")
        if condition.match_type == "prefix":
            path = tuple(condition.path)
            longest = max(longest, path[: path.index("*")] if "*" in path else path, key=len)
    return longest


def _matches(condition: MatchCondition, labels: tuple[str, ...]) -> bool:
    path = tuple(condition.path)
    part = labels[: len(path)] if condition.match_type == "prefix" else labels[max(len(labels) - len(path), 0) :]
    return len(part) == len(path) and all(one in ("*", label) for one, label in zip(path, part, strict=True))
