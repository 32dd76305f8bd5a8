"""What the engine needs from the world, as protocols: nothing to inherit from, one to nine methods.

A method marked ``Maybe`` may be ``def`` or ``async def``: write ``def`` if you block, ``async def``
if you await.  Implementations may raise anything; the engine maps it to ``memory_plugin.errors``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar

from memory_plugin.types import (
    Embeddings,
    Filter,
    InputType,
    Json,
    LegQuery,
    Matrix,
    ModelIdentity,
    Point,
    PointId,
    Quantization,
    Scored,
    TokenVectors,
    Usage,
)

if TYPE_CHECKING:
    from numpy import float32, uint32
    from numpy.typing import NDArray

    from memory_plugin.flow import IO

T = TypeVar("T")
Maybe: TypeAlias = T | Awaitable[T]


class Embedder(Protocol):
    """Texts to vectors."""

    @property
    def identity(self) -> ModelIdentity:
        """What decides the space of its vectors."""

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Maybe[Embeddings | Sequence[Sequence[float]]]:
        """One vector a text, in input order."""


class LlamaIndexEmbedding(Protocol):
    """What is used of an embedding object of LlamaIndex; a store takes one as its embedder."""

    def get_text_embedding_batch(self, texts: list[str], /) -> Sequence[Sequence[float]]:
        """One vector a document, in input order."""

    def get_query_embedding(self, query: str, /) -> Sequence[float]:
        """The vector of a query."""


class LangChainEmbeddings(Protocol):
    """What is used of an embedding object of LangChain; a store takes one as its embedder."""

    def embed_documents(self, texts: list[str], /) -> Sequence[Sequence[float]]:
        """One vector a document, in input order."""

    def embed_query(self, text: str, /) -> Sequence[float]:
        """The vector of a query."""


AnyEmbedder: TypeAlias = Embedder | LlamaIndexEmbedding | LangChainEmbeddings
"""What may be passed as an embedder: see ``registry.adapted``."""


class Located(Protocol):
    """What an embedder or a reranker may tell of where it works; one that does not tell is taken to be elsewhere."""

    @property
    def leaves_machine(self) -> bool:
        """Whether texts, or requests for model files, are sent to another machine."""


class Metered(Protocol):
    """An embedder or a reranker that counts what it is used for."""

    @property
    def usage(self) -> Usage:
        """All of it since the provider was made."""


class ImageEmbedder(Protocol):
    """An embedder whose images lie in the space of its texts."""

    def embed_images(self, images: Sequence[bytes], /) -> Maybe[Embeddings]:
        """One vector an image, in input order; an image is the content of a PNG, JPEG, WebP or GIF file."""


class LateInteraction(Protocol):
    """Scores passages by their token vectors, kept packed beside each passage."""

    @property
    def model(self) -> str:
        """Its name and version: packed tokens of another cannot be scored."""

    @property
    def encoder(self) -> str:
        """Which model's token vectors it scores; an embedder of the same ``encoder`` gives them for free."""

    def pack(self, tokens: TokenVectors, /) -> bytes:
        """A passage's tokens as bytes, to be sealed."""

    def tokens(self, texts: Sequence[str], /) -> tuple[TokenVectors, ...]:
        """Token vectors of texts, where the embedder gives none."""

    def score(self, query: TokenVectors, passages: Sequence[bytes], /) -> NDArray[float32]:
        """One score a packed passage, shape (n,); higher is better."""


class TokenEncoder(Protocol):
    """An embedder whose token vectors are meant to be compared with each other, as ColBERT's and bge-m3's are."""

    @property
    def encoder(self) -> str:
        """Which model's token vectors they are, with its version."""

    @property
    def token_dimension(self) -> int:
        """Length of a token vector, a multiple of 8."""

    @property
    def vocabulary(self) -> int:
        """How many word pieces there are: ids are below it."""

    @property
    def special_tokens(self) -> Collection[int]:
        """Ids that stand for no word, such as those at both ends; a query's are not scored."""

    def token_vectors(self, texts: Sequence[str], /) -> Sequence[TokenVectors]:
        """Token vectors of texts of any length, as those that ``embed`` gives for documents."""


