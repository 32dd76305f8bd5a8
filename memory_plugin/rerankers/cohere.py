"""Cohere's rerankers through its SDK."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from memory_plugin.managed.answers import at, scores, whole
from memory_plugin.managed.cohere import CohereConnection
from memory_plugin.managed.limits import Facts, Ruler, TooLong
from memory_plugin.managed.reranker import ManagedReranker
from memory_plugin.managed.service import Connection, Options, Service, Vendor, hide_key
from memory_plugin.managed.vendors import COHERE
from memory_plugin.models.ruler import estimating_ruler

UNIT = 100
"""Texts that Cohere bills as one search."""


class CohereReranker(ManagedReranker):
    """rerank-v3.5, rerank-v4.0-pro and -fast.  Cohere bills a search for a query and up to 100 texts.

    Args:
        model: Cohere's name of the model.
        too_long: "pool" or "refuse", see ``ManagedReranker``.
        options: See ``managed.service.Options``.
    """

    vendor: ClassVar[Vendor] = COHERE
    models: ClassVar[dict[str, Facts]] = {
        "rerank-v4.0-pro": Facts(window=32_000, texts=1000),
        "rerank-v4.0-fast": Facts(window=32_000, texts=1000),
    }
    unknown: ClassVar[Facts] = Facts(window=4096, texts=1000)

    def __init__(self, model: str = "rerank-v3.5", *, too_long: TooLong = "pool", **options: Unpack[Options]) -> None:
        super().__init__(model, too_long=too_long, **hide_key(options))

    def _connect(self, service: Service) -> Connection:
        return CohereConnection(service)

    def _request(self, connection: CohereConnection, query: str, texts: list[str], seconds: float) -> Any:
        # Cut here where it has to be, so that Cohere, which would cut at 4,096 tokens in silence, need not.
        return connection.rerank(
            seconds,
            model=self._service.model,
            query=query,
            documents=texts,
            top_n=len(texts),
            max_tokens_per_doc=self._facts().window,
        )

    def _scores(self, body: Any, number: int) -> list[float]:
        return scores(at(body, "results"), number, "relevance_score")

    def _billed(self, body: Any) -> tuple[int, float]:
        return 0, whole(body, "meta", "billed_units", "search_units")

    def _ruler(self) -> Ruler:
        return estimating_ruler()
