"""Stores of the corpora that are trained and judged on, made where nobody else looks and deleted afterwards."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from memory_plugin import registry
from memory_plugin.assembly import LOCAL
from memory_plugin.dataset import Dataset
from memory_plugin.errors import InvalidInputError
from memory_plugin.protocols import LateInteraction
from memory_plugin.settings import Settings
from memory_plugin.store import MemoryStore
from memory_plugin.train.measure import Progress

_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


class Bench:
    """Where stores are kept.

    Args:
        kept: A directory for those of models that are there already, to be used again; None: a temporary one.
        tell: Told about every batch that is added.
    """

    def __init__(self, kept: Path | None, tell: Progress) -> None:
        self._kept = kept
        self._tell = tell
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        made = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="memory-plugin-train-"))
        self._temporary = Path(made)
        if self._kept is not None:
            try:
                self._kept.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise InvalidInputError(f"{self._kept} cannot be made: {error.strerror or error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def store(
        self, data: Dataset, embedder: str, *, keep: bool = False, late: LateInteraction | str | None = LOCAL
    ) -> Iterator[MemoryStore]:
        """A store with a set's corpus, the keys beside it; what is there already is not embedded again.

        Args:
            data: The set.
            embedder: Name of the model.
            keep: Whether it may be used another time.
            late: As for ``MemoryStore``; None where only the dense leg is asked.
        """
        model = registry.embedder(embedder)
        identity = model.identity
        parts = (data.name, identity.model, identity.revision, str(identity.dimension), "late" if late else "dense")
        where = (self._kept if keep and self._kept is not None else self._temporary) / _UNFIT.sub("_", "-".join(parts))
        where.mkdir(exist_ok=True, mode=0o700)
        usual = Settings()
        settings = replace(
            usual, chunk_tokens=min(usual.chunk_tokens, getattr(model, "max_tokens", usual.chunk_tokens))
        )
        with MemoryStore.open(
            where / "store", embedder=model, late=late, reranker=LOCAL, keyring=where / "keys.json", settings=settings
        ) as memory:
            self._fill(memory, data, f"embed {data.name}, {embedder}")
            yield memory

    def _fill(self, memory: MemoryStore, data: Dataset, what: str) -> None:
        before = 0
        for namespace, items in data.corpus.items():

            def batch(done: int, _of: int, before: int = before) -> None:
                self._tell(what, before + done, data.rows)

            memory.add(list(items), namespace, progress=batch)
            before += len(items)
            self._tell(what, before, data.rows)
