"""ZeroEntropy's embedding model, over its HTTP interface."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from memory_plugin.managed.answers import at, ordered, whole
from memory_plugin.managed.embedder import ManagedEmbedder
from memory_plugin.managed.http import HttpConnection
from memory_plugin.managed.limits import Facts, Ruler, TooLong
from memory_plugin.managed.service import Connection, Options, Service, Vendor, hide_key
from memory_plugin.managed.vendors import ZEROENTROPY
from memory_plugin.models.ruler import estimating_ruler
from memory_plugin.types import InputType

_SIZES = (1280, 640, 320, 160, 80, 40)


class ZeroEntropyEmbedder(ManagedEmbedder):
    """zembed-1.  Queries and documents are told apart to the model ("input_type").

    Args:
        model: ZeroEntropy's name of the model.
        dimension: Shorter vectors ("dimensions"): 1280, 640, 320, 160, 80 or 40.
        too_long: "pool" or "refuse", see ``ManagedEmbedder``.
        options: See ``managed.service.Options``.
    """

    vendor: ClassVar[Vendor] = ZEROENTROPY
    models: ClassVar[dict[str, Facts]] = {"zembed-1": Facts(2560, _SIZES, 32_000, 128, 100_000)}
    unknown: ClassVar[Facts] = Facts(sizes=None, window=32_000, texts=128, tokens=100_000)

    def __init__(
        self,
        model: str = "zembed-1",
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
            "input_type": input_type,
            "encoding_format": "base64",
        }
        sized = self._sized()
        return connection.post("/models/embed", body if sized is None else {**body, "dimensions": sized}, seconds)

    def _rows(self, body: Any, number: int) -> list[Any]:
        return ordered(at(body, "results"), number, "embedding")

    def _billed(self, body: Any) -> int:
        return whole(body, "usage", "total_tokens")

    def _ruler(self) -> Ruler:
        return estimating_ruler()

    def _told(self, input_type: InputType) -> str:
        return f"[{input_type}]"
