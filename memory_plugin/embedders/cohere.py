"""Cohere's embedding models through its SDK: texts, and images in the same space."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Unpack

import numpy as np

from memory_plugin.errors import InvalidInputError
from memory_plugin.managed.answers import at, matrix, ordered, whole
from memory_plugin.managed.cohere import CohereConnection
from memory_plugin.managed.embedder import ManagedEmbedder
from memory_plugin.managed.limits import Facts, Ruler, TooLong
from memory_plugin.managed.service import Connection, Options, Service, Vendor, hide_key
from memory_plugin.managed.vendors import COHERE
from memory_plugin.models.ruler import estimating_ruler
from memory_plugin.types import Embeddings, InputType, Matrix

_V5_SIZES = (256, 512, 768, 1024, 1536)
_LONG = 128_000
"""Tokens that version 4 and later read, of one text and of a request."""
_INPUT_TYPES: dict[InputType, str] = {"query": "search_query", "document": "search_document"}

IMAGES_OF_V3 = 1
"""Images in a request to a model of version 3."""
BYTES_OF_IMAGES = 20 * 2**20
"""Of all images in a request; of one image for version 3: a quarter."""

_KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


class CohereEmbedder(ManagedEmbedder):
    """embed-v4.0, embed-v5.0-pro and -fast, or the models of version 3; through Cohere's SDK.

    Queries and documents are told apart to the model ("input_type").

    Args:
        model: Cohere's name of the model.
        dimension: Shorter vectors ("output_dimension"), from version 4 on.
        too_long: "pool" or "refuse", see ``ManagedEmbedder``.
        output_type: Element type that Cohere returns: "float" or "int8"; the store keeps float32 either way.
        encoding: How floats travel: "base64" or "float".  Both are understood.
        options: See ``managed.service.Options``.
    """

    vendor: ClassVar[Vendor] = COHERE
    models: ClassVar[dict[str, Facts]] = {
        "embed-v5.0-pro": Facts(2048, _V5_SIZES, _LONG, 96, _LONG),
        "embed-v5.0-fast": Facts(2048, _V5_SIZES, _LONG, 96, _LONG),
        "embed-v4.0": Facts(1536, (256, 512, 1024), _LONG, 96, _LONG),
        "embed-english-v3.0": Facts(1024, (), 512, 96),
        "embed-multilingual-v3.0": Facts(1024, (), 512, 96),
        "embed-english-light-v3.0": Facts(384, (), 512, 96),
        "embed-multilingual-light-v3.0": Facts(384, (), 512, 96),
    }
    unknown: ClassVar[Facts] = Facts(sizes=None, window=512, texts=96)

    def __init__(
        self,
        model: str = "embed-v4.0",
        *,
        dimension: int | None = None,
        too_long: TooLong = "pool",
        output_type: Literal["float", "int8"] = "float",
        encoding: Literal["base64", "float"] = "base64",
        **options: Unpack[Options],
    ) -> None:
        hide_key(options)
        if output_type not in ("float", "int8"):
            raise InvalidInputError(f"output_type is 'float' or 'int8', not {output_type!r:.80}")
        if encoding not in ("base64", "float"):
            raise InvalidInputError(f"encoding is 'base64' or 'float', not {encoding!r:.80}")
        super().__init__(model, dimension=dimension, too_long=too_long, **options)
        self._type = output_type if output_type == "int8" else encoding

    def embed_images(self, images: Sequence[bytes], /) -> Embeddings:
        """Unit vectors of images, in the space of the texts.

        Args:
            images: Contents of PNG, JPEG, WebP or GIF files; at most 20 MB each, 5 MB for version 3.

        Raises:
            InvalidInputError: One is of another kind, or too large.
            EmbeddingError: Cohere failed, or what it returned is not n finite vectors.
            QuotaError: The account is out of credit.
        """
        old = self._service.model.endswith("v3.0")
        most = BYTES_OF_IMAGES // 4 if old else BYTES_OF_IMAGES
        addresses = [_data_uri(image, place, most) for place, image in enumerate(images)]
        dimension = self.identity.dimension
        if not addresses:
            return Embeddings(np.empty((0, dimension), np.float32), billed_tokens=0)
        jobs = _image_jobs(addresses, IMAGES_OF_V3 if old else self._facts().texts)

        def send(connection: CohereConnection, job: list[str], seconds: float) -> tuple[Matrix, int]:
            body = connection.embed(seconds, images=job, **self._named("image"))
            billed = self._billed(body)
            self._service.count(texts=len(job), tokens=billed)
            return matrix(self._rows(body, len(job)), dimension, dtype=self._dtype), billed

        made = self._service.run(jobs, send)
        vectors = np.concatenate([vectors for vectors, _ in made])
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(unit.astype(np.float32), billed_tokens=sum(billed for _, billed in made))

    def _connect(self, service: Service) -> Connection:
        return CohereConnection(service)

    def _named(self, input_type: str) -> dict[str, Any]:
        sized = self._sized()
        named = {"model": self._service.model, "input_type": input_type, "embedding_types": [self._type]}
        return named if sized is None else {**named, "output_dimension": sized}

    def _request(self, connection: CohereConnection, texts: list[str], input_type: InputType, seconds: float) -> Any:
        return connection.embed(seconds, texts=texts, truncate="NONE", **self._named(_INPUT_TYPES[input_type]))

    def _rows(self, body: Any, number: int) -> list[Any]:
        found = at(body, "embeddings")
        kind = self._type
        if isinstance(found, dict) and found.get(kind) is None and kind != "int8":
            kind = "float" if kind == "base64" else "base64"
        return ordered(at(body, "embeddings", kind), number, None)

    def _billed(self, body: Any) -> int:
        units = ("meta", "billed_units")
        return whole(body, *units, "input_tokens") + whole(body, *units, "image_tokens")

    def _ruler(self) -> Ruler:
        return estimating_ruler()

    def _told(self, input_type: InputType) -> str:
        return f"[{_INPUT_TYPES[input_type]}]"

    @property
    def _dtype(self) -> str:
        return "int8" if self._type == "int8" else "float32"


def _data_uri(image: bytes, place: int, most: int) -> str:
    if not isinstance(image, bytes):
        raise InvalidInputError(f"images[{place}] is a {type(image).__name__}, not the bytes of a file")
    kind = next((kind for start, kind in _KINDS.items() if image.startswith(start)), None)
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        raise InvalidInputError(f"images[{place}] is no PNG, JPEG, WebP or GIF file")
    if len(image) > most:
        raise InvalidInputError(f"images[{place}] has {len(image)} bytes, more than the {most} that the model takes")
    return f"data:{kind};base64,{base64.b64encode(image).decode()}"


def _image_jobs(addresses: Sequence[str], number: int) -> list[list[str]]:
    jobs: list[list[str]] = []
    for address in addresses:
        if not jobs or len(jobs[-1]) >= number or sum(map(len, jobs[-1])) + len(address) > BYTES_OF_IMAGES:
            jobs.append([])
        jobs[-1].append(address)
    return jobs
