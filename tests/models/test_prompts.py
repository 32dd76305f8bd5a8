"""What models want before texts."""

from __future__ import annotations

import pytest

from memory_plugin.errors import InvalidInputError
from memory_plugin.models.prompts import Prompts, chosen, known

REPRESENT = "Represent this sentence for searching relevant passages: "


@pytest.mark.parametrize(
    ("model", "query", "document"),
    [
        ("nomic-ai/nomic-embed-text-v1", "search_query: ", "search_document: "),
        ("nomic-ai/nomic-embed-text-v1.5-Q", "search_query: ", "search_document: "),
        ("nomic-ai/nomic-embed-text-v2-moe", "search_query: ", "search_document: "),
        ("intfloat/e5-small-v2", "query: ", "passage: "),
        ("intfloat/multilingual-e5-large", "query: ", "passage: "),
        ("BAAI/bge-small-en-v1.5", REPRESENT, ""),
        ("BAAI/bge-large-en", REPRESENT, ""),
        ("mixedbread-ai/mxbai-embed-large-v1", REPRESENT, ""),
        ("snowflake/snowflake-arctic-embed-m-long", REPRESENT, ""),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", ""),
        ("google/embeddinggemma-300m", "task: search result | query: ", "title: none | text: "),
        ("E5-Base", "query: ", "passage: "),
        # These want nothing, or nothing is known.
        ("BAAI/bge-m3", "", ""),
        ("sentence-transformers/all-MiniLM-L6-v2", "", ""),
        ("acme/my-e5-small", "", ""),
        ("nomic-embed-text-v3", "", ""),
        ("", "", ""),
    ],
)
def test_known_models(model: str, query: str, document: str) -> None:
    assert known(model) == (query, document)


def test_instructions_end_where_the_query_begins() -> None:
    task = "Given a web search query, retrieve relevant passages that answer the query"
    assert known("intfloat/multilingual-e5-large-instruct") == (f"Instruct: {task}\nQuery: ", "")
    assert known("Qwen/Qwen3-Embedding-0.6B") == (f"Instruct: {task}\nQuery:", "")


def test_given_prefixes_win_one_by_one() -> None:
    own = {"query": "q: ", "passage": "p: "}
    assert chosen("e5-base", own) == Prompts("q: ", "p: ")
    assert chosen("e5-base", own, query_prefix="") == Prompts("", "p: ")
    assert chosen("e5-base", own, document_prefix="d: ") == Prompts("q: ", "d: ")
    assert chosen("e5-base", {"corpus": "c: "}) == Prompts("", "c: ")
    assert chosen("jina-embeddings-v3", {"retrieval.query": "q: ", "retrieval.passage": "p: "}) == Prompts("q: ", "p: ")
    with pytest.raises(InvalidInputError, match="a prefix is a text, not True"):
        chosen("e5-base", own, query_prefix=True)  # type: ignore[arg-type]
