"""LangGraph's filters: what they mean on a value, and which of ours lets at least as much through.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from memory_plugin import and_, eq, not_, or_, range_
from memory_plugin.adapters.langgraph.items import WIDE, is_small
from memory_plugin.errors import InvalidInputError
from memory_plugin.types import Filter

_RANGES: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda one, other: one > other,
    "$gte": lambda one, other: one >= other,
    "$lt": lambda one, other: one < other,
    "$lte": lambda one, other: one <= other,
}
OPERATORS = ("$eq", "$ne", *_RANGES)
MAX_DEPTH = 100


def check(filter_: object) -> None:
    """Refuse what means nothing.

    Raises:
        InvalidInputError: It is no mapping, names an operator that there is none of, or bounds by what has no order.
    """
    if filter_ is not None and not isinstance(filter_, Mapping):
        raise InvalidInputError(f"a filter is a mapping from fields to values, not {type(filter_).__name__}")
    for condition in (filter_ or {}).values():
        _check(condition, 0)


def _check(condition: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"a filter may be nested {MAX_DEPTH} deep")
    if isinstance(condition, list | tuple):
        for one in condition:
            _check(one, depth + 1)
    if not isinstance(condition, Mapping):
        return
    if not _operates(condition):
        for one in condition.values():
            _check(one, depth + 1)
        return
    for name, bound in condition.items():
        if name not in OPERATORS:
            raise InvalidInputError(f"{name!s:.60} is no operator of a filter; those are {', '.join(OPERATORS)}")
        if name in _RANGES and (isinstance(bound, bool) or not isinstance(bound, int | float | str)):
            raise InvalidInputError(f"{name} takes a number or a text, not {type(bound).__name__}")


def _operates(condition: Mapping[Any, Any]) -> bool:
    return any(isinstance(name, str) and name.startswith("$") for name in condition)


# ── exactly ───────────────────────────────────────────────────────────────────────────────────────


def passes(value: Mapping[str, Any], filter_: Mapping[str, Any] | None) -> bool:
    """Whether a value satisfies a filter.

    Numbers are in order with numbers and texts with texts; a missing field is as one that is None.  A mapping without
    operators asks for these fields and lets there be others; a list asks for the whole list.
    """
    return all(_holds(value.get(field), condition) for field, condition in (filter_ or {}).items())


def _holds(value: Any, condition: Any) -> bool:
    if isinstance(condition, Mapping):
        if _operates(condition):
            return all(_applies(value, name, bound) for name, bound in condition.items())
        return isinstance(value, dict) and passes(value, condition)
    if isinstance(condition, list | tuple):
        same_length = isinstance(value, list) and len(value) == len(condition)
        return same_length and all(_holds(one, other) for one, other in zip(value, condition, strict=True))
    return _same(value, condition)


def _applies(value: Any, name: str, bound: Any) -> bool:
    if name in _RANGES:
        return _ordered(value, bound) and _RANGES[name](value, bound)
    return _same(value, bound) is (name == "$eq")


def _ordered(one: object, other: object) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return isinstance(one, str) and isinstance(other, str)
    return not any(isinstance(value, bool) or not isinstance(value, int | float) for value in (one, other))


def _same(one: Any, other: Any) -> bool:
    """As JSON: 1 is 1.0, but not True."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_same(*both) for both in zip(one, other, strict=True))
    return bool(one == other)


# ── at least ──────────────────────────────────────────────────────────────────────────────────────


def wider(filter_: Mapping[str, Any] | None) -> list[Filter]:
    """Filters of ours on the fields that are metadata; no item that passes fails one of them."""
    found: list[Filter] = []
    for field, condition in (filter_ or {}).items():
        operations = condition if isinstance(condition, Mapping) else {"$eq": condition}
        for name, bound in operations.items():
            if name in OPERATORS and is_small(field, bound):
                found += _wider(field, name, bound)
    return found


def _wider(field: str, name: str, bound: Any) -> list[Filter]:
    if name == "$ne":
        return [not_(eq(field, bound))]
    if name == "$eq":
        return [or_(eq(field, bound), eq(WIDE, value=True))]
    if isinstance(bound, str):
        return []
    return [or_(range_(field, **{name[1:]: bound}), eq(WIDE, value=True))]


def both(*filters: Filter) -> Filter | None:
    """All of them; None for none."""
    return and_(*filters) if filters else None
