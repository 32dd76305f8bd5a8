"""What a LangGraph store finds, by conditions and by words: see ``langgraph_store.py``."""

from __future__ import annotations

from typing import Any

import pytest

from memory_plugin.adapters.extras import needs
from memory_plugin.testing.langgraph_calls import NOTES, Calls, OpenStore

with needs("langgraph", "a LangGraph store's tests"):
    from langgraph.store.base import PutOp, SearchOp

REPORTS: dict[str, dict[str, Any]] = {
    "a": {"type": "report", "stars": 5, "done": True, "tags": ["x", "y"], "by": {"name": "Ann", "team": {"id": 1}}},
    "b": {"type": "report", "stars": 4.5, "done": False, "tags": ["x"], "by": {"name": "Bob", "team": {"id": 2}}},
    "c": {"type": "letter", "stars": 4, "done": True, "tags": [], "by": {"name": "Ann", "team": {"id": 2}}},
    "d": {"type": "Letter", "stars": -1, "done": False, "tags": ["y", "x"], "by": {"name": "Dan", "team": {"id": 3}}},
}

FILTERS: dict[str, tuple[dict[str, Any], str]] = {
    "equal": ({"type": "report"}, "ab"),
    "equal number": ({"stars": 4.5}, "b"),
    "whole as float": ({"stars": 5.0}, "a"),
    "truth": ({"done": True}, "ac"),
    "nothing has it": ({"type": "poem"}, ""),
    "no such field": ({"missing": 1}, ""),
    "$eq": ({"type": {"$eq": "letter"}}, "c"),
    "$ne": ({"type": {"$ne": "report"}}, "cd"),
    "$gt": ({"stars": {"$gt": 4}}, "ab"),
    "$gte": ({"stars": {"$gte": 4}}, "abc"),
    "$lt": ({"stars": {"$lt": 4.5}}, "cd"),
    "$lte": ({"stars": {"$lte": 4.5}}, "bcd"),
    "between": ({"stars": {"$gt": 4, "$lt": 5}}, "b"),
    "several fields": ({"type": "report", "stars": {"$gte": 4}, "done": True}, "a"),
    "nested": ({"by": {"name": "Ann"}}, "ac"),
    "nested deeper": ({"by": {"name": "Ann", "team": {"id": 2}}}, "c"),
    "a whole list": ({"tags": ["x", "y"]}, "a"),
    "an empty list": ({"tags": []}, "c"),
    "$eq of an object": ({"by": {"$eq": {"name": "Bob", "team": {"id": 2}}}}, "b"),
    "empty": ({}, "abcd"),
}

DRINKS = {
    "tea": {"text": "Alice drinks green tea in the morning."},
    "coffee": {"text": "Alice drinks black coffee after lunch."},
    "train": {"text": "The train to Lisbon leaves at noon."},
}


def fill(calls: Calls, items: dict[str, dict[str, Any]], **named: Any) -> None:
    """Put all of them into one namespace."""
    calls.batch([PutOp(NOTES, key, value, **named) for key, value in items.items()])


