"""What both stores do to what they have: delete, forget, rotate, change the model, verify; one line a verb."""

from __future__ import annotations

from collections.abc import Sequence

from memory_plugin import ids
from memory_plugin.engine.backfill import BATCH
from memory_plugin.engine.describe import Verified
from memory_plugin.engine.inputs import Questions
from memory_plugin.engine.manage import Forgotten
from memory_plugin.engine.migrate import FLOOR
from memory_plugin.engine.migration import Migration, Pending, Tell
from memory_plugin.engine.rotate import Rotated
from memory_plugin.engine.verbs import Verbs
from memory_plugin.flow import run
from memory_plugin.protocols import AnyEmbedder
from memory_plugin.types import Filter, Json, PointId, Quantization, Usage


class Upkeep:
    """Of ``MemoryStore``."""

    _verbs: Verbs

    def delete(
        self,
        namespace: ids.NamespaceLike,
        ids: PointId | Sequence[PointId] | None = None,
        *,
        source: str | Sequence[str] | None = None,
        filter: Filter | None = None,
        everything: bool = False,
    ) -> int:
        """Delete memories; how many chunks there were.

        Args:
            namespace: Whose.
            ids: These.
            source: Or the document of that name, or those of several: of this namespace, not of those below it.
            filter: Or those that satisfy a filter.
            everything: Or all of the namespace and those below it.

        Raises:
            InvalidInputError: None of the four is given, or several.
        """
        return run(self._verbs.delete(namespace, ids, source=source, filter=filter, everything=everything))

    def forget(self, namespace: ids.NamespaceLike) -> Forgotten:
        """Destroy a data subject's key and delete its memories; says what is gone and what is not.

        Raises:
            InvalidInputError: The namespace has more than one part.
        """
        return run(self._verbs.forget(namespace))

    def rotate(self, namespace: ids.NamespaceLike) -> Rotated:
        """Seal everything of a data subject under a new key, while serving, and destroy the old one.

        Vectors, lexical terms, tags and ids stay as they are.  Cut off, it is finished by calling it again.

        Raises:
            InvalidInputError: The namespace has more than one part.
            ConfigurationError: The store is PLAINTEXT, or its key ring cannot rotate.
        """
        return run(self._verbs.rotate(namespace))

    def migrate(
        self,
        embedder: AnyEmbedder | str | None = None,
        *,
        questions: Questions | None = None,
        floor: float = FLOOR,
        rate: float | None = None,
        batch: int = BATCH,
        progress: Tell | None = None,
        dry_run: bool = False,
        force: bool = False,
        quantization: Quantization | None = None,
    ) -> Migration:
        """Change the model of the store, or how its vectors are quantized, while it serves.

        Every write fills both models' spaces from now on; memories that were there before get vectors of the new
        model; then it is measured, and searches go over to it in one step.  The old space is kept, and written, until
        ``finish``: ``rollback`` goes back.  Cut off, it is finished by calling it again with the same model.

        Args:
            embedder: The new model, an object or a name; None to change the quantization alone.
            questions: Your own, with what answers them: a file, the directory of an evaluation set, or a list.  Without
                any, the memories themselves are asked for.
            floor: Share of what the old model finds that the new one has to find.
            rate: Memories a second at most; None: as fast as it goes.
            batch: Memories embedded and written together.
            progress: Called with a ``MigrationProgress`` after each batch.
            dry_run: Say what it would take, and change nothing.
            force: Switch whatever was measured.
            quantization: "turbo4", "turbo2", "int8", "binary" or "none".

        Raises:
            MigrationError: Another one is pending, or too little is found; the store serves as before.
            EmbeddingError: A model failed; what was done is kept.
            InvalidInputError: An argument cannot be used.
        """
        return run(
            self._verbs.migrate(
                embedder,
                questions=questions,
                floor=floor,
                rate=rate,
                batch=batch,
                progress=progress,
                dry_run=dry_run,
                force=force,
                quantization=quantization,
            )
        )

    def rollback(
        self, embedder: AnyEmbedder | str | None = None, *, rate: float | None = None, batch: int = BATCH
    ) -> Migration:
        """Go back to the model before the last switch: at once, then fill in what was not written to its space.

        Args:
            embedder: That model, where this store was opened without it.
            rate: Memories a second at most, of those that are filled in.
            batch: Memories embedded and written together.

        Raises:
            MigrationError: Nothing was switched, it was finished, or the model is not at hand.
        """
        return run(self._verbs.rollback(embedder, rate=rate, batch=batch))

    def finish(self) -> int | None:
        """Drop the space that was left by the last switch; how many bytes that freed, where the index tells.

        Raises:
            MigrationError: There is none.
        """
        return run(self._verbs.finish())

    def abandon(self) -> int | None:
        """Give up a migration that was not switched, and drop its space; bytes as ``finish``.

        Raises:
            MigrationError: None is under way.
        """
        return run(self._verbs.abandon())

    def migration(self) -> Pending | None:
        """The migration that is not finished, and what can be done; None where there is none."""
        return run(self._verbs.migration())

    def verify(self, *, model: bool = False) -> Verified:
        """Open every memory of every subject; says which do not open or lack a vector.

        Args:
            model: Embed the probes that were kept when the store was made, too, and say how far the model has moved.

        Raises:
            EmbeddingError: The model failed.
        """
        return run(self._verbs.verify(model=model))

    def usage(self) -> dict[str, Usage]:
        """What was used of the providers that count, since they were made; those on this machine do not.

        Returns:
            By "embedder", "reranker", and "other_embedder" while the store has the vectors of two models.
        """
        return run(self._verbs.usage())

    def describe(self) -> dict[str, Json]:
        """Where data and keys are, what protects what, which models, versions, sizes."""
        return run(self._verbs.describe())


