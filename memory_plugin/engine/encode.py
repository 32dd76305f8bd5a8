"""What the models make of a batch of passages: each is given only what it may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from memory_plugin.engine.core import Engine, Model
from memory_plugin.engine.entries import Entry
from memory_plugin.engine.sealing import Cut, Encoded, Part
from memory_plugin.errors import EmbeddingError, ProviderError, translate
from memory_plugin.network import may_see
from memory_plugin.types import Chunk, TokenVectors


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
    parts = await _parts(engine, engine.active, passages)
    if engine.other is not None:
        # What the second model fails to embed is filled in by the migration: a write does not fail for it.
        with suppress(ProviderError):
            parts += await _parts(engine, engine.other, passages)
    return Encoded(tuple(parts), await _tokens(engine, passages, parts))


async def _parts(engine: Engine, model: Model, passages: Sequence[_Passage]) -> list[Part]:
    """What one model makes of the passages that it may see."""
    seen = [at for at, one in enumerate(passages) if may_see(model.embedder, local_only=one.entry.local_only)]
    if not seen:
        return []
    texts = [passages[at].chunk.passage for at in seen]
    return [Part(model, tuple(seen), await engine.embed(model, texts, input_type="document"))]


async def _tokens(engine: Engine, passages: Sequence[_Passage], parts: Sequence[Part]) -> Mapping[int, TokenVectors]:
    """Token vectors for late interaction by place: a model's own where they fit."""
    late = engine.late
    if late is None:
        return {}
    wanted = [at for at, one in enumerate(passages) if may_see(late, local_only=one.entry.local_only)]
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
