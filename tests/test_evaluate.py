"""Evaluation on sets whose figures are known."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import InvalidInputError, MemoryStore, Settings
from memory_plugin.evaluate import Evaluation, Run, evaluate
from memory_plugin.metrics import METRICS
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker
from tests import sets


def quick(where: Path, **options: Any) -> Evaluation:
    """Evaluate with doubles."""
    return evaluate(where, embedder=HashEmbedder(), cross_encoder=OverlapReranker(), **options)


def figures(run: Run) -> dict[str, dict[str, float]]:
    return {row.type: dict(row.values) for row in run.rows}


def test_known_figures(tmp_path: Path) -> None:
    found = quick(sets.write(tmp_path / "tiny"), reranker="none", legs="lexical")
    (run,) = found.runs
    half = 1 / (2 + 1 / math.log2(3))  # of gains 2 and 1, the lesser at rank 1
    assert figures(run) == {
        "all": pytest.approx({"recall@5": 0.5, "recall@10": 0.5, "ndcg@10": (1 + half) / 3, "mrr@10": 2 / 3}),
        "easy": pytest.approx(dict.fromkeys(METRICS, 1.0)),
        "hard": pytest.approx({"recall@5": 0.25, "recall@10": 0.25, "ndcg@10": half / 2, "mrr@10": 0.5}),
    }
    assert [row.n for row in run.rows] == [3, 1, 2]
    easy = run.rows[1]
    assert all(low < 0.5 and high == 1 for low, high in easy.intervals.values())  # one question tells little
    assert easy.tokens == pytest.approx(2, abs=3)
    low, high = run.rows[0].intervals["mrr@10"]
    assert low <= 2 / 3 <= high
    assert (found.ingest.rows, found.ingest.texts, found.questions, found.sampled) == (4, 4, 3, False)
    assert found.ingest.texts_per_second is not None
    assert found.ingest.texts_per_second > 0


def test_json(tmp_path: Path) -> None:
    found = json.loads(json.dumps(quick(sets.write(tmp_path / "tiny"), reranker="local").to_json()))
    first = found["rows"][0]
    assert (first["type"], first["n"], first["reranker"], first["legs"]) == ("all", 3, "local", "hybrid")
    assert [row["type"] for row in found["rows"]] == ["all", "easy", "hard"]
    for row in found["rows"]:
        for name in METRICS:
            low, high = row[f"{name}_interval"]
            assert 0 <= low <= row[name] <= high <= 1
    assert {"embed", "index", "open", "late", "rerank", "total"} <= set(found["stages"])
    assert all(0 <= one["p50_ms"] <= one["p95_ms"] for one in found["stages"].values())
    assert isinstance(found["tokens"], float)
    assert found["models"]["embedder"] == "testing:hashed-words@1"
    assert found["models"]["reranker"] == "testing:overlap"
    assert found["ingest"]["texts_per_second"] > 0


def test_several_configurations_over_one_store(tmp_path: Path) -> None:
    found = quick(sets.write(tmp_path / "tiny"), reranker=["none", "late"], legs=["dense", "hybrid", "dense"])
    assert [(run.legs, run.reranker) for run in found.runs] == [
        ("dense", "none"),
        ("dense", "late"),
        ("hybrid", "none"),
        ("hybrid", "late"),
    ]
    assert found.ingest.texts == 4
    as_json = found.to_json()
    assert len(as_json["rows"]) == 12
    assert [(one["legs"], one["reranker"]) for one in as_json["stages"]] == [
        (run.legs, run.reranker) for run in found.runs
    ]
    assert set(as_json["tokens"]) == {"dense/none", "dense/late", "hybrid/none", "hybrid/late"}
    assert all("rerank" not in run.stages for run in found.runs)


def test_a_question_stays_in_its_conversation(tmp_path: Path) -> None:
    where = sets.conversations(tmp_path / "talk")
    found = quick(where, reranker="none", store=tmp_path / "kept")
    assert figures(found.runs[0])["all"] == dict.fromkeys(METRICS, 1.0)
    assert [row.type for row in found.runs[0].rows] == ["all", "single"]
    with MemoryStore.open(
        tmp_path / "kept" / "store", embedder=HashEmbedder(), keyring=tmp_path / "kept" / "keys.json", reranker=None
    ) as store:
        records = {record.source: record for record in store.list("talk/a").records}
        assert set(records) == {"a1", "a2"}
        assert (records["a1"].name, f"{records['a1'].time:%Y-%m-%d %H:%M}") == ("Ana", "2023-05-08 13:56")
        assert records["a1"].metadata["conversation_id"] == "a"


def test_a_long_row_counts_once(tmp_path: Path) -> None:
    long = " ".join(f"bravo number {number} is a sentence of its own." for number in range(60))
    rows: list[Mapping[str, object]] = [{"id": "long", "text": long}, *sets.ROWS]
    where = sets.write(tmp_path / "long", rows, [{"id": "q", "text": "bravo"}], [("q", "d1", 1)])
    found = quick(where, reranker="none", legs="lexical", settings=Settings(chunk_tokens=64, duplicate_similarity=None))
    assert found.ingest.texts > 10
    (row,) = found.runs[0].rows
    assert row.values["recall@5"] == 1
    assert row.tokens < 120


def test_a_kept_store_does_not_embed_again(tmp_path: Path) -> None:
    where = sets.write(tmp_path / "tiny")
    first = quick(where, reranker="none", store=tmp_path / "kept")
    again = quick(where, reranker="none", store=tmp_path / "kept")
    assert (first.ingest.texts, again.ingest.texts, again.ingest.texts_per_second) == (4, 0, None)
    assert figures(first.runs[0]) == figures(again.runs[0])


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    quick(sets.write(tmp_path / "tiny"), reranker="none", sample=2)
    with pytest.raises(InvalidInputError):
        quick(sets.write(tmp_path / "empty", rows=()), reranker="none")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_sample_limit_and_progress(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    found = quick(
        sets.write(tmp_path / "tiny"),
        reranker="none",
        legs="dense",
        sample=2,
        limit=1,
        progress=lambda what, done, of: told.append((what, done, of)),
    )
    assert (found.questions, found.sampled, found.limit) == (2, True, 1)
    assert ("add", 4, 4) in told
    assert told[-1] == ("search dense, none", 2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reranker": "full"}, "reranker is one of none, late, local, not 'full'"),
        ({"reranker": []}, "reranker is one of"),
        ({"legs": "sparse"}, "legs is one of"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"sample": 0}, "at least one question"),
    ],
)
def test_what_cannot_be_measured(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        quick(sets.write(tmp_path / "tiny"), **options)


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="cannot be made"):
        quick(sets.write(tmp_path / "tiny"), store=tmp_path / "file")
