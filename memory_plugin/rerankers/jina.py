"""Jina AI's rerankers, over its HTTP interface."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from memory_plugin.managed.answers import at, scores, whole
from memory_plugin.managed.http import HttpConnection
from memory_plugin.managed.limits import Facts, Ruler, TooLong
from memory_plugin.managed.reranker import ManagedReranker
from memory_plugin.managed.service import Connection, Options, Service, Vendor, hide_key
from memory_plugin.managed.vendors import JINA
from memory_plugin.models.ruler import estimating_ruler


class JinaReranker(ManagedReranker):
    """jina-reranker-v3, -m0, -v2-base-multilingual.

    Version 3 reads all texts together, so that a score depends on the others: they go into one request, and more
    than that takes is refused.

    Args:
        model: Jina's name of the model.
        too_long: "pool" or "refuse", see ``ManagedReranker``.
        options: See ``managed.service.Options``.
    """

    vendor: ClassVar[Vendor] = JINA
    models: ClassVar[dict[str, Facts]] = {
        "jina-reranker-v3": Facts(window=32_000, texts=1000),
        "jina-reranker-m0": Facts(window=10_000, texts=1000),
        "jina-reranker-v2-base-multilingual": Facts(window=1024, texts=1000),
    }
    unknown: ClassVar[Facts] = Facts(window=1024, texts=1000)
    listwise: ClassVar[frozenset[str]] = frozenset({"jina-reranker-v3"})

    def __init__(
        self,
        model: str = "jina-reranker-v2-base-multilingual",
        *,
        too_long: TooLong = "pool",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(model, too_long=too_long, **hide_key(options))

    def _connect(self, service: Service) -> Connection:
        return HttpConnection(service)

    def _request(self, connection: HttpConnection, query: str, texts: list[str], seconds: float) -> Any:
        body = {
            "model": self._service.model,
            "query": query,
            "documents": texts,
            "top_n": len(texts),
            "return_documents": False,
        }
        return connection.post("/rerank", body, seconds)

    def _scores(self, body: Any, number: int) -> list[float]:
        return scores(at(body, "results"), number, "relevance_score")

    def _billed(self, body: Any) -> tuple[int, float]:
        return whole(body, "usage", "total_tokens"), 0

    def _ruler(self) -> Ruler:
        return estimating_ruler()
