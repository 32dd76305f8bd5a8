"""A store of one's own, asked one's own questions: as it is, or its memories under other models."""

from __future__ import annotations

from collections.abc import Sequence

from memory_plugin import ids, registry
from memory_plugin.dataset import Dataset, Question
from memory_plugin.engine.request import Legs
from memory_plugin.errors import InvalidInputError
from memory_plugin.evaluate.figures import Evaluation, Ingest, RerankStage, Setup
from memory_plugin.evaluate.running import Counted, Progress, Stages, runs, silent
from memory_plugin.filters import eq, not_
from memory_plugin.store import MemoryStore
from memory_plugin.tokens import counter
from memory_plugin.types import Document, Message, Namespace, Record

PAGE = 500
NONE = Ingest(rows=0, texts=0, embed_seconds=0.0, seconds=0.0)


def evaluate_store(
    memory: MemoryStore,
    questions: Sequence[Question],
    *,
    name: str = "questions",
    reranker: RerankStage | Sequence[RerankStage] = "local",
    legs: Legs | Sequence[Legs] = "hybrid",
    limit: int = 10,
    progress: Progress | None = None,
) -> Evaluation:
    """Ask an open store, as it is, and report; nothing is written.

    Args:
        memory: The store.
        questions: See ``memory_plugin.questions.read_questions``.
        name: What the questions are called in the report.
        reranker: The last stage to run, or several to compare.  "local" is the reranker that the store was opened with.
        legs: Which legs propose candidates, or several.
        limit: Memories a search returns at most.
        progress: Told about every question.

    Returns:
        Figures of every combination of ``legs`` and ``reranker``.

    Raises:
        InvalidInputError: There is no question, or an option has no such value.
        MemoryPluginError: As ``MemoryStore.search``.
    """
    if not questions:
        raise InvalidInputError("there is no question to ask")
    stages = Stages.of(reranker, legs, limit)
    described = memory.describe()
    index, models = described["index"], described["models"]
    assert isinstance(index, dict)
    assert isinstance(models, dict)
    size = index.get("bytes")
    log = index.get("wal_bytes")
    setup = Setup(
        embedder=str(models["embedder"]),
        dimension=int(str(models["dimension"])),
        quantization=index["quantization"],  # type: ignore[arg-type]  # one of them: the index made it so
        memories=int(str(described["memories"])),
        bytes=(size if isinstance(size, int) else 0) - (log if isinstance(log, int) else 0),
        ingest=NONE,
        models=models,
        plan=None,
        planned_for=0,
    )
    count = Counted(counter(registry.local_pieces().count))
    data = Dataset(name, {}, tuple(questions), {})
    done = tuple(runs(memory, setup, data, stages, count, progress or silent, None))
    return Evaluation(name, limit, len(questions), sampled=False, dropped={}, runs=done, counter=count.name)


def gathered(memory: MemoryStore, questions: Sequence[Question], *, name: str = "questions") -> Dataset:
    """The memories of the namespaces that are asked, as a corpus for ``compare``: each passage a document.

    Args:
        memory: The store that has them.
        questions: What is asked.
        name: What the corpus is called in the report.

    Raises:
        InvalidInputError: There is no memory.
    """
    corpus: dict[Namespace, list[Document | Message]] = {}
    originals: dict[str, Record] = {}
    left_out = 0
    for space in ids.namespaces([question.namespace for question in questions]):
        for record in listed(memory, space):
            if not record.passage.strip():
                left_out += 1
                continue
            originals[record.id] = record
            copy = Document(record.passage, source=record.id, time=record.time, local_only=record.local_only)
            corpus.setdefault(record.namespace, []).append(copy)
    if not corpus:
        raise InvalidInputError("the namespaces of the questions hold no memories: add some, or name others")
    dropped = {"memories without text": left_out} if left_out else {}
    return Dataset(name, corpus, tuple(questions), dropped, originals)


def listed(memory: MemoryStore, namespace: Namespace) -> list[Record]:
    """Every memory of a namespace that a search may find, in time order."""
    found: list[Record] = []
    after: str | None = None
    while True:
        page = memory.list(namespace, filter=not_(eq("$kind", "value")), limit=PAGE, after=after)
        found += page.records
        after = page.next
        if after is None:
            return found