class Reranker(Protocol):
    """Reads the query and a passage together."""

    @property
    def model(self) -> str:
        """Its name and version."""

    def rerank(self, query: str, texts: Sequence[str], /) -> Maybe[Sequence[float]]:
        """One score a text, in input order; higher is better.  Sorting is the engine's."""


class TokenCounter(Protocol):
    """Counts tokens as a language model would."""

    @property
    def name(self) -> str:
        """What counts, e.g. "tiktoken:cl100k_base"."""

    def __call__(self, text: str, /) -> int:
        """How many tokens the text has."""


class SubjectKey(Protocol):
    """A data subject's key, one version of it.  Never shows its bytes in ``repr``."""

    @property
    def id(self) -> bytes:
        """Four bytes that name the key in an envelope."""

    def derive(self, purpose: str, /) -> bytes:
        """The 32 byte sub-key of a purpose: "record", "term", "filter", "vector", "id"."""


class KeyRing(Protocol):
    """Keys of one store's data subjects, each wrapped by a key-encryption key.

    ``subject`` is a blind tag, never a name.  The empty string names the store itself.
    """

    @property
    def location(self) -> str:
        """Where the keys are, for people."""

    def keys(self, subject: str, /, *, create: bool) -> Maybe[Sequence[SubjectKey]]:
        """The subject's keys, the one that seals first; made when ``create`` and there is none.

        Raises:
            KeyServiceError: The keys could not be read, unwrapped or written.
        """

    def destroy(self, subject: str, /) -> Maybe[int]:
        """Destroy every key of the subject; how many there were."""


class Sealer(Protocol):
    """What one data subject's keys do: pure computation, safe to use from several threads."""

    @property
    def subject(self) -> str:
        """The subject's blind tag."""

    def seal(self, point: PointId, field: str, plaintext: bytes, /) -> str:
        """An envelope as text, bound to the store, the subject, the point and the field."""

    def open(self, point: PointId, field: str, sealed: object, /) -> bytes:
        """What was sealed for exactly that place.

        Raises:
            UnsealedPayloadError: It is no envelope.
            UnknownKeyError: It names a key that this subject does not have.
            WrongKeyError: It was made under another key.
            DecryptionError: It was changed, or moved from where it was sealed.
        """

    def term_ids(self, terms: Sequence[str], /) -> NDArray[uint32]:
        """Keyed ids of lexical terms, shape (terms,)."""

    def tag(self, label: str, /, *values: str) -> str:
        """A keyed 64 bit tag of a value under a label, as hex; equal values have equal tags."""

    def point_id(self, *parts: str) -> PointId:
        """A keyed UUID of the parts."""

    def rotate(self, vectors: Matrix, /) -> Matrix:
        """Unit vectors, shape (n, dimension), as they are stored; cosines among them do not change."""

    def unrotate(self, vectors: Matrix, /) -> Matrix:
        """What ``rotate`` was given, up to float32 rounding."""


