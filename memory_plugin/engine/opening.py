"""Opening a store: make the collection, or check that it fits; then finish what a crash left."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from memory_plugin.chunk import Pieces
from memory_plugin.crypto.sealer import sealer as sealer_of
from memory_plugin.engine.commit import recover
from memory_plugin.engine.core import STORE, Engine, Model, dense_name, field_key, sparse_name, subject_keys
from memory_plugin.engine.payload import DAY, KEYWORDS, SUBJECT
from memory_plugin.errors import ConfigurationError, DecryptionError, KeyServiceError, ManifestMismatchError
from memory_plugin.flow import IO
from memory_plugin.ids import canonical
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
        pieces: The tokenizer that passages are cut with.
        settings: As the caller gave them, or None for what the store was made with.
        allow_network: Whether a provider may leave the machine.
    """

    index: VectorIndex
    embedder: Embedder
    late: LateInteraction | None
    reranker: Reranker | None
    pieces: Pieces
    settings: Settings | None
    allow_network: bool = True


PROOF = "proof"
"""Manifest key of the whole manifest, sealed."""

NO_POINT = "00000000-0000-0000-0000-000000000000"


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
        KeyServiceError: The key ring is another store's.
        DecryptionError: The manifest was changed by someone without the keys.
        StoreLockedError: Another process has it open.
    """
    found = await parts.index.read_manifest(io)
    if found is None:
        settings = parts.settings or Settings()
        _check_window(parts.embedder, settings)
        manifest = _manifest(parts, settings, store, sealed=sealed)
        keys = await _store_keys(io, keyring, store, create=True)
        store_sealer = sealer_of(store, STORE, keys)
        await _create(io, parts.index, manifest, settings, store_sealer)
    else:
        public = Manifest.from_json(found)
        check_key_mode(public, sealed=sealed)
        keys = await _store_keys(io, keyring, public.store, create=False)
        store_sealer = sealer_of(public.store, STORE, keys)
        manifest = _proven(store_sealer, found)
        settings = _settings(manifest, parts.settings)
        check(manifest, _manifest(parts, settings, manifest.store, sealed=sealed))
    engine = Engine(
        io=io,
        index=parts.index,
        active=Model(parts.embedder, manifest.active),
        late=parts.late if settings.late_interaction else None,
        reranker=parts.reranker,
        keyring=keyring,
        pieces=parts.pieces,
        settings=settings,
        manifest=manifest,
        store_key=keys[-1],  # the oldest: names must not change when a key is rotated
        store_sealer=store_sealer,
        allow_network=parts.allow_network,
    )
    if found is not None and parts.index.exclusive:
        await recover(engine)
    return engine


def _check_window(embedder: Embedder, settings: Settings) -> None:
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
        spaces={name: identity},
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


async def _create(io: IO, index: VectorIndex, manifest: Manifest, settings: Settings, sealer: Sealer) -> None:
    identity = manifest.spaces[manifest.active]
    dense = {} if settings.vectors == "sealed" else {dense_name(manifest.active): identity.dimension}
    await index.create(
        io,
        {**_public(manifest), PROOF: sealer.seal(NO_POINT, PROOF, canonical(manifest.to_json()))},
        dense=dense,
        sparse=[sparse_name(manifest.lexical)],
        keywords=[*KEYWORDS, *(field_key(sealer, name) for name in settings.filterable)],
        integers=[DAY] if settings.time_index == "day" else [],
        tenant=SUBJECT,
        quantization=settings.quantization,
    )


async def _store_keys(io: IO, keyring: KeyRing, store: str, *, create: bool) -> Sequence[SubjectKey]:
    keys = await subject_keys(io, keyring, STORE, create=create)
    if not keys:
        where = keyring.location
        raise KeyServiceError(
            f"the key ring {where} has no key of store {store}: open the store with the key ring that it was made with",
            provider=where,
        )
    return keys


def _public(manifest: Manifest) -> dict[str, Json]:
    """The manifest as it is kept in the clear: without the names of declared fields, which are users' words."""
    return replace(manifest, settings={**manifest.settings, "filterable": []}).to_json()


def _proven(sealer: Sealer, found: Mapping[str, Json]) -> Manifest:
    """The whole manifest, once what is in the clear agrees with it: it decides how vectors are protected.

    Raises:
        SealError: It was changed by someone without the keys.
    """
    manifest = Manifest.from_json(json.loads(sealer.open(NO_POINT, PROOF, found.get(PROOF))))
    if {key: value for key, value in found.items() if key != PROOF} != _public(manifest):
        raise DecryptionError("the store's manifest was changed by someone without its keys: restore it from a backup")
    return manifest
