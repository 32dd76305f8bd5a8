"""The neutral filter algebra to an engine's own, once for both engines.

The two vocabularies have the same words under other constructors, so a compiler is four of those: a ``Dialect``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from memory_plugin.errors import InvalidInputError
from memory_plugin.index.layout import check_key
from memory_plugin.types import And, AnyOf, Filter, HasKey, HasVector, Not, Or, Range, Scalar, TimeRange

C = TypeVar("C")
# Both engines walk a filter recursively; theirs is not our stack to overflow.
MAX_DEPTH = 32
_INT64 = 2**63


class Dialect(Protocol[C]):
    """An engine's conditions."""

    def any_of(self, key: str, values: list[str] | list[int], /) -> C:
        """The key holds one of the values, all of one type, at least one."""

    def between(self, key: str, /, *, gte: float | None, gt: float | None, lte: float | None, lt: float | None) -> C:
        """The key holds a number inside the bounds."""

    def has_vector(self, name: str, /) -> C:
        """The point has that vector."""

    def lacks(self, key: str, /) -> C:
        """The payload has no such key, or an empty value."""

    def group(self, *, must: Sequence[C] = (), should: Sequence[C] = (), must_not: Sequence[C] = ()) -> C:
        """All of ``must``, one of ``should`` if there are any, none of ``must_not``."""


def compile_filter(where: Filter, dialect: Dialect[C]) -> C:
    """A group that is true of exactly the points that ``where`` means.

    Raises:
        InvalidInputError: A value that an index cannot match, a key that is no plain word, too deep a nesting.
    """
    return dialect.group(must=[_compile(where, dialect, 0)])


def _compile(where: Filter, dialect: Dialect[C], depth: int) -> C:
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"a filter may be nested {MAX_DEPTH} deep")
    match where:
        case And(parts):
            return dialect.group(must=[_compile(part, dialect, depth + 1) for part in parts])
        case Or(()):
            return _nothing(dialect)
        case Or(parts):
            return dialect.group(should=[_compile(part, dialect, depth + 1) for part in parts])
        case Not(part):
            return dialect.group(must_not=[_compile(part, dialect, depth + 1)])
    return _leaf(where, dialect)


def _leaf(where: Filter, dialect: Dialect[C]) -> C:
    match where:
        case AnyOf(key, values):
            return _any_of(check_key(key), values, dialect)
        case Range():
            return _between(where, dialect)
        case HasVector(name):
            return dialect.has_vector(check_key(name))
        case HasKey(key):
            return dialect.group(must_not=[dialect.lacks(check_key(key))])
        case TimeRange():
            raise InvalidInputError("a TimeRange must become a Range over day numbers before it reaches an index")
    raise InvalidInputError(f"{type(where).__name__} is no filter")


def _nothing(dialect: Dialect[C]) -> C:
    # An empty ``should`` means "anything" to Qdrant, the opposite of an empty Or.
    return dialect.group(must_not=[dialect.group()])


def _any_of(key: str, values: tuple[Scalar, ...], dialect: Dialect[C]) -> C:
    words: list[str] = []
    numbers: list[int] = []
    for value in values:
        # The embedded engine reads True as the integer 1, so what it means would depend on the engine.
        if isinstance(value, str):
            words.append(value)
        elif isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64:
            numbers.append(value)
        else:
            raise InvalidInputError(f"an index matches strings and 64 bit integers, not {value!r} (key {key!r})")
    sets = [dialect.any_of(key, part) for part in (words, numbers) if part]
    if len(sets) == 1:
        return sets[0]
    return dialect.group(should=sets) if sets else _nothing(dialect)


def _between(where: Range, dialect: Dialect[C]) -> C:
    key = check_key(where.field)
    gte, gt = _bound(key, where.gte, -math.inf), _bound(key, where.gt, -math.inf)
    lte, lt = _bound(key, where.lte, math.inf), _bound(key, where.lt, math.inf)
    if any(bound is not None and math.isinf(bound) for bound in (gte, gt, lte, lt)):
        return _nothing(dialect)
    return dialect.between(key, gte=gte, gt=gt, lte=lte, lt=lt)


def _bound(key: str, bound: float | None, open_end: float) -> float | None:
    """The bound as the double that engines compare with; None where it bounds nothing."""
    if bound is None:
        return None
    if isinstance(bound, bool) or not isinstance(bound, int | float) or bound != bound:
        raise InvalidInputError(f"a bound of the range over {key!r} must be a number, not {bound!r}")
    if isinstance(bound, int) and (abs(bound) > _INT64 or int(float(bound)) != bound):
        raise InvalidInputError(f"a bound of the range over {key!r} is not exact as a 64 bit float, as engines compare")
    return None if bound == open_end else float(bound)
