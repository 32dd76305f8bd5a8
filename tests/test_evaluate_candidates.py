"""Candidates side by side: each its own store, each text embedded once, differences paired by question."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_plugin import Document, InvalidInputError, MemoryStore, Settings
from memory_plugin.dataset import Expected, Question
from memory_plugin.engine.canaries import PROBES
from memory_plugin.errors import NetworkForbiddenError
from memory_plugin.evaluate import Evaluation, evaluate, evaluate_copy, evaluate_store, gathered
from memory_plugin.evaluate.figures import signed, verdict
from memory_plugin.metrics import METRICS, Difference
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker
from memory_plugin.types import Embeddings, InputType, Usage
from tests import sets

WORDS = [f"word{number}" for number in range(40)]
ROWS = [
    {"id": f"d{number}", "text": " ".join(WORDS[(number + step) % 40] for step in (0, 3, 7))} for number in range(30)
]
QUESTIONS = [{"id": f"q{number}", "text": WORDS[number], "type": "word"} for number in range(20)]
LABELS = [(f"q{number}", f"d{number}", 1) for number in range(20)]


class Counting(HashEmbedder):
    """Counts what it is given beside a store's own probe texts, and may be cut."""

    matryoshka = True
    leaves_machine = False

    def __init__(self, dimension: int = 64, revision: str = "1") -> None:
        super().__init__(dimension, revision)
        self.documents: list[str] = []
        self.queries: list[str] = []

    @property
    def usage(self) -> Usage:
        """A cent a text."""
        texts = len(self.documents) + len(self.queries)
        return Usage(texts=texts, cost=texts / 100)

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """One vector a text."""
        asked = [text for text in texts if text not in PROBES]  # what a store asks of every model
        (self.queries if input_type == "query" else self.documents).extend(asked)
        return super().embed(texts, input_type=input_type)


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return sets.write(tmp_path / "words", ROWS, QUESTIONS, LABELS)


def compared(where: Path, **options: Any) -> Evaluation:
    return evaluate(where, **{"reranker": "none", "legs": "dense", "cross_encoder": OverlapReranker(), **options})


def test_every_combination_over_texts_embedded_once(where: Path) -> None:
    first, second = Counting(), Counting(32, "2")
    found = compared(
        where, embedder=[first, second], dimension=[32, 8], quantization=["turbo4", "binary"], legs=["dense", "hybrid"]
    )
    assert len(found.runs) == 16
    assert len(found.setups) == 8
    assert [(one.dimension, one.quantization) for one in found.setups[:4]] == [
        (32, "turbo4"), (32, "binary"), (8, "turbo4"), (8, "binary"),
    ]  # fmt: skip
    for embedder in (first, second):
        assert len(embedder.documents) == len(set(embedder.documents)) == 30
        assert len(embedder.queries) == len(set(embedder.queries)) == 21  # and one to load the models
    assert [one.ingest.texts for one in found.setups] == [30, 0, 0, 0, 30, 0, 0, 0]
    assert len(set(found.labels)) == 16
    assert found.labels[0] == "testing:hashed-words 32 turbo4 dense"


def test_what_is_shared_changes_no_figure(where: Path) -> None:
    """A candidate among others has the figures that it has alone."""
    alone = compared(where, embedder=Counting(), dimension=16, quantization="binary", reranker="late")
    among = compared(where, embedder=Counting(), dimension=[64, 16], quantization=["turbo4", "binary"], reranker="late")
    np.testing.assert_array_equal(alone.runs[0].scores, among.runs[3].scores)
    assert alone.labels == ("testing:hashed-words",)
    assert among.labels == ("64 turbo4", "64 binary", "16 turbo4", "16 binary")


def test_the_local_model_shares_its_token_vectors(tmp_path: Path) -> None:
    texts = {"d1": "The dog is called Rex.", "d2": "We moved to Porto in May.", "d3": "The invoice was paid twice."}
    where = sets.write(
        tmp_path / "small",
        [{"id": name, "text": text} for name, text in texts.items()],
        [{"id": "q", "text": "Where do we live now?"}],
        [("q", "d2", 1)],
    )
    alone = compared(where, embedder="local", dimension=128, reranker="late", legs="hybrid")
    among = compared(where, embedder="local", dimension=[384, 128], reranker="late", legs="hybrid")
    assert among.runs[1].setup.forced
    assert not among.runs[0].setup.forced
    np.testing.assert_array_equal(alone.runs[0].scores, among.runs[1].scores)
    assert among.setups[1].ingest.texts == 0
    assert all(one.plan is not None and "sealed token vectors" in one.plan.disk for one in among.setups)