class VectorIndex(Protocol):
    """A Qdrant collection or shard, without either client's classes.

    Ours to implement, so it takes the ``IO`` explicitly: ``await io.call(blocking_or_async, …)``.
    Every method maps the engine's exceptions to ``IndexUnavailableError`` and its subclasses.
    """

    @property
    def name(self) -> str:
        """Which engine and version, e.g. "qdrant-edge 0.9.0"."""

    @property
    def location(self) -> str:
        """Where the data is: a directory or a URL and a collection."""

    @property
    def exclusive(self) -> bool:
        """Whether no other process can write while this one has it open."""

    async def read_manifest(self, io: IO, /) -> dict[str, Json] | None:
        """What the collection was built with; None where there is no collection yet."""

    async def create(
        self,
        io: IO,
        manifest: Mapping[str, Json],
        /,
        *,
        dense: Mapping[str, int],
        sparse: Sequence[str],
        weighted: Sequence[str] = (),
        keywords: Sequence[str],
        integers: Sequence[str],
        tenant: str,
        quantization: Quantization = "turbo4",
    ) -> None:
        """Make the collection, its payload indexes, then its manifest.

        Args:
            io: How to reach the engine.
            manifest: Kept with the data.
            dense: Dimension by vector name (cosine).
            sparse: Names of sparse vectors whose dot products are multiplied by IDF.
            weighted: Names of sparse vectors whose dot products stand as they are.
            keywords: Payload keys with an exact-match index.
            integers: Payload keys with an exact-match and range index.
            tenant: The one of ``keywords`` that separates data subjects.
            quantization: How dense vectors are kept for the first pass of a search; all are kept in full, too.
        """

    async def add_vectors(self, io: IO, /, *, dense: Mapping[str, int], weighted: Sequence[str] = ()) -> None:
        """Give the collection further vectors, which no point has yet; those that it has are no error.

        Readers and writers go on meanwhile.

        Raises:
            InvalidInputError: A vector of that name has another dimension or kind.
        """

    async def drop_vectors(self, io: IO, names: Sequence[str], /) -> None:
        """Take vectors away from all points and from the collection.

        One that the collection does not have is no error.  On return, an embedded store's files hold their bytes no
        more; a server has removed its files, and its log moves on by itself.  If this fails or is killed, call it
        again.

        Raises:
            InvalidInputError: They are all that the collection has.
        """

    async def update_vectors(self, io: IO, points: Sequence[Point], /) -> None:
        """Set the vectors given of points that exist, and nothing else of them; durable on return.

        A point that is not there is passed over, never made.

        Raises:
            InvalidInputError: A vector has another dimension or is not finite.  Nothing was written.
        """

    async def update_payloads(self, io: IO, points: Sequence[Point], /) -> None:
        """Set the payload keys given of points that exist, and nothing else of them; durable on return.

        A point that is not there is passed over, never made.

        Raises:
            InvalidInputError: A payload cannot be stored.  Nothing was written.
        """

    async def drop_payload(self, io: IO, keys: Sequence[str], /) -> None:
        """Take payload keys away from all points; their bytes are gone on return, as those of dropped vectors."""

    async def quantize(self, io: IO, quantization: Quantization, /) -> None:
        """Keep all dense vectors for the first pass in another form, computed from the full ones."""

    async def settle(self, io: IO, /) -> None:
        """Give vectors that were added and filled what those have that were there from the beginning.

        Readers may wait meanwhile, none fails.
        """

    async def write_manifest(self, io: IO, manifest: Mapping[str, Json], /) -> None:
        """Replace the manifest in one step."""

    async def upsert(self, io: IO, points: Sequence[Point], /) -> None:
        """Write points: all or none where the engine can (embedded: always), durable on return.

        Raises:
            InvalidInputError: An id is no UUID, a vector has another dimension or is not finite.
                Nothing was written.
        """

    async def set_payload(self, io: IO, payload: Mapping[str, Json], /, *, where: Filter) -> None:
        """Set payload keys of all matching points, in one step."""

    async def fetch(
        self, io: IO, ids: Sequence[PointId], /, *, payload: Sequence[str] | Literal[True], vectors: bool = False
    ) -> list[Point]:
        """Those of the points that exist, in the order asked."""

    async def search(self, io: IO, legs: Sequence[LegQuery], /) -> list[list[Scored]]:
        """All legs in one request; a list for each, best first."""

    async def scroll(
        self,
        io: IO,
        where: Filter,
        /,
        *,
        limit: int,
        after: PointId | None = None,
        payload: Sequence[str] | Literal[True],
    ) -> tuple[list[Point], PointId | None]:
        """A page of matching points in id order, and where the next begins (None: no more)."""

    async def count(self, io: IO, where: Filter, /) -> int:
        """How many match, exactly."""

    async def facet(self, io: IO, key: str, where: Filter, /, *, limit: int) -> list[tuple[str | int, int]]:
        """The values of an indexed key among matching points with exact counts, most frequent first."""

    async def delete(self, io: IO, where: Filter | Sequence[PointId], /) -> None:
        """Delete matching points, or those of the ids; absent ids are no error."""

    async def stats(self, io: IO, /) -> dict[str, Json]:
        """Sizes and settings, for ``doctor``: "points", "bytes", and whatever else is worth telling."""

    async def close(self, io: IO, /) -> None:
        """Write out and let go; twice is no error."""
