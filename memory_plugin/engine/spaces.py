"""Which spaces a store has, and which of their models this process holds; both may change while it serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memory_plugin import registry
from memory_plugin.engine import proof
from memory_plugin.engine.core import Engine, Model, Models, dense_name, weighted_name
from memory_plugin.engine.payload import LOCAL_ONLY, MARKS, OURS, VECTOR, vector_key
from memory_plugin.errors import IndexUnavailableError, ManifestMismatchError
from memory_plugin.manifest import Manifest, other_model
from memory_plugin.network import leaves_machine
from memory_plugin.protocols import Embedder, VectorIndex
from memory_plugin.types import And, Filter, HasKey, HasVector, Not, Point

_PREFIXES = (dense_name(""), weighted_name(""), VECTOR)
"""What a space's name stands behind, in names of vectors and payload keys."""


def models_of(manifest: Manifest, embedders: Mapping[str, Embedder], place: str) -> Models:
    """The models of a store, out of those at hand.

    Raises:
        ManifestMismatchError: That of the space which is searched is not among them.
    """
    if manifest.active not in embedders:
        raise ManifestMismatchError(other_model(manifest, next(iter(embedders.values())).identity, place))
    other = manifest.other
    return Models(
        Model(embedders[manifest.active], manifest.active),
        Model(embedders[other], other) if other is not None and other in embedders else None,
    )


def command_line_place(index: VectorIndex) -> str:
    """Where the store is, as ``--store`` takes it."""
    location = index.location
    return location.removesuffix("/memory") if location.startswith(("http://", "https://")) else location


def adopt(engine: Engine, manifest: Manifest) -> None:
    """Work by another manifest from now on.

    Raises:
        ManifestMismatchError: This process does not have the model that is searched.
    """
    models = models_of(manifest, engine.embedders, command_line_place(engine.index))
    if models.active.space != engine.active.space:
        engine.pieces = registry.pieces(models.active.embedder)
    quantization = manifest.settings["quantization"]
    if quantization != engine.settings.quantization:
        engine.settings = replace(engine.settings, quantization=quantization)  # type: ignore[arg-type]  # it was checked
    engine.manifest = manifest
    engine.models = models


async def record(engine: Engine, manifest: Manifest) -> None:
    """Write a manifest, in one step, and work by it."""
    await engine.index.write_manifest(engine.io, proof.proved(engine.store_sealer, manifest))
    adopt(engine, manifest)


async def follow(engine: Engine) -> bool:
    """See whether another process has begun or ended a migration; whether it has.

    An exclusive index has no other process, and is not asked.

    Raises:
        ManifestMismatchError: The store is searched by a model that this process does not have.
        SealError: The manifest was changed by someone without the keys.
    """
    if engine.index.exclusive:
        return False
    found = await engine.index.read_manifest(engine.io)
    if found is None:
        raise IndexUnavailableError(f"there is no store at {engine.index.location} any more", provider="qdrant")
    if {key: value for key, value in found.items() if key != proof.PROOF} == proof.shown(engine.manifest):
        return False
    adopt(engine, await engine.io.call(proof.proven, engine.store_sealer, found))
    return True


async def moved(engine: Engine, model: Model) -> bool:
    """Whether a search in this model's space has to be made again, since the space is not searched any more."""
    if engine.active.space == model.space:
        await follow(engine)
    return engine.active.space != model.space


def lacking(engine: Engine, name: str, *, images: bool = False) -> Filter:
    """Memories that have no vector of a space, and may have one: the to-do list of a migration.

    Args:
        engine: The open store.
        name: Of the space.
        images: Those that are images in place of those that are texts.
    """
    key = vector_key(name)
    has = HasKey(key) if engine.settings.vectors == "sealed" else HasVector(dense_name(name))
    return And((*_eligible(engine, name, images=images), Not(has)))


def eligible(engine: Engine, name: str) -> Filter:
    """Memories whose vectors a migration has to make: texts that the model may see.

    An image's file is not kept, so no other model can make its vector.  A value has none, of any model.
    """
    return And(_eligible(engine, name, images=False))


def _eligible(engine: Engine, name: str, *, images: bool) -> tuple[Filter, ...]:
    embedder = engine.embedders.get(name)
    hidden = embedder is not None and leaves_machine(embedder)
    kind = (MARKS["image"],) if images else tuple(map(Not, MARKS.values()))
    return (OURS, *kind, Not(HasKey(LOCAL_ONLY))) if hidden else (OURS, *kind)


def fitting(engine: Engine, point: Point) -> Point:
    """The point without vectors of spaces that were given up while they were being made."""
    known = engine.manifest.spaces

    def stays(name: str) -> bool:
        return not name.startswith(_PREFIXES) or name[2:] in known

    if all(map(stays, point.vectors)) and all(map(stays, point.payload)):
        return point
    return replace(
        point,
        vectors={name: vector for name, vector in point.vectors.items() if stays(name)},
        payload={key: value for key, value in point.payload.items() if stays(key)},
    )


def vectors_of(name: str) -> tuple[str, ...]:
    """Names of all vectors that points may have of a space."""
    return dense_name(name), weighted_name(name)
