"""What the arrows share: the providers a store holds, and the keys of its data subjects."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal, cast

import numpy as np

from memory_plugin import registry
from memory_plugin.chunk import Pieces
from memory_plugin.crypto.sealer import sealer as sealer_of
from memory_plugin.crypto.terms import subject_tag
from memory_plugin.engine.payload import DAY, MARKS, PREFIXES, SUBJECT, Head, namespace_tag
from memory_plugin.errors import EmbeddingError, KeyServiceError, translate
from memory_plugin.filters import Blind, Blinder
from memory_plugin.flow import IO
from memory_plugin.manifest import Manifest
from memory_plugin.network import leaves_machine
from memory_plugin.protocols import (
    Embedder,
    ImageEmbedder,
    KeyRing,
    LateInteraction,
    Reranker,
    Sealer,
    SubjectKey,
    VectorIndex,
)
from memory_plugin.settings import Settings
from memory_plugin.types import And, AnyOf, Embeddings, Filter, InputType, Namespace, Point, PointId

SEALERS = 256
"""Data subjects whose keys are kept unwrapped in memory."""

STORE = ""
"""The subject that stands for the store itself."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """An embedder with the space that its vectors live in: the two never part.

    Args:
        embedder: Makes the vectors.
        space: Its name, see ``manifest.space``.
    """

    embedder: Embedder
    space: str

    @property
    def dense(self) -> str:
        """Name of its vector in Qdrant."""
        return dense_name(self.space)

    @property
    def weighted(self) -> str | None:
        """Name of the vector of the terms that it weighs, where it does."""
        return weighted_name(self.space) if "terms" in self.embedder.identity.outputs.split(",") else None

    @property
    def name(self) -> str:
        """Provider and model, for people."""
        return f"{self.embedder.identity.provider}:{self.embedder.identity.model}"


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """Which models a store works with at a moment; replaced as a whole, so that nobody sees half a switch.

    Args:
        active: The one that is searched.
        other: That of the second space, while there is one and this process has the model: writes fill both.
    """

    active: Model
    other: Model | None = None


@dataclass(slots=True)
class Engine:
    """The parts of an open store.  Holds no data of its users beyond their keys.

    ``active`` is the model that is searched.  A search reads it once and stays with it, so that a switch in the
    middle mixes nothing.  ``other`` is the model of the second space while there is one: writes fill both.
    ``embedders`` are all that this process has, by space: what a switch may go to.
    Without ``allow_network`` none of the providers may leave the machine.
    """

    io: IO
    index: VectorIndex
    models: Models
    embedders: dict[str, Embedder]
    late: LateInteraction | None
    reranker: Reranker | None
    keyring: KeyRing
    pieces: Pieces
    settings: Settings
    manifest: Manifest
    store_key: SubjectKey
    store_sealer: Sealer
    allow_network: bool = True
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    writing: AbstractAsyncContextManager[object] = field(init=False)
    staging: AbstractAsyncContextManager[object] = field(init=False)
    heads: dict[str, Head] = field(default_factory=dict)
    opened_vectors: dict[tuple[str, str], object] = field(default_factory=dict)
    migrating: bool = False
    _sealers: OrderedDict[str, tuple[tuple[tuple[bytes, type], ...], Sealer]] = field(default_factory=OrderedDict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.writing = self.io.lock()
        self.staging = self.io.lock()

    @property
    def active(self) -> Model:
        """The model that is searched."""
        return self.models.active

    @property
    def other(self) -> Model | None:
        """The model of the second space, where there is one and this process has it."""
        return self.models.other

    @property
    def sparse(self) -> str:
        """Name of the lexical vector."""
        return sparse_name(self.manifest.lexical)

    @property
    def private_pieces(self) -> Pieces:
        """A tokenizer on this machine, for texts that must not leave it."""
        return registry.local_pieces() if leaves_machine(self.pieces) else self.pieces

    # ── keys ──────────────────────────────────────────────────────────────────────────────────────

    async def sealer(self, namespace: Namespace, *, create: bool) -> Sealer | None:
        """The keys of the namespace's data subject; None when it has none and none are to be made.

        The key ring is asked each time: another process may have destroyed or rotated a key.
        """
        return await self.sealer_of(subject_tag(self.store_key, namespace[0]), create=create)

    async def sealer_of(self, tag: str, *, create: bool) -> Sealer | None:
        """The keys of the data subject with that tag; None when it has none and none are to be made."""
        keys = await subject_keys(self.io, self.keyring, tag, create=create)
        if not keys:
            self.drop_sealer(tag)
            return None
        names = tuple((key.id, type(key)) for key in keys)  # a retired key keeps its id
        with self._guard:
            known = self._sealers.get(tag)
            if known is not None and known[0] == names:
                self._sealers.move_to_end(tag)
                return known[1]
            made = sealer_of(self.manifest.store, tag, keys)
            self._sealers[tag] = names, made
            while len(self._sealers) > SEALERS:
                self._sealers.popitem(last=False)
        return made

    def drop_sealer(self, subject: str) -> None:
        """Forget a subject's unwrapped keys."""
        with self._guard:
            self._sealers.pop(subject, None)
        self.heads.pop(subject, None)
        self.drop_vectors(subject)

    def drop_vectors(self, subject: str) -> None:
        """Forget a subject's opened vectors: they were written to."""
        for key in [key for key in list(self.opened_vectors) if key[1] == subject]:
            self.opened_vectors.pop(key, None)

    # ── filters ───────────────────────────────────────────────────────────────────────────────────

    def field_key(self, name: str) -> str:
        """The payload key of a declared field."""
        return field_key(self.store_sealer, name)

    def scope(self, sealer: Sealer, namespace: Namespace) -> Filter:
        """Every point of a namespace and of those below it."""
        subject = AnyOf(SUBJECT, (sealer.subject,))
        if len(namespace) == 1:
            return subject
        return And((subject, AnyOf(PREFIXES, (namespace_tag(sealer, namespace),))))

    def within(self, sealer: Sealer, namespace: Namespace, filter_: Filter | None) -> Blind:
        """Points of a namespace that may satisfy a user's filter."""
        scope = self.scope(sealer, namespace)
        if filter_ is None:
            return Blind(scope, exact=True)
        blinder = Blinder(
            declared=self.settings.filterable,
            key=self.field_key,
            tag=lambda name, value: sealer.tag("field", name, value),
            day=DAY if self.settings.time_index == "day" else None,
            marks=MARKS,
        )
        blind = blinder.blind(filter_)
        return Blind(And((scope, blind.filter)), exact=blind.exact)

    async def blind(self, sealer: Sealer, namespace: Namespace, filter_: Filter | None) -> Blind:
        """The same; a filter may have many values, each of which becomes a tag."""
        if filter_ is None:
            return self.within(sealer, namespace, None)
        return await self.io.call(self.within, sealer, namespace, filter_)

    # ── models ────────────────────────────────────────────────────────────────────────────────────

    def shares_tokens(self, model: Model) -> bool:
        """Whether the model's token vectors are those that late interaction scores."""
        return self.late is not None and getattr(model.embedder, "encoder", None) == self.late.encoder

    async def embed(self, model: Model, texts: Sequence[str], *, input_type: InputType) -> Embeddings:
        """Unit vectors of the model's space, checked; see ``embed``."""
        return await embed(self.io, model, texts, input_type=input_type)

    async def embed_images(self, model: Model, images: Sequence[bytes]) -> Embeddings:
        """Unit vectors of images in the space of the model's texts, checked.

        Raises:
            EmbeddingError: As for ``embed``.
        """
        embedder = cast("ImageEmbedder", model.embedder)
        with translate(EmbeddingError, provider=model.name):
            # What else it makes of an image is of no use: tokens and terms are those of texts.
            found = await self.io.call(embedder.embed_images, images)
            made = await self.io.call(checked, model, found, len(images), texts=False)
            return replace(made, tokens=None, terms=None)

    def weighted(self, model: Model) -> str | None:
        """Name of the vector of the model's term weights; none where vectors are sealed.

        Ids of terms are keyed, but their weights are as telling as a vector: who guesses a text can confirm it.
        """
        return model.weighted if self.settings.vectors != "sealed" else None


