"""Voyage AI's embedding models, over its HTTP interface."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

from memory_plugin.errors import InvalidInputError
from memory_plugin.managed.answers import at, ordered, whole
from memory_plugin.managed.embedder import ManagedEmbedder
from memory_plugin.managed.http import HttpConnection
from memory_plugin.managed.limits import Facts, Ruler, TooLong
from memory_plugin.managed.service import Connection, Options, Service, Vendor, hide_key
from memory_plugin.managed.vendors import VOYAGE, voyage_address
from memory_plugin.models.ruler import estimating_ruler
from memory_plugin.types import InputType

_SIZES = (256, 512, 2048)
_SMALL, _MIDDLE, _LARGE = 120_000, 320_000, 1_000_000
"""Tokens in a request, by model."""


class VoyageEmbedder(ManagedEmbedder):
    """voyage-4, voyage-code-3 and their siblings.

    Queries and documents are told apart to the model ("input_type").

    Args:
        model: Voyage's name of the model.
        dimension: Another length of vectors ("output_dimension").
        too_long: "pool" or "refuse", see ``ManagedEmbedder``.
        output_type: Element type that Voyage returns: "float" or "int8"; the store keeps float32 either way.
        options: See ``managed.service.Options``.
    """

    vendor: ClassVar[Vendor] = VOYAGE
    models: ClassVar[dict[str, Facts]] = {
        "voyage-4-large": Facts(1024, _SIZES, 32_000, 1000, _SMALL),
        "voyage-4": Facts(1024, _SIZES, 32_000, 1000, _MIDDLE),
        "voyage-4-lite": Facts(1024, _SIZES, 32_000, 1000, _LARGE),
        "voyage-3-large": Facts(1024, _SIZES, 32_000, 1000, _SMALL),
        "voyage-3.5": Facts(1024, _SIZES, 32_000, 1000, _MIDDLE),
        "voyage-3.5-lite": Facts(1024, _SIZES, 32_000, 1000, _LARGE),
        "voyage-3": Facts(1024, (), 32_000, 1000, _SMALL),
        "voyage-3-lite": Facts(512, (), 32_000, 1000, _SMALL),
        "voyage-code-3": Facts(1024, _SIZES, 32_000, 1000, _SMALL),
        "voyage-finance-2": Facts(1024, (), 32_000, 1000, _SMALL),
        "voyage-multilingual-2": Facts(1024, (), 32_000, 1000, _SMALL),
        "voyage-law-2": Facts(1024, (), 16_000, 1000, _SMALL),
        "voyage-code-2": Facts(1536, (), 16_000, 1000, _SMALL),
    }
    unknown: ClassVar[Facts] = Facts(sizes=None, window=16_000, texts=1000, tokens=_SMALL)

    def __init__(
        self,
        model: str = "voyage-4",
        *,
        dimension: int | None = None,
        too_long: TooLong = "pool",
        output_type: Literal["float", "int8"] = "float",
        **options: Unpack[Options],
    ) -> None:
        voyage_address(hide_key(options))
        if output_type not in ("float", "int8"):
            raise InvalidInputError(f"output_type is 'float' or 'int8', not {output_type!r:.80}")
        super().__init__(model, dimension=dimension, too_long=too_long, **options)
        self._type = output_type

    def _connect(self, service: Service) -> Connection:
        return HttpConnection(service)

    def _request(self, connection: HttpConnection, texts: list[str], input_type: InputType, seconds: float) -> Any:
        body: dict[str, Any] = {
            "model": self._service.model,
            "input": texts,
            "input_type": input_type,
            "truncation": False,
            "output_dtype": self._type,
            "encoding_format": "base64",
        }
        sized = self._sized()
        return connection.post("/embeddings", body if sized is None else {**body, "output_dimension": sized}, seconds)

    def _rows(self, body: Any, number: int) -> list[Any]:
        return ordered(at(body, "data"), number, "embedding")

    def _billed(self, body: Any) -> int:
        return whole(body, "usage", "total_tokens")

    def _ruler(self) -> Ruler:
        return estimating_ruler()

    def _told(self, input_type: InputType) -> str:
        return f"[{input_type}]"

    @property
    def _dtype(self) -> str:
        return "int8" if self._type == "int8" else "float32"
