"""What an embedder behind an API does beside its one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import numpy as np

from memory_plugin.errors import EmbeddingError, InvalidInputError
from memory_plugin.managed.answers import matrix
from memory_plugin.managed.limits import Facts, Part, Ruler, TooLong, batches, parts, pooled
from memory_plugin.managed.service import Connection, Options, Service, Vendor, described, hide_key
from memory_plugin.tokens import MARGIN
from memory_plugin.types import Embeddings, InputType, Matrix, ModelIdentity, Usage

PROBE = "dimension"
"""The text whose vector tells the dimension of a model that is not known."""


class ManagedEmbedder:
    """Vectors from a model behind an API.  A vendor's embedder says what differs: see the hooks below.

    Safe to use from several threads, and after a fork.  Makes no connection before the first text.

    Args:
        model: The vendor's name of the model.
        dimension: Length of a vector, where the model has several.  Default: the model's own; one that is not known
            is asked for by embedding one word.
        too_long: What is done with a text that is longer than the model reads: "pool" embeds its parts and takes the
            mean, weighted by their lengths; "refuse" raises.
        options: See ``managed.service.Options``.

    Raises:
        MissingExtraError: The vendor's SDK is not installed.
        InvalidInputError: An argument cannot be used.
    """

    vendor: ClassVar[Vendor]
    models: ClassVar[dict[str, Facts]] = {}
    """Those that are known."""
    unknown: ClassVar[Facts] = Facts()
    """What is taken to hold for others."""

    def __init__(
        self,
        model: str,
        *,
        dimension: int | None = None,
        too_long: TooLong = "pool",
        **options: Unpack[Options],
    ) -> None:
        hide_key(options)
        if too_long not in ("pool", "refuse"):
            raise InvalidInputError(f"too_long is 'pool' or 'refuse', not {too_long!r:.80}")
        self._service = Service(self.vendor, model, EmbeddingError, self._connect, options)
        if dimension is not None:
            self.models.get(model, self.unknown).check_dimension(model, dimension)
        self._dimension = dimension
        self._too_long: TooLong = too_long
        self._identity: ModelIdentity | None = None

    # ── what a vendor's embedder says ─────────────────────────────────────────────────────────────

    def _connect(self, service: Service) -> Connection:
        """What requests are made with."""
        raise NotImplementedError

    def _request(self, connection: Any, texts: list[str], input_type: InputType, seconds: float) -> Any:
        """One request: the answer's JSON; raises ``CallError``."""
        raise NotImplementedError

    def _rows(self, body: Any, number: int) -> list[Any]:
        """The vectors in the answer, in the order of the texts, as lists of numbers or as base64."""
        raise NotImplementedError

    def _billed(self, body: Any) -> int:
        """Tokens that the answer says were charged."""
        raise NotImplementedError

    def _ruler(self) -> Ruler:
        """Measures texts in the model's tokens."""
        raise NotImplementedError

    def _prefix(self, input_type: InputType) -> str:
        """What is put before a text."""
        return ""

    def _told(self, input_type: InputType) -> str:
        """What the model is told of a text, for the identity: a prefix, or the vendor's input type."""
        return self._prefix(input_type)

    def _facts(self) -> Facts:
        """What is known of the model."""
        return self.models.get(self._service.model, self.unknown)

    def _model(self) -> str:
        """The model's name, for the identity."""
        return self._service.model

    def _revision(self) -> str | None:
        """What the service itself says of the model's version."""
        return None

    @property
    def _dtype(self) -> str:
        """Element type that the vendor returns."""
        return "float32"

    # ── what all have ─────────────────────────────────────────────────────────────────────────────

    @property
    def identity(self) -> ModelIdentity:
        """What decides the space of its vectors; asks the service where that is not known.

        Raises:
            EmbeddingError: The service had to be asked, and did not answer.
        """
        if self._identity is None:
            self._identity = self._found_identity()
        return self._identity

    @property
    def leaves_machine(self) -> bool:
        """Whether texts are sent to another machine."""
        return self._service.leaves_machine

    @property
    def usage(self) -> Usage:
        """All of it since the embedder was made."""
        return self._service.meter.usage

    @property
    def max_tokens(self) -> int | None:
        """Word pieces that a passage may have so as not to be refused; None where none is."""
        window = self._facts().window if self._too_long == "refuse" else None
        return None if window is None else int(window / MARGIN)

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """Unit vectors, in input order.

        Args:
            texts: Any number.
            input_type: "document" or "query".

        Returns:
            ``vectors`` of shape (n, dimension), and the tokens that the vendor charged for.

        Raises:
            InvalidInputError: A text is empty, holds a lone surrogate, or is too long and to be refused.
            EmbeddingError: The vendor failed, or what it returned is not n finite vectors.
            QuotaError: The account is out of credit.
        """
        if input_type not in ("query", "document"):
            raise InvalidInputError(f"input_type is 'query' or 'document', not {input_type!r:.80}")
        check_texts(texts)
        if not texts:
            return Embeddings(np.empty((0, self.identity.dimension), np.float32), billed_tokens=0)
        dimension, facts, ruler = self.identity.dimension, self._facts(), self._ruler()
        sent = parts(texts, ruler, window=facts.window, prefix=self._prefix(input_type), too_long=self._too_long)
        jobs = batches(sent, ruler, texts=self._service.batch or facts.texts, tokens=facts.tokens)
        vectors, billed = self._vectors(jobs, input_type, dimension)
        return Embeddings(pooled(vectors, sent, len(texts)), billed_tokens=billed)

    def close(self) -> None:
        """Let go of the connections; another call makes new ones."""
        self._service.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({described(self)})"

    def _vectors(
        self, jobs: Sequence[Sequence[Part]], input_type: InputType, dimension: int | None
    ) -> tuple[Matrix, int]:
        """Vectors of all parts, and the tokens charged."""

        def send(connection: Any, job: Sequence[Part], seconds: float) -> tuple[Matrix, int]:
            body = self._request(connection, [part.text for part in job], input_type, seconds)
            billed = self._billed(body)
            self._service.count(texts=len(job), tokens=billed)
            return matrix(self._rows(body, len(job)), dimension, dtype=self._dtype), billed

        made = self._service.run(jobs, send)
        return np.concatenate([vectors for vectors, _ in made]), sum(billed for _, billed in made)

    def _found_identity(self) -> ModelIdentity:
        dimension = self._dimension or self._facts().dimension
        if dimension is None:
            dimension = self._vectors([[Part(0, PROBE, 1)]], "document", None)[0].shape[1]
        return ModelIdentity(
            provider=self.vendor.name,
            model=self._model(),
            revision=self._service.revision(self._revision()),
            dimension=dimension,
            query_prefix=self._told("query"),
            document_prefix=self._told("document"),
            output_type=self._dtype,
        )

    def _sized(self) -> int | None:
        """The dimension to ask the vendor for; None: the model's own."""
        return None if self._dimension in (None, self._facts().dimension) else self._dimension


def check_texts(texts: Sequence[str], unit: str = "texts") -> None:
    """Refuse what no vendor embeds.

    Raises:
        InvalidInputError: It names the text.
    """
    if isinstance(texts, str):
        raise InvalidInputError(f"{unit} is a list of texts, not one text")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInputError(f"{unit}[{place}] is a {type(text).__name__}, not a text")
        if not text.strip():
            raise InvalidInputError(f"{unit}[{place}] is empty, or nothing but white space")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"{unit}[{place}] holds a lone surrogate at offset {error.start}: clean it with"
                " text.encode('utf-8', 'replace').decode()"
            ) from error
