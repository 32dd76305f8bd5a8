"""Making documents appear whole, and finishing what a killed process left.

A document appears whole or not at all, and so does its replacement:

* One of up to ``settings.staging`` chunks goes into one upsert, which the embedded engine applies
  all or none.  If it replaces an older text, the same upsert carries an *intent* point that names the
  revision to keep; then the older chunks are deleted, then the intent.
* A longer one is written under the subject "staged", which no search sees, and shown by one
  ``set_payload`` when all of it is there.

Between the two steps of a replacement a reader may see both revisions, some milliseconds (1.4 measured for two
passages, embedded): never none, never a part of one by itself, and only the new one once ``add`` has returned.

``recover`` finishes what a killed process left: intents are carried out, staged points dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from memory_plugin.engine.core import Engine, scroll
from memory_plugin.engine.payload import CHUNKS, DOCUMENT, HEAD, INTENT, RECORD, REVISION, STAGED, SUBJECT, Head
from memory_plugin.engine.sealing import Cut, Draft, Work, finish, lengths, sealed_anew
from memory_plugin.engine.spaces import fitting, follow
from memory_plugin.errors import DecryptionError, UnknownKeyError
from memory_plugin.protocols import Sealer
from memory_plugin.types import And, AnyOf, Filter, Json, Not, Point, PointId


@dataclass(frozen=True, slots=True)
class Found:
    """What the store has of a document: points by revision, and how many each revision should have."""

    revisions: dict[str, list[PointId]]
    expected: dict[str, int]

    def has(self, revision: str) -> bool:
        """Whether exactly this revision is there, whole."""
        return set(self.revisions) == {revision} and len(self.revisions[revision]) == self.expected[revision]

    def others(self, revision: str) -> bool:
        """Whether there is another revision."""
        return bool(set(self.revisions) - {revision})


NOTHING = Found({}, {})


async def existing(engine: Engine, sealer: Sealer, documents: Sequence[str]) -> dict[str, Found]:
    """What the store has of the documents, by document tag; those that it does not have are missing."""
    found: dict[str, Found] = {}
    for start in range(0, len(documents), 256):
        tags = tuple(documents[start : start + 256])
        where = And((AnyOf(SUBJECT, (sealer.subject,)), AnyOf(DOCUMENT, tags)))
        async for point in scroll(engine, where, payload=(DOCUMENT, REVISION, CHUNKS)):
            document, revision, chunks = (point.payload.get(key) for key in (DOCUMENT, REVISION, CHUNKS))
            if not (isinstance(revision, str) and isinstance(chunks, int)):
                raise DecryptionError(
                    f"point {point.id} has lost a tag: restore it from a backup, or delete it by its id"
                )
            one = found.setdefault(str(document), Found({}, {}))
            one.revisions.setdefault(revision, []).append(point.id)
            one.expected[revision] = chunks
    return found


async def commit(engine: Engine, sealer: Sealer, cuts: Sequence[Cut], drafts: Sequence[Draft]) -> None:
    """Write documents whole, and take away what they replace."""
    async with engine.writing:
        await follow(engine)
        drafts = await _under_its_key(engine, sealer, drafts)
        found = await existing(engine, sealer, [cut.work.document for cut in cuts])
        replacing = [cut.work for cut in cuts if found.get(cut.work.document, NOTHING).others(cut.work.revision)]
        grown = (await head(engine, sealer)).grown(lengths(drafts))
        points = await engine.io.call(_finished, engine, sealer, drafts, grown)
        intents = [intent(sealer, work) for work in replacing]
        await engine.index.upsert(engine.io, [*points, *intents, head_point(sealer, grown)])
        engine.heads[sealer.subject] = grown
        for work, pending in zip(replacing, intents, strict=True):
            await carry_out(engine, work.document, work.revision, pending.id)
        engine.drop_vectors(sealer.subject)


def _finished(engine: Engine, sealer: Sealer, drafts: Sequence[Draft], head: Head) -> list[Point]:
    return [fitting(engine, point) for point in finish(engine, sealer, drafts, head)]


async def show(engine: Engine, sealer: Sealer, work: Work, staged: Filter, sizes: list[int]) -> None:
    """Let a staged document be seen, and take away what it replaces."""
    async with engine.writing:
        await _current(engine, sealer)
        grown = (await head(engine, sealer)).grown(sizes)
        pending = intent(sealer, work)
        await engine.index.upsert(engine.io, [pending, head_point(sealer, grown)])
        engine.heads[sealer.subject] = grown
        await engine.index.set_payload(engine.io, {SUBJECT: sealer.subject}, where=staged)
        await carry_out(engine, work.document, work.revision, pending.id)
        engine.drop_vectors(sealer.subject)


async def _current(engine: Engine, sealer: Sealer) -> Sealer:
    """The subject's keys as they are now: it may have been forgotten, or its key rotated, while texts were embedded.

    Raises:
        UnknownKeyError: It was forgotten; what was to be written could never be opened.
    """
    now = await engine.sealer_of(sealer.subject, create=False)
    # A subject that was forgotten and made again has other keys altogether: other ids, too.
    if now is None or now.point_id(HEAD) != sealer.point_id(HEAD):
        engine.drop_sealer(sealer.subject)
        raise UnknownKeyError(
            f"subject {sealer.subject} was forgotten while this was being added: "
            "nothing of it was written, add it again"
        )
    return now


async def _under_its_key(engine: Engine, sealer: Sealer, drafts: Sequence[Draft]) -> Sequence[Draft]:
    """The drafts, sealed by the key that seals now."""
    now = await _current(engine, sealer)
    if now is sealer:
        return drafts
    return await engine.io.call(lambda: [replace(draft, point=sealed_anew(now, draft.point)) for draft in drafts])


def intent(sealer: Sealer, work: Work) -> Point:
    """A point that says which revision of a document is to stay alone."""
    payload: dict[str, Json] = {SUBJECT: INTENT, DOCUMENT: work.document, REVISION: work.revision}
    return Point(sealer.point_id("intent", work.document, work.revision), payload)


async def carry_out(engine: Engine, document: str, revision: str, pending: PointId) -> None:
    """Delete the document's other revisions, then the intent to do so."""
    older = And(
        (AnyOf(DOCUMENT, (document,)), Not(AnyOf(REVISION, (revision,))), Not(AnyOf(SUBJECT, (STAGED, INTENT))))
    )
    await engine.index.delete(engine.io, older)
    await engine.index.delete(engine.io, [pending])


