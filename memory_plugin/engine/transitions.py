"""The steps from one state of a migration to the next: each is one write of the manifest, under the locks.

Locks are taken in one order, ``staging`` before ``writing``.  Who holds both knows that no document is half written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from memory_plugin.engine import canaries
from memory_plugin.engine.convert import shortens
from memory_plugin.engine.core import Engine, Model
from memory_plugin.engine.migration import Pending, State
from memory_plugin.engine.payload import OURS, vector_key
from memory_plugin.engine.spaces import adopt, command_line_place, follow, lacking, record, vectors_of
from memory_plugin.errors import MigrationError
from memory_plugin.manifest import Manifest, name_of, space
from memory_plugin.protocols import Embedder
from memory_plugin.types import ModelIdentity, Quantization

T = TypeVar("T")


def state(manifest: Manifest) -> State:
    """What the store is in."""
    return "filling" if manifest.target else "switched" if manifest.previous else "stable"


async def admitted(engine: Engine, embedder: Embedder) -> Model:
    """The model, once it may be migrated to.

    Raises:
        MigrationError: Another migration is pending, or the model cannot read what is to be embedded.
    """
    await follow(engine)
    manifest, identity = engine.manifest, embedder.identity
    model = Model(embedder, space(identity))
    at = f" --store {command_line_place(engine.index)}"
    if manifest.target not in (None, model.space):
        pending = name_of(manifest.spaces[str(manifest.target)], manifest)
        raise MigrationError(
            f"a migration to {pending} is pending: go on with `memory-plugin migrate --to {pending}{at}`, "
            f"or give it up with abandon() (`memory-plugin migrate --abandon{at}`)"
        )
    if manifest.previous is not None and model.space != manifest.active:
        raise MigrationError(
            f"the last migration, from {name_of(manifest.spaces[manifest.previous], manifest)}, is not finished: "
            f"rollback() goes back to that model, finish() drops its vectors "
            f"(`memory-plugin migrate --rollback{at}`, `--finish`)"
        )
    if not getattr(embedder, "embeds", True) and not shortens(manifest.spaces[manifest.active], identity):
        raise MigrationError(f"{model.name} embeds no texts: the memories' vectors cannot be made by it")
    window = getattr(embedder, "max_tokens", None)
    if isinstance(window, int) and engine.settings.chunk_tokens > window:
        raise MigrationError(
            f"passages of this store have up to {engine.settings.chunk_tokens} word pieces, and {model.name} reads "
            f"{window}: choose another model, or add the documents to a new store with Settings(chunk_tokens={window})"
        )
    return model


async def begin(engine: Engine, model: Model) -> None:
    """Give the collection the model's vectors, and let every write fill them from now on.

    The model makes its canaries first, so that one which does not work changes nothing.

    Raises:
        MigrationError: Another migration was begun meanwhile.
        EmbeddingError: The model does not work.
    """
    if engine.manifest.target == model.space:
        kept = engine.manifest.canaries.get(model.space)
    else:
        kept = await canaries.make(engine.io, model, engine.store_sealer)
    async with engine.staging, engine.writing:
        await admitted(engine, model.embedder)
        engine.embedders[model.space] = model.embedder
        manifest = engine.manifest
        if manifest.target == model.space:
            adopt(engine, manifest)  # the process that began it may have been another
            return
        await finish_dropping(engine)
        # Killed before the second write, what was made is taken away when the store is opened again.
        await record(engine, replace(engine.manifest, dropping=(model.space,)))
        dimension = model.embedder.identity.dimension
        dense = {} if engine.settings.vectors == "sealed" else {model.dense: dimension}
        weighted = [name for name in (engine.weighted(model),) if name is not None]
        await engine.index.add_vectors(engine.io, dense=dense, weighted=weighted)
        await record(
            engine,
            replace(
                engine.manifest,
                spaces={**manifest.spaces, model.space: model.embedder.identity},
                target=model.space,
                canaries={**manifest.canaries, **({} if kept is None else {model.space: kept})},
                dropping=(),
            ),
        )


async def switch(engine: Engine, model: Model, *, force: bool) -> bool:
    """Search the new space from now on; False, and nothing done, where a memory lacks its vector.

    Raises:
        MigrationError: The space was given up meanwhile.
    """
    async with engine.staging, engine.writing:
        await follow(engine)
        manifest = engine.manifest
        if manifest.active == model.space:
            return True  # another process was faster
        if manifest.target != model.space:
            raise MigrationError(f"the space of {model.name} was given up while it was being filled")
        if not force and await engine.index.count(engine.io, lacking(engine, model.space)):
            return False
        await record(engine, replace(manifest, active=model.space, target=None, previous=manifest.active))
    return True


async def swap(engine: Engine, embedder: Embedder | None) -> None:
    """Search the space that was left, and leave the one that is searched.

    Raises:
        MigrationError: Nothing was switched, or this process does not have the model.
    """
    async with engine.writing:
        await follow(engine)
        manifest = engine.manifest
        if manifest.previous is None:
            more = "; abandon() gives up the one that is being filled" if manifest.target else ""
            raise MigrationError(f"there is no earlier model to go back to: nothing was switched{more}")
        if embedder is not None:
            engine.embedders[space(embedder.identity)] = embedder
        if manifest.previous not in engine.embedders:
            wanted = name_of(manifest.spaces[manifest.previous], manifest)
            raise MigrationError(
                f"going back to {wanted} needs that model, since it makes the vectors of questions: "
                f"rollback(embedder=…), or `memory-plugin migrate --rollback --to {wanted}`"
            )
        await record(engine, replace(manifest, active=manifest.previous, previous=manifest.active))


async def drop_previous(engine: Engine) -> int | None:
    """Drop the space that was left; how many bytes that freed, where the index tells.

    Raises:
        MigrationError: There is none.
    """
    async with engine.staging, engine.writing:
        await follow(engine)
        manifest = engine.manifest
        if manifest.previous is None and not manifest.dropping:
            raise MigrationError("there is no earlier space to drop: nothing was switched, or it was finished already")
        return await _drop(engine, manifest.previous, replace(manifest, previous=None))


async def drop_target(engine: Engine) -> int | None:
    """Give up the space that is being filled; how many bytes that freed, where the index tells.

    Raises:
        MigrationError: There is none.
    """
    async with engine.staging, engine.writing:
        await follow(engine)
        manifest = engine.manifest
        if manifest.target is None:
            raise MigrationError("no migration is under way: there is nothing to give up")
        return await _drop(engine, manifest.target, replace(manifest, target=None))


async def _drop(engine: Engine, name: str | None, manifest: Manifest) -> int | None:
    before = await _size(engine)
    if name is not None:
        dropping = tuple(dict.fromkeys((*manifest.dropping, name)))
        spaces = _without(manifest.spaces, name)
        await record(
            engine,
            replace(manifest, spaces=spaces, canaries=_without(manifest.canaries, name), dropping=dropping),
        )
    await finish_dropping(engine)
    after = await _size(engine)
    return None if before is None or after is None else max(before - after, 0)


async def finish_dropping(engine: Engine) -> None:
    """Take away the vectors of spaces that are named for it, also those that a killed process left."""
    for name in engine.manifest.dropping:
        await engine.index.drop_vectors(engine.io, vectors_of(name))
        if engine.settings.vectors == "sealed":
            await engine.index.drop_payload(engine.io, [vector_key(name)])
            for key in [key for key in list(engine.opened_vectors) if key[0] == name]:
                engine.opened_vectors.pop(key, None)
    if engine.manifest.dropping:
        await record(engine, replace(engine.manifest, dropping=()))


async def quantize(engine: Engine, quantization: Quantization) -> None:
    """Keep all dense vectors for the first pass in another form."""
    async with engine.staging, engine.writing:
        await follow(engine)
        await engine.index.quantize(engine.io, quantization)
        settings = {**engine.manifest.settings, "quantization": quantization}
        await record(engine, replace(engine.manifest, settings=settings))


async def pending(engine: Engine) -> Pending | None:
    """The migration that is not finished; None where there is none."""
    await follow(engine)
    manifest, count = engine.manifest, engine.index.count
    if manifest.other is None:
        return None
    other: ModelIdentity = manifest.spaces[manifest.other]
    filling = manifest.target is not None
    return Pending(
        state=state(manifest),
        active=manifest.spaces[manifest.active],
        other=other,
        memories=await count(engine.io, OURS),
        missing=await count(engine.io, lacking(engine, manifest.other)),
        missing_active=await count(engine.io, lacking(engine, manifest.active)),
        next=f"go on: migrate --to {name_of(other, manifest)}; give up: migrate --abandon"
        if filling
        else "drop the old space: migrate --finish; go back: migrate --rollback",
    )


async def _size(engine: Engine) -> int | None:
    """Bytes of the store without its log, which a drop lengthens."""
    stats = await engine.index.stats(engine.io)
    whole, log = stats.get("bytes"), stats.get("wal_bytes", 0)
    return whole - log if isinstance(whole, int) and isinstance(log, int) else None


def _without(named: Mapping[str, T], name: str) -> dict[str, T]:
    return {key: value for key, value in named.items() if key != name}