class AsyncUpkeep:
    """Of ``AsyncMemoryStore``."""

    async def _verbs(self) -> Verbs:
        raise NotImplementedError

    async def delete(
        self,
        namespace: ids.NamespaceLike,
        ids: PointId | Sequence[PointId] | None = None,
        *,
        source: str | Sequence[str] | None = None,
        filter: Filter | None = None,
        everything: bool = False,
    ) -> int:
        """See ``Upkeep.delete``."""
        return await (await self._verbs()).delete(namespace, ids, source=source, filter=filter, everything=everything)

    async def forget(self, namespace: ids.NamespaceLike) -> Forgotten:
        """See ``Upkeep.forget``."""
        return await (await self._verbs()).forget(namespace)

    async def rotate(self, namespace: ids.NamespaceLike) -> Rotated:
        """See ``Upkeep.rotate``."""
        return await (await self._verbs()).rotate(namespace)

    async def migrate(
        self,
        embedder: AnyEmbedder | str | None = None,
        *,
        questions: Questions | None = None,
        floor: float = FLOOR,
        rate: float | None = None,
        batch: int = BATCH,
        progress: Tell | None = None,
        dry_run: bool = False,
        force: bool = False,
        quantization: Quantization | None = None,
    ) -> Migration:
        """See ``Upkeep.migrate``."""
        return await (await self._verbs()).migrate(
            embedder,
            questions=questions,
            floor=floor,
            rate=rate,
            batch=batch,
            progress=progress,
            dry_run=dry_run,
            force=force,
            quantization=quantization,
        )

    async def rollback(
        self, embedder: AnyEmbedder | str | None = None, *, rate: float | None = None, batch: int = BATCH
    ) -> Migration:
        """See ``Upkeep.rollback``."""
        return await (await self._verbs()).rollback(embedder, rate=rate, batch=batch)

    async def finish(self) -> int | None:
        """See ``Upkeep.finish``."""
        return await (await self._verbs()).finish()

    async def abandon(self) -> int | None:
        """See ``Upkeep.abandon``."""
        return await (await self._verbs()).abandon()

    async def migration(self) -> Pending | None:
        """See ``Upkeep.migration``."""
        return await (await self._verbs()).migration()

    async def verify(self, *, model: bool = False) -> Verified:
        """See ``Upkeep.verify``."""
        return await (await self._verbs()).verify(model=model)

    async def usage(self) -> dict[str, Usage]:
        """See ``Upkeep.usage``."""
        return await (await self._verbs()).usage()

    async def describe(self) -> dict[str, Json]:
        """See ``Upkeep.describe``."""
        return await (await self._verbs()).describe()
