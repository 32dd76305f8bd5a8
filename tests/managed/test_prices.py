"""Prices are dated, and a user's own win."""

from __future__ import annotations

from datetime import date

import pytest

from memory_plugin.managed.prices import AS_OF, price, price_of_search


def test_the_table_is_dated() -> None:
    assert date(2026, 1, 1) < date.fromisoformat(AS_OF)


@pytest.mark.parametrize(
    ("name", "dollars"),
    [
        ("openai:text-embedding-3-small", 0.02),
        ("openai:text-embedding-3-large?dimension=256", 0.13),
        ("local", 0.0),
        ("ollama:nomic-embed-text:v1.5", 0.0),
        ("cohere:embed-english-v3.0", None),
        ("openai:some-model-of-a-gateway", None),
        ("jina:jina-embeddings-v3", None),
    ],
)
def test_a_price_is_known_or_none(name: str, dollars: float | None) -> None:
    assert price(name) == dollars


def test_a_users_own_price_wins() -> None:
    mine = {"openai:text-embedding-3-small": 0.01, "jina:jina-embeddings-v3": 0.045, "local": 0.001}
    assert [price(f"{name}?dimension=64", mine) for name in mine] == [0.01, 0.045, 0.001]


def test_searches_are_charged_by_the_thousand() -> None:
    assert price_of_search("cohere:rerank-v3.5") == pytest.approx(0.002)
    assert price_of_search("cohere:rerank-v3.5", {"cohere:rerank-v3.5": 1.0}) == pytest.approx(0.001)
    assert price_of_search("voyage:rerank-2.5") is None
