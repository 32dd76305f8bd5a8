"""A cross-encoder behind a text-embeddings-inference server of Hugging Face, wherever it runs."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from memory_plugin.managed.answers import scores
from memory_plugin.managed.failure import CallError
from memory_plugin.managed.http import HttpConnection
from memory_plugin.managed.limits import Facts, Ruler, TooLong
from memory_plugin.managed.reranker import ManagedReranker
from memory_plugin.managed.service import Connection, Options, Service, Vendor, hide_key
from memory_plugin.managed.tei import Info
from memory_plugin.managed.vendors import TEI
from memory_plugin.models.ruler import estimating_ruler


class TeiReranker(ManagedReranker):
    """The cross-encoder that a text-embeddings-inference server was started with.

    The server is asked once ("/info") which model that is, how many texts it takes and how long.

    Args:
        model: What the server has to run; another one is an error.  Default: whatever it runs.
        too_long: "pool" or "refuse", see ``ManagedReranker``.
        options: See ``managed.service.Options``; the address is http://localhost:8080 by default, and a key is sent
            where TEI_API_KEY holds one.
    """

    vendor: ClassVar[Vendor] = TEI
    unknown: ClassVar[Facts] = Facts(texts=32)

    def __init__(self, model: str = "any", *, too_long: TooLong = "pool", **options: Unpack[Options]) -> None:
        super().__init__(model, too_long=too_long, **hide_key(options))
        self._info = Info(self._service)

    @property
    def model(self) -> str:
        """Vendor and model with its commit, as the server tells them."""
        return f"tei:{self._info.model}@{self._service.revision(self._info.revision)}"

    def _connect(self, service: Service) -> Connection:
        return HttpConnection(service)

    def _request(self, connection: HttpConnection, query: str, texts: list[str], seconds: float) -> Any:
        body = {"query": query, "texts": texts, "raw_scores": False, "return_text": False, "truncate": False}
        return connection.post("/rerank", body, seconds)

    def _scores(self, body: Any, number: int) -> list[float]:
        if isinstance(body, dict):
            raise CallError("an answer that is no list: is this the address of a text-embeddings-inference server?")
        return scores(body, number, "score")

    def _billed(self, body: Any) -> tuple[int, float]:
        return 0, 0

    def _ruler(self) -> Ruler:
        return estimating_ruler()

    def _facts(self) -> Facts:
        return self._info.facts
