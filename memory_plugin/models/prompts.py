"""What models want before a query and before a document, where their files do not say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from memory_plugin.errors import InvalidInputError


class Prompts(NamedTuple):
    """Texts put before texts; "" for none."""

    query: str
    document: str


_TASK = "Given a web search query, retrieve relevant passages that answer the query"

# A model's name as its makers write it on its card, lower case, without the organisation.
_KNOWN: tuple[tuple[str, Prompts], ...] = (
    (r"nomic-embed-text-v(1|1\.5|2-moe)(-q)?", Prompts("search_query: ", "search_document: ")),
    (r"modernbert-embed-(base|large)", Prompts("search_query: ", "search_document: ")),
    (r"(multilingual-)?e5-(small|base|large)(-v2)?", Prompts("query: ", "passage: ")),
    (r"multilingual-e5-large-instruct", Prompts(f"Instruct: {_TASK}\nQuery: ", "")),
    (r"qwen3-embedding-[\d.]+b(-q)?", Prompts(f"Instruct: {_TASK}\nQuery:", "")),
    (r"bge-(small|base|large)-en(-v1\.5)?", Prompts("Represent this sentence for searching relevant passages: ", "")),
    (r"bge-(small|base|large)-zh(-v1\.5)?", Prompts("为这个句子生成表示以用于检索相关文章：", "")),
    (r"mxbai-embed-(large|2d-large)-v1", Prompts("Represent this sentence for searching relevant passages: ", "")),
    (
        r"snowflake-arctic-embed-(xs|s|m|m-long|l|m-v1\.5)",
        Prompts("Represent this sentence for searching relevant passages: ", ""),
    ),
    (r"snowflake-arctic-embed-[ml]-v2\.0", Prompts("query: ", "")),
    (r"embeddinggemma-300m", Prompts("task: search result | query: ", "title: none | text: ")),
    (r"stella-en-400m-v5(-doc-onnx)?", Prompts(f"Instruct: {_TASK}.\nQuery: ", "")),
)


def known(model: str) -> Prompts:
    """What a model of that name wants; nothing where the name is not known.

    Args:
        model: A hub's name, "BAAI/bge-small-en-v1.5", or that of a directory.
    """
    name = model.rstrip("/").rpartition("/")[2].lower()
    return next((prompts for pattern, prompts in _KNOWN if re.fullmatch(pattern, name)), Prompts("", ""))


def chosen(
    model: str, own: Mapping[str, object], *, query_prefix: str | None = None, document_prefix: str | None = None
) -> Prompts:
    """The prompts to use: those given, else the model's own, else the known ones.

    Args:
        model: See ``known``.
        own: The model's prompts by name, as sentence-transformers keeps them: "query" and "document", or what models
            call these otherwise, are used where one of them says something.
        query_prefix: As the caller wants it; "" for none.
        document_prefix: Likewise.

    Raises:
        InvalidInputError: A prefix is not a text.
    """
    for prefix in (query_prefix, document_prefix):
        if not isinstance(prefix, str | None):
            raise InvalidInputError(f"a prefix is a text, not {prefix!r:.80}")
    query, document = (next((own[name] for name in names if own.get(name)), None) for names in (_QUERY, _DOCUMENT))
    found = known(model)
    if query or document:
        found = Prompts(str(query or ""), str(document or ""))
    return Prompts(
        found.query if query_prefix is None else query_prefix,
        found.document if document_prefix is None else document_prefix,
    )


_QUERY = ("query", "retrieval.query", "s2p_query")
_DOCUMENT = ("document", "passage", "corpus", "retrieval.passage")