def test_differences_are_of_the_same_questions(where: Path) -> None:
    found = compared(where, embedder=Counting(), dimension=[64, 2])
    (difference,) = found.differences()
    own = found.runs[1].scores.mean(axis=0) - found.runs[0].scores.mean(axis=0)
    for place, name in enumerate(METRICS):
        assert difference[name].mean == pytest.approx(own[place])
    assert difference["recall@10"].high < 0  # two numbers are not enough for forty words
    as_json = json.loads(json.dumps(found.to_json()))
    (told,) = as_json["differences"]
    assert (told["of"], told["from"]) == ("2", "64")
    assert told["recall@10"]["mean"] == pytest.approx(difference["recall@10"].mean)
    assert told["verdict"].startswith("recall@10: 2 is worse than 64 by 0.")
    assert [one["dimension"] for one in as_json["rows"] if one["type"] == "all"] == [64, 2]
    assert "differences" not in compared(where, embedder=Counting()).to_json()


def test_sizes_costs_and_times(where: Path) -> None:
    found = compared(where, embedder=Counting(), quantization=["none", "binary"], planned_for=10_000)
    none, binary = found.setups
    assert none.memories == binary.memories == 30
    assert none.bytes > 30 * 4 * 64
    assert none.spent == pytest.approx(0.30)  # adding; what others of the same model share is not spent again
    assert binary.spent == 0
    for one in found.setups:
        assert one.plan is not None
        assert one.plan.tokens == pytest.approx(10_000 * 8, rel=0.2)  # three words in two pieces each, two special ones
        assert one.plan.choice.engine == "embedded"
    assert none.plan is not None
    assert binary.plan is not None
    assert none.plan.memory_bytes > binary.plan.memory_bytes
    assert found.runs[1].stages["total"].p50 > 0
    server = compared(where, embedder=Counting()).setups[0]
    assert server.plan is not None
    assert server.plan.choice.engine == "server"  # a million


def test_a_query_embedded_before_still_counts_its_time(where: Path) -> None:
    class Slow(Counting):
        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
            import time

            time.sleep(0.02 if input_type == "query" else 0)
            return super().embed(texts, input_type=input_type)

    found = compared(where, embedder=Slow(), quantization=["turbo4", "binary"], sample=5)
    for run in found.runs:
        assert run.stages["embed"].p50 >= 20
        assert run.stages["total"].p50 >= run.stages["embed"].p50


def test_models_that_cannot_have_a_dimension(where: Path) -> None:
    found = compared(where, embedder=[Counting(64), Counting(16, "2")], dimension=[64, 16])
    assert [(one.dimension) for one in found.setups] == [64, 16, 16]
    with pytest.raises(InvalidInputError, match="has 16 dimensions: it cannot have"):
        compared(where, embedder=Counting(16), dimension=32)
    with pytest.raises(InvalidInputError, match="quantization is one of none, turbo4"):
        compared(where, embedder=Counting(), quantization="half")


def test_models_that_leave_the_machine_are_refused(where: Path) -> None:
    class Away(Counting):
        leaves_machine = True

    with pytest.raises(NetworkForbiddenError):
        compared(where, embedder=Away(), allow_network=False)


