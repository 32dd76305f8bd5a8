"""LlamaIndex's metadata filters: what the index can narrow down, and the exact answer after it.

A ``MetadataFilters`` becomes two filters that both have to hold.  The first matches at least everything wanted, so that
the store need not look at the rest.  The second looks at the metadata of what was opened and decides; it knows all
operators and any nesting.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
)

from memory_plugin import InvalidInputError, and_, any_of, eq, or_, range_
from memory_plugin.filters import ALWAYS, NEVER, check, where
from memory_plugin.types import Filter, Record

Fields: TypeAlias = Callable[[str], tuple[str, ...] | None]
"""Under which fields of a record a key of a node's metadata may be found; None: it cannot be told."""
View: TypeAlias = Callable[[Record], Mapping[str, Any]]
"""The metadata of the node that is made of a record."""


def condition(
    wanted: MetadataFilters | Filter | None, fields: Fields, view: View, *also: Filter | None
) -> Filter | None:
    """Translate a filter of either kind.

    Args:
        wanted: LlamaIndex's, ours, or None.
        fields: See ``Fields``.
        view: See ``View``.
        *also: Further filters of ours that have to hold.

    Returns:
        None for everything.

    Raises:
        InvalidInputError: An operator that is not known, or a filter that is none.
    """
    parts = [one for one in also if one is not None]
    if isinstance(wanted, MetadataFilters):
        _check(wanted)
        parts += [_wide(wanted, fields), where(lambda record: holds(wanted, view(record)))]
    elif wanted is not None:
        parts.append(check(wanted))
    parts = [one for one in parts if one != ALWAYS]
    return and_(*parts) if len(parts) > 1 else next(iter(parts), None)


def _check(filters: MetadataFilters) -> None:
    for one in filters.filters:
        if isinstance(one, MetadataFilters):
            _check(one)
        elif one.operator not in _HOLDS:
            known = ", ".join(sorted(known.value for known in _HOLDS))
            raise InvalidInputError(f"no such operator of a filter here: {one.operator.value!r}; known are {known}")


# ── what the store is asked for ───────────────────────────────────────────────────────────────────


def _wide(filters: MetadataFilters, fields: Fields) -> Filter:
    """A filter that matches at least what ``filters`` does."""
    if not filters.filters or filters.condition == FilterCondition.NOT:
        return ALWAYS  # without its complement nothing can be said of a negation
    parts = [
        _wide(one, fields) if isinstance(one, MetadataFilters) else _wide_leaf(one, fields) for one in filters.filters
    ]
    if filters.condition == FilterCondition.OR:
        return ALWAYS if ALWAYS in parts else or_(*parts)
    parts = [part for part in parts if part != ALWAYS]
    return and_(*parts) if parts else ALWAYS


def _wide_leaf(leaf: MetadataFilter, fields: Fields) -> Filter:
    names = fields(leaf.key)
    if names is None:
        return ALWAYS
    parts = [_of_field(leaf.operator, name, leaf.value) for name in names]
    return parts[0] if len(parts) == 1 else or_(*parts)


def _of_field(op: FilterOperator, field: str, value: Any) -> Filter:
    if value is None:
        return ALWAYS
    many = list(value) if isinstance(value, list) else [value]
    if op in (FilterOperator.EQ, FilterOperator.ALL):
        return and_(*(eq(field, one) for one in many))
    if op in (FilterOperator.IN, FilterOperator.ANY, FilterOperator.CONTAINS):
        return any_of(field, many) if many else NEVER
    bound = _BOUNDS.get(op)
    if bound is not None and isinstance(value, int | float):
        return range_(field, **{bound: value})
    return ALWAYS


_BOUNDS = {
    FilterOperator.GT: "gt",
    FilterOperator.GTE: "gte",
    FilterOperator.LT: "lt",
    FilterOperator.LTE: "lte",
}

# ── what is decided afterwards ────────────────────────────────────────────────────────────────────


def holds(filters: MetadataFilters, metadata: Mapping[str, Any]) -> bool:
    """Whether metadata satisfies the filters; without any, everything does."""
    if not filters.filters:
        return True
    answers = (
        holds(one, metadata) if isinstance(one, MetadataFilters) else _leaf_holds(one, metadata)
        for one in filters.filters
    )
    if filters.condition == FilterCondition.OR:
        return any(answers)
    if filters.condition == FilterCondition.NOT:
        return not any(answers)
    return all(answers)


def _leaf_holds(leaf: MetadataFilter, metadata: Mapping[str, Any]) -> bool:
    value = metadata.get(leaf.key)
    if leaf.operator == FilterOperator.IS_EMPTY:
        return value is None or value in ("", [])
    if value is None:
        return leaf.operator in (FilterOperator.NE, FilterOperator.NIN)
    try:
        return _HOLDS[leaf.operator](value, leaf.value)
    except TypeError:  # things that have no order: no number is above a text
        return False


def _same(left: Any, right: Any) -> bool:
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def _among(value: Any, wanted: Any) -> bool:
    return any(_same(value, one) for one in _listed(wanted))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, bound: not isinstance(value, bool) and bound is not None and compare(value, bound)


def _text_in(value: Any, part: Any) -> bool:
    return isinstance(value, str) and isinstance(part, str) and part in value


_HOLDS: dict[FilterOperator, Callable[[Any, Any], bool]] = {
    FilterOperator.EQ: _same,
    FilterOperator.NE: lambda value, other: not _same(value, other),
    FilterOperator.GT: _ordered(operator.gt),
    FilterOperator.GTE: _ordered(operator.ge),
    FilterOperator.LT: _ordered(operator.lt),
    FilterOperator.LTE: _ordered(operator.le),
    FilterOperator.IN: _among,
    FilterOperator.NIN: lambda value, others: not _among(value, others),
    FilterOperator.ANY: lambda value, wanted: any(_among(one, value) for one in _listed(wanted)),
    FilterOperator.ALL: lambda value, wanted: all(_among(one, value) for one in _listed(wanted)),
    FilterOperator.CONTAINS: lambda value, one: _among(one, value),
    FilterOperator.TEXT_MATCH: _text_in,
    FilterOperator.TEXT_MATCH_INSENSITIVE: lambda value, part: (
        isinstance(value, str) and isinstance(part, str) and part.lower() in value.lower()
    ),
    FilterOperator.IS_EMPTY: lambda value, _: value in ("", []),
}
