"""What a LangGraph store does with items by their keys: see ``langgraph_store.py``."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest

from memory_plugin.adapters.extras import needs
from memory_plugin.testing.langgraph_calls import KEYS, NOTES, SHAPES, Calls, OpenStore

with needs("langgraph", "a LangGraph store's tests"):
    from langgraph.store.base import (
        GetOp,
        InvalidNamespaceError,
        Item,
        ListNamespacesOp,
        MatchCondition,
        PutOp,
        SearchOp,
    )

BAD_LABELS: dict[str, tuple[Any, ...]] = {
    "empty label": ("a", ""),
    "period": ("a", "b.c"),
    "no text": ("a", 7),
    "NUL": ("a", "b\x00c"),
}


class ItemTests:
    """Put, get, delete, and batches of them."""

    # ── one item ──────────────────────────────────────────────────────────────────────────────────

    def test_what_is_put_is_got(self, calls: Calls) -> None:
        calls.put(NOTES, "tea", {"text": "I like tea."})
        item = calls.at(NOTES, "tea")
        assert type(item) is Item
        assert (item.namespace, item.key, item.value) == (NOTES, "tea", {"text": "I like tea."})
        assert isinstance(item.namespace, tuple)
        assert item.created_at.utcoffset() is not None
        assert abs(item.created_at - item.updated_at) < timedelta(seconds=1)

    def test_what_is_missing_is_none(self, calls: Calls) -> None:
        assert calls.get(NOTES, "tea") is None
        calls.put(NOTES, "tea", {"text": "I like tea."})
        assert calls.get(NOTES, "coffee") is None
        assert calls.get(("memories",), "tea") is None
        assert calls.get((*NOTES, "deeper"), "tea") is None

    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_value_of_any_shape_comes_back_as_it_was(self, calls: Calls, shape: str) -> None:
        calls.put(NOTES, "it", deepcopy(SHAPES[shape]))
        for found in (calls.value(NOTES, "it"), calls.search(NOTES)[0].value):
            assert found == SHAPES[shape]
            # 1 is not 1.0, and not True.
            assert json.dumps(found, sort_keys=True) == json.dumps(SHAPES[shape], sort_keys=True)

    def test_a_large_value_comes_back_as_it_was(self, calls: Calls) -> None:
        large = {
            "text": "A long story, told twice. " * 4000,
            "list": list(range(2000)),
            "wide": dict.fromkeys("abc", 0),
        }
        calls.put(NOTES, "large", large, index=["wide.a"])
        assert calls.value(NOTES, "large") == large

    def test_a_value_of_many_fields_comes_back_as_it_was(self, calls: Calls) -> None:
        wide = {f"field {number}": number for number in range(2000)}
        calls.put(NOTES, "wide", wide, index=False)
        assert calls.value(NOTES, "wide") == wide
        assert calls.keys(NOTES, filter={"field 1999": 1999}) == ["wide"]
        assert calls.keys(NOTES, filter={"field 1999": 1998}) == []

    def test_keys_of_any_text_stay_apart(self, calls: Calls) -> None:
        calls.batch([PutOp(NOTES, key, {"at": place}) for place, key in enumerate(KEYS)])
        found = calls.batch([GetOp(NOTES, key) for key in KEYS])
        assert [item and (item.key, item.value) for item in found] == [(k, {"at": p}) for p, k in enumerate(KEYS)]
        assert calls.keys(NOTES, limit=100) == sorted(KEYS)

    def test_a_key_is_text(self, calls: Calls) -> None:
        calls.put(NOTES, 7, {"n": 7})  # type: ignore[arg-type]
        assert calls.at(NOTES, "7").value == {"n": 7}

    # ── changed ───────────────────────────────────────────────────────────────────────────────────

    def test_put_replaces_the_whole_value(self, calls: Calls) -> None:
        calls.put(NOTES, "tea", {"text": "I like tea.", "sure": True})
        calls.put(NOTES, "tea", {"text": "I like coffee."})
        assert calls.value(NOTES, "tea") == {"text": "I like coffee."}
        assert len(calls.search(NOTES)) == 1

    def test_an_update_moves_its_time(self, calls: Calls) -> None:
        calls.put(NOTES, "tea", {"n": 1})
        first = calls.at(NOTES, "tea")
        again = calls.at(NOTES, "tea")
        calls.put(NOTES, "tea", {"n": 2})
        changed = calls.at(NOTES, "tea")
        assert again.updated_at == first.updated_at
        assert changed.updated_at > first.updated_at

    def test_an_update_of_the_same_value_moves_its_time(self, calls: Calls) -> None:
        calls.put(NOTES, "tea", {"n": 1})
        first = calls.at(NOTES, "tea").updated_at
        calls.put(NOTES, "tea", {"n": 1})
        assert calls.at(NOTES, "tea").updated_at > first

    def test_an_update_keeps_when_it_was_made(self, calls: Calls) -> None:
        calls.put(NOTES, "tea", {"n": 1})
        first = calls.at(NOTES, "tea")
        calls.put(NOTES, "tea", {"n": 2})
        assert calls.at(NOTES, "tea").created_at == first.created_at

    def test_deleted_is_gone_everywhere(self, calls: Calls) -> None:
        calls.put(NOTES, "tea", {"text": "I like tea."})
        calls.put(NOTES, "cake", {"text": "I like cake."})
        calls.delete(NOTES, "tea")
        assert calls.get(NOTES, "tea") is None
        assert calls.keys(NOTES) == calls.keys(NOTES, query="I like tea.") == ["cake"]
        assert calls.keys(NOTES, filter={"text": "I like tea."}) == []
        calls.delete(NOTES, "tea")  # again is no error
        calls.delete(("nobody",), "tea")

    def test_an_item_made_again_is_a_new_one(self, calls: Calls) -> None:
        calls.put(NOTES, "tea", {"n": 1})
        first = calls.at(NOTES, "tea")
        calls.delete(NOTES, "tea")
        calls.put(NOTES, "tea", {"n": 2})
        assert calls.at(NOTES, "tea").created_at > first.created_at

    # ── copies ────────────────────────────────────────────────────────────────────────────────────

    def test_changing_a_result_changes_nothing(self, calls: Calls) -> None:
        calls.put(NOTES, "tea", {"tags": ["hot"], "n": 1})
        calls.at(NOTES, "tea").value["n"] = 2
        calls.search(NOTES)[0].value["tags"].append("cold")
        assert calls.value(NOTES, "tea") == {"tags": ["hot"], "n": 1}

    def test_changing_what_was_given_changes_nothing(self, calls: Calls) -> None:
        given: dict[str, Any] = {"tags": ["hot"], "n": 1}
        calls.put(NOTES, "tea", given)
        given["n"] = 2
        given["tags"].append("cold")
        assert calls.value(NOTES, "tea") == {"tags": ["hot"], "n": 1}

    # ── batches ───────────────────────────────────────────────────────────────────────────────────

    def test_a_batch_answers_in_the_order_of_its_operations(self, calls: Calls) -> None:
        calls.put(NOTES, "tea", {"n": 1})
        got, put, listed, missing, found, deleted, again = calls.batch(
            [
                GetOp(NOTES, "tea"),
                PutOp(NOTES, "cake", {"n": 2}),
                ListNamespacesOp((MatchCondition("prefix", ("memories",)),)),
                GetOp(NOTES, "cake"),
                SearchOp(NOTES, limit=5),
                PutOp(("memories", "none"), "tea", None),
                GetOp(NOTES, "tea"),
            ]
        )
        assert (got.value, again.value) == ({"n": 1}, {"n": 1})
        assert put is missing is deleted is None
        assert listed == [NOTES]
        assert [item.key for item in found] == ["tea"]

    def test_reads_of_a_batch_see_what_was_before_its_puts(self, calls: Calls) -> None:
        calls.put(NOTES, "tea", {"n": 1})
        calls.put(NOTES, "cake", {"n": 1})
        found = calls.batch(
            [
                PutOp(NOTES, "tea", {"n": 2}),
                PutOp(NOTES, "cake", None),
                PutOp(("other",), "new", {"n": 3}),
                GetOp(NOTES, "tea"),
                GetOp(NOTES, "cake"),
                SearchOp(NOTES, filter={"n": 1}),
                ListNamespacesOp(),
            ]
        )
        assert [item and item.value for item in found[3:5]] == [{"n": 1}, {"n": 1}]
        assert sorted(item.key for item in found[5]) == ["cake", "tea"]
        assert found[6] == [NOTES]
        assert (calls.value(NOTES, "tea"), calls.value(("other",), "new")) == ({"n": 2}, {"n": 3})
        assert calls.get(NOTES, "cake") is None

    def test_the_last_put_of_a_key_wins(self, calls: Calls) -> None:
        calls.batch(
            [
                PutOp(NOTES, "tea", {"n": 1}),
                PutOp(NOTES, "cake", {"n": 1}),
                PutOp(NOTES, "tea", {"n": 2}),
                PutOp(NOTES, "cake", None),
                PutOp(NOTES, "milk", None),
                PutOp(NOTES, "milk", {"n": 3}),
            ]
        )
        assert calls.value(NOTES, "tea") == {"n": 2}
        assert calls.value(NOTES, "milk") == {"n": 3}
        assert calls.get(NOTES, "cake") is None

    def test_a_batch_may_be_empty_or_an_iterator(self, calls: Calls) -> None:
        assert calls.batch([]) == []
        assert calls.batch(GetOp(NOTES, key) for key in "ab") == [None, None]  # type: ignore[arg-type]

    def test_items_of_one_batch_may_have_the_same_text(self, calls: Calls) -> None:
        calls.batch([PutOp(NOTES, key, {"text": "I like tea."}) for key in "abc"])
        assert calls.keys(NOTES, query="I like tea.") == ["a", "b", "c"]

    # ── what is refused ───────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("bad", BAD_LABELS)
    def test_a_label_that_cannot_be_is_refused(self, calls: Calls, bad: str) -> None:
        namespace = BAD_LABELS[bad]
        for call in (
            lambda: calls.put(namespace, "k", {}),
            lambda: calls.get(namespace, "k"),
            lambda: calls.delete(namespace, "k"),
            lambda: calls.search(namespace),
            lambda: calls.namespaces(prefix=namespace),
            lambda: calls.namespaces(suffix=namespace),
        ):
            with pytest.raises(InvalidNamespaceError):
                call()

    def test_nothing_is_put_without_a_namespace_or_under_a_root_of_langgraphs_own(self, calls: Calls) -> None:
        for namespace in ((), ("langgraph",), ("langgraph", "x")):
            with pytest.raises(InvalidNamespaceError):
                calls.put(namespace, "k", {})
        calls.put(("x", "langgraph"), "k", {})
        assert calls.value(("x", "langgraph"), "k") == {}

    @pytest.mark.parametrize("bad", BAD_LABELS)
    def test_operations_of_a_batch_are_checked_too_and_nothing_is_half_done(self, calls: Calls, bad: str) -> None:
        namespace = BAD_LABELS[bad]
        for op in (
            PutOp(namespace, "k", {}),
            GetOp(namespace, "k"),
            SearchOp(namespace),
            ListNamespacesOp((MatchCondition("prefix", namespace),)),
        ):
            with pytest.raises(InvalidNamespaceError):
                calls.batch([PutOp(NOTES, "before", {}), op])
        assert calls.get(NOTES, "before") is None

    def test_a_subclass_of_nothing_is_no_operation(self, calls: Calls) -> None:
        with pytest.raises(ValueError, match=r"."):
            calls.batch([("get", NOTES, "k")])  # type: ignore[list-item]

    def test_stores_share_nothing(self, open_store: OpenStore, calls: Calls) -> None:
        other = open_store()
        calls.put(NOTES, "tea", {"n": 1})
        mine = Calls(other, calls.way, calls.portal)
        assert mine.search(()) == mine.namespaces() == []
        assert mine.get(NOTES, "tea") is None
