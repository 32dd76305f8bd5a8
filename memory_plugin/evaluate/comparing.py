"""Candidates side by side on the same questions: models, dimensions, quantizations, stages.

One store a candidate, made and measured one after another, since they would disturb each other's times.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from memory_plugin import dataset as sets
from memory_plugin import registry
from memory_plugin.assembly import AUTO, LOCAL
from memory_plugin.dataset import Dataset
from memory_plugin.embedders.truncated import Truncated
from memory_plugin.engine.request import Legs
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.evaluate.figures import Evaluation, Ingest, RerankStage, Run, Setup
from memory_plugin.evaluate.reuse import Once, Repacking
from memory_plugin.evaluate.running import Counted, Progress, Stages, ingest, runs, several, silent
from memory_plugin.flow import Blocking, run
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.lexical import terms
from memory_plugin.plan import EMBEDDED_UP_TO, Choice, Load, plan
from memory_plugin.protocols import Embedder, LateInteraction, Reranker
from memory_plugin.settings import Settings
from memory_plugin.store import MemoryStore
from memory_plugin.tokens import counter
from memory_plugin.types import Document, Message, Quantization
from memory_plugin.vectors import QUANTIZATIONS

PLANNED_FOR = 1_000_000
SAMPLED = 300


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
    """

    embedders: Sequence[Any]
    dimensions: Sequence[int] | None = None
    forms: Sequence[Quantization | None] = (None,)
    settings: Settings | None = None
    late: LateInteraction | str = AUTO
    cross_encoder: Reranker | str = LOCAL
    planned_for: int = PLANNED_FOR
    prices: Mapping[str, float] | None = None

    @property
    def alone(self) -> bool:
        """Whether there is one candidate only."""
        return len(self.embedders) * len(self.dimensions or [0]) * len(self.forms) == 1


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
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
        """For people, and as the name of a directory."""
        form = "" if self.form is None else f" {self.form}"
        return f"{self.name} {self.embedder.identity.dimension}{form}"


def evaluate(
    directory: str | Path,
    *,
    reranker: RerankStage | Sequence[RerankStage] = "local",
    legs: Legs | Sequence[Legs] = "hybrid",
    limit: int = 10,
    sample: int | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
    store: str | Path | None = None,
    embedder: Any = LOCAL,
    dimension: int | Sequence[int] | None = None,
    quantization: Quantization | Sequence[Quantization] | None = None,
    late: LateInteraction | str = AUTO,
    cross_encoder: Reranker | str = LOCAL,
    planned_for: int = PLANNED_FOR,
    prices: Mapping[str, float] | None = None,
) -> Evaluation:
    """Add a corpus to stores of its own, ask every question, and report.

    Args:
        directory: See ``memory_plugin.dataset``.
        reranker: The last stage to run, or several to compare over each store.
        legs: Which legs propose candidates, or several.
        limit: Rows a search returns at most.
        sample: Ask that many questions only, always the same ones; the corpus stays whole.
        settings: Of the stores.
        progress: Told about every batch and question.
        store: Keep the stores and their keys in this directory, and use what is there; None: temporary ones.
        embedder: Makes the vectors: a name, an object, or a list of several to compare.
        dimension: Of the stored vectors; None: the model's own.  A model that was not trained for it is shortened all
            the same, to show what is lost.
        quantization: Of the stores; None: as ``settings`` say.
        late: Makes the late interaction scores.
        cross_encoder: What "local" runs.
        planned_for: For how many memories size and cost are told.
        prices: Your own, in dollars per million tokens by "provider:model".

    Returns:
        Figures of every combination of ``embedder``, ``dimension``, ``quantization``, ``legs`` and ``reranker``; the
        first is what the others are compared with.

    Raises:
        InvalidInputError: The directory holds no set, or an option has no such value.
        MemoryPluginError: As ``MemoryStore.add`` and ``MemoryStore.search``.
    """
    stages = Stages.of(reranker, legs, limit)
    models = Models(
        embedders=embedder if isinstance(embedder, list | tuple) else [embedder],
        dimensions=[dimension] if isinstance(dimension, int) else dimension,
        forms=forms(quantization),
        settings=settings,
        late=late,
        cross_encoder=cross_encoder,
        planned_for=planned_for,
        prices=prices,
    )
    whole = sets.read(directory)
    data = whole.sample(sample) if sample is not None else whole
    with place(store) as where:
        found = compare(data, stages, models, where, progress or silent)
    return replace(found, sampled=len(data.questions) < len(whole.questions))


def forms(quantization: Quantization | Sequence[Quantization] | None) -> Sequence[Quantization | None]:
    """The quantizations to compare; None: the one that the settings say.

    Raises:
        InvalidInputError: There is no such.
    """
    return [None] if quantization is None else several(quantization, QUANTIZATIONS, "quantization")


