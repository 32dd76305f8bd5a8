"""Questions to train on, questions to stop by, and questions to judge by, which training sees nothing of.  Pure.

Questions that share an answer, or a group, are on one side together.  What is still nearly the same question as one
that judges is left out of training: two questions are when four in five of their words are the same.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from memory_plugin.dataset import Question
from memory_plugin.errors import InvalidInputError
from memory_plugin.lexical import terms

NEAR = 0.8
"""Words in common ÷ words of both (Jaccard), from which on two questions count as the same."""
STOP_SHARE, STOP_LEAST, STOP_MOST = 0.1, 20, 200
"""Questions to stop by: a share of those for training; where that is too few there are none, and never more."""


@dataclass(frozen=True, slots=True)
class Split:
    """Questions by what they are for.

    Args:
        train: To learn from.
        stop: Kept back from training to see when it stops helping; may be none.
        test: To judge by.
        near: How many were left out of training for being nearly the same as one of ``test``.
    """

    train: tuple[Question, ...]
    stop: tuple[Question, ...]
    test: tuple[Question, ...]
    near: int


def split(questions: Sequence[Question], *, hold_out: float, seed: int, groups: Mapping[str, str]) -> Split:
    """Split questions.

    Args:
        questions: All of them.
        hold_out: Share of them to judge by, less than 1; 0 for none.
        seed: The same seed splits the same way.
        groups: Name of its group by question id, where it has one.

    Raises:
        InvalidInputError: ``hold_out`` is no such share, or one side would be empty.
    """
    if not 0 <= hold_out < 1:
        raise InvalidInputError(f"hold_out is a share of at least 0 and less than 1, such as 0.5, not {hold_out}")
    units = _units(questions, groups)
    judging, learning = _divide(units, round(hold_out * len(questions)), random.Random(seed))  # noqa: S311
    near = near_duplicates([one.text for one in _flat(learning)], [one.text for one in _flat(judging)])
    twins = {one.id for one, twin in zip(_flat(learning), near, strict=True) if twin}
    kept = [unit for unit in ([one for one in unit if one.id not in twins] for unit in learning) if unit]
    if not kept or (hold_out > 0 and not judging):
        raise InvalidInputError(
            f"{len(questions)} questions in {len(units)} groups that hang together cannot be split with"
            f" hold_out={hold_out}: give more pairs, or another share"
        )
    size = min(round(STOP_SHARE * sum(map(len, kept))), STOP_MOST)
    stop, train = _divide(kept, size if size >= STOP_LEAST else 0, random.Random(seed + 1))  # noqa: S311
    if not train:
        stop, train = [], kept
    order = {one.id: place for place, one in enumerate(questions)}

    def side(chosen: Iterable[Sequence[Question]]) -> tuple[Question, ...]:
        return tuple(sorted(_flat(chosen), key=lambda one: order[one.id]))

    return Split(side(train), side(stop), side(judging), len(twins))


def _flat(units: Iterable[Sequence[Question]]) -> list[Question]:
    return [one for unit in units for one in unit]


def _units(questions: Sequence[Question], groups: Mapping[str, str]) -> list[list[Question]]:
    """Questions that must not be torn apart: they share an answer, a group, or all their words."""
    leader: dict[str, str] = {}

    def find(node: str) -> str:
        while leader.setdefault(node, node) != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for one in questions:
        ties = [f"row {row}" for row, gain in one.relevant.items() if gain > 0]
        ties.append(f"words {sorted(set(terms(one.text)))}")
        if one.id in groups:
            ties.append(f"group {groups[one.id]}")
        for tie in ties:
            leader[find(tie)] = find(f"question {one.id}")
    units: dict[str, list[Question]] = {}
    for one in questions:
        units.setdefault(find(f"question {one.id}"), []).append(one)
    return list(units.values())


def _divide(
    units: Sequence[list[Question]], size: int, rng: random.Random
) -> tuple[list[list[Question]], list[list[Question]]]:
    """Units at random into those that hold ``size`` questions together, or nearly, and the others."""
    taken: list[list[Question]] = []
    left: list[list[Question]] = []
    room = size
    for unit in rng.sample(list(units), len(units)):
        fits = len(unit) <= room
        (taken if fits else left).append(unit)
        room -= len(unit) if fits else 0
    return taken, left


def near_duplicates(texts: Sequence[str], others: Sequence[str]) -> list[bool]:
    """For each text whether it is nearly the same as one of the others.

    Two sets of words of which ``NEAR`` are common share one of the few rarest words of either (prefix filtering,
    Chaudhuri et al. 2006), so only texts that do are compared.
    """
    sets, against = ([frozenset(terms(text)) for text in side] for side in (texts, others))
    frequency = Counter(word for side in (sets, against) for words in side for word in words)

    def rarest(words: frozenset[str]) -> list[str]:
        ordered = sorted(words, key=lambda word: (frequency[word], word))
        return ordered[: len(ordered) - int(NEAR * len(ordered) - 1e-9)]

    holders: dict[str, list[int]] = {}
    for place, words in enumerate(against):
        for word in rarest(words):
            holders.setdefault(word, []).append(place)

    def near(words: frozenset[str]) -> bool:
        candidates = {place for word in rarest(words) for place in holders.get(word, ())}
        return any(len(words & against[place]) >= NEAR * len(words | against[place]) for place in candidates)

    return [near(words) for words in sets]
