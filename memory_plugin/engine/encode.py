"""What the models make of a batch of passages: each is given only what it may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from memory_plugin.engine.core import Engine, Model
from memory_plugin.engine.entries import Entry
from memory_plugin.engine.overlong import embed_passages
from memory_plugin.engine.sealing import Cut, Encoded, Part
from memory_plugin.errors import EmbeddingError, InvalidInputError, ProviderError, translate
from memory_plugin.network import may_see
from memory_plugin.types import Chunk, Embeddings, TokenVectors


@dataclass(frozen=True, slots=True)
class _Passage:
    """A passage and what it is of."""

    chunk: Chunk
    entry: Entry


async def encode(engine: Engine, cuts: Sequence[Cut]) -> Encoded:
    """Vectors of every space that is written, and token vectors.

    Raises:
        EmbeddingError: The model that is searched failed, or late interaction.
    """
    passages = [_Passage(chunk, cut.work.entry) for cut in cuts for chunk in cut.chunks]
    models = engine.models  # once: a switch in the middle must not leave one of them out
    active, other = models.active, models.other
    given = [at for at, one in enumerate(passages) if one.entry.vector is not None]
    parts = [Part(active, tuple(given), _given(passages, given))] if given else []
    parts += await _parts(engine, active, passages, skip=given)
    spaces = {active.space}
    if other is not None and getattr(other.embedder, "embeds", True):
        # What the second model fails to embed is filled in by the migration: a write does not fail for it.
        with suppress(ProviderError, InvalidInputError):
            parts += await _parts(engine, other, passages)
            spaces.add(other.space)
    return Encoded(tuple(parts), await _tokens(engine, passages, parts), frozenset(spaces))


def _given(passages: Sequence[_Passage], places: Sequence[int]) -> Embeddings:
    """The vectors that were made elsewhere."""
    return Embeddings(np.stack([np.frombuffer(passages[at].entry.vector or b"", "<f4") for at in places]))


async def _parts(engine: Engine, model: Model, passages: Sequence[_Passage], *, skip: Sequence[int] = ()) -> list[Part]:
    """What one model makes of the passages that it may see, but for those that have their vector."""
    left = [
        at
        for at, one in enumerate(passages)
        if at not in skip and may_see(model.embedder, local_only=one.entry.local_only)
    ]
    parts = []
    texts = [at for at in left if passages[at].entry.image is None]
    if texts:
        made = await embed_passages(engine, model, [passages[at].chunk.passage for at in texts])
        parts.append(Part(model, tuple(texts), made))
    pictures = [at for at in left if passages[at].entry.image is not None]
    if pictures and hasattr(model.embedder, "embed_images"):
        content = [image.data for at in pictures if (image := passages[at].entry.image) is not None]
        parts.append(Part(model, tuple(pictures), await engine.embed_images(model, content)))
    return parts


async def _tokens(engine: Engine, passages: Sequence[_Passage], parts: Sequence[Part]) -> Mapping[int, TokenVectors]:
    """Token vectors for late interaction by place: a model's own where they fit."""
    late = engine.late
    if late is None:
        return {}
    wanted = [
        at for at, one in enumerate(passages) if one.chunk.text and may_see(late, local_only=one.entry.local_only)
    ]
    found: dict[int, TokenVectors] = {}
    for part in parts:
        if part.embeddings.tokens is not None and engine.shares_tokens(part.model):
            found |= zip(part.places, part.embeddings.tokens, strict=True)
    missing = [at for at in wanted if at not in found]
    if missing:
        with translate(EmbeddingError, provider=late.model):
            made = tuple(await engine.io.call(late.tokens, [passages[at].chunk.passage for at in missing]))
            if len(made) != len(missing):
                raise ValueError(f"token vectors of {len(made)} texts, not {len(missing)}")
        found |= zip(missing, made, strict=True)
    return {at: found[at] for at in wanted}
