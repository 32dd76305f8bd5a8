"""How a LangGraph store lists its namespaces: see ``langgraph_store.py``."""

from __future__ import annotations

from typing import Any

import pytest

from memory_plugin.adapters.extras import needs
from memory_plugin.testing.langgraph_calls import Calls, Namespace

with needs("langgraph", "a LangGraph store's tests"):
    from langgraph.store.base import GetOp, ListNamespacesOp, MatchCondition, PutOp

PLACES: list[Namespace] = [
    ("a", "b", "c"),
    ("a", "b", "d", "e"),
    ("a", "b", "d", "i"),
    ("a", "b", "f"),
    ("a", "c", "f"),
    ("b", "a", "f"),
    ("users", "123"),
]

LISTS: dict[str, tuple[dict[str, Any], list[Namespace]]] = {
    "all": ({}, PLACES),
    "prefix": ({"prefix": ("a", "b")}, PLACES[:4]),
    "whole prefix": ({"prefix": ("users", "123")}, [("users", "123")]),
    "longer prefix": ({"prefix": ("users", "123", "x")}, []),
    "part of a label": ({"prefix": ("user",)}, []),
    "suffix": ({"suffix": ("f",)}, [("a", "b", "f"), ("a", "c", "f"), ("b", "a", "f")]),
    "longer suffix": ({"suffix": ("d", "i")}, [("a", "b", "d", "i")]),
    "prefix and suffix": ({"prefix": ("a",), "suffix": ("f",)}, [("a", "b", "f"), ("a", "c", "f")]),
    "wildcard": ({"prefix": ("a", "*", "f")}, [("a", "b", "f"), ("a", "c", "f")]),
    "wildcard first": ({"prefix": ("*", "a")}, [("b", "a", "f")]),
    "wildcard in a suffix": ({"suffix": ("d", "*")}, [("a", "b", "d", "e"), ("a", "b", "d", "i")]),
    "wildcard is one label": ({"prefix": ("users", "*", "*")}, []),
    "depth": ({"prefix": ("a", "b"), "max_depth": 3}, [("a", "b", "c"), ("a", "b", "d"), ("a", "b", "f")]),
    "depth of one": ({"max_depth": 1}, [("a",), ("b",), ("users",)]),
    "depth after the suffix": ({"suffix": ("f",), "max_depth": 2}, [("a", "b"), ("a", "c"), ("b", "a")]),
    "limit": ({"limit": 2}, PLACES[:2]),
    "offset": ({"limit": 2, "offset": 5}, PLACES[5:]),
    "limit of what is cut to its depth": ({"max_depth": 1, "limit": 1, "offset": 1}, [("b",)]),
    "past the end": ({"offset": 7}, []),
}


class NamespaceTests:
    """Prefixes, suffixes, wildcards, depths, pages."""

    @pytest.mark.parametrize("name", LISTS)
    def test_namespaces_are_listed_in_order(self, calls: Calls, name: str) -> None:
        calls.batch(
            [PutOp(place, key, {"in": [*place, key]}) for place in reversed(PLACES) for key in ("one", "other")]
        )
        conditions, expected = LISTS[name]
        assert calls.namespaces(**conditions) == expected

    def test_several_conditions_hold_at_once(self, calls: Calls) -> None:
        calls.batch([PutOp(place, "k", {"in": [*place]}) for place in PLACES])
        conditions = [MatchCondition("prefix", ("a",)), MatchCondition("prefix", ("*", "b"))]
        op = ListNamespacesOp((*conditions, MatchCondition("suffix", ("f",))))
        assert calls.batch([op]) == [[("a", "b", "f")]]
        assert calls.batch([ListNamespacesOp(())]) == [PLACES]

    def test_labels_of_any_text_stay_as_they_are(self, calls: Calls) -> None:
        places: list[Namespace] = sorted(
            [("ü", "東京"), ("*", "x"), ("a b", "\n"), ("A", "a"), ("a", "A"), ("x" * 200,)]
        )
        calls.batch([PutOp(place, "k", {"in": [*place]}) for place in places])
        assert calls.namespaces() == places
        assert calls.namespaces(prefix=("ü",)) == [("ü", "東京")]

    def test_a_namespace_whose_items_are_gone_is_gone(self, calls: Calls) -> None:
        calls.batch([PutOp(("a", "b"), "k", {"n": 1}), PutOp(("a", "c"), "k", {"n": 2})])
        calls.delete(("a", "b"), "k")
        assert calls.namespaces() == [("a", "c")]

    def test_reading_makes_no_namespace(self, calls: Calls) -> None:
        calls.batch([GetOp(("a", "b"), "k"), PutOp(("a", "c"), "k", None)])
        calls.search(("a", "d"), query="k")
        assert calls.namespaces() == []

    def test_an_unknown_kind_of_condition_is_refused(self, calls: Calls) -> None:
        calls.put(("a", "b"), "k", {})
        with pytest.raises(ValueError, match="infix"):
            calls.batch([ListNamespacesOp((MatchCondition("infix", ("a",)),))])  # type: ignore[arg-type]
