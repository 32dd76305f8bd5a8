from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin.errors import InvalidInputError
from memory_plugin.filters import (
    ALWAYS,
    MISSING,
    NEVER,
    Blinder,
    and_,
    any_of,
    eq,
    field_value,
    matches,
    not_,
    or_,
    range_,
    scalar_key,
    time_range,
    value_keys,
    where,
)
from memory_plugin.ids import day
from memory_plugin.types import And, AnyOf, Filter, HasVector, Not, Or, Range, Record, Scalar, TimeRange
from tests.records import edges, record

DECLARED = ("topic", "$role")


def blinder(day_key: str | None = "y") -> Blinder:
    return Blinder(DECLARED, key=lambda field: f"f:{field}", tag=lambda field, key: f"{field}={key}", day=day_key)


def payload(found: Record) -> dict[str, Any]:
    """What a store writes for a record, as far as filters go."""
    made: dict[str, Any] = {"y": day(found.time)}
    for field in DECLARED:
        if keys := value_keys(field_value(found, field)):
            made[f"f:{field}"] = [f"{field}={key}" for key in keys]
    return made


def index(filter_: Filter, point: dict[str, Any]) -> bool:
    """What an index does with a filter: knows payload keys, and nothing of records."""
    match filter_:
        case AnyOf(key, values):
            return any(value in values for value in point.get(key, ()))
        case Range(key, gte, None, lte, None):
            assert gte is not None or lte is not None, "an index has no range without bounds"
            return key in point and (gte is None or point[key] >= gte) and (lte is None or point[key] <= lte)
        case And(parts):
            return all(index(part, point) for part in parts)
        case Or(parts):
            return any(index(part, point) for part in parts)
        case Not(part):
            return not index(part, point)
    raise AssertionError(f"no index knows {filter_}")


# ── the blind form ────────────────────────────────────────────────────────────────────────────────

scalars: st.SearchStrategy[Scalar] = st.sampled_from((None, True, False, 0, 1, 1.0, 1.5, -2, "", "1", "a", "user"))
fields = st.sampled_from(("topic", "other", "$role", "$name"))
bounds = st.none() | st.sampled_from((-2, 0, 1, 1.5))
leaves: st.SearchStrategy[Filter] = st.one_of(
    st.builds(any_of, fields, st.lists(scalars, max_size=3)),
    st.builds(lambda field, gte, lt: range_(field, gte=gte, lt=lt), fields, bounds, bounds),
    st.builds(time_range, st.none() | edges, st.none() | edges),
)
filters_: st.SearchStrategy[Filter] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(not_, inner),
        st.lists(inner, max_size=3).map(lambda parts: and_(*parts)),
        st.lists(inner, max_size=3).map(lambda parts: or_(*parts)),
    ),
    max_leaves=6,
)
records = st.builds(
    lambda time, metadata, role, name: record(time=time, metadata=metadata, role=role, name=name),
    edges,
    st.dictionaries(
        st.sampled_from(("topic", "other")), scalars | st.lists(scalars | st.just({"a": 1}), max_size=3), max_size=2
    ),
    st.sampled_from((None, "user", "a")),
    st.sampled_from((None, "a")),
)


@given(filters_, records, st.booleans())
def test_a_blind_filter_never_loses_a_record_and_an_exact_one_adds_none(
    filter_: Filter, found: Record, days: bool
) -> None:
    blind = blinder("y" if days else None).blind(filter_)
    meant, got = matches(filter_, found), index(blind.filter, payload(found))
    assert got or not meant
    assert got == meant or not blind.exact


@given(filters_, records)
def test_a_narrowed_filter_never_adds_a_record(filter_: Filter, found: Record) -> None:
    blind = blinder().blind(filter_, widen=False)
    assert matches(filter_, found) or not index(blind.filter, payload(found))


