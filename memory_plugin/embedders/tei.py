"""A text-embeddings-inference server of Hugging Face, wherever it runs."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from memory_plugin.managed.answers import ordered
from memory_plugin.managed.embedder import ManagedEmbedder
from memory_plugin.managed.failure import CallError
from memory_plugin.managed.http import HttpConnection
from memory_plugin.managed.limits import Facts, Ruler, TooLong
from memory_plugin.managed.service import Connection, Options, Service, Vendor, hide_key
from memory_plugin.managed.tei import Info
from memory_plugin.managed.vendors import TEI
from memory_plugin.models.ruler import estimating_ruler
from memory_plugin.types import InputType


class TeiEmbedder(ManagedEmbedder):
    """The model that a text-embeddings-inference server was started with.

    The server is asked once ("/info") which model and commit that is, how many texts it takes and how long: the
    identity is the model's, not the server's, so that the space stays when the server moves.

    Args:
        model: What the server has to run, e.g. "BAAI/bge-m3"; another one is an error.  Default: whatever it runs.
        dimension: Shorter vectors ("dimensions"), where the model was trained for it.
        too_long: "pool" or "refuse", see ``ManagedEmbedder``.
        query_prefix: Put before a query.
        document_prefix: Put before a document.
        options: See ``managed.service.Options``; the address is http://localhost:8080 by default, and a key is sent
            where TEI_API_KEY holds one.
    """

    vendor: ClassVar[Vendor] = TEI
    unknown: ClassVar[Facts] = Facts(sizes=None, texts=32)

    def __init__(
        self,
        model: str = "any",
        *,
        dimension: int | None = None,
        too_long: TooLong = "pool",
        query_prefix: str = "",
        document_prefix: str = "",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(model, dimension=dimension, too_long=too_long, **hide_key(options))
        self._info = Info(self._service)
        self._prefixes = {"query": str(query_prefix), "document": str(document_prefix)}

    def _connect(self, service: Service) -> Connection:
        return HttpConnection(service)

    def _request(self, connection: HttpConnection, texts: list[str], input_type: InputType, seconds: float) -> Any:
        body: dict[str, Any] = {"inputs": texts, "normalize": True, "truncate": False}
        if self._dimension is not None:
            body["dimensions"] = self._dimension
        return connection.post("/embed", body, seconds)

    def _rows(self, body: Any, number: int) -> list[Any]:
        if isinstance(body, dict):
            raise CallError("an answer that is no list: is this the address of a text-embeddings-inference server?")
        return ordered(body, number, None)

    def _billed(self, body: Any) -> int:
        return 0

    def _ruler(self) -> Ruler:
        return estimating_ruler()

    def _prefix(self, input_type: InputType) -> str:
        return self._prefixes[input_type]

    def _facts(self) -> Facts:
        return self._info.facts

    def _model(self) -> str:
        return self._info.model

    def _revision(self) -> str | None:
        return self._info.revision
