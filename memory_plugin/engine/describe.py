"""What a store is made of and whether it is whole: ``describe`` for doctor, ``verify`` for every record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memory_plugin import lexical
from memory_plugin.engine import sealed_vectors
from memory_plugin.engine.canaries import Drift, compare
from memory_plugin.engine.commit import stored_head
from memory_plugin.engine.core import Engine, make_sealer, pages, scroll
from memory_plugin.engine.payload import (
    HEAD,
    OURS,
    RECORD,
    REVISION,
    SUBJECT,
    TOKENS,
    open_record,
    vector_key,
)
from memory_plugin.engine.sealing import sealed_fields, tags
from memory_plugin.engine.spaces import follow, lacking
from memory_plugin.engine.transitions import state
from memory_plugin.errors import DecryptionError, SealError
from memory_plugin.manifest import name_of
from memory_plugin.network import leaves_machine
from memory_plugin.protocols import Sealer
from memory_plugin.types import Json, Point

PROTECTION: dict[str, str] = {
    "rotated": "A secret rotation per subject. Search results are unchanged. It stops off-the-shelf inversion tools. "
    "It is obfuscation, not encryption: some 50 to 400 of your texts paired with their stored vectors undo it.",
    "sealed": "AES-256-GCM. Qdrant never receives a usable vector; similarity is computed in your process. "
    "Up to about 100,000 memories a subject.",
    "plain": "Unencrypted. Whoever reads the disk or the API can recover most short memories.",
}
"""What each vector mode means; the words are those of docs/sealed-format.md."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What ``verify`` found.

    Args:
        memories: Chunks in the store.
        subjects: Data subjects that own them.
        failures: What is wrong, by point id: it does not open, its tags are another's, or it lacks a vector.
        drift: How far the model has moved since the store was made; None where that was not asked or not kept.
    """

    memories: int
    subjects: int
    failures: dict[str, str]
    drift: Drift | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failures and (self.drift is None or not self.drift.moved)


async def verify(engine: Engine, *, model: bool = False) -> Verified:
    """Open every record of every subject, hold its tags against it, and look for vectors that are missing.

    Args:
        engine: The open store.
        model: Embed the probes again, too, and say how far the model has moved.

    Raises:
        EmbeddingError: The model failed.
    """
    await follow(engine)
    drift = await compare(engine, engine.active) if model else None
    sealers: dict[str, Sealer | None] = {}
    failures: dict[str, str] = {}
    memories = 0
    async for page in pages(engine, OURS, payload=True):
        memories += len(page)
        for subject in {str(point.payload.get(SUBJECT)) for point in page} - set(sealers):
            sealers[subject] = await make_sealer(
                engine.io, engine.keyring, engine.manifest.store, subject, create=False
            )
        failures.update(await engine.io.call(_failures, engine, sealers, page))
    for sealer in filter(None, sealers.values()):
        try:
            await stored_head(engine, sealer)
        except SealError as error:
            failures[sealer.point_id(HEAD)] = f"{type(error).__name__}: {error}"
    async for point in scroll(engine, lacking(engine, engine.active.space), payload=()):
        failures.setdefault(point.id, "it has no dense vector of the active space")
    if hasattr(engine.active.embedder, "embed_images"):
        async for point in scroll(engine, lacking(engine, engine.active.space, images=True), payload=()):
            failures.setdefault(point.id, "the image has no vector of the active space: add its file again")
    return Verified(memories, len(sealers), failures, drift)


def _failures(engine: Engine, sealers: Mapping[str, Sealer | None], page: Sequence[Point]) -> dict[str, str]:
    found: dict[str, str] = {}
    for point in page:
        try:
            _check(engine, sealers[str(point.payload.get(SUBJECT))], point)
        except SealError as error:
            found[point.id] = f"{type(error).__name__}: {error}"
    return found


def _check(engine: Engine, sealer: Sealer | None, point: Point) -> None:
    """Open all of a point, and compare what it shows with what it should.

    Raises:
        SealError: Something does not open, or a tag is not the one that was written.
    """
    payload = dict(point.payload)
    if sealer is None:
        raise SealError(f"the key ring has no key of subject {payload.get(SUBJECT)}")
    record = open_record(sealer, point.id, payload)
    if payload.get(TOKENS) is not None:
        sealer.open(point.id, "tokens", payload[TOKENS])
    for name, identity in engine.manifest.spaces.items():
        key = vector_key(name)
        if key in payload:
            sealed_vectors.decode(point.id, sealer.open(point.id, key, payload[key]), identity.dimension)
    revision = str(payload.get(REVISION))
    expected = tags(engine, sealer, record, revision)
    envelopes = set(sealed_fields(payload))
    wrong = sorted(key for key in {*expected, *payload} - envelopes if expected.get(key) != payload.get(key))
    if wrong or point.id != sealer.point_id(record.document, revision, str(record.index)):
        raise DecryptionError(f"its tags are not those of its record: {', '.join(wrong) or REVISION}")


async def describe(engine: Engine) -> dict[str, Json]:
    """Where data and keys are, what protects what, which models, versions, sizes."""
    manifest, settings = engine.manifest, engine.settings
    identity = manifest.spaces[manifest.active]
    stats = await engine.index.stats(engine.io)
    sizes = await _sizes(engine)
    return {
        "store": manifest.store,
        "format": manifest.format,
        "data": engine.index.location,
        "engine": engine.index.name,
        "keys": engine.keyring.location,
        "sealed": manifest.sealed,
        "memories": sizes["memories"],
        "subjects": sizes["subjects"],
        "bytes": stats.get("bytes"),
        "token_bytes": sizes["token_bytes"],
        "record_bytes": sizes["record_bytes"],
        "index": stats,
        "models": {
            "embedder": f"{identity.provider}:{identity.model}@{identity.revision[:12]}",
            "dimension": identity.dimension,
            "space": manifest.active,
            "lexical": f"{lexical.IDENTITY}, {settings.language}",
            "late_interaction": manifest.late,
            "reranker": engine.reranker.model if engine.reranker is not None else None,
            "leaves_machine": _elsewhere(engine),
        },
        "migration": {
            "state": state(manifest),
            "other": None if manifest.other is None else name_of(manifest.spaces[manifest.other], manifest),
        },
        "protection": _protection(engine),
        "settings": {
            "filterable": list(settings.filterable),
            "time_index": settings.time_index,
            "vectors": settings.vectors,
            "late_interaction": settings.late_interaction,
            "language": settings.language,
            "chunk_tokens": settings.chunk_tokens,
            "quantization": settings.quantization,
        },
    }


def _elsewhere(engine: Engine) -> list[Json]:
    """Which providers reach other machines, or do not tell."""
    held = {"embedder": engine.active.embedder, "reranker": engine.reranker, "late interaction": engine.late}
    return [what for what, provider in held.items() if provider is not None and leaves_machine(provider)]


async def _sizes(engine: Engine) -> dict[str, int]:
    """Memories, subjects, and what their sealed parts take in Qdrant, in bytes of base64."""
    sizes: Counter[str] = Counter(memories=0, subjects=0, token_bytes=0, record_bytes=0)
    subjects = set()
    async for point in scroll(engine, OURS, payload=(SUBJECT, RECORD, TOKENS)):
        sizes["memories"] += 1
        subjects.add(point.payload.get(SUBJECT))
        sizes["token_bytes"] += len(str(point.payload.get(TOKENS, "")))
        sizes["record_bytes"] += len(str(point.payload.get(RECORD, "")))
    sizes["subjects"] = len(subjects)
    return dict(sizes)


def _protection(engine: Engine) -> dict[str, Json]:
    if not engine.manifest.sealed:
        return {"everything": "PLAINTEXT: nothing is encrypted. Whoever reads the disk or the API reads every memory."}
    vectors = engine.settings.vectors
    return {
        "text, metadata, source, names, exact time": "AES-256-GCM under a key of the data subject, bound to its place",
        "token vectors": "AES-256-GCM, likewise" if engine.settings.late_interaction else "not kept",
        f"dense vectors ({vectors})": PROTECTION[vectors],
        **_learned(engine),
        "lexical terms": "keyed hashes: which memories share a word shows, the word does not",
        "filterable fields": "keyed hashes: which memories share a value shows, the value does not",
        "days": "day numbers in the clear" if engine.settings.time_index == "day" else "sealed",
        "not hidden": "how many memories a subject has, their sizes in steps, and when they are written and read",
    }


def _learned(engine: Engine) -> dict[str, Json]:
    """How a model's own term weights are kept, where it makes them."""
    if engine.active.weighted is None:
        return {}
    kept = {
        "rotated": "keyed ids, each weight times a keyed factor: obfuscation, as for vectors",
        "plain": "keyed ids with the weights as they are: as telling as a vector",
        "sealed": "not kept",
    }
    return {"learned terms": kept[engine.settings.vectors]}
