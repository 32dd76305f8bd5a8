"""Finding items: by words, by conditions, and which namespaces they are in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from memory_plugin import eq, ids
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
SURE = 1000
"""Hits from which a search may end before everything was looked at; see ``memory_plugin.engine.search``."""
GROWTH = 4
PAGE = 256

VALUES = eq("$kind", "value")


async def search(io: IO, shelf: Shelf, op: SearchOp) -> tuple[list[SearchItem], list[Kept]]:
    """A page of items, and the same as they are kept.

    With a query: those found by it, best first, then those that are found by nothing.  Without: newest first.
    """
    namespace = shelf.place.of(op.namespace_prefix)
    needed = op.offset + op.limit
    if not op.limit:
        return [], []
    found: list[tuple[Kept, float | None]] = []
    if op.query and ids.visible(op.query):
        found += await _by_words(io, shelf, namespace, op, needed)
    if len(found) < needed:
        seen = {item.place for item, _ in found}
        async for page in _newest(io, shelf, namespace, op.filter, needed):
            fresh = [one for one in page if one.place not in seen]
            seen.update(one.place for one in fresh)
            found += [(one, None) for one in fresh]
            if len(found) >= needed:
                break
    chosen = found[op.offset : needed]
    return [item.found(shelf.place, score) for item, score in chosen], [item for item, _ in chosen]


async def _by_words(
    io: IO, shelf: Shelf, namespace: Namespace, op: SearchOp, needed: int
) -> list[tuple[Kept, float | None]]:
    """Items by the hits of a search: asked for more while too few of them pass."""
    searching: Any = shelf.store.search  # of either store
    limit, before = LEAST, -1
    while limit < min(2 * needed, SURE):
        limit *= GROWTH
    while True:
        hits: Results = await io.call(
            searching, op.query, namespace, limit=limit, filter=both(*wider(op.filter)), per_document=1
        )
        scores = await io.call(_scores, hits)
        items = await shelf.get(io, _wanted(scores))
        passing = await io.call(_passing, items.values(), op.filter)
        exhausted = len(hits) < limit and (limit < SURE or len(hits) == before)
        if len(passing) >= needed or exhausted:
            order = {place: number for number, place in enumerate(scores)}
            passing.sort(key=lambda one: order[one.place])
            return [(one, scores[one.place]) for one in passing]
        limit, before = limit * GROWTH, len(hits)


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
    io: IO, shelf: Shelf, namespace: Namespace, filter_: Mapping[str, Any] | None, needed: int
) -> AsyncIterator[list[Kept]]:
    """Items that pass and have not expired, some at a time, last put first."""
    where = both(VALUES, *wider(filter_))
    async for records in _pages(io, shelf, namespace, where, max(PAGE, 2 * needed)):
        items = await io.call(_items, records)
        living = await shelf.living(io, items)
        yield await io.call(_passing, living, filter_)


async def _pages(
    io: IO, shelf: Shelf, namespace: Namespace, where: Filter | None, limit: int
) -> AsyncIterator[Sequence[Record]]:
    """Everything that matches, newest first: in pages that grow, since each opens the whole of its first day."""
    listing: Any = shelf.store.list  # of either store
    after: str | None = None
    while True:
        page: Page = await io.call(listing, namespace, filter=where, limit=limit, after=after, newest_first=True)
        yield page.records
        if page.next is None:
            return
        after, limit = page.next, limit * GROWTH


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
    found: set[Namespace] = set()
    async for page in _newest(io, shelf, shelf.place.of(stem(op.match_conditions or ())), None, PAGE):
        await io.call(found.update, {item.namespace: None for item in page})
    listed: list[tuple[str, ...]] = await io.call(_listed, shelf.place, found, op)
    return listed


def _listed(place: Place, found: Iterable[Namespace], op: ListNamespacesOp) -> list[tuple[str, ...]]:
    every = map(place.labels, found)
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