async def head(engine: Engine, sealer: Sealer) -> Head:
    """What is known of the subject as a whole."""
    known = engine.heads.get(sealer.subject)
    return known if known is not None else await stored_head(engine, sealer)


async def stored_head(engine: Engine, sealer: Sealer) -> Head:
    """The same, read from the store.

    Raises:
        SealError: It was tampered with.
    """
    point_id = sealer.point_id(HEAD)
    points = await engine.index.fetch(engine.io, [point_id], payload=(RECORD,))
    return Head.decode(sealer.open(point_id, "head", points[0].payload.get(RECORD))) if points else Head()


def head_point(sealer: Sealer, known: Head) -> Point:
    """That as a point."""
    point_id = sealer.point_id(HEAD)
    return Point(point_id, {SUBJECT: HEAD, RECORD: sealer.seal(point_id, "head", known.encode())})


# ── after a crash ─────────────────────────────────────────────────────────────────────────────────


async def recover(engine: Engine) -> int:
    """Finish or undo what a killed writer left; how many things there were to do.

    Only for an index that this process alone writes to: what is staged is nobody's work in progress.
    """
    where = AnyOf(SUBJECT, (INTENT,))
    intents = [point async for point in scroll(engine, where, payload=(DOCUMENT, REVISION))]
    staged = AnyOf(SUBJECT, (STAGED,))
    dropped = await engine.index.count(engine.io, staged)
    if dropped:
        await engine.index.delete(engine.io, staged)
    for pending in intents:
        document, revision = str(pending.payload.get(DOCUMENT)), str(pending.payload.get(REVISION))
        kept = And((AnyOf(DOCUMENT, (document,)), AnyOf(REVISION, (revision,)), Not(AnyOf(SUBJECT, (INTENT,)))))
        if await engine.index.count(engine.io, kept):
            await carry_out(engine, document, revision, pending.id)
        else:
            await engine.index.delete(engine.io, [pending.id])
    return len(intents) + dropped
