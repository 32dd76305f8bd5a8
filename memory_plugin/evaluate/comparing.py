"""Candidates side by side on the same questions: models, dimensions, quantizations, stages.

One store a candidate, made and measured one after another, since they would disturb each other's times.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from memory_plugin import dataset as sets
from memory_plugin import registry
from memory_plugin.assembly import AUTO, LOCAL
from memory_plugin.dataset import Dataset
from memory_plugin.engine.request import Legs
from memory_plugin.errors import InvalidInputError
from memory_plugin.evaluate.candidates import PLANNED_FOR, Candidate, Models, candidates, forms
from memory_plugin.evaluate.figures import Evaluation, Ingest, RerankStage, Run, Setup
from memory_plugin.evaluate.reuse import Once
from memory_plugin.evaluate.running import Counted, Progress, Stages, ingest, runs, silent
from memory_plugin.flow import Blocking, run
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.lexical import terms
from memory_plugin.plan import EMBEDDED_UP_TO, Choice, Load, plan
from memory_plugin.protocols import LateInteraction, Reranker
from memory_plugin.settings import Settings
from memory_plugin.store import MemoryStore
from memory_plugin.tokens import counter
from memory_plugin.types import Document, Message, Quantization

SAMPLED = 300


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
    allow_network: bool = True,
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
        allow_network: False refuses models that leave the machine.

    Returns:
        Figures of every combination of ``embedder``, ``dimension``, ``quantization``, ``legs`` and ``reranker``; the
        first is what the others are compared with.

    Raises:
        InvalidInputError: The directory holds no set, or an option has no such value.
        MemoryPluginError: As ``MemoryStore.add`` and ``MemoryStore.search``.
    """
    stages = Stages.of(reranker, legs, limit)
    shapes = _listed(embedder), _dimensions(dimension), forms(quantization)
    models = Models(*shapes, settings, late, cross_encoder, planned_for, prices, allow_network)
    whole = sets.read(directory)
    data = whole.sample(sample) if sample is not None else whole
    with place(store) as where:
        found = compare(data, stages, models, where, progress or silent)
    return replace(found, sampled=len(data.questions) < len(whole.questions))


def evaluate_copy(
    data: Dataset,
    *,
    reranker: RerankStage | Sequence[RerankStage] = "local",
    legs: Legs | Sequence[Legs] = "hybrid",
    limit: int = 10,
    progress: Progress | None = None,
    embedder: Any = LOCAL,
    dimension: int | Sequence[int] | None = None,
    quantization: Quantization | Sequence[Quantization] | None = None,
    planned_for: int = PLANNED_FOR,
    prices: Mapping[str, float] | None = None,
    allow_network: bool = True,
) -> Evaluation:
    """Add what was ``gathered`` from a store of one's own to sealed ones, ask every question, report, remove them.

    Args:
        data: From ``gathered``.
        reranker: See ``evaluate``.
        legs: See ``evaluate``.
        limit: See ``evaluate``.
        progress: See ``evaluate``.
        embedder: See ``evaluate``.
        dimension: See ``evaluate``.
        quantization: See ``evaluate``.
        planned_for: See ``evaluate``.
        prices: See ``evaluate``.
        allow_network: See ``evaluate``.

    Raises:
        InvalidInputError: An option has no such value.
        MemoryPluginError: As ``MemoryStore.add`` and ``MemoryStore.search``.
    """
    stages = Stages.of(reranker, legs, limit)
    models = Models(
        _listed(embedder), _dimensions(dimension), forms(quantization),
        planned_for=planned_for, prices=prices, allow_network=allow_network,
    )  # fmt: skip
    with place(None) as where:
        return compare(data, stages, models, where, progress or silent)


def _listed(embedder: Any) -> list[Any]:
    return list(embedder) if isinstance(embedder, list | tuple) else [embedder]


def _dimensions(dimension: int | Sequence[int] | None) -> Sequence[int] | None:
    return [dimension] if isinstance(dimension, int) else dimension


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
    taken: set[str] = set()
    for name in models.embedders:
        for one in candidates(name, models, taken):
            here = where if models.alone else where / one.directory
            index = EdgeIndex(here / "store")
            with MemoryStore(
                index,
                one.embedder,
                late=cast("LateInteraction", one.late),
                reranker=judge,
                keyring=here / "keys.json",
                settings=_settings(models.settings, one.form),
                allow_network=models.allow_network,
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


def _setup(memory: MemoryStore, data: Dataset, one: Candidate, models: Models, added: Ingest) -> Setup:
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
