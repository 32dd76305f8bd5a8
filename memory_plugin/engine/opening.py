"""Opening a store: make the collection, or check that it fits; then finish what a crash left."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from memory_plugin import registry
from memory_plugin.crypto.sealer import sealer as sealer_of
from memory_plugin.engine.canaries import make as make_canaries
from memory_plugin.engine.canaries import require_unmoved
from memory_plugin.engine.commit import recover
from memory_plugin.engine.core import STORE, Engine, Model, field_key, sparse_name, subject_keys
from memory_plugin.engine.payload import DAY, IMAGE, KEYWORDS, SUBJECT, VALUE
from memory_plugin.engine.proof import proved, proven
from memory_plugin.engine.spaces import command_line_place, models_of
from memory_plugin.engine.transitions import finish_dropping
from memory_plugin.errors import ConfigurationError, KeyServiceError, ManifestMismatchError
from memory_plugin.flow import IO
from memory_plugin.lexical import IDENTITY
from memory_plugin.manifest import FIXED_SETTINGS, Manifest, check, check_key_mode, lexical_space, space
from memory_plugin.protocols import Embedder, KeyRing, LateInteraction, Reranker, Sealer, SubjectKey, VectorIndex
from memory_plugin.settings import Settings
from memory_plugin.types import Json


@dataclass(frozen=True, slots=True)
class Parts:
    """What a store is put together from.

    Args:
        index: Where points are kept.
        embedder: Makes dense vectors.
        late: Late interaction, or None.
        reranker: A cross-encoder, or None.
        settings: As the caller gave them, or None for what the store was made with.
        successor: The model that a migration goes to, or comes from: in case the store is searched by that one.
        allow_network: Whether a provider may leave the machine.
    """

    index: VectorIndex
    embedder: Embedder
    late: LateInteraction | None
    reranker: Reranker | None
    settings: Settings | None
    successor: Embedder | None = None
    allow_network: bool = True

    @property
    def embedders(self) -> dict[str, Embedder]:
        """Every model at hand, by its space; the embedder first."""
        return {space(one.identity): one for one in (self.embedder, self.successor) if one is not None}


def new_store_id() -> str:
    """A random identity: 32 hex digits."""
    return secrets.token_hex(16)


async def open_engine(io: IO, parts: Parts, keyring: KeyRing, store: str, *, sealed: bool) -> Engine:
    """Make or open the collection.

    Args:
        io: How to reach the world.
        parts: The providers.
        keyring: Keys of this store.
        store: The store's identity, used when it is made now.
        sealed: False for PLAINTEXT.

    Raises:
        ManifestMismatchError: The store was made with another model, format, key mode or settings.
        ModelDriftError: Its model has changed under the same name, and ``check_model`` is set.
        KeyServiceError: The key ring is another store's.
        DecryptionError: The manifest was changed by someone without the keys.
        StoreLockedError: Another process has it open.
    """
    found = await parts.index.read_manifest(io)
    if found is None:
        settings = parts.settings or Settings()
        # What a model says of itself may have to be read from its files, or asked for.
        manifest = await io.call(_manifest, parts, settings, store, sealed=sealed)
        await io.call(check_window, parts.embedder, settings)
        keys = await _store_keys(io, keyring, store, create=True)
        store_sealer = sealer_of(store, STORE, keys)
        manifest = await _create(io, parts, manifest, settings, store_sealer)
    else:
        public = Manifest.from_json(found)
        check_key_mode(public, sealed=sealed)
        keys = await _store_keys(io, keyring, public.store, create=False)
        store_sealer = sealer_of(public.store, STORE, keys)
        manifest = proven(store_sealer, found)
        settings = _settings(manifest, parts.settings)
        wanted = await io.call(_manifest, parts, settings, manifest.store, sealed=sealed)
        check(manifest, wanted, place=command_line_place(parts.index))
    models = await io.call(models_of, manifest, parts.embedders, command_line_place(parts.index))
    engine = Engine(
        io=io,
        index=parts.index,
        models=models,
        embedders=parts.embedders,
        late=parts.late if settings.late_interaction else None,
        reranker=parts.reranker,
        keyring=keyring,
        pieces=await io.call(registry.pieces, models.active.embedder),
        settings=settings,
        manifest=manifest,
        store_key=keys[-1],  # the oldest: names must not change when a key is rotated
        store_sealer=store_sealer,
        allow_network=parts.allow_network,
    )
    if found is not None and parts.index.exclusive:
        await recover(engine)
        await finish_dropping(engine)
    if found is not None and settings.check_model:
        await require_unmoved(engine)
    return engine


def check_window(embedder: Embedder, settings: Settings) -> None:
    """Refuse passages that the model would not read to their end.

    Raises:
        ConfigurationError: ``chunk_tokens`` is more than the embedder's ``max_tokens``, where it tells it.
    """
    window = getattr(embedder, "max_tokens", None)
    if isinstance(window, int) and settings.chunk_tokens > window:
        raise ConfigurationError(
            f"settings: chunk_tokens is {settings.chunk_tokens}, but {embedder.identity.model} reads {window}: "
            f"set it to at most {window}"
        )


def _manifest(parts: Parts, settings: Settings, store: str, *, sealed: bool) -> Manifest:
    identity = parts.embedder.identity
    name = space(identity)
    return Manifest(
        store=store,
        spaces={one: embedder.identity for one, embedder in parts.embedders.items()},
        active=name,
        lexical=lexical_space(IDENTITY, settings.language),
        late=parts.late.model if parts.late is not None and settings.late_interaction else None,
        sealed=sealed,
        settings={name: _plain(getattr(settings, name)) for name in FIXED_SETTINGS},
    )


def _plain(value: object) -> Json:
    return list(value) if isinstance(value, tuple) else value  # type: ignore[return-value]


def _settings(manifest: Manifest, given: Settings | None) -> Settings:
    """The caller's settings, with those that shape what is written taken from the manifest.

    Raises:
        ManifestMismatchError: The caller chose another value for one of those.
    """
    chosen = given or Settings()
    default = Settings()
    fixed: dict[str, object] = {}
    for name in FIXED_SETTINGS:
        kept = manifest.settings[name]
        fixed[name] = tuple(kept) if isinstance(kept, list) else kept
        mine = getattr(chosen, name)
        if mine not in (getattr(default, name), fixed[name]):
            raise ManifestMismatchError(
                f"the store was made with {name}={fixed[name]!r}, it cannot be opened with {name}={mine!r}: "
                "leave it out, or add the documents to a new store"
            )
    return replace(chosen, **fixed)  # type: ignore[arg-type]


async def _create(io: IO, parts: Parts, manifest: Manifest, settings: Settings, sealer: Sealer) -> Manifest:
    """Make the collection of a new store, which has the embedder's space alone, and that model's canaries."""
    model = Model(parts.embedder, manifest.active)
    canaries = await make_canaries(io, model, sealer)
    manifest = replace(
        manifest,
        spaces={model.space: manifest.spaces[model.space]},
        canaries={} if canaries is None else {model.space: canaries},
    )
    shown = settings.vectors != "sealed"
    await parts.index.create(
        io,
        proved(sealer, manifest),
        dense={model.dense: parts.embedder.identity.dimension} if shown else {},
        sparse=[sparse_name(manifest.lexical)],
        weighted=[model.weighted] if shown and model.weighted is not None else [],
        keywords=[*KEYWORDS, *(field_key(sealer, name) for name in settings.filterable)],
        integers=[IMAGE, VALUE, *([DAY] if settings.time_index == "day" else [])],
        tenant=SUBJECT,
        quantization=settings.quantization,
    )
    return manifest


async def _store_keys(io: IO, keyring: KeyRing, store: str, *, create: bool) -> Sequence[SubjectKey]:
    keys = await subject_keys(io, keyring, STORE, create=create)
    if not keys:
        where = keyring.location
        raise KeyServiceError(
            f"the key ring {where} has no key of store {store}: open the store with the key ring that it was made with",
            provider=where,
        )
    return keys
