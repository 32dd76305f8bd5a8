"""What is compared: each model at each dimension in each form, its texts embedded once."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from memory_plugin import registry
from memory_plugin.assembly import AUTO, LOCAL
from memory_plugin.embedders.truncated import Truncated
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.evaluate.reuse import Once, Repacking
from memory_plugin.evaluate.running import several
from memory_plugin.manifest import space
from memory_plugin.protocols import Embedder, LateInteraction, Reranker
from memory_plugin.settings import Settings
from memory_plugin.types import Quantization
from memory_plugin.vectors import QUANTIZATIONS

PLANNED_FOR = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """What is compared, and what all candidates share.

    Args:
        embedders: Names or objects.
        dimensions: Of the stored vectors; None: each model's own.
        forms: Quantizations; None among them: as ``settings`` say.
        settings: Of the stores.
        late: Makes the late interaction scores.
        cross_encoder: What "local" runs.
        planned_for: For how many memories size and cost are told.
        prices: Your own, in dollars per million tokens by "provider:model".
        allow_network: False refuses models that leave the machine.
    """

    embedders: Sequence[Any]
    dimensions: Sequence[int] | None = None
    forms: Sequence[Quantization | None] = (None,)
    settings: Settings | None = None
    late: LateInteraction | str = AUTO
    cross_encoder: Reranker | str = LOCAL
    planned_for: int = PLANNED_FOR
    prices: Mapping[str, float] | None = None
    allow_network: bool = True

    @property
    def alone(self) -> bool:
        """Whether there is one candidate only."""
        return len(self.embedders) * len(self.dimensions or [0]) * len(self.forms) == 1


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A store to be made.

    Args:
        name: Of the model.
        once: The model, which embeds no text twice.
        late: What packs its token vectors, each once.
        embedder: The model, or what shortens its vectors.
        forced: Whether it was not trained to be shortened.
        form: The quantization.
    """

    name: str
    once: Once
    late: Repacking
    embedder: Embedder
    forced: bool
    form: Quantization | None

    @property
    def label(self) -> str:
        """For people."""
        form = "" if self.form is None else f" {self.form}"
        return f"{self.name} {self.embedder.identity.dimension}{form}"

    @property
    def directory(self) -> str:
        """Where its store is kept, beside those of others."""
        return re.sub(r"[^\w.-]+", "-", self.label) + "-" + space(self.embedder.identity)


def forms(quantization: Quantization | Sequence[Quantization] | None) -> Sequence[Quantization | None]:
    """The quantizations to compare; None: the one that the settings say.

    Raises:
        InvalidInputError: There is no such.
    """
    return [None] if quantization is None else several(quantization, QUANTIZATIONS, "quantization")


def candidates(name: Any, models: Models, taken: set[str]) -> Iterator[Candidate]:
    """The stores of one model: each dimension that it can have, in each form.

    Args:
        name: A name or an object.
        models: What is compared.
        taken: What other models are called; grows.

    Raises:
        InvalidInputError: It has none of the dimensions.
    """
    allowed = models.allow_network
    if isinstance(name, str):
        base = registry.embedder(name, allow_network=allowed)
    else:
        base = registry.adapted(name, allow_network=allowed)
    full = base.identity.dimension
    called = name if isinstance(name, str) else f"{base.identity.provider}:{base.identity.model}"
    if called in taken:
        called = f"{called}@{base.identity.revision[:12]}"
    taken.add(called)
    sizes = [full] if models.dimensions is None else [size for size in models.dimensions if size <= full]
    if not sizes:
        raise InvalidInputError(f"{called} has {full} dimensions: it cannot have {models.dimensions}")
    shared = _shared(base, models)
    for size in dict.fromkeys(sizes):
        once, late, embedder, forced = _shortened(name, size, shared, models)
        for form in models.forms:
            yield Candidate(called, once, late, embedder, forced, form)


def _shared(base: Embedder, models: Models) -> tuple[Once, Repacking]:
    """The model and its late interaction, which make nothing twice."""
    late = models.late
    if isinstance(late, str):
        late = (registry.own_late_interaction(base) if late == AUTO else None) or registry.late_interaction(LOCAL)
    packing = late if getattr(base, "encoder", None) == late.encoder else None
    return Once(base, packing, keep=not models.alone), Repacking(late)


def _shortened(
    name: Any, size: int, shared: tuple[Once, Repacking], models: Models
) -> tuple[Once, Repacking, Embedder, bool]:
    """The model at a dimension: cut where it was trained for it, else asked for it, else cut all the same."""
    once, late = shared
    if size == once.identity.dimension:
        return once, late, once, False
    with contextlib.suppress(ConfigurationError):
        return once, late, cast("Embedder", Truncated(once, size)), False
    if isinstance(name, str):
        with contextlib.suppress(ConfigurationError):
            option = f"{'&' if '?' in name else '?'}dimension={size}"
            asked = registry.embedder(name + option, allow_network=models.allow_network)
            own, packing = _shared(asked, models)
            return own, packing, own, False
    return once, late, cast("Embedder", Truncated(once, size, force=True)), True
