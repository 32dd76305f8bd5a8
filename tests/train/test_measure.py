"""Before and after, in pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from memory_plugin import Document, MemoryStore
from memory_plugin.dataset import Question
from memory_plugin.metrics import METRICS
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker
from memory_plugin.train.measure import ask, differences


def column(values: list[float]) -> np.ndarray:
    return np.repeat(np.array(values)[:, None], len(METRICS), axis=1)


def test_a_small_gain_of_every_question_is_certain_however_much_questions_differ() -> None:
    before = column([n / 100 for n in range(80)])
    recall, ndcg = differences("set", "dense leg", before, before + 0.1)
    assert (recall.metric, ndcg.metric, recall.n) == ("recall@10", "ndcg@10", 80)
    assert recall.before == pytest.approx(0.395)
    assert recall.gain == pytest.approx(0.1)
    assert recall.interval.low == pytest.approx(0.1)
    assert recall.interval.high == pytest.approx(0.1)


def test_a_gain_of_few_questions_is_uncertain() -> None:
    before = column([0.0] * 50)
    after = column([1.0, 1.0, -1.0, *[0.0] * 47])
    (recall, _) = differences("set", "full pipeline", before, after)
    assert recall.gain == pytest.approx(0.02)
    assert recall.interval.low < 0 < recall.interval.high
    shown = recall.to_json()
    assert shown["gain"] == pytest.approx(0.02)
    assert shown["interval"] == list(recall.interval)


def test_questions_are_asked_of_the_store(tmp_path: Path) -> None:
    questions = [
        Question("a", "red bicycle", "", ("n",), {"one": 1}),
        Question("b", "large house", "", ("n",), {"absent": 1}),
    ]
    told: list[tuple[str, int, int]] = []
    with MemoryStore.open(
        tmp_path / "store",
        embedder=HashEmbedder(),
        late=None,
        reranker=OverlapReranker(),
        keyring=tmp_path / "keys.json",
    ) as memory:
        memory.add([Document("The red bicycle.", source="one"), Document("The large house.", source="two")], ("n",))
        for stage in ("dense leg", "full pipeline"):
            values = ask(memory, questions, stage, lambda *one: told.append(one), "set")
            assert values.tolist() == [[1.0] * len(METRICS), [0.0] * len(METRICS)]
    assert told == [
        ("set, dense leg", 1, 2),
        ("set, dense leg", 2, 2),
        ("set, full pipeline", 1, 2),
        ("set, full pipeline", 2, 2),
    ]
