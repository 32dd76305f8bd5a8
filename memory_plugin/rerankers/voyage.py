"""Voyage AI's rerankers, over its HTTP interface."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from memory_plugin.managed.answers import at, scores, whole
from memory_plugin.managed.http import HttpConnection
from memory_plugin.managed.limits import Facts, Ruler, TooLong
from memory_plugin.managed.reranker import ManagedReranker
from memory_plugin.managed.service import Connection, Options, Service, Vendor, hide_key
from memory_plugin.managed.vendors import VOYAGE, voyage_address
from memory_plugin.models.ruler import estimating_ruler


class VoyageReranker(ManagedReranker):
    """rerank-2.5, rerank-2.5-lite and older ones.

    Args:
        model: Voyage's name of the model.
        too_long: "pool" or "refuse", see ``ManagedReranker``.
        options: See ``managed.service.Options``.
    """

    vendor: ClassVar[Vendor] = VOYAGE
    models: ClassVar[dict[str, Facts]] = {
        "rerank-2": Facts(window=16_000, texts=1000, tokens=600_000),
        "rerank-2-lite": Facts(window=8000, texts=1000, tokens=300_000),
    }
    unknown: ClassVar[Facts] = Facts(window=32_000, texts=1000, tokens=600_000)

    def __init__(self, model: str = "rerank-2.5", *, too_long: TooLong = "pool", **options: Unpack[Options]) -> None:
        voyage_address(hide_key(options))
        super().__init__(model, too_long=too_long, **options)

    def _connect(self, service: Service) -> Connection:
        return HttpConnection(service)

    def _request(self, connection: HttpConnection, query: str, texts: list[str], seconds: float) -> Any:
        body = {"model": self._service.model, "query": query, "documents": texts, "truncation": False}
        return connection.post("/rerank", body, seconds)

    def _scores(self, body: Any, number: int) -> list[float]:
        return scores(at(body, "data"), number, "relevance_score")

    def _billed(self, body: Any) -> tuple[int, float]:
        return whole(body, "usage", "total_tokens"), 0

    def _ruler(self) -> Ruler:
        return estimating_ruler()
