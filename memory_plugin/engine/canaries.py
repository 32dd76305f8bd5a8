"""Canaries: what a model made of a few texts when its space was begun, to notice when it makes something else.

A vendor may change a model under its name.  Nothing else would tell: dimension and format stay, and searches get
worse.  So the vectors of sixteen probes (eight texts, each as a document and as a query) are kept sealed in the
manifest, and compared with new ones when asked.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import cast

import numpy as np

from memory_plugin import registry
from memory_plugin.chunk import Pieces
from memory_plugin.engine.core import Engine, Model, embed
from memory_plugin.engine.proof import NO_POINT
from memory_plugin.errors import DecryptionError, ModelDriftError
from memory_plugin.flow import IO
from memory_plugin.protocols import Embedder, Sealer
from memory_plugin.types import Matrix

# Different in language, script, length and kind, since a change may touch only some: ours, and never changed.
PROBES = (
    "The ferry to the island leaves at a quarter past six, except on Sundays.",
    "Invoice ZX-4471-B was paid twice; error E1042 came from the certificate.",
    "def mean(values):\n    return sum(values) / len(values)",
    "她把钥匙放在蓝色的抽屉里，然后去了火车站。",
    "Der Vertrag läuft am 31. März aus und wird nicht verlängert.",
    "كتبت الطبيبة الوصفة ونسيت التاريخ.",
    "rain",
    "I would rather have the window seat, though my sister, who gets sick on flights, asked first.",
)

KEPT = 256
"""Numbers that are kept of a vector: its own, or that many random projections of it."""

MEAN_FLOOR = 0.99
WORST_FLOOR = 0.95
"""Cosines below which a model has moved: docs/adr/0009-live-migration.md has the measurements."""


PREFIX = 32
"""Word pieces that a model's own prefix may have."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a model has moved since its space was begun.

    Args:
        probes: Vectors compared.
        mean: Mean cosine between then and now; 1 where nothing changed.
        worst: The smallest.
    """

    probes: int
    mean: float
    worst: float

    @property
    def moved(self) -> bool:
        """Whether that is another model's work, and no jitter."""
        return self.mean < MEAN_FLOOR or self.worst < WORST_FLOOR


def can_probe(model: Model) -> bool:
    """Whether the model embeds texts at all: one for vectors that are given does not."""
    return bool(getattr(model.embedder, "embeds", True))


async def make(io: IO, model: Model, sealer: Sealer) -> str | None:
    """The model's canaries, sealed; None for one that embeds no texts.

    Raises:
        EmbeddingError: It failed.
    """
    if not can_probe(model):
        return None
    rows = await _probed(io, model)
    return sealer.seal(NO_POINT, field(model.space), rows.astype("<f2").tobytes())


async def compare(engine: Engine, model: Model) -> Drift | None:
    """What the model makes of the probes now, against what it made then; None where nothing was kept.

    Raises:
        EmbeddingError: The embedder failed.
        SealError: The canaries were tampered with.
    """
    sealed = engine.manifest.canaries.get(model.space)
    if sealed is None or not can_probe(model):
        return None
    data = engine.store_sealer.open(NO_POINT, field(model.space), sealed)
    now = await _probed(engine.io, model)
    then = np.frombuffer(data, dtype="<f2").astype(np.float32)
    if then.size != now.size:
        raise DecryptionError(f"the canaries of space {model.space} have an unknown form")
    then = then.reshape(now.shape)
    lengths = np.linalg.norm(then, axis=1) * np.linalg.norm(now, axis=1)
    cosines = (then * now).sum(axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)
    return Drift(len(cosines), float(cosines.mean()), float(cosines.min()))


async def require_unmoved(engine: Engine) -> None:
    """Compare, for ``Settings.check_model``.

    Raises:
        ModelDriftError: The model under the same name makes other vectors.
    """
    found = await compare(engine, engine.active)
    if found is not None and found.moved:
        raise ModelDriftError(told(engine.active, found))


def told(model: Model, found: Drift) -> str:
    """The finding, and what to do about it, for people."""
    return (
        f"{model.name} makes other vectors than when the store's were made: over {found.probes} probes the mean cosine "
        f"is {found.mean:.4f}, the worst {found.worst:.4f} (1 is no change). New memories and questions do not fit the "
        "old vectors. Give the changed model a new revision, so that it has a space of its own, and change to it with "
        "`memory-plugin migrate`; or go back to the model as it was"
    )


def field(space: str) -> str:
    """What the envelope of a space's canaries is bound to."""
    return f"canaries:{space}"


async def _probed(io: IO, model: Model) -> Matrix:
    # Not through a cache: it would answer as the model did once.
    asked = Model(getattr(model.embedder, "uncached", model.embedder), model.space)
    texts = await io.call(_readable, asked.embedder)
    made = [(await embed(io, asked, texts, input_type=kind)).vectors for kind in ("document", "query")]
    return await io.call(lambda: projected(np.concatenate(made)))


def _readable(embedder: Embedder) -> list[str]:
    """The probes, without the ends of those that are too long for the model."""
    window, pieces = getattr(embedder, "max_tokens", None), registry.pieces(embedder)
    if not isinstance(window, int) or pieces is not cast("object", embedder):  # its limit is its own affair
        return list(PROBES)
    room = max(window - PREFIX, window // 2)
    return [_cut(text, pieces, room) for text in PROBES]


def _cut(text: str, pieces: Pieces, room: int) -> str:
    while len(text) > 1 and pieces.count(text) > room:
        text = text[: len(text) * 3 // 4]
    return text


def projected(vectors: Matrix) -> Matrix:
    """At most ``KEPT`` numbers of each vector, whose cosines are about those of the vectors, shape (n, ≤ KEPT).

    Random signs (Achlioptas 2003): a small manifest, which every writer to a server reads, for 2 % of accuracy in how
    far a model moved.  A vector that did not change is projected to one that did not change.
    """
    dimension = vectors.shape[1]
    if dimension <= KEPT:
        return vectors
    stream = hashlib.shake_256(f"memory-plugin/v1/canaries/{dimension}".encode()).digest(dimension * KEPT // 8)
    signs = np.unpackbits(np.frombuffer(stream, np.uint8)).reshape(dimension, KEPT).astype(np.float32) * 2 - 1
    return np.asarray(vectors @ signs / np.sqrt(dimension), np.float32)
