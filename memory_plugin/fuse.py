"""Putting rankings together: reciprocal rank fusion, standardised blends, near duplicates.  Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)

_WORDS = re.compile(r"\w+")


def reciprocal_rank_fusion(
    legs: Mapping[str, Sequence[Key]], *, k: float, weights: Mapping[str, float]
) -> dict[Key, float]:
    """Fused score of everything any leg found: the sum of ``weight / (k + rank)``, rank from 1.

    Cormack, Clarke, Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank
    learning methods", SIGIR 2009.  A small ``k`` lets one leg's first hit beat what both legs find
    mediocre, which is what a look-up of a rare token needs.

    Args:
        legs: Keys of each leg, best first.
        k: Constant; not negative.
        weights: By leg; 1 where there is none.
    """
    scores: dict[Key, float] = {}
    for name, found in legs.items():
        weight = weights.get(name, 1.0)
        for rank, key in enumerate(found, 1):
            scores[key] = scores.get(key, 0.0) + weight / (k + rank)
    return scores


def standardise(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Zero mean, unit deviation; zeros where all scores are equal.  Shape is kept."""
    if scores.size == 0:
        return scores
    deviation = float(scores.std())
    return (scores - scores.mean()) / deviation if deviation > 1e-12 else np.zeros_like(scores)


def impute(found: Mapping[Key, float], keys: Sequence[Key], *, complete: bool) -> NDArray[np.float64]:
    """Scores of ``keys`` in a leg that returned only its best.

    A key that the leg did not return scored 0 when the leg returned all it had, else at most the
    worst that it returned.

    Returns:
        Shape (keys,).
    """
    floor = 0.0 if complete or not found else min(found.values())
    return np.array([found.get(key, floor) for key in keys], dtype=np.float64)


def decay(age_days: float, half_life_days: float) -> float:
    """Factor by which a score falls with age: one half at the half-life; 1 for the future."""
    return math.pow(0.5, max(age_days, 0.0) / half_life_days)


class Distinct:
    """Tells which texts repeat one before them: Jaccard overlap of their word sets at least ``similarity``.

    Texts without a word are compared as they are.

    Args:
        similarity: From 0 to 1; 1 means equal word sets.
    """

    def __init__(self, similarity: float) -> None:
        self._similarity = similarity
        self._kept: list[frozenset[str]] = []

    def repeats(self, text: str) -> bool:
        """Whether the text repeats one that was kept; it is kept itself when it does not."""
        words = frozenset(_WORDS.findall(text.casefold())) or frozenset((text,))
        for other in self._kept:
            # The overlap is at most the ratio of the sizes.
            if len(words) < self._similarity * len(other) or len(other) < self._similarity * len(words):
                continue
            common = len(words & other)
            if common >= self._similarity * (len(words) + len(other) - common):
                return True
        self._kept.append(words)
        return False


def near_duplicates(texts: Sequence[str], *, similarity: float) -> list[bool]:
    """Which texts repeat one before them; see ``Distinct``."""
    distinct = Distinct(similarity)
    return [distinct.repeats(text) for text in texts]
