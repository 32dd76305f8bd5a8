"""The wrapper: what is known comes out of the file, only the rest goes to the model."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from memory_plugin.cache import codec
from memory_plugin.cache.file import CacheFile
from memory_plugin.cache.keys import CacheKey, box
from memory_plugin.errors import ConfigurationError, EmbeddingError, SealError
from memory_plugin.flow import OnLoop
from memory_plugin.manifest import space
from memory_plugin.network import leaves_machine
from memory_plugin.protocols import Embedder, Maybe
from memory_plugin.types import Embeddings, InputType, ModelIdentity, PointId

_log = logging.getLogger("memory_plugin.cache")


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """What a cache was good for.

    Args:
        hits: Texts that were not sent to the model.
        misses: Texts that were.
        refused: Entries that did not open, or were none: each is a miss, too, and replaced.
        failures: Times that the file could not be read or written; the model was asked all the same.
    """

    hits: int = 0
    misses: int = 0
    refused: int = 0
    failures: int = 0


class CachedEmbedder:
    """An embedder whose answers are kept in a file, sealed: vectors, token vectors and terms, to the last bit.

    Entries are keyed by the model's identity, the input type, and a keyed hash of the text.  The file tells how many
    there are, how large, and which were used last; not what they are of.  ``forget`` of a store does not reach it:
    ``clear`` does, and so does deleting the file or its key.

    A cache that fails, because its disk is full or its file damaged, is passed over, and says so once in the log
    "memory_plugin.cache".  A model that changes under its name is not noticed by what it answered once: what asks for
    that goes past the cache (``uncached``).

    Several threads and processes may use one file; safe after a fork.

    Args:
        inner: The embedder.
        path: The file; made when it is first needed.
        key: What entries are sealed under: a ``LocalKek``, 32 bytes, or the path of a key file of its own, which is
            made where there is none.  Under another key, all entries are misses.
        max_bytes: About how large the file may grow; what was not used for longest goes first.

    Raises:
        InvalidInputError: The key is none.
        ConfigurationError: The path is a directory, or the limit is too small.
        KeyServiceError: The key file cannot be read, or is a store's.
    """

    def __init__(self, inner: Embedder, path: str | os.PathLike[str], *, key: CacheKey, max_bytes: int = 2**30) -> None:
        place = Path(path).expanduser()
        if place.is_dir():
            raise ConfigurationError(f"the cache's path {place} is a directory: name a file in it")
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 2**16:
            raise ConfigurationError(f"max_bytes is a whole number of at least 65,536, not {max_bytes!r:.40}")
        self._inner = inner
        self._box = box(key)
        self._file = CacheFile(place, max_bytes)
        self._counts = CacheCounts()
        self._locks = {os.getpid(): threading.Lock()}

    def __repr__(self) -> str:
        return f"CachedEmbedder({self._inner!r}, {str(self._file.path)!r})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # a copy in the making has no inner one yet
            raise AttributeError(name)
        found = getattr(self._inner, name)
        return self._images if name == "embed_images" else found

    @property
    def identity(self) -> ModelIdentity:
        """The model's."""
        return self._inner.identity

    @property
    def leaves_machine(self) -> bool:
        """Whether the model does, for what is not known yet."""
        return leaves_machine(self._inner)

    @property
    def uncached(self) -> Embedder:
        """The embedder inside."""
        return self._inner

    @property
    def counts(self) -> CacheCounts:
        """Since this object was made."""
        return self._counts

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Maybe[Embeddings]:
        """As the model made them, in input order; ``billed_tokens`` are those of this call.

        Raises:
            MemoryPluginError: As the inner one.
        """
        names = [self._box.name(space(self.identity), input_type, text) for text in texts]
        call = self._inner.embed
        return self._answer(call, lambda left: call(left, input_type=input_type), texts, names)

    def clear(self) -> None:
        """Drop all entries.

        Raises:
            ConfigurationError: The file could not be written.
        """
        try:
            self._file.clear()
        except (sqlite3.Error, OSError) as error:
            raise ConfigurationError(f"the cache {self._file.path} was not cleared: {error}") from error

    def close(self) -> None:
        """Let go of the file, and of what the model holds."""
        self._file.close()
        inner_close = getattr(self._inner, "close", None)
        if inner_close is not None:
            inner_close()

    # ── inside ────────────────────────────────────────────────────────────────────────────────────

    def _images(self, images: Sequence[bytes], /) -> Maybe[Embeddings]:
        names = [self._box.name(space(self.identity), "image", hashlib.sha256(one).hexdigest()) for one in images]
        call = self._inner.embed_images  # type: ignore[attr-defined]
        return self._answer(call, call, images, names)

    def _answer(
        self, method: Callable[..., Any], call: Callable[[list[Any]], Any], items: Sequence[Any], names: list[PointId]
    ) -> Maybe[Embeddings]:
        if inspect.iscoroutinefunction(method):
            return self._awaited(call, items, names)
        known = self._known(names)
        left = _missing(items, names, known)
        made = call(list(left.values())) if left else None
        if inspect.isawaitable(made):
            return self._after(made, names, known, list(left))
        return self._merged(names, known, list(left), made)

    async def _awaited(
        self, call: Callable[[list[Any]], Awaitable[Any]], items: Sequence[Any], names: list[PointId]
    ) -> Embeddings:
        known = await OnLoop().call(self._known, names)
        left = _missing(items, names, known)
        made = await call(list(left.values())) if left else None
        return await OnLoop().call(self._merged, names, known, list(left), made)

    async def _after(
        self, made: Awaitable[Any], names: list[PointId], known: dict[PointId, Embeddings], left: list[PointId]
    ) -> Embeddings:
        return await OnLoop().call(self._merged, names, known, left, await made)

    def _known(self, names: Sequence[PointId]) -> dict[PointId, Embeddings]:
        """What the file has of the names, opened; what does not open is counted, and not there."""
        try:
            found = self._file.get([UUID(name).bytes for name in dict.fromkeys(names)])
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return {}
        known: dict[PointId, Embeddings] = {}
        refused = 0
        for key, sealed in found.items():
            name = str(UUID(bytes=key))
            try:
                row = codec.decode(self._box.open(name, sealed))
                if row.vectors.shape[1:] != (self.identity.dimension,):
                    raise ValueError("another dimension")
                known[name] = row
            except (SealError, ValueError):
                refused += 1
        self._count(refused=refused)
        return known

    def _merged(
        self, names: list[PointId], known: dict[PointId, Embeddings], left: list[PointId], made: Any
    ) -> Embeddings:
        """What was known and what was made now, in input order; the new is kept."""
        fresh, billed = self._rows(left, made) if left else ({}, 0)
        self._count(hits=len(names) - len(left), misses=len(left))
        if names:
            self._keep(fresh, [name for name in dict.fromkeys(names) if name in known])
        rows = [fresh[name] if name in fresh else known[name] for name in names]
        if not rows:
            return Embeddings(np.empty((0, self.identity.dimension), np.float32), billed_tokens=0)
        return Embeddings(
            np.concatenate([row.vectors for row in rows]),
            _joined([row.tokens for row in rows]),
            billed,
            _joined([row.terms for row in rows]),
        )

    def _rows(self, left: list[PointId], made: Any) -> tuple[dict[PointId, Embeddings], int | None]:
        """What the model made, text by text, and what that was charged at.

        Raises:
            EmbeddingError: It is not one vector a text.
        """
        provider = f"{self.identity.provider}:{self.identity.model}"
        try:
            found = made if isinstance(made, Embeddings) else Embeddings(np.asarray(made, dtype=np.float32))
        except (TypeError, ValueError) as error:
            raise EmbeddingError(f"{provider} returned no rows of numbers: {error}", provider=provider) from error
        vectors = np.asarray(found.vectors)
        sizes = {len(one) for one in (vectors, found.tokens, found.terms) if one is not None and np.ndim(vectors) == 2}
        if sizes != {len(left)}:
            message = f"{provider} returned vectors of shape {vectors.shape} for {len(left)} texts"
            raise EmbeddingError(message, provider=provider)
        rows = {
            name: Embeddings(
                vectors[at : at + 1],
                None if found.tokens is None else (found.tokens[at],),
                terms=None if found.terms is None else (found.terms[at],),
            )
            for at, name in enumerate(left)
        }
        return rows, found.billed_tokens

    def _keep(self, fresh: dict[PointId, Embeddings], used: list[PointId]) -> None:
        """Write what is new and sound, and note what was used."""
        sealed = {}
        for name, row in fresh.items():
            data = codec.encode(row) if _sound(row, self.identity.dimension) else None
            if data is not None:
                sealed[UUID(name).bytes] = self._box.seal(name, data)
        try:
            self._file.put(sealed, [UUID(name).bytes for name in used])
        except (sqlite3.Error, OSError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if not self._counts.failures:
            _log.warning("the embedding cache %s is passed over: %s: %s", self._file.path, type(error).__name__, error)
        self._count(failures=1)

    def _count(self, **more: int) -> None:
        # After a fork another thread may have held the lock for good: each process has its own.
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            now = self._counts
            self._counts = replace(now, **{what: getattr(now, what) + number for what, number in more.items()})


def _missing(items: Sequence[Any], names: Sequence[PointId], known: dict[PointId, Embeddings]) -> dict[PointId, Any]:
    """What is not known, each once, in order."""
    return {name: item for name, item in zip(names, items, strict=True) if name not in known}


def _joined(parts: Sequence[tuple[Any, ...] | None]) -> tuple[Any, ...] | None:
    return None if any(one is None for one in parts) else tuple(one[0] for one in parts if one is not None)


def _sound(row: Embeddings, dimension: int) -> bool:
    """Whether a row may be kept: what is refused now must not be answered for ever."""
    vector = row.vectors[0]
    finite = [vector] if row.tokens is None else [vector, row.tokens[0].vectors]
    weights = [] if row.terms is None else list(row.terms[0].values())
    return (
        vector.shape == (dimension,)
        and all(bool(np.isfinite(one).all()) for one in finite)
        and bool(np.isfinite(np.asarray(weights, np.float64)).all())
        and bool(vector.any())
    )
