"""Jina AI's embedding models, over its HTTP interface."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from memory_plugin.managed.answers import at, ordered, whole
from memory_plugin.managed.embedder import ManagedEmbedder
from memory_plugin.managed.http import HttpConnection
from memory_plugin.managed.limits import Facts, Ruler, TooLong
from memory_plugin.managed.service import Connection, Options, Service, Vendor, hide_key
from memory_plugin.managed.vendors import JINA
from memory_plugin.models.ruler import estimating_ruler
from memory_plugin.types import InputType

_TASKS: dict[InputType, str] = {"query": "retrieval.query", "document": "retrieval.passage"}
_TEXTS, _TOKENS = 512, 100_000
"""In a request."""
_WITHOUT_TASKS = ("jina-embeddings-v2", "jina-clip-v1")


class JinaEmbedder(ManagedEmbedder):
    """jina-embeddings-v5, -v4, -v3 and older ones.

    From version 3 on, queries and documents are told apart to the model ("task").

    Args:
        model: Jina's name of the model.
        dimension: Shorter vectors ("dimensions"), from version 3 on.
        too_long: "pool" or "refuse", see ``ManagedEmbedder``.
        options: See ``managed.service.Options``.
    """

    vendor: ClassVar[Vendor] = JINA
    models: ClassVar[dict[str, Facts]] = {
        "jina-embeddings-v5-text-small": Facts(1024, None, 32_000, _TEXTS, _TOKENS),
        "jina-embeddings-v5-text-nano": Facts(768, None, 8192, _TEXTS, _TOKENS),
        "jina-embeddings-v4": Facts(2048, None, 32_000, _TEXTS, _TOKENS),
        "jina-embeddings-v3": Facts(1024, None, 8192, _TEXTS, _TOKENS),
        "jina-embeddings-v2-base-en": Facts(768, (), 8192, _TEXTS, _TOKENS),
        "jina-embeddings-v2-base-de": Facts(768, (), 8192, _TEXTS, _TOKENS),
        "jina-embeddings-v2-base-es": Facts(768, (), 8192, _TEXTS, _TOKENS),
        "jina-embeddings-v2-base-zh": Facts(768, (), 8192, _TEXTS, _TOKENS),
        "jina-embeddings-v2-base-code": Facts(768, (), 8192, _TEXTS, _TOKENS),
    }
    unknown: ClassVar[Facts] = Facts(sizes=None, window=8192, texts=_TEXTS, tokens=_TOKENS)

    def __init__(
        self,
        model: str = "jina-embeddings-v3",
        *,
        dimension: int | None = None,
        too_long: TooLong = "pool",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(model, dimension=dimension, too_long=too_long, **hide_key(options))

    def _connect(self, service: Service) -> Connection:
        return HttpConnection(service)

    def _request(self, connection: HttpConnection, texts: list[str], input_type: InputType, seconds: float) -> Any:
        body: dict[str, Any] = {
            "model": self._service.model,
            "input": texts,
            "normalized": True,
            "embedding_type": "base64",
        }
        if self._has_tasks:
            body["task"] = _TASKS[input_type]
        sized = self._sized()
        return connection.post("/embeddings", body if sized is None else {**body, "dimensions": sized}, seconds)

    def _rows(self, body: Any, number: int) -> list[Any]:
        return ordered(at(body, "data"), number, "embedding")

    def _billed(self, body: Any) -> int:
        return whole(body, "usage", "total_tokens")

    def _ruler(self) -> Ruler:
        return estimating_ruler()

    def _told(self, input_type: InputType) -> str:
        return f"[{_TASKS[input_type]}]" if self._has_tasks else ""

    @property
    def _has_tasks(self) -> bool:
        return not self._service.model.startswith(_WITHOUT_TASKS)