async def embed(io: IO, model: Model, texts: Sequence[str], *, input_type: InputType) -> Embeddings:
    """Unit vectors of the model's space, checked.

    Raises:
        EmbeddingError: The embedder failed, or what it returned is not n finite vectors.
    """
    with translate(EmbeddingError, provider=model.name):
        made = await io.call(model.embedder.embed, texts, input_type=input_type)
        if len(texts) == 1:
            return checked(model, made, 1)
        return await io.call(checked, model, made, len(texts))


def checked(model: Model, made: object, number: int, *, texts: bool = True) -> Embeddings:
    """What an embedder returned, with vectors of unit length.

    Raises:
        EmbeddingError: It is not so many finite vectors, or token vectors or terms are missing.
    """
    provider = model.name
    found = made if isinstance(made, Embeddings) else Embeddings(np.asarray(made, dtype=np.float32))
    vectors = np.asarray(found.vectors, dtype=np.float64)
    shape = (number, model.embedder.identity.dimension)
    if vectors.shape != shape:
        raise EmbeddingError(f"{provider} returned vectors of shape {vectors.shape}, not {shape}", provider=provider)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(norms).all() or (norms == 0).any():
        raise EmbeddingError(f"{provider} returned a vector that is zero or not finite", provider=provider)
    for what, values in (("token vectors", found.tokens), ("terms", found.terms)):
        if values is not None and len(values) != number:
            raise EmbeddingError(f"{provider} returned {what} of {len(values)} texts, not {number}", provider=provider)
    if texts and model.weighted is not None:
        _check_terms(provider, found)
    return replace(found, vectors=(vectors / norms).astype(np.float32))