@given(st.none() | edges, st.none() | edges, edges, st.booleans())
def test_days_at_their_borders(since: datetime | None, until: datetime | None, time: datetime, negated: bool) -> None:
    filter_: Filter = time_range(since, until)
    filter_ = not_(filter_) if negated else filter_
    found = record(time=time)
    blind = blinder().blind(filter_)
    assert index(blind.filter, payload(found)) >= matches(filter_, found)
    midnights = all(one is None or one.time() == datetime.min.time() for one in (since, until))
    assert blind.exact == midnights
    if midnights:
        assert index(blind.filter, payload(found)) == matches(filter_, found)


def test_days_by_hand() -> None:
    start, noon = datetime(1970, 1, 3, tzinfo=UTC), datetime(1970, 1, 3, 12, tzinfo=UTC)
    blind = blinder().blind
    assert blind(time_range(start, start + timedelta(days=1))).filter == Range("y", gte=2, lte=2)
    assert blind(time_range(noon, noon + timedelta(days=1))).filter == Range("y", gte=2, lte=3)
    assert blind(not_(time_range(noon, noon + timedelta(days=1)))).filter == Not(Range("y", gte=3, lte=2))
    assert blind(time_range()) == blind(ALWAYS)
    # Midnight is UTC's, however the caller says it.
    lisbon = timezone(timedelta(hours=1))
    assert blind(TimeRange(datetime(1970, 1, 3, 1, tzinfo=lisbon))).exact
    assert not blind(TimeRange(datetime(1970, 1, 3, tzinfo=lisbon))).exact


def test_a_day_in_the_far_future_is_exact() -> None:
    # A float of seconds cannot tell these two apart.
    midnight = datetime(9000, 1, 2, tzinfo=UTC)
    last = record(time=midnight - timedelta(microseconds=1))
    assert index(blinder().blind(time_range(until=midnight)).filter, payload(last))


def test_what_is_not_declared_is_compared_after_opening() -> None:
    blind = blinder(None).blind
    for filter_ in (eq("other", 1), range_("topic", gt=1), time_range(until=datetime(2020, 1, 1, tzinfo=UTC))):
        assert blind(filter_).filter == ALWAYS
        assert blind(filter_, widen=False).filter == NEVER
        assert not blind(filter_).exact
        assert blind(not_(filter_)).filter == Not(NEVER)
    assert not blind(and_(eq("topic", 1), eq("other", 1))).exact
    assert blind(or_(eq("topic", 1), not_(eq("$role", None)))).exact


# ── on a record ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("filter_", "metadata", "expected"),
    [
        (eq("a", 1), {"a": 1.0}, True),
        (eq("a", 1), {"a": True}, False),
        (eq("a", 1), {"a": "1"}, False),
        (eq("a", 1), {"a": [0, 1]}, True),
        (eq("a", 1), {"a": [[1]]}, False),
        (eq("a", None), {"a": None}, True),
        (eq("a", None), {}, False),
        (not_(eq("a", 1)), {}, True),
        (any_of("a", []), {"a": 1}, False),
        (any_of("a", ("x", "y")), {"a": "y"}, True),
        (eq("a", float("inf")), {"a": 1e300}, False),
        (eq("a", 1e22), {"a": 10**22}, True),
        (range_("a", gte=1, lte=2), {"a": 2}, True),
        (range_("a", gt=1, lt=2), {"a": 2}, False),
        (range_("a", gt=1, lt=2), {"a": 1}, False),
        (range_("a", lte=2), {"a": 3}, False),
        (range_("a", gte=1), {"a": 0}, False),
        (range_("a", gt=1, lt=2), {"a": [0, 1.5]}, True),
        (range_("a", gte=0), {"a": True}, False),
        (range_("a", gte=0), {"a": "1"}, False),
        (range_("a"), {}, False),
        (and_(), {}, True),
        (or_(), {}, False),
        (and_(eq("a", 1), eq("b", 2)), {"a": 1, "b": 3}, False),
        (or_(eq("a", 1), eq("b", 2)), {"a": 1, "b": 3}, True),
    ],
    ids=str,
)
def test_filters_by_hand(filter_: Filter, metadata: Any, expected: bool) -> None:
    assert matches(filter_, record(metadata=metadata)) is expected