class SearchTests:
    """Prefixes, filters, pages, words."""

    # ── without words ─────────────────────────────────────────────────────────────────────────────

    def test_a_search_looks_in_a_namespace_and_those_below_it(self, calls: Calls) -> None:
        places = [("a",), ("a", "b"), ("a", "b", "c"), ("ab",), ("b", "a")]
        calls.batch([PutOp(place, "/".join(place), {"text": f"tea {place}"}) for place in places])
        assert calls.keys(("a",)) == calls.keys(("a",), query="tea") == ["a", "a/b", "a/b/c"]
        assert calls.keys(("a", "b")) == ["a/b", "a/b/c"]
        assert calls.keys(("b",)) == ["b/a"]
        assert calls.keys(("c",)) == calls.keys(("a", "b", "c", "d")) == []
        assert calls.keys(()) == calls.keys((), query="tea") == sorted(map("/".join, places))
        assert {item.key: item.namespace for item in calls.search(())} == {"/".join(one): one for one in places}

    def test_a_key_may_be_in_several_namespaces(self, calls: Calls) -> None:
        calls.batch([PutOp(("a", name), "k", {"of": name}) for name in "xyz"])
        calls.delete(("a", "y"), "k")
        assert {item.namespace: item.value["of"] for item in calls.search(("a",))} == {("a", "x"): "x", ("a", "z"): "z"}

    def test_a_star_is_no_wildcard_in_a_search(self, calls: Calls) -> None:
        calls.put(("a", "b"), "k", {})
        assert calls.search(("*",)) == calls.search(("a", "*")) == []

    @pytest.mark.parametrize("name", FILTERS)
    def test_filters_mean_what_they_say(self, calls: Calls, name: str) -> None:
        fill(calls, REPORTS)
        filter_, expected = FILTERS[name]
        assert calls.keys(NOTES, filter=filter_) == list(expected)
        assert calls.keys(NOTES, filter=filter_, query="report") == list(expected)

    def test_an_item_without_the_field_is_in_no_range(self, calls: Calls) -> None:
        fill(calls, {"a": {"n": 3}, "b": {}, "c": {"n": None}})
        assert calls.keys(NOTES, filter={"n": {"$gt": 1}}) == calls.keys(NOTES, filter={"n": {"$lte": 3}}) == ["a"]

    def test_an_unknown_operator_is_refused(self, calls: Calls) -> None:
        fill(calls, REPORTS)
        with pytest.raises(ValueError, match="regex"):
            calls.search(NOTES, filter={"type": {"$regex": "re.*"}})

    def test_a_filter_sees_the_value_as_it_is_now(self, calls: Calls) -> None:
        calls.put(NOTES, "k", {"type": "old"})
        calls.put(NOTES, "k", {"type": "new"})
        assert calls.keys(NOTES, filter={"type": "old"}) == []
        assert calls.keys(NOTES, filter={"type": "new"}) == ["k"]

    def test_pages_hold_everything_once(self, calls: Calls) -> None:
        calls.batch([PutOp(NOTES, f"{n:02}", {"n": n, "even": n % 2 == 0}) for n in range(25)])
        for named in ({}, {"filter": {"even": True}}):
            whole = calls.keys(NOTES, limit=100, **named)
            pages = [calls.search(NOTES, limit=4, offset=start, **named) for start in range(0, 28, 4)]
            assert sorted(item.key for page in pages for item in page) == whole
            assert all(len(page) == 4 for page in pages[: len(whole) // 4])
        assert len(calls.search(NOTES)) == 10
        assert calls.search(NOTES, offset=25) == calls.search(NOTES, limit=0) == []

    # ── by words ──────────────────────────────────────────────────────────────────────────────────

    def test_what_answers_comes_first_with_its_score(self, calls: Calls) -> None:
        fill(calls, DRINKS)
        found = calls.search(NOTES, query="black coffee after lunch")
        assert found[0].key == "coffee"
        assert {item.key for item in found} == set(DRINKS)
        scores = [item.score for item in found if item.score is not None]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert all(isinstance(score, float) for score in scores)
        assert [item.value for item in found] == [DRINKS[item.key] for item in found]

    def test_without_words_nothing_has_a_score(self, calls: Calls) -> None:
        fill(calls, DRINKS)
        assert [item.score for item in calls.search(NOTES)] == [None, None, None]

    def test_the_best_that_pass_the_filter_come_back(self, calls: Calls) -> None:
        values = {f"{n}": {"text": f"green tea number {n}", "rare": n % 20 == 7} for n in range(60)}
        fill(calls, values)
        found = calls.search(NOTES, query="green tea", filter={"rare": True}, limit=3)
        assert sorted(item.key for item in found) == ["27", "47", "7"]
        assert all(item.score is not None for item in found)
        assert calls.search(NOTES, query="green tea", filter={"rare": {"$ne": False}}, limit=2)[0].value["rare"] is True

    def test_a_limit_takes_the_best(self, calls: Calls) -> None:
        fill(calls, DRINKS)
        assert [item.key for item in calls.search(NOTES, query="train to Lisbon", limit=1)] == ["train"]
        whole = calls.search(NOTES, query="Alice drinks tea")
        pages = [calls.search(NOTES, query="Alice drinks tea", limit=1, offset=place)[0].key for place in range(3)]
        assert pages == [item.key for item in whole]

    def test_an_update_is_found_by_what_it_says_now(self, calls: Calls) -> None:
        fill(calls, DRINKS)
        calls.put(NOTES, "tea", {"text": "Bicycles are repaired on Mondays."})
        assert calls.search(NOTES, query="Who repairs bicycles on Mondays?")[0].key == "tea"
        assert calls.search(NOTES, query="black coffee")[0].key == "coffee"

    def test_a_query_of_a_batch_sees_each_its_own(self, calls: Calls) -> None:
        fill(calls, DRINKS)
        queries = {"black coffee": "coffee", "green tea": "tea", "train to Lisbon": "train"}
        found = calls.batch([SearchOp(NOTES, query=query, limit=1) for query in queries])
        assert [items[0].key for items in found] == list(queries.values())

    # ── what is indexed ───────────────────────────────────────────────────────────────────────────

    def test_what_is_not_indexed_fills_up_without_a_score(self, calls: Calls) -> None:
        fill(calls, DRINKS)
        calls.put(NOTES, "secret", {"text": "black coffee after lunch"}, index=False)
        found = calls.search(NOTES, query="black coffee after lunch")
        assert (found[0].key, found[-1].key, found[-1].score) == ("coffee", "secret", None)
        assert len(found) == 4
        assert "secret" not in [item.key for item in calls.search(NOTES, query="black coffee after lunch", limit=3)]
        assert calls.value(NOTES, "secret") == {"text": "black coffee after lunch"}

    def test_what_is_no_more_indexed_has_no_score(self, calls: Calls) -> None:
        calls.put(NOTES, "k", {"text": "black coffee"})
        calls.put(NOTES, "k", {"text": "black coffee"}, index=False)
        assert [item.score for item in calls.search(NOTES, query="black coffee")] == [None]

    @pytest.mark.parametrize(
        "path", ["meta.title", "parts[*].text", "parts[0].text", "parts[-1].text", "names[1]", "deep[*].of[*].text"]
    )
    def test_a_path_says_what_an_item_is_found_by(self, calls: Calls, path: str) -> None:
        needle = "zebra crossing"
        value: dict[str, Any] = {
            "text": "Nothing here.",
            "meta": {"title": needle if path.startswith("meta") else "plain"},
            "parts": [{"text": needle if path in ("parts[0].text", "parts[*].text") else "plain"}, {"text": "plain"}],
            "names": ["plain", needle if path.startswith("names") else "plain"],
            "deep": [{"of": [{"text": "plain"}]}, {"of": [{}, {"text": needle if path.startswith("deep") else "x"}]}],
        }
        if path == "parts[-1].text":
            value["parts"][-1]["text"] = needle
        calls.put(NOTES, "by its path", value, index=[path])
        calls.put(NOTES, "by another", {**value, "other": "plain"}, index=["other"])
        first, second = calls.search(NOTES, query=needle)
        assert (first.key, second.key) == ("by its path", "by another")
        assert first.value == value

    def test_fields_of_the_configuration_are_found_by_unless_an_item_says_other(
        self, open_store: OpenStore, calls: Calls
    ) -> None:
        mine = Calls(open_store(fields=["title", "parts[*].text"]), calls.way, calls.portal)
        mine.put(NOTES, "title", {"title": "green tea", "note": "trains"})
        mine.put(NOTES, "part", {"title": "x", "parts": [{"text": "y"}, {"text": "black coffee"}]})
        mine.put(NOTES, "note", {"title": "z", "note": "Lisbon by train"}, index=["note"])
        mine.put(NOTES, "none", {"note": "no field of these"})
        assert mine.search(NOTES, query="green tea")[0].key == "title"
        assert mine.search(NOTES, query="black coffee")[0].key == "part"
        assert mine.search(NOTES, query="Lisbon by train")[0].key == "note"
        found = mine.search(NOTES, query="no field of these")
        assert [(item.key, item.score) for item in found][-1] == ("none", None)
