"""Filters as LangChain users write them, dictionaries with ``$`` operators, as those of this library.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from memory_plugin import InvalidInputError, and_, any_of, eq, not_, or_, range_
from memory_plugin.filters import check
from memory_plugin.types import Filter

FilterLike: TypeAlias = "Filter | Mapping[str, Any] | None"
"""A filter of this library, or ``{"topic": "travel", "stars": {"$gte": 4}}``; see ``filter_of``."""


def _between(field: str, bounds: Any) -> Filter:
    if not isinstance(bounds, Sequence) or isinstance(bounds, str) or len(bounds) != 2:
        raise InvalidInputError("$between takes two numbers: {'stars': {'$between': [3, 5]}}")
    return range_(field, gte=bounds[0], lte=bounds[1])


_COMPARISONS: dict[str, Callable[[str, Any], Filter]] = {
    "$eq": eq,
    "$ne": lambda field, value: not_(eq(field, value)),
    "$in": any_of,
    "$nin": lambda field, values: not_(any_of(field, values)),
    "$gt": lambda field, bound: range_(field, gt=bound),
    "$gte": lambda field, bound: range_(field, gte=bound),
    "$lt": lambda field, bound: range_(field, lt=bound),
    "$lte": lambda field, bound: range_(field, lte=bound),
    "$between": _between,
}


def filter_of(given: FilterLike | Callable[..., bool]) -> Filter | None:
    """The filter that a dictionary means.

    ``{"field": value}`` is equality, and several keys have all to hold.  A field takes ``$eq $ne $in $nin $gt $gte
    $lt $lte $between``; filters are joined by ``$and``, ``$or`` (lists) and ``$not``.  A list in the metadata equals a
    value that it holds; ``$ne`` and ``$nin`` are also true where the field is missing; only numbers have an order.

    Args:
        given: A dictionary, a filter of this library, or None.

    Raises:
        InvalidInputError: Something else, or an operator that there is none of.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        return and_(*(_part(key, value) for key, value in given.items())) if given else None
    if callable(given):
        raise InvalidInputError(
            "a filter is a dictionary such as {'topic': 'travel', 'stars': {'$gte': 4}}, or one of this library's: "
            "a function cannot run inside the index, and would lose what it does not see"
        )
    return check(given)


def _part(key: str, value: Any) -> Filter:
    if key in ("$and", "$or"):
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise InvalidInputError(f"{key} takes a list of filters, and at least one")
        return (and_ if key == "$and" else or_)(*(_whole(one) for one in value))
    if key == "$not":
        return not_(_whole(value))
    if not isinstance(value, Mapping):
        return _compare(key, "$eq", value)
    if not value:
        raise InvalidInputError(f"the field {key!r:.80} is compared with nothing")
    return and_(*(_compare(key, operator, operand) for operator, operand in value.items()))


def _whole(given: Any) -> Filter:
    found = filter_of(given)
    if found is None:
        raise InvalidInputError("a filter inside $and, $or or $not is empty")
    return found


def _compare(field: str, operator: str, operand: Any) -> Filter:
    compare = _COMPARISONS.get(operator)
    if compare is None:
        known = ", ".join((*_COMPARISONS, "$and", "$or", "$not"))
        raise InvalidInputError(f"there is no {operator!r:.40} in a filter; there are {known}")
    if operator == "$eq" and isinstance(operand, list | tuple):
        raise InvalidInputError(f"{field!r:.80} is compared with one value; for one of several write {{'$in': […]}}")
    return compare(field, operand)