def test_a_number_too_long_for_python_to_write_is_compared() -> None:
    assert matches(eq("a", 10**5000), record(metadata={"a": 10**5000}))
    assert not matches(eq("a", 10**5000), record(metadata={"a": 10**5000 + 1}))


def test_a_records_own_fields() -> None:
    said = record(role="user", name="Ana", source="chat", kind="message")
    for field, value in (("$role", "user"), ("$name", "Ana"), ("$source", "chat"), ("$kind", "message")):
        assert matches(eq(field, value), said)
    assert matches(eq("$name", None), record())
    assert field_value(record(), "a") is MISSING
    with pytest.raises(InvalidInputError, match=r"\$role, \$name, \$source, \$kind"):
        matches(eq("$rolle", "user"), said)


def test_the_end_of_a_time_range_is_outside() -> None:
    found = record()
    tick = timedelta(microseconds=1)
    assert matches(time_range(found.time, found.time + tick), found)
    assert not matches(time_range(until=found.time), found)
    assert not matches(time_range(found.time + tick), found)


def test_has_vector_is_for_indexes() -> None:
    with pytest.raises(InvalidInputError, match="for indexes"):
        matches(HasVector("d_x"), record())


@pytest.mark.parametrize("wrong", ["a", None, {"a": 1}])
def test_what_is_no_filter_is_no_empty_answer(wrong: Any) -> None:
    for filter_ in (wrong, and_(wrong), or_(wrong), not_(wrong)):
        assert not blinder().blind(filter_).exact
        with pytest.raises(InvalidInputError, match="is no filter"):
            matches(filter_, record())


@pytest.mark.parametrize(
    "make",
    [
        lambda: eq("a", cast("Any", [1])),
        lambda: any_of("a", "Paris"),
        lambda: any_of("a", ["\ud800"]),
        lambda: eq("\ud800", 1),
        lambda: eq(cast("Any", 7), 1),
        lambda: range_(cast("Any", None), gt=1),
        lambda: range_("a", gte=cast("Any", "x")),
        lambda: range_("a", lt=float("nan")),
        lambda: range_("a", gt=True),
        lambda: time_range(datetime(2020, 1, 1)),
        lambda: time_range(until=cast("Any", "2020-01-01")),
    ],
)
def test_what_cannot_be_compared_is_refused(make: Any) -> None:
    with pytest.raises(InvalidInputError):
        make()


@given(scalars | st.floats(allow_nan=False), scalars | st.integers())
def test_equal_values_have_equal_keys_and_only_those(one: Scalar, other: Scalar) -> None:
    same = one == other and isinstance(one, bool) == isinstance(other, bool)
    assert (scalar_key(one) == scalar_key(other)) == same


def test_the_keys_of_a_list_are_distinct_and_in_order() -> None:
    assert value_keys(["b", "a", "b", 1, 1.0, None, {"x": 1}]) == ["sb", "sa", "n1", "z"]
    assert value_keys(MISSING) == []


def test_a_record_has_no_other_fields_of_its_own() -> None:
    with pytest.raises(InvalidInputError, match=r"\$rolle is no field"):
        field_value(record(), "$rolle")


def test_a_function_decides_on_the_opened_record() -> None:
    short = where(lambda one: len(one.text) < 9)
    assert matches(short, record(text="short"))
    assert not matches(short, record(text="not so short"))
    assert matches(not_(short), record(text="not so short"))
    with pytest.raises(InvalidInputError, match="function"):
        where("no function")  # type: ignore[arg-type]
    blind = blinder().blind(and_(short, not_(short)))
    assert (blind.exact, blind.filter) == (False, And((ALWAYS, Not(NEVER))))
    assert "lambda" not in repr(short)
