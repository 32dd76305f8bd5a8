"""One key of a data subject to another, while the store serves.

A new key seals from the first moment; both open until the last payload is sealed anew; then the old one is
destroyed.  What is sealed under an old key is the to-do list, so a rotation that was cut off is finished by
calling it again.  Ids, tags, terms and vectors stay what they are (docs/sealed-format.md, section 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from memory_plugin.crypto.sealer import SubjectSealer
from memory_plugin.engine.core import Engine, pages
from memory_plugin.engine.payload import HEAD, RECORD, SUBJECT
from memory_plugin.engine.sealing import sealed_anew
from memory_plugin.errors import ConfigurationError, InvalidInputError, KeyServiceError, translate
from memory_plugin.protocols import Maybe
from memory_plugin.types import Namespace, Point, PointId


@runtime_checkable
class RotatingKeyRing(Protocol):
    """A key ring whose subjects can have a newer key."""

    def rotate(self, subject: str, /) -> Maybe[object]:
        """Make a key that seals from now on; the older ones still open."""

    def retire(self, subject: str, /) -> Maybe[int]:
        """Destroy what opens envelopes in all keys but the newest; how many keys lost it."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """What ``rotate`` did.

    Args:
        resealed: Memories (chunks) sealed anew.
        keys: Old keys destroyed.
    """

    resealed: int
    keys: int


async def rotate(engine: Engine, namespace: Namespace) -> Rotated:
    """Seal everything of a data subject under a new key and destroy the old one.

    Another process that adds to the same subject on a server must not be in the middle of it.

    Raises:
        InvalidInputError: The namespace has more than one part: only the subject owns a key.
        ConfigurationError: The store is PLAINTEXT, or its key ring cannot rotate.
        SealError: A payload does not open; the old key is kept.
    """
    if len(namespace) != 1:
        raise InvalidInputError(f"rotate renews the key of a whole data subject: rotate({namespace[0]!r:.60})")
    keyring = engine.keyring
    if not engine.manifest.sealed or not isinstance(keyring, RotatingKeyRing):
        raise ConfigurationError(f"the key ring {keyring.location} has no keys that can be rotated")
    async with engine.staging:  # nothing is half written under the old key
        sealer = await engine.sealer(namespace, create=False)
        if not isinstance(sealer, SubjectSealer):
            return Rotated(0, 0)
        if not sealer.rotating:
            with translate(KeyServiceError, provider=keyring.location):
                await engine.io.call(keyring.rotate, sealer.subject)
        resealed = await _reseal_all(engine, namespace)
        with translate(KeyServiceError, provider=keyring.location):
            keys = await engine.io.call(keyring.retire, sealer.subject)
        return Rotated(resealed, keys)


async def _reseal_all(engine: Engine, namespace: Namespace) -> int:
    sealer = await engine.sealer(namespace, create=False)
    assert isinstance(sealer, SubjectSealer)
    resealed = 0
    batch: list[PointId] = []
    async for page in pages(engine, engine.scope(sealer, namespace), payload=(RECORD,)):
        batch += await engine.io.call(_older, sealer, page)
        while len(batch) >= engine.settings.batch:
            resealed += await _reseal(engine, sealer, batch[: engine.settings.batch])
            batch = batch[engine.settings.batch :]
    resealed += await _reseal(engine, sealer, batch)
    await _reseal_head(engine, sealer)
    return resealed


def _older(sealer: SubjectSealer, page: Sequence[Point]) -> list[PointId]:
    """What is sealed under another key than the newest."""
    return [point.id for point in page if sealer.key_id(str(point.payload.get(RECORD))) != sealer.newest]


async def _reseal(engine: Engine, sealer: SubjectSealer, ids: Sequence[PointId]) -> int:
    """Open and seal anew; a point that was deleted or replaced meanwhile is passed over."""
    async with engine.writing:
        points = await engine.index.fetch(engine.io, ids, payload=True, vectors=True)
        mine = [point for point in points if point.payload.get(SUBJECT) == sealer.subject]
        fresh = await engine.io.call(lambda: [sealed_anew(sealer, point) for point in mine])
        await engine.index.upsert(engine.io, fresh)
    return len(mine)


async def _reseal_head(engine: Engine, sealer: SubjectSealer) -> None:
    async with engine.writing:
        point_id = sealer.point_id("head")
        for point in await engine.index.fetch(engine.io, [point_id], payload=(RECORD,)):
            opened = sealer.open(point_id, "head", point.payload.get(RECORD))
            sealed = sealer.seal(point_id, "head", opened)
            await engine.index.upsert(engine.io, [Point(point_id, {SUBJECT: HEAD, RECORD: sealed})])
