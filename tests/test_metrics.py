"""The metrics against ir_measures, and the interval against what it must be."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, ScoredDoc, nDCG

from memory_plugin.metrics import METRICS, bootstrap, measure, mrr_at, ndcg_at, paired, recall_at, shares

ROWS = [f"row-{number}" for number in range(30)]
RANKINGS = st.lists(st.sampled_from(ROWS), unique=True, max_size=20)
LABELS = st.dictionaries(st.sampled_from(ROWS), st.integers(1, 3), min_size=1, max_size=12)
THEIRS = {"recall@5": R @ 5, "recall@10": R @ 10, "ndcg@10": nDCG @ 10, "mrr@10": RR @ 10}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(RANKINGS.filter(bool), LABELS), min_size=1, max_size=5))
def test_equal_to_ir_measures(questions: list[tuple[list[str], dict[str, int]]]) -> None:
    qrels = {f"q{number}": labels for number, (_, labels) in enumerate(questions)}
    run = [
        ScoredDoc(f"q{number}", row, float(len(ROWS) - rank))
        for number, (ranking, _) in enumerate(questions)
        for rank, row in enumerate(ranking)
    ]
    expected = ir_measures.calc_aggregate(list(THEIRS.values()), qrels, run)
    ours = np.mean([measure(ranking, labels) for ranking, labels in questions], axis=0)
    for name, value in zip(METRICS, ours, strict=True):
        assert value == pytest.approx(expected[THEIRS[name]], abs=1e-9), name


def test_by_hand() -> None:
    labels = {"a": 1, "b": 2, "c": 0}
    ranking = ["c", "a", "x", "b"]
    assert recall_at(ranking, labels, 2) == 0.5
    assert recall_at(ranking, labels, 4) == 1
    assert mrr_at(ranking, labels, 10) == 0.5
    assert mrr_at(ranking, labels, 1) == 0
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    assert ndcg_at(ranking, labels, 10) == pytest.approx((1 / math.log2(3) + 2 / math.log2(5)) / ideal)
    assert ndcg_at(["b", "a"], labels, 10) == 1


def test_nothing_found_and_nothing_to_find() -> None:
    assert measure([], {"a": 1}) == (0, 0, 0, 0)
    assert measure(["a"], {"a": 0}) == (0, 0, 0, 0)


def test_recall_divides_by_all_relevant_rows() -> None:
    labels = dict.fromkeys(ROWS[:20], 1)
    assert recall_at(ROWS, labels, 10) == 0.5
    assert ndcg_at(ROWS, labels, 10) == 1


def test_interval_is_seeded_and_as_wide_as_the_normal_one() -> None:
    random = np.random.default_rng(1)
    values = random.random((2000, 2))
    intervals = bootstrap(values)
    assert intervals == bootstrap(values)
    assert intervals != bootstrap(values, seed=2)
    for column, (low, high) in enumerate(intervals):
        error = values[:, column].std() / math.sqrt(len(values))
        mean = values[:, column].mean()
        assert low == pytest.approx(mean - 1.96 * error, abs=0.3 * error)
        assert high == pytest.approx(mean + 1.96 * error, abs=0.3 * error)


def test_interval_of_equal_values_is_a_point() -> None:
    assert bootstrap(np.full((3, 1), 0.25)) == [(0.25, 0.25)]
    assert bootstrap(np.array([[1.0]])) == [(1.0, 1.0)]


def test_interval_does_not_depend_on_how_much_is_resampled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).random((50, 4))
    whole = bootstrap(values)
    monkeypatch.setattr("memory_plugin.metrics._BLOCK", 100)
    assert bootstrap(values) == whole


def test_fifty_questions_that_were_all_answered_do_not_prove_perfection() -> None:
    ((low, high),) = shares(np.ones((50, 1)))
    assert high == 1
    assert 0.9 < low < 0.97
    ((low, high),) = shares(np.zeros((50, 1)))
    assert low == 0
    assert 0.03 < high < 0.1


@pytest.mark.parametrize("truth", [0.98, 0.9, 0.6])
def test_intervals_hold_the_truth_as_often_as_they_say(truth: float) -> None:
    """Fifty questions at a time of many whose mean is known."""
    random = np.random.default_rng(7)
    samples = [(random.random((50, 1)) < truth).astype(float) for _ in range(300)]
    held = [low <= truth <= high for ((low, high),) in map(shares, samples)]
    assert np.mean(held) >= 0.92


@pytest.mark.parametrize(("wins", "losses"), [(0.02, 0.02), (0.06, 0.02), (0.15, 0.05)])
def test_differences_hold_the_truth_as_often_as_they_say(wins: float, losses: float) -> None:
    random = np.random.default_rng(8)
    held = []
    for _ in range(300):
        draw = random.random((50, 1))
        one = np.where(draw < losses, 0.0, 1.0)
        other = np.where((draw >= losses) & (draw < losses + wins), 0.0, 1.0)
        (found,) = paired(one, other)
        assert found.mean == pytest.approx((one - other).mean())
        assert found.low <= found.mean <= found.high
        held.append(found.low <= wins - losses <= found.high)
    assert np.mean(held) >= 0.92


def test_equal_runs_are_not_proven_equal() -> None:
    same = np.random.default_rng(1).random((50, 2))
    for found in paired(same, same):
        assert found.mean == 0
        assert not found.tells
        assert -0.07 < found.low < 0 < found.high < 0.07
    assert all(found.tells and found.low > 0 for found in paired(np.ones((50, 1)), np.full((50, 1), 0.6)))
    assert all(found.tells and found.high < 0 for found in paired(np.zeros((50, 1)), np.full((50, 1), 0.4)))
