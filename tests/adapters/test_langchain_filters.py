"""Filters as LangChain users write them: what each means on a record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from memory_plugin import InvalidInputError, Record, and_, eq, range_
from memory_plugin.adapters.langchain.filters import filter_of
from memory_plugin.filters import matches

RECORD = Record(
    id="1",
    namespace=("alice",),
    text="…",
    time=datetime(2026, 5, 1, tzinfo=UTC),
    role="user",
    metadata={"topic": "travel", "stars": 4, "tags": ["a", "b"], "done": False, "none": None},
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"topic": "travel"}, True),
        ({"topic": "cats"}, False),
        ({"topic": "travel", "stars": 4}, True),
        ({"topic": "travel", "stars": 5}, False),
        ({"stars": 4.0}, True),
        ({"stars": "4"}, False),
        ({"done": False}, True),
        ({"done": 0}, False),
        ({"none": None}, True),
        ({"tags": "b"}, True),
        ({"missing": None}, False),
        ({"$role": "user"}, True),
        ({"topic": {"$eq": "travel"}}, True),
        ({"topic": {"$ne": "travel"}}, False),
        ({"missing": {"$ne": "x"}}, True),
        ({"topic": {"$in": ["cats", "travel"]}}, True),
        ({"topic": {"$in": []}}, False),
        ({"topic": {"$nin": ["cats"]}}, True),
        ({"tags": {"$in": ["z", "a"]}}, True),
        ({"stars": {"$gt": 4}}, False),
        ({"stars": {"$gte": 4}}, True),
        ({"stars": {"$lt": 5, "$gt": 3}}, True),
        ({"stars": {"$lte": 3}}, False),
        ({"stars": {"$between": [4, 5]}}, True),
        ({"stars": {"$between": [5, 6]}}, False),
        ({"$and": [{"topic": "travel"}, {"stars": {"$gt": 3}}]}, True),
        ({"$or": [{"topic": "cats"}, {"stars": 4}]}, True),
        ({"$or": [{"topic": "cats"}, {"stars": 3}]}, False),
        ({"$not": {"topic": "cats"}}, True),
        ({"$not": {"$or": [{"topic": "cats"}, {"stars": 4}]}}, False),
        ({"$and": [eq("topic", "travel"), {"stars": 4}]}, True),
    ],
    ids=str,
)
def test_meaning(given: dict[str, Any], expected: bool) -> None:
    made = filter_of(given)
    assert made is not None
    assert matches(made, RECORD) is expected


def test_what_is_no_condition_and_what_is_ours_already() -> None:
    assert filter_of(None) is None
    assert filter_of({}) is None
    ours = and_(eq("topic", "travel"), range_("stars", gte=3))
    assert filter_of(ours) is ours


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda document: True, "function"),
        ({"stars": {"$near": 4}}, r"\$near.*\$gte"),
        ({"text": {"$like": "a%"}}, r"\$like"),
        ({"stars": {"$between": [1]}}, "two numbers"),
        ({"stars": {}}, "nothing"),
        ({"stars": {"$gt": "4"}}, "number"),
        ({"topic": ["a", "b"]}, r"\$in"),
        ({"topic": {"$in": "abc"}}, "list"),
        ({"$and": []}, "at least one"),
        ({"$or": {"topic": "a"}}, "list"),
        ({"$or": [{}]}, "empty"),
        ({"$not": {}}, "empty"),
        ({"$kindly": "a"}, r"\$kindly"),
        ({"topic": datetime(2026, 1, 1)}, "compares"),
        (["topic"], "filter"),
    ],
    ids=lambda value: "function" if callable(value) else str(value),
)
def test_refused(given: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        filter_of(given)
