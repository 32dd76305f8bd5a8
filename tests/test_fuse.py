from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin.fuse import decay, impute, near_duplicates, reciprocal_rank_fusion, standardise

legs_ = st.dictionaries(
    st.sampled_from(("dense", "lexical", "third")), st.lists(st.integers(0, 9), unique=True), max_size=3
)
ks = st.floats(0, 100)
scores_ = st.lists(st.floats(-1e6, 1e6), max_size=20)


def test_rrf_by_hand() -> None:
    fused = reciprocal_rank_fusion({"dense": ["a", "b"], "lexical": ["b", "c"]}, k=10, weights={"lexical": 2})
    assert fused == pytest.approx({"a": 1 / 11, "b": 1 / 12 + 2 / 11, "c": 2 / 12})


def test_a_small_k_lets_a_first_place_beat_two_middling_ones() -> None:
    legs = {"dense": ["x", "y", "z", "mid"], "lexical": ["rare", "v", "w", "mid"]}
    small, usual = (reciprocal_rank_fusion(legs, k=k, weights={}) for k in (1, 60))
    assert small["rare"] > small["mid"]
    assert usual["rare"] < usual["mid"]


@given(legs_, ks, st.randoms(use_true_random=False))
def test_rrf_does_not_depend_on_the_order_of_the_legs(legs: dict[str, list[int]], k: float, rng: random.Random) -> None:
    names = list(legs)
    rng.shuffle(names)
    fused = reciprocal_rank_fusion(legs, k=k, weights={})
    again = reciprocal_rank_fusion({name: legs[name] for name in names}, k=k, weights={})
    assert again == pytest.approx(fused)
    assert set(fused) == {key for found in legs.values() for key in found}


@given(st.permutations(range(6)), st.permutations(range(6)), ks)
def test_what_is_better_in_every_leg_is_better(one: list[int], other: list[int], k: float) -> None:
    fused = reciprocal_rank_fusion({"dense": one, "lexical": other}, k=k, weights={"lexical": 2.0})
    for a in range(6):
        for b in range(6):
            if one.index(a) < one.index(b) and other.index(a) < other.index(b):
                assert fused[a] > fused[b]


@given(scores_)
def test_standardised_scores_keep_their_order(values: list[float]) -> None:
    scores = np.array(values, dtype=np.float64)
    made = standardise(scores)
    assert made.shape == scores.shape
    if len(values) > 1 and float(scores.std()) > 1e-6:
        assert abs(float(made.mean())) < 1e-6
        assert math.isclose(float(made.std()), 1, rel_tol=1e-6)
        assert (np.diff(made[np.argsort(scores, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("values", [[], [3.0], [3.0, 3.0, 3.0]])
def test_equal_scores_say_nothing(values: list[float]) -> None:
    assert standardise(np.array(values, dtype=np.float64)).tolist() == [0.0] * len(values)


def test_what_a_leg_did_not_return() -> None:
    found = {"a": 3.0, "b": 2.0}
    assert impute(found, ["a", "b", "c"], complete=True).tolist() == [3.0, 2.0, 0.0]
    assert impute(found, ["c", "a"], complete=False).tolist() == [2.0, 3.0]
    assert impute({}, ["c"], complete=False).tolist() == [0.0]
    assert impute({"a": -2.0}, ["b"], complete=False).tolist() == [-2.0]
    assert impute(found, [], complete=False).shape == (0,)


@given(st.floats(0, 1e6), st.floats(0.01, 1e4))
def test_age_halves(age: float, half_life: float) -> None:
    assert decay(half_life, half_life) == 0.5
    assert decay(age + half_life, half_life) == pytest.approx(decay(age, half_life) / 2)
    assert 0 <= decay(age, half_life) <= 1
    assert decay(-age, half_life) == 1


def test_near_duplicates_by_hand() -> None:
    texts = ["Alice moved to Lisbon", "alice MOVED to lisbon!", "Alice moved to Porto", "…", "…", "?", ""]
    assert near_duplicates(texts, similarity=1.0) == [False, True, False, False, True, False, False]
    assert near_duplicates(texts[:3], similarity=0.6) == [False, True, True]
    assert near_duplicates(texts[:3], similarity=0.61) == [False, True, False]
    assert near_duplicates([], similarity=0.5) == []


def test_what_repeats_a_repetition_only_is_kept() -> None:
    # b repeats a, c repeats b but not a: b is gone, so c stays.
    texts = ["one two three four", "two three four five", "three four five six"]
    assert near_duplicates(texts, similarity=0.6) == [False, True, False]


@given(st.lists(st.text(alphabet="ab ", max_size=6), max_size=8), st.floats(0.01, 1))
def test_the_first_of_equals_is_kept(texts: list[str], similarity: float) -> None:
    flags = near_duplicates(texts, similarity=similarity)
    seen: set[str] = set()
    for place, (text, repeated) in enumerate(zip(texts, flags, strict=True)):
        assert repeated or text not in seen
        assert place > 0 or not repeated
        seen.add(text)
