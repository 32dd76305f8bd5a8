from __future__ import annotations

import json
import locale
import uuid
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin import ids
from memory_plugin.errors import InvalidInputError
from tests.records import json_values, moments


@pytest.mark.parametrize(
    ("value", "expected"),
    [("alice", ("alice",)), (("alice",), ("alice",)), (("alice", "session-7"), ("alice", "session-7")), (" ", (" ",))],
)
def test_a_namespace_is_a_tuple_and_a_string_one_part(value: Any, expected: Any) -> None:
    assert ids.namespace(value) == expected


@pytest.mark.parametrize(
    "value",
    ["", (), ("alice", ""), ["alice"], None, 7, b"alice", ("alice", 7), ("a",) * 17, "a" * 1025, "é" * 513, "\ud800"],
)
def test_what_names_nobody_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError):
        ids.namespace(value)


def test_the_longest_namespace_is_accepted() -> None:
    assert len(ids.namespace(("é" * 512,) * 16)) == 16


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("alice", [("alice",)]),
        (("alice", "s"), [("alice", "s")]),
        (["alice", ("alice",), "bob"], [("alice",), ("bob",)]),
        ([("alice", "s", "t"), ("alice", "s"), "bob"], [("alice", "s"), ("bob",)]),
        ([("alice", "s"), ("alice", "t")], [("alice", "s"), ("alice", "t")]),
        (["ali", ("alice", "s")], [("ali",), ("alice", "s")]),
    ],
)
def test_several_namespaces_without_those_inside_another(value: Any, expected: Any) -> None:
    assert ids.namespaces(value) == tuple(expected)


@pytest.mark.parametrize("value", [[], None, {"alice"}, [None], {"alice": 1}])
def test_no_read_is_from_everywhere(value: Any) -> None:
    with pytest.raises(InvalidInputError):
        ids.namespaces(value)


parts = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple)


@given(st.lists(parts, min_size=1, max_size=5))
def test_namespaces_cover_what_was_given_exactly_once(given_: list[tuple[str, ...]]) -> None:
    found = ids.namespaces(list(given_))
    for one in given_:
        assert sum(one[: len(other)] == other for other in found) == 1


@pytest.mark.parametrize("text", [7, None, b"x", "a\udc80b"])
def test_utf8_refuses_what_is_no_text(text: Any) -> None:
    with pytest.raises(InvalidInputError, match="the thing"):
        ids.utf8(text, "the thing")


def test_utf8_counts_bytes() -> None:
    assert ids.utf8("é", "it", limit=2) == b"\xc3\xa9"
    with pytest.raises(InvalidInputError, match="2 bytes long; at most 1"):
        ids.utf8("é", "it", limit=1)


@given(json_values)
def test_canonical_json_reads_back_and_does_not_depend_on_order(value: Any) -> None:
    data = ids.canonical(value)
    assert json.loads(data) == value
    assert ids.canonical(_reversed(value)) == data


def _reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reversed(one) for key, one in reversed(value.items())}
    return [_reversed(one) for one in value] if isinstance(value, list) else value


def test_canonical_is_frozen() -> None:
    assert ids.canonical({"b": [1, 1.5, None, True], "a": "é\n"}) == '{"a":"é\\n","b":[1,1.5,null,true]}'.encode()


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1: "a"}, {"a": [{None: 1}]}, {"a": ({True: 1},)}, {1, 2}, object(), "\ud800"]
)
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError):
        ids.canonical(value)


def test_json_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidInputError):
        ids.canonical(loop)


@pytest.mark.parametrize("value", [None, [], "a", {1: 2}, {"a": object()}, {"a": "x" * 256 * 1024}])
def test_metadata_that_cannot_be_kept_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError):
        ids.metadata(value)


def test_metadata_is_a_dictionary_of_its_own() -> None:
    given_ = {"a": 1}
    plain = ids.metadata(given_)
    given_["a"] = 2
    assert plain == {"a": 1}


class Undecided(tzinfo):
    def utcoffset(self, when: datetime | None, /) -> timedelta | None:
        return None

    def dst(self, when: datetime | None, /) -> timedelta | None:
        return None

    def tzname(self, when: datetime | None, /) -> str | None:
        return None


@pytest.mark.parametrize(
    "value",
    [
        datetime(2023, 5, 7),
        datetime(2023, 5, 7, tzinfo=Undecided()),
        "2023-05-07",
        1683417600,
        datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
    ],
)
def test_a_time_that_is_no_moment_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="since"):
        ids.moment(value, "since")


def test_a_moment_is_in_utc() -> None:
    lisbon = datetime(2023, 5, 8, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert str(ids.moment(lisbon)) == "2023-05-07 23:30:00+00:00"
    assert ids.moment(None) is None


@given(moments)
def test_a_day_holds_exactly_its_moments(value: datetime) -> None:
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=ids.day(value))
    assert start <= value
    assert value - start < timedelta(days=1)


def test_dates_are_in_english_whatever_the_locale() -> None:
    before = locale.setlocale(locale.LC_TIME)
    wanted = next((one for one in ("de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8", "C") if _can(one)), "C")
    try:
        locale.setlocale(locale.LC_TIME, wanted)
        assert ids.date_words(datetime(2023, 5, 7, tzinfo=UTC)) == "7 May 2023"
        assert ids.date_words(datetime(2023, 12, 31, tzinfo=UTC)) == "31 December 2023"
    finally:
        locale.setlocale(locale.LC_TIME, before)


def _can(name: str) -> bool:
    before = locale.setlocale(locale.LC_TIME)
    try:
        locale.setlocale(locale.LC_TIME, name)
    except locale.Error:
        return False
    locale.setlocale(locale.LC_TIME, before)
    return True


def test_the_months() -> None:
    days = [datetime(2023, month, 1, tzinfo=UTC) for month in range(1, 13)]
    assert [ids.date_words(day) for day in days] == [f"1 {day:%B} 2023" for day in days]


@given(st.uuids())
def test_point_ids_are_canonical_uuids(value: uuid.UUID) -> None:
    assert ids.is_point_id(str(value))
    assert not ids.is_point_id(str(value).replace("-", ""))
    assert not ids.is_point_id(value)
    assert not ids.is_point_id(f"{{{str(value)[:-2]}}}")


@pytest.mark.parametrize("value", ["", "x" * 36, "0F" * 18, "ABCDEF00-0000-4000-8000-000000000000", None, 7])
def test_what_is_no_point_id(value: Any) -> None:
    assert not ids.is_point_id(value)