def _check_terms(provider: str, found: Embeddings) -> None:
    if found.terms is None:
        raise EmbeddingError(f"{provider} says that it weighs terms, and returned none", provider=provider)
    weights = [weight for one in found.terms for weight in one.values()]
    if not np.isfinite(np.asarray(weights, dtype=np.float64)).all():
        raise EmbeddingError(f"{provider} returned a term's weight that is not finite", provider=provider)


def dense_name(space: str) -> str:
    """Name of a dense space's vector."""
    return f"d_{space}"


def weighted_name(space: str) -> str:
    """Name of the vector of a model's own term weights."""
    return f"w_{space}"


def sparse_name(space: str) -> str:
    """Name of a lexical space's vector."""
    return f"s_{space}"


def field_key(store: Sealer, name: str) -> str:
    """The payload key of a declared field: equal for all subjects, since Qdrant indexes by key."""
    return "f" + store.tag("field", name)


async def make_sealer(io: IO, keyring: KeyRing, store: str, subject: str, *, create: bool) -> Sealer | None:
    """The keys of a subject; None when it has none and none are to be made.

    Raises:
        KeyServiceError: The key ring failed.
    """
    keys = await subject_keys(io, keyring, subject, create=create)
    return sealer_of(store, subject, keys) if keys else None


async def subject_keys(io: IO, keyring: KeyRing, subject: str, *, create: bool) -> Sequence[SubjectKey]:
    """The keys of a subject, newest first; none when it has none and none are to be made.

    Raises:
        KeyServiceError: The key ring failed.
    """
    with translate(KeyServiceError, provider=keyring.location):
        return await io.call(keyring.keys, subject, create=create)


PAGE = 256
"""Points that are read, and opened, at once."""


async def pages(
    engine: Engine, where: Filter, *, payload: Sequence[str] | Literal[True], size: int = PAGE
) -> AsyncIterator[Sequence[Point]]:
    """Every matching point, some at once."""
    after: PointId | None = None
    while True:
        points, after = await engine.index.scroll(engine.io, where, limit=size, after=after, payload=payload)
        yield points
        if after is None:
            return


async def scroll(engine: Engine, where: Filter, *, payload: Sequence[str]) -> AsyncIterator[Point]:
    """Every matching point, one by one."""
    async for page in pages(engine, where, payload=payload):
        for point in page:
            yield point


class Stopwatch:
    """Wall seconds by stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """Book the time since the last lap."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def stop(self) -> dict[str, float]:
        """All of it, with the total."""
        self.seconds["total"] = time.perf_counter() - self._start
        return self.seconds
