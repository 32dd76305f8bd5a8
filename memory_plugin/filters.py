"""The filter algebra: how users build one, what it means on a record, and its blind form.  Pure.

A filter names metadata fields; ``$role``, ``$name``, ``$source`` and ``$kind`` are the record's own.
Fields that a store declares ``filterable`` are compared inside Qdrant, by keyed tags of their values, and so are the
kinds "value" and "image";
the others, ranges, and the hours of a time range are compared after opening.  The answer is the same;
the second way opens more candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from typing import get_args

from memory_plugin.conditions import OWN_FIELDS
from memory_plugin.errors import InvalidInputError
from memory_plugin.ids import day, moment, utf8
from memory_plugin.types import (
    And,
    AnyOf,
    Filter,
    HasKey,
    HasVector,
    Json,
    Kind,
    Not,
    Or,
    Range,
    Record,
    Scalar,
    TimeRange,
    Where,
)

MAX_DEPTH = 24
MAX_FIELD_BYTES = 256 * 1024
"""No name is longer than all of the metadata may be."""

ALWAYS = And(())
NEVER = Or(())


def eq(field: str, value: Scalar) -> Filter:
    """The field equals the value, or is a list that holds it."""
    return any_of(field, (value,))


def any_of(field: str, values: Iterable[Scalar]) -> Filter:
    """The field equals one of the values, or is a list that holds one of them."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidInputError("any_of takes a list of values; eq takes one")
    return check(AnyOf(field, tuple(values)))


def range_(
    field: str, *, gte: float | None = None, gt: float | None = None, lte: float | None = None, lt: float | None = None
) -> Filter:
    """The field is a number inside the bounds."""
    return check(Range(field, gte=gte, gt=gt, lte=lte, lt=lt))


def time_range(since: datetime | None = None, until: datetime | None = None) -> Filter:
    """The memory's time is ``since`` or later and before ``until``; both need a time zone."""
    return TimeRange(moment(since, "since"), moment(until, "until"))


def and_(*filters: Filter) -> Filter:
    """All of them."""
    return And(filters)


def or_(*filters: Filter) -> Filter:
    """At least one of them."""
    return Or(filters)


def not_(filter_: Filter) -> Filter:
    """The opposite; also true where the field is missing."""
    return Not(filter_)


def where(accepts: Callable[[Record], bool]) -> Filter:
    """What a function says of the opened record, for conditions that no other filter has.

    It is asked after opening, on whatever thread that happens on, so it must be quick and change nothing; what it
    raises is raised by the verb.  Join it, by ``and_``, with filters that leave less to open.
    """
    return check(Where(accepts))


def check(filter_: Filter, depth: int = 0) -> Filter:
    """The filter, every part of which is one that a record can be held against.

    Raises:
        InvalidInputError: Some part is no filter, or has a field, a value or a bound that nothing can have.
    """
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"a filter may be nested {MAX_DEPTH} deep")
    match filter_:
        case AnyOf(field, values):
            _check_field(field)
            _check_values(values)
        case Range(field):
            _check_field(field)
            _check_bounds((filter_.gte, filter_.gt, filter_.lte, filter_.lt))
        case TimeRange(since, until):
            moment(since, "since")
            moment(until, "until")
        case And(tuple(filters)) | Or(tuple(filters)):
            for one in filters:
                check(one, depth + 1)
        case Not(inner):
            check(inner, depth + 1)
        case HasVector() | HasKey():
            raise InvalidInputError(f"{type(filter_).__name__} is for indexes, not for records")
        case Where(accepts):
            _check_function(accepts)
        case _:
            raise InvalidInputError(
                f"a filter is made by eq, any_of, range_, time_range, and_, or_, not_: {filter_!r:.80}"
            )
    return filter_


def _check_function(accepts: object) -> None:
    if not callable(accepts):
        raise InvalidInputError(f"where takes a function of a record, not {type(accepts).__name__}")


def _check_field(field: object) -> None:
    utf8(field, "a filter's field", limit=MAX_FIELD_BYTES)
    if isinstance(field, str) and field.startswith("$") and field not in OWN_FIELDS:
        raise InvalidInputError(f"{field:.80} is no field of a record; those are {', '.join(OWN_FIELDS)}")


def _check_values(values: object) -> None:
    if not isinstance(values, tuple):
        raise InvalidInputError(f"a filter's values are a tuple, not {type(values).__name__}")
    for value in values:
        if value is not None and not isinstance(value, str | int | float | bool):
            raise InvalidInputError(f"a filter compares text, numbers, booleans or None, not {type(value).__name__}")
        if isinstance(value, str):
            utf8(value, "a filter's value")


def _check_bounds(bounds: Iterable[object]) -> None:
    for bound in bounds:
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int | float) or bound != bound):
            raise InvalidInputError(f"a range's bound is a number, not {type(bound).__name__}")


def matches(filter_: Filter, record: Record) -> bool:
    """Whether the record satisfies the filter."""
    return matcher(filter_)(record)


