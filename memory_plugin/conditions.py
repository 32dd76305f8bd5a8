"""Filters as values: one algebra for two vocabularies, since users name metadata fields and an index payload keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

Scalar: TypeAlias = "str | int | float | bool | None"

OWN_FIELDS = ("$role", "$name", "$source", "$kind")
"""A record's own fields, as filters name them beside those of its metadata."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field equals one of the values, or is a list that holds one of them."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The field is a number inside the bounds; a missing bound is open."""

    field: str
    gte: float | None = None
    gt: float | None = None
    lte: float | None = None
    lt: float | None = None


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The memory's time t has ``since <= t < until``; time zone aware."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class HasVector:
    """The point has a vector of that name (index vocabulary only)."""

    name: str


@dataclass(frozen=True, slots=True)
class HasKey:
    """The point has that payload key (index vocabulary only)."""

    key: str


@dataclass(frozen=True, slots=True)
class And:
    """All of them; true when empty."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of them; false when empty."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    filter: Filter


@dataclass(frozen=True, slots=True)
class Where:
    """A function says so of the opened record; made by ``memory_plugin.filters.where``."""

    accepts: Callable[..., bool] = field(repr=False)


Filter: TypeAlias = "AnyOf | Range | TimeRange | HasVector | HasKey | And | Or | Not | Where"