def test_kept_stores_of_several(where: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    compared(where, embedder=Counting(), quantization=["turbo4", "binary"], store=kept)
    assert len(list(kept.iterdir())) == 2
    again = Counting()
    compared(where, embedder=again, quantization=["turbo4", "binary"], store=kept)
    assert again.documents == []


def test_temporary_stores_are_removed(where: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    compared(where, embedder=Counting(), quantization=["turbo4", "int8"])
    assert list((tmp_path / "scratch").iterdir()) == []


# ── a store of one's own ──────────────────────────────────────────────────────────────────────────


def own(tmp_path: Path) -> MemoryStore:
    return MemoryStore.open(
        tmp_path / "own", embedder=HashEmbedder(), reranker=OverlapReranker(), keyring=tmp_path / "own.json",
        settings=Settings(chunk_tokens=32),
    )  # fmt: skip


def asked(name: str, text: str, *expected: Expected, namespace: tuple[str, ...] = ("alice",)) -> Question:
    return Question(name, text, "", namespace, {str(place): 1 for place in range(len(expected))}, expected)


LONG = " ".join(f"Paragraph {number} tells of topic{number} and nothing else of note." for number in range(12))


def test_a_store_as_it_is(tmp_path: Path) -> None:
    with own(tmp_path) as memory:
        memory.add(Document(LONG, source="long.md"), "alice")
        memory.add("The badge is LX-2217.", "alice", source="badge")
        before = memory.describe()["memories"]
        found = evaluate_store(
            memory,
            [
                asked("part", "topic7", Expected(source="long.md", text="of topic7 and")),
                asked("whole", "topic3", Expected(source="long.md")),
                asked("two", "LX-2217 badge topic5", Expected(text="LX-2217"), Expected(text="topic5 and")),
                asked("none", "LX-2217", Expected(source="elsewhere.md")),
            ],
            name="mine.jsonl",
            reranker=["none", "late", "local"],
            legs="lexical",
        )
        assert memory.describe()["memories"] == before
    assert found.dataset == "mine.jsonl"
    assert [run.reranker for run in found.runs] == ["none", "late", "local"]
    assert list(found.runs[0].scores[:, METRICS.index("recall@10")]) == [1, 1, 1, 0]
    assert found.setups[0].plan is None
    assert found.setups[0].bytes > 0
    json.dumps(found.to_json())
    with pytest.raises(InvalidInputError, match="no question"), own(tmp_path) as memory:
        evaluate_store(memory, [])


def test_its_memories_under_other_models(tmp_path: Path) -> None:
    questions = [
        asked("part", "topic7", Expected(source="long.md", text="of topic7 and")),
        asked("other", "badge", Expected(source="badge"), namespace=("alice", "s-1")),
    ]
    with own(tmp_path) as memory:
        memory.add(Document(LONG, source="long.md"), "alice")
        memory.add("The badge is LX-2217.", ("alice", "s-1"), source="badge")
        memory.add("The badge of Bob.", "bob", source="badge")
        data = gathered(memory, questions)
        passages = memory.count("alice")
        ids = {record.id for record in memory.list("alice").records}
    shutil.rmtree(tmp_path / "own")
    assert set(data.corpus) == {("alice",), ("alice", "s-1")}  # and nothing of bob's
    assert sum(map(len, data.corpus.values())) == passages == len(data.originals)
    assert set(data.originals) == ids
    found = evaluate_copy(data, embedder=[Counting(), Counting(32, "2")], reranker="none", legs="hybrid")
    assert [list(run.scores[:, METRICS.index("recall@10")]) for run in found.runs] == [[1, 1], [1, 1]]
    with own(tmp_path / "again") as memory, pytest.raises(InvalidInputError, match="hold no memories"):
        gathered(memory, questions)


def test_private_memories_stay_private_in_a_copy(tmp_path: Path) -> None:
    with own(tmp_path) as memory:
        memory.add(Document("A secret.", source="s", local_only=True), "alice")
        data = gathered(memory, [asked("q", "secret", Expected(source="s"))])
    ((copy,),) = data.corpus.values()
    assert isinstance(copy, Document)
    assert copy.local_only

    class Away(Counting):
        leaves_machine = True

    away = Away()
    found = evaluate_copy(data, embedder=away, reranker="none", legs="hybrid")
    assert away.documents == []
    assert found.runs[0].rows[0].values["recall@10"] == 1  # by its words


# ── words ─────────────────────────────────────────────────────────────────────────────────────────


def test_what_can_be_concluded() -> None:
    better = verdict(Difference(0.06, 0.01, 0.11), "B", "A", 50)
    assert better == "B is better than A by 0.06 [0.01, 0.11]"
    worse = verdict(Difference(-0.06, -0.11, -0.01), "B", "A", 50)
    assert worse == "B is worse than A by 0.06 [0.01, 0.11]"
    unclear = verdict(Difference(0.01, -0.04, 0.05), "A", "B", 50)
    assert unclear == (
        "50 questions cannot tell A from B: the difference is between −0.04 and 0.05 (some 300 would tell 0.02)"
    )
    narrow = verdict(Difference(0.001, -0.004, 0.005), "A", "B", 5000)
    assert narrow == "5000 questions cannot tell A from B: the difference is between −0.004 and 0.005"
    assert signed(-0.001) == "0.00"


def test_labels_say_only_what_differs(where: Path) -> None:
    found = compared(where, embedder=Counting(), reranker=["none", "late", "local"])
    assert found.labels == ("fusion", "late", "cross-encoder")
    first = found.runs[0]
    twice = replace(found, runs=(first, replace(first, setup=replace(first.setup, dimension=8))))
    assert twice.labels == ("64", "8")


def test_an_embedder_without_tokens_has_them_made_once(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late interaction by the local model, for a model that gives no token vectors."""
    from memory_plugin.rerankers.late_interaction import MaxSim

    seen: list[str] = []
    inner = MaxSim.tokens

    def watched(self: MaxSim, texts: Sequence[str], /) -> Any:
        seen.extend(texts)
        return inner(self, texts)

    monkeypatch.setattr(MaxSim, "tokens", watched)
    compared(where, embedder=Counting(), quantization=["turbo4", "binary"], reranker="late", sample=3)
    documents = [text for text in seen if len(text.split()) == 3]
    assert len(documents) == len(set(documents)) == 30
