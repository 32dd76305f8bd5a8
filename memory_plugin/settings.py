"""One frozen dataclass with every setting of a store: no environment reads, no dicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from memory_plugin.conditions import OWN_FIELDS
from memory_plugin.errors import ConfigurationError
from memory_plugin.vectors import QUANTIZATIONS, Quantization

_CHOICES: dict[str, tuple[object, ...]] = {
    "time_index": ("day", None),
    "vectors": ("rotated", "sealed", "plain"),
    "language": ("english", "none"),
    "on_rerank_error": ("raise", "keep_fused"),
    "quantization": QUANTIZATIONS,
}


_WHOLE = ("candidates", "leg_limit", "rerank_candidates", "batch", "staging", "max_text_bytes", "chunk_tokens")
_NUMBERS = ("rrf_k", "lexical_weight", "learned_weight", "rerank_weight", "half_life_days", "duplicate_similarity")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a store behaves.

    The first group is fixed when the store is made and kept in its manifest; the second may differ at
    every opening.

    Args:
        filterable: Metadata fields that get blind tags, so that filters and facets on them run inside
            Qdrant.  Each reveals which memories share a value, never the value.
        time_index: "day" keeps the day number of each memory in the clear, so that time filters run
            inside Qdrant; None keeps it sealed.
        vectors: "rotated", "sealed" or "plain"; see SECURITY.md for what each protects.
        late_interaction: Keep the sign bits of each passage's token vectors, sealed, to re-rank with
            (48 bytes a token).
        language: Stemmer and stop words of the lexical index: "english" or "none".
        chunk_tokens: Longest passage in word pieces of the embedder, its context included.
        quantization: How the first pass of a search sees dense vectors: "turbo4" (4 bits a dimension), "turbo2",
            "int8", "binary" or "none"; the best are scored again by the full vectors.

        candidates: How many fused candidates are opened and re-ranked.
        leg_limit: How many candidates each leg returns to fusion.
        rrf_k: Constant of reciprocal rank fusion.
        lexical_weight: Weight of the lexical leg in fusion, up to three times that as the query's words become
            identifiers; the dense leg has 1.
        learned_weight: Weight in fusion of the terms that the embedder weighs itself, where it does.
        rerank_candidates: How many candidates the cross-encoder reads.
        rerank_weight: Weight of the cross-encoder's standardised score beside the stage before it; it falls to
            nothing as the query's words become identifiers.
        on_rerank_error: "raise", or "keep_fused" to return the order before the reranker; the results
            say which happened.
        duplicate_similarity: Hits whose word sets overlap this much (Jaccard) with a better hit are
            dropped; 1.0 drops only equal ones, None none.
        half_life_days: Age at which a memory's fused score is halved; None: age does not matter.
        batch: Chunks embedded and written together.
        staging: A document of more chunks than this is written invisibly first, then shown in one step.
        max_text_bytes: Longest text accepted, in UTF-8 bytes.
        check_model: At every opening, embed the probe texts again and refuse a model that has moved.

    Raises:
        ConfigurationError: A value is out of range.
    """

    filterable: tuple[str, ...] = ()
    time_index: Literal["day"] | None = "day"
    vectors: Literal["rotated", "sealed", "plain"] = "rotated"
    late_interaction: bool = True
    language: Literal["english", "none"] = "english"
    chunk_tokens: int = 256
    quantization: Quantization = "turbo4"

    candidates: int = field(default=100, kw_only=True)
    leg_limit: int = field(default=100, kw_only=True)
    rrf_k: float = field(default=4.0, kw_only=True)
    lexical_weight: float = field(default=2.0, kw_only=True)
    learned_weight: float = field(default=1.0, kw_only=True)
    rerank_candidates: int = field(default=20, kw_only=True)
    rerank_weight: float = field(default=0.5, kw_only=True)
    on_rerank_error: Literal["raise", "keep_fused"] = field(default="raise", kw_only=True)
    duplicate_similarity: float | None = field(default=0.95, kw_only=True)
    half_life_days: float | None = field(default=None, kw_only=True)
    batch: int = field(default=64, kw_only=True)
    staging: int = field(default=256, kw_only=True)
    max_text_bytes: int = field(default=32 * 2**20, kw_only=True)
    check_model: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        self._check_types()
        for name in _WHOLE:
            if getattr(self, name) < 1:
                raise ConfigurationError(f"settings: {name} must be at least 1, not {getattr(self, name)}")
        if self.chunk_tokens < 32:
            raise ConfigurationError(f"settings: chunk_tokens must be at least 32, not {self.chunk_tokens}")
        for name in ("rrf_k", "lexical_weight", "learned_weight", "rerank_weight"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"settings: {name} must not be negative, got {getattr(self, name)}")
        if self.half_life_days is not None and not self.half_life_days > 0:
            raise ConfigurationError(f"settings: half_life_days must be positive, not {self.half_life_days}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                known = ", ".join(map(repr, choices))
                raise ConfigurationError(f"settings: {name} is one of {known}, not {getattr(self, name)!r}")
        if self.duplicate_similarity is not None and not 0 < self.duplicate_similarity <= 1:
            raise ConfigurationError(
                f"settings: duplicate_similarity must be above 0 and at most 1, not {self.duplicate_similarity}"
            )
        self._check_filterable()

    def _check_types(self) -> None:
        for name in _WHOLE + _NUMBERS:
            value = getattr(self, name)
            kinds = int if name in _WHOLE else int | float
            optional = name in ("half_life_days", "duplicate_similarity") and value is None
            if isinstance(value, bool) or not (isinstance(value, kinds) or optional):
                raise ConfigurationError(f"settings: {name} is a number, not {value!r:.80}")
        for name in ("late_interaction", "check_model"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"settings: {name} is True or False, not {getattr(self, name)!r:.80}")

    def _check_filterable(self) -> None:
        if not isinstance(self.filterable, tuple) or not all(isinstance(name, str) for name in self.filterable):
            raise ConfigurationError(f"settings: filterable is a tuple of field names, not {self.filterable!r:.80}")
        unknown = [name for name in self.filterable if name.startswith("$") and name not in OWN_FIELDS]
        if unknown:
            raise ConfigurationError(
                f"settings: {unknown[0]} is no field of a record; those are {', '.join(OWN_FIELDS)}"
            )
        if any("\ud800" <= character <= "\udfff" for name in self.filterable for character in name):
            raise ConfigurationError("settings: a name in filterable holds a lone surrogate: it was decoded wrongly")
        if len(set(self.filterable)) != len(self.filterable) or not all(self.filterable):
            raise ConfigurationError("settings: filterable needs distinct, non-empty field names")
