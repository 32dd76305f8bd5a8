"""What the gate refuses, and what it lets through."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_plugin import MemoryStore, Settings
from memory_plugin.dataset import Expected, Question
from memory_plugin.engine.gate import distinctive
from memory_plugin.errors import MigrationError
from memory_plugin.manifest import space
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "dfgklmnprst"]
NUMBER = 120


def memory(number: int) -> str:
    """Twenty words, of which some are shared with others of its kind."""
    dice = np.random.default_rng(number)
    shared = np.random.default_rng(1000 + number % 6)
    own = [WORDS[int(one)] for one in dice.integers(0, len(WORDS), 12)]
    return " ".join(own + [WORDS[int(one)] for one in shared.integers(0, len(WORDS), 8)])


@pytest.fixture(params=["rotated", "sealed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with MemoryStore.open(
        tmp_path / "m",
        embedder=HashEmbedder(256),
        reranker=None,
        late=None,
        keyring=tmp_path / "k.json",
        settings=Settings(vectors=request.param),
    ) as opened:
        for number in range(NUMBER):
            opened.add(memory(number), "alice", source=f"s{number}")
        yield opened


class Broken(HashEmbedder):
    """A model that works, but for what a mistake would do to it."""

    def __init__(self, how: str) -> None:
        super().__init__(256, revision=f"2 {how}")
        self.how = how

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        cut = [" ".join(text.split()[:2]) for text in texts] if self.how == "two words read" else texts
        made = super().embed(cut, input_type=input_type).vectors
        if self.how == "in another order" and input_type == "document":
            made = np.roll(made, 1, axis=0)
        if self.how == "queries elsewhere" and input_type == "query":
            made = np.roll(made, 7, axis=1)
        if self.how == "noise":
            made = np.stack([np.random.default_rng(list(text.encode())).normal(size=256) for text in texts])
        if self.how == "nearly one vector":
            made = 1e-6 * made + 1
        return Embeddings((made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32))


@pytest.mark.parametrize(
    ("how", "figure"),
    [
        ("two words read", "neighbour agreement"),
        ("in another order", "self-retrieval"),
        ("queries elsewhere", "self-retrieval"),
        ("noise", "neighbour agreement"),
        ("nearly one vector", "self-retrieval"),
    ],
)
def test_a_broken_model_is_refused_and_the_store_serves_as_before(store: MemoryStore, how: str, figure: str) -> None:
    with pytest.raises(
        MigrationError, match=rf"was not switched to testing:hashed-words: (.|\n)*{figure}@10 .* is below"
    ):
        store.migrate(Broken(how))
    pending = store.migration()
    assert pending is not None
    assert (pending.state, pending.missing) == ("filling", 0)
    found = store.search(memory(3), "alice", limit=1, legs="dense")[0]
    assert (found.record.source, found.space) == ("s3", space(HashEmbedder(256).identity))
    if how == "noise":  # forced, it is done all the same; and it can be undone
        assert store.migrate(Broken(how), force=True).embedded == 0
        assert store.rollback().model == HashEmbedder(256).identity
    else:
        store.abandon()
    assert store.search(memory(3), "alice", limit=1, legs="dense")[0].record.source == "s3"


def test_a_good_model_passes_and_says_what_was_measured(store: MemoryStore) -> None:
    gate = store.migrate(HashEmbedder(300, revision="2")).gate
    assert gate is not None
    names = [figure.name for figure in gate.figures]
    assert names == ["share of memories with a vector", "self-retrieval@10", "neighbour agreement@10"]
    assert [figure.number for figure in gate.figures] == [NUMBER] * 3
    assert gate.figures[1].before == 1.0
    assert "reaches the floor" in str(gate.figures[1])


def questions(numbers: Sequence[int], answer: int = 0) -> list[Question]:
    """Asking for a memory by its own words, or, wrongly labelled, for another."""
    return [
        Question(
            f"q{n}", " ".join(memory(n).split()[:6]), "", ("alice",), {"0": 1}, (Expected(source=f"s{n + answer}"),)
        )
        for n in numbers
    ]


def test_own_questions_decide(store: MemoryStore) -> None:
    with pytest.raises(
        MigrationError, match=r"recall@10 on your questions 0\.\d+ is below the floor 0\.8\d+ \(20 measured"
    ):
        store.migrate(Broken("queries elsewhere"), questions=questions(range(20)))
    done = store.migrate(Broken("queries elsewhere"), questions=questions(range(20)), floor=0.0)
    assert done.gate is not None
    assert [figure.name for figure in done.gate.figures][1:] == ["recall@10 on your questions"]


def test_the_floor_is_relative_to_the_old_model(store: MemoryStore) -> None:
    """Questions that nobody can answer refuse nothing: the old model does not answer them either."""
    done = store.migrate(HashEmbedder(300, revision="2"), questions=questions(range(10), answer=50))
    assert done.gate is not None
    assert done.gate.figures[1].before == pytest.approx(0, abs=0.3)


def test_questions_in_a_file_and_in_a_directory(store: MemoryStore, tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    asked = [{"query": memory(n), "namespace": "alice", "source": f"s{n}"} for n in range(5)]
    file.write_text("# mine\n" + "\n".join(map(json.dumps, asked)), encoding="utf-8")
    done = store.migrate(HashEmbedder(300, revision="2"), questions=file)
    assert done.gate is not None
    assert (done.gate.figures[1].value, done.gate.figures[1].number) == (1.0, 5)
    store.finish()
    # A set names its rows by their sources, and its namespace is the name of its directory.
    directory = tmp_path / "alice"
    directory.mkdir()
    rows = [{"id": f"s{n}", "text": memory(n)} for n in range(5)]
    (directory / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (directory / "queries.jsonl").write_text(json.dumps({"id": "q", "text": memory(2)}), encoding="utf-8")
    (directory / "qrels.tsv").write_text("query_id\tdoc_id\trel\nq\ts2\t1\n", encoding="utf-8")
    done = store.migrate(HashEmbedder(200, revision="3"), questions=str(directory))
    assert done.gate is not None
    assert (done.gate.figures[1].value, done.gate.figures[1].number) == (1.0, 1)


def test_a_small_store_is_counted_only(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    with MemoryStore.open(tmp_path / "m", embedder=HashEmbedder(), **parts) as store:
        for who in range(10):
            store.add([f"one thing of {who}", "and another"], f"user {who}")
        gate = store.migrate(Broken("noise")).gate
    assert gate is not None
    assert [figure.name for figure in gate.figures] == ["share of memories with a vector"]


def test_the_distinctive_part() -> None:
    common = ["the", "of", "and"] * 10
    text = " ".join([*common, *(f"rare{n}" for n in range(12)), *common])
    frequency = Counter({"the": 200, "of": 200, "and": 200})
    assert distinctive(text, frequency) == " ".join(f"rare{n}" for n in range(12))
    assert distinctive("short: all of it!", frequency) == "short: all of it!"