def compare(data: Dataset, stages: Stages, models: Models, where: Path, tell: Progress) -> Evaluation:
    """Every candidate over a corpus.

    Args:
        data: The corpus and its questions.
        stages: What is run over each store.
        models: What is compared.
        where: Where the stores are made.
        tell: Told about every batch and question.
    """
    judge: Reranker | None = None
    if stages.cross_encodes:
        judge = models.cross_encoder if not isinstance(models.cross_encoder, str) else registry.reranker(LOCAL)
    count: Counted | None = None
    done: list[Run] = []
    for name in models.embedders:
        for one in _candidates(name, models):
            here = where if models.alone else where / re.sub(r"[^\w.-]+", "-", one.label)
            index = EdgeIndex(here / "store")
            with MemoryStore(
                index,
                one.embedder,
                late=cast("LateInteraction", one.late),
                reranker=judge,
                keyring=here / "keys.json",
                settings=_settings(models.settings, one.form),
            ) as memory:
                told = tell if models.alone else _labelled(tell, one.label)
                spent = _spent(one.once)
                added = ingest(memory, data, one.once, one.late, told)
                run(index.settle(Blocking()))
                setup = _setup(memory, data, one, models, added)
                count = count or Counted(counter(registry.pieces(one.embedder).count))
                setup = replace(setup, spent=_difference(_spent(one.once), spent))
                done += runs(memory, setup, data, stages, count, told, one.once)
    assert count is not None
    return Evaluation(
        dataset=data.name,
        limit=stages.limit,
        questions=len(data.questions),
        sampled=False,
        dropped=data.dropped,
        runs=tuple(done),
        counter=count.name,
    )


def _candidates(name: Any, models: Models) -> Iterator[_Candidate]:
    """The stores of one model: each dimension that it can have, in each form.

    Raises:
        InvalidInputError: It has none of the dimensions.
    """
    base = registry.embedder(name) if isinstance(name, str) else registry.adapted(name)
    full = base.identity.dimension
    called = name if isinstance(name, str) else f"{base.identity.provider}:{base.identity.model}"
    sizes = [full] if models.dimensions is None else [size for size in models.dimensions if size <= full]
    if not sizes:
        raise InvalidInputError(f"{called} has {full} dimensions: it cannot have {models.dimensions}")
    shared = _shared(base, models)
    for size in dict.fromkeys(sizes):
        once, late, embedder, forced = _shortened(name, size, shared, models)
        for form in models.forms:
            yield _Candidate(called, once, late, embedder, forced, form)


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
            asked = registry.embedder(f"{name}{'&' if '?' in name else '?'}dimension={size}")
            own, packing = _shared(asked, models)
            return own, packing, own, False
    return once, late, cast("Embedder", Truncated(once, size, force=True)), True


def _settings(settings: Settings | None, form: Quantization | None) -> Settings | None:
    return settings if form is None else replace(settings or Settings(), quantization=form)


def _labelled(tell: Progress, label: str) -> Progress:
    return lambda what, done, of: tell(f"{label}: {what}", done, of)


def _spent(once: Once) -> float | None:
    """What a provider that counts says of its cost so far."""
    usage = getattr(once, "usage", None)
    cost = getattr(usage, "cost", None)
    return float(cost) if isinstance(cost, int | float) else None


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _setup(memory: MemoryStore, data: Dataset, one: _Candidate, models: Models, added: Ingest) -> Setup:
    """What the store is, how large, and what one of many more memories would take."""
    described: Any = memory.describe()
    index, memories = described["index"], described["memories"]
    identity = one.embedder.identity
    load = _load(data, memories, models.planned_for)
    choice = Choice(
        one.name,
        identity.dimension,
        index["quantization"],
        "embedded" if models.planned_for <= EMBEDDED_UP_TO else "server",
        late=described["settings"]["late_interaction"],
        vectors=described["settings"]["vectors"],
    )
    return Setup(
        embedder=one.name,
        dimension=identity.dimension,
        quantization=index["quantization"],
        memories=memories,
        bytes=index["bytes"] - index["wal_bytes"],
        ingest=added,
        models=described["models"],
        plan=plan(load, choice, prices=models.prices),
        planned_for=models.planned_for,
        forced=one.forced,
    )


def _load(data: Dataset, memories: int, planned_for: int) -> Load:
    """Memories like those of the corpus, by some of its rows."""
    texts = [_text(item) for items in data.corpus.values() for item in items]
    some = texts[:: max(1, len(texts) // SAMPLED)]
    parts = max(1.0, memories / len(texts))  # passages of a row
    pieces = registry.local_pieces()

    def mean(values: Iterable[int]) -> float:
        return sum(values) / len(some) / parts

    return Load(
        planned_for,
        subjects=max(1, min(planned_for, round(planned_for * len(data.corpus) / max(memories, 1)))),
        tokens=max(1.0, mean(pieces.count(text) for text in some)),
        terms=mean(len(set(terms(text))) for text in some),
        text=mean(len(text.encode(errors="surrogatepass")) for text in some),
    )


def _text(item: Document | Message) -> str:
    return item.text if isinstance(item, Document) else item.content


@contextlib.contextmanager
def place(store: str | Path | None) -> Iterator[Path]:
    """Where data and keys are kept: together, which is fit for public questions only.

    Raises:
        InvalidInputError: It cannot be made.
    """
    if store is not None:
        where = Path(store)
        try:
            where.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InvalidInputError(f"{where} cannot be made: {error.strerror or error}") from error
        yield where
    else:
        with tempfile.TemporaryDirectory(prefix="memory-plugin-eval-") as made:
            yield Path(made)
