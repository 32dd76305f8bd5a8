"""LangGraph's own store does what its words promise, but for what is named here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
from langgraph.store.base import IndexConfig
from langgraph.store.memory import InMemoryStore

from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.testing.langgraph_store import LangGraphStoreTests, OpenStore


def embed(texts: Sequence[str]) -> list[list[float]]:
    vectors: list[list[float]] = HashEmbedder().embed(texts, input_type="document").vectors.tolist()
    return vectors


class TestInMemoryStore(LangGraphStoreTests):
    differences: ClassVar[dict[str, str]] = {
        "test_an_update_keeps_when_it_was_made": "it makes a new item of every put",
        "test_changing_a_result_changes_nothing": "it gives out the values that it keeps",
        "test_changing_what_was_given_changes_nothing": "below the first level it keeps what it was given",
        "test_items_of_one_batch_may_have_the_same_text": "it counts vectors of distinct texts against those of items",
        "test_operations_of_a_batch_are_checked_too_and_nothing_is_half_done": "only its other methods check labels",
        "test_an_item_without_the_field_is_in_no_range": "it compares None with a number",
        "test_what_is_no_more_indexed_has_no_score": "it keeps the vectors of an item that is no more indexed",
        "test_a_namespace_whose_items_are_gone_is_gone": "it lists namespaces without items",
        "test_reading_makes_no_namespace": "it lists namespaces that were only read",
    }

    @pytest.fixture
    def open_store(self) -> OpenStore:
        def make(*, ttl: object = None, fields: list[str] | None = None) -> InMemoryStore:
            return InMemoryStore(index=IndexConfig(dims=64, embed=embed, fields=fields))

        return make
