"""Examples into batches: each passage once, with what is known of every query and passage in it.  Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memory_plugin.train.mine import Example, standardised
from memory_plugin.train.recipe import Method

NEGATIVES: Mapping[Method, int] = {"contrastive": 4, "distill": 8}
"""Hard negatives a query brings into a batch, drawn anew each time; a list that is weighed needs more of them."""
SHARPNESS = 2.0
"""What standardised grades are multiplied by: how much more the best of a list weighs than the next."""
POOL = 32
"""Batches that are sorted by length together, so that a batch holds texts of about one length."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one step learns from.

    Args:
        queries: Texts.
        passages: Texts, each once.
        answers: Which passage answers each query, shape (queries,), int64.
        unknown: Which passages may answer a query too, shape (queries, passages), bool.
        listed: Each query's own passages, its answer first, shape (queries, list), int64; −1 at the ends of short ones.
        teacher: How well they answer, shape as ``listed``, float32.
    """

    queries: list[str]
    passages: list[str]
    answers: NDArray[np.int64]
    unknown: NDArray[np.bool_]
    listed: NDArray[np.int64]
    teacher: NDArray[np.float32]


def batches(examples: Sequence[Example], size: int, rng: random.Random, *, negatives: int) -> Iterator[Batch]:
    """One pass over the examples in random order.

    Args:
        examples: What to learn from.
        size: Queries a batch.
        rng: Where the order comes from.
        negatives: Hard negatives of each query, drawn at random where there are more.
    """
    order = rng.sample(list(examples), len(examples))
    step = size * POOL
    cut: list[list[Example]] = []
    for start in range(0, len(order), step):
        pool = sorted(order[start : start + step], key=_length)
        cut += [pool[place : place + size] for place in range(0, len(pool), size)]
    rng.shuffle(cut)
    for part in cut:
        yield _batch(part, rng, negatives)


def _length(example: Example) -> int:
    return len(example.answers[0])


def _batch(part: Sequence[Example], rng: random.Random, negatives: int) -> Batch:
    places: dict[str, int] = {}
    answers: list[int] = []
    lists: list[list[int]] = []
    grades: list[NDArray[np.float64]] = []
    for example in part:
        wrong = example.negatives
        if len(wrong) > negatives:
            wrong = tuple(rng.sample(wrong, negatives))
        answer = rng.choice(example.answers)
        texts = [answer, *wrong]
        lists.append([places.setdefault(text, len(places)) for text in texts])
        answers.append(lists[-1][0])
        grades.append(_teacher(example, texts))
    longest = max(map(len, lists))
    listed = np.full((len(part), longest), -1, np.int64)
    teacher = np.zeros((len(part), longest), np.float32)
    for row, (own, grade) in enumerate(zip(lists, grades, strict=True)):
        listed[row, : len(own)] = own
        teacher[row, : len(own)] = grade
    unknown = np.zeros((len(part), len(places)), np.bool_)
    for row, example in enumerate(part):
        for text in (*example.answers, *example.doubtful):
            if text in places and places[text] != answers[row]:
                unknown[row, places[text]] = True
    queries = [example.query for example in part]
    return Batch(queries, list(places), np.array(answers), unknown, listed, teacher)


def _teacher(example: Example, texts: Sequence[str]) -> NDArray[np.float64]:
    """Grades of a list; what somebody labelled as the answer is never below what the teacher likes better."""
    known = dict(zip((*example.answers, *example.negatives), example.grades, strict=True))
    values = np.array([known[text] for text in texts])
    values[0] = values.max()
    return SHARPNESS * standardised(values)
