"""Evaluation on the real sets, where they are beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memory_plugin.dataset import read
from memory_plugin.evaluate import evaluate

pytestmark = pytest.mark.data

_ROOT = Path(__file__).parents[1]
_PLACES = (
    Path(os.environ.get("MEMORY_PLUGIN_DATA", "data")),
    _ROOT / "shared" / "data",
    _ROOT.parent / "shared" / "data",
)
DATA = next((place for place in _PLACES if (place / "locomo").is_dir()), None)
SETS = {
    "locomo": (5882, 1982, 10),
    "pep_identifiers": (15901, 500, 1),
    "squad_v2_dev": (1204, 5928, 1),
    "train/dstc9_faq": (12039, 12039, 1),
    "train/qmsum": (9493, 1284, 197),
}


def place(name: str) -> Path:
    if DATA is None:
        pytest.skip("the evaluation sets are not beside this checkout (set MEMORY_PLUGIN_DATA to where they are)")
    if not (DATA / name).is_dir():
        pytest.skip(f"{name} is not among the evaluation sets")
    return DATA / name


@pytest.mark.parametrize("name", SETS)
def test_the_sets_are_read_whole(name: str) -> None:
    found = read(place(name))
    assert (found.rows, len(found.questions), len(found.corpus)) == SETS[name]
    assert found.dropped == {}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stages_stand_above_the_published_floor() -> None:
    """Lucene's BM25 reaches NDCG@10 .887; a sample of 500 has a standard error of about .013."""
    found = evaluate(place("squad_v2_dev"), reranker=["none", "late"], legs=["lexical", "hybrid"], sample=500)
    score = {(run.legs, run.reranker): run.rows[0].values["ndcg@10"] for run in found.runs}
    assert score["lexical", "none"] > 0.85
    assert score["hybrid", "late"] > score["hybrid", "none"]