def matcher(filter_: Filter) -> Callable[[Record], bool]:
    """The filter as a function of a record, made once for many: an ``any_of`` may have thousands of values."""
    match filter_:
        case AnyOf(field, values):
            wanted = {scalar_key(value) for value in values}
            return lambda record: any(key in wanted for key in _scalar_keys(field_value(record, field)))
        case Range():
            bounds = filter_
            return lambda record: any(_inside(bounds, value) for value in _elements(field_value(record, bounds.field)))
        case TimeRange(since, until):
            return lambda record: (since is None or since <= record.time) and (until is None or record.time < until)
        case And(filters):
            every = [matcher(one) for one in filters]
            return lambda record: all(one(record) for one in every)
        case Or(filters):
            some = [matcher(one) for one in filters]
            return lambda record: any(one(record) for one in some)
        case Not(inner):
            opposite = matcher(inner)
            return lambda record: not opposite(record)
        case Where(accepts):
            return lambda record: bool(accepts(record))
        case HasVector() | HasKey():
            raise InvalidInputError(f"{type(filter_).__name__} is for indexes, not for records")
    raise InvalidInputError(f"{type(filter_).__name__} is no filter")


MISSING = object()


def field_value(record: Record, field: str) -> Json | object:
    """The field of a record, or ``MISSING``."""
    if field.startswith("$"):
        own: dict[str, Json] = {
            "$role": record.role,
            "$name": record.name,
            "$source": record.source,
            "$kind": record.kind,
        }
        if field not in own:
            raise InvalidInputError(f"{field} is no field of a record; those are {', '.join(OWN_FIELDS)}")
        return own[field]
    return record.metadata.get(field, MISSING)


def scalar_key(value: Scalar) -> str:
    """Equal values have equal keys, and only those: 1 is 1.0 but neither True nor "1"."""
    if value is None:
        return "z"
    if isinstance(value, bool):
        return f"b{value:d}"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return f"n{int(value):x}"  # in base 16: Python refuses to write very long numbers in base 10
    return f"n{value!r}" if isinstance(value, float) else "s" + value


def _elements(value: Json | object) -> list[object]:
    if value is MISSING:
        return []
    return list(value) if isinstance(value, list) else [value]


def _scalar_keys(value: Json | object) -> list[str]:
    return [scalar_key(one) for one in _elements(value) if one is None or isinstance(one, str | int | float | bool)]


def value_keys(value: Json | object) -> list[str]:
    """Distinct keys of a field's value, one for each element of a list, in order."""
    return list(dict.fromkeys(_scalar_keys(value)))


def _inside(bounds: Range, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (
        (bounds.gte is None or value >= bounds.gte)
        and (bounds.gt is None or value > bounds.gt)
        and (bounds.lte is None or value <= bounds.lte)
        and (bounds.lt is None or value < bounds.lt)
    )


@dataclass(frozen=True, slots=True)
class Blind:
    """A filter in an index's vocabulary.

    Args:
        filter: Matches at least every point that the original matches.
        exact: Whether it matches no other, so that nothing has to be opened to tell.
    """

    filter: Filter
    exact: bool


@dataclass(frozen=True, slots=True)
class Blinder:
    """Translates filters for one data subject.

    Args:
        declared: Fields with blind tags.
        key: The payload key of a declared field.
        tag: The tag of a value (as ``scalar_key``) of a field.
        day: Payload key of the day number, or None where days are sealed.
        marks: What tells a kind of record, of those that show; the others look alike.
    """

    declared: Collection[str]
    key: Callable[[str], str]
    tag: Callable[[str, str], str]
    day: str | None
    marks: Mapping[str, Filter] = field(default_factory=dict)

    def blind(self, filter_: Filter, *, widen: bool = True) -> Blind:
        """The filter in tags and day numbers.

        Where a part cannot be told blind, it is taken as true under an even number of negations
        (``widen``) and as false under an odd one, so that the whole never loses a point.
        """
        match filter_:
            case AnyOf(field, values) if field in self.declared:
                tags = tuple(self.tag(field, scalar_key(value)) for value in values)
                return Blind(AnyOf(self.key(field), tags), exact=True)
            case AnyOf("$kind", values):
                return self._kinds(values, widen=widen)
            case TimeRange(since, until) if self.day is not None:
                return self._days(self.day, since, until, widen=widen)
            case And(filters):
                parts = [self.blind(one, widen=widen) for one in filters]
                return Blind(And(tuple(part.filter for part in parts)), exact=all(part.exact for part in parts))
            case Or(filters):
                parts = [self.blind(one, widen=widen) for one in filters]
                return Blind(Or(tuple(part.filter for part in parts)), exact=all(part.exact for part in parts))
            case Not(inner):
                part = self.blind(inner, widen=not widen)
                return Blind(Not(part.filter), exact=part.exact)
            case _:
                return Blind(ALWAYS if widen else NEVER, exact=False)

    def _kinds(self, values: Collection[Scalar], *, widen: bool) -> Blind:
        parts = [mark for kind, mark in self.marks.items() if kind in values]
        alike = [kind for kind in get_args(Kind) if kind not in self.marks]
        wanted = [kind for kind in alike if kind in values]
        exact = len(wanted) in (0, len(alike))
        if wanted and (exact or widen):
            parts.append(And(tuple(map(Not, self.marks.values()))))
        return Blind(Or(tuple(parts)), exact)

    @staticmethod
    def _days(key: str, since: datetime | None, until: datetime | None, *, widen: bool) -> Blind:
        if since is None and until is None:
            return Blind(ALWAYS, exact=True)
        first = last = None
        exact = True
        if since is not None:
            whole = _at_midnight(since)
            exact = exact and whole
            first = day(since) + (0 if widen or whole else 1)
        if until is not None:
            whole = _at_midnight(until)
            exact = exact and whole
            last = day(until) - (0 if widen and not whole else 1)
        return Blind(Range(key, gte=first, lte=last), exact=exact)


def _at_midnight(moment: datetime) -> bool:
    return moment.astimezone(UTC).time() == time.min
