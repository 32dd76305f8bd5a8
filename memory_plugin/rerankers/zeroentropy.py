"""ZeroEntropy's rerankers, over its HTTP interface."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from memory_plugin.managed.answers import at, scores, whole
from memory_plugin.managed.http import HttpConnection
from memory_plugin.managed.limits import Facts, Ruler, TooLong
from memory_plugin.managed.reranker import ManagedReranker
from memory_plugin.managed.service import Connection, Options, Service, Vendor, hide_key
from memory_plugin.managed.vendors import ZEROENTROPY
from memory_plugin.models.ruler import estimating_ruler


class ZeroEntropyReranker(ManagedReranker):
    """zerank-2 and its siblings.

    Args:
        model: ZeroEntropy's name of the model.
        too_long: "pool" or "refuse", see ``ManagedReranker``.
        options: See ``managed.service.Options``.
    """

    vendor: ClassVar[Vendor] = ZEROENTROPY
    unknown: ClassVar[Facts] = Facts(window=32_000, texts=1000, tokens=1_000_000)

    def __init__(self, model: str = "zerank-2", *, too_long: TooLong = "pool", **options: Unpack[Options]) -> None:
        super().__init__(model, too_long=too_long, **hide_key(options))

    def _connect(self, service: Service) -> Connection:
        return HttpConnection(service)

    def _request(self, connection: HttpConnection, query: str, texts: list[str], seconds: float) -> Any:
        body = {"model": self._service.model, "query": query, "documents": texts, "top_n": len(texts)}
        return connection.post("/models/rerank", body, seconds)

    def _scores(self, body: Any, number: int) -> list[float]:
        return scores(at(body, "results"), number, "relevance_score")

    def _billed(self, body: Any) -> tuple[int, float]:
        return whole(body, "total_tokens"), 0

    def _ruler(self) -> Ruler:
        return estimating_ruler()
