"""What judges is not learned, nor anything that is nearly it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_plugin import InvalidInputError
from memory_plugin.dataset import Question
from memory_plugin.lexical import terms
from memory_plugin.train.split import NEAR, STOP_LEAST, near_duplicates, split


def question(name: str, text: str, *rows: str, **gains: int) -> Question:
    return Question(name, text, "", ("n",), {**dict.fromkeys(rows, 1), **gains})


def plain(count: int) -> list[Question]:
    """Questions that have nothing in common."""
    return [question(f"q{n}", f"word{n}x name{n}y thing{n}z", f"d{n}") for n in range(count)]


def ids(side: tuple[Question, ...]) -> set[str]:
    return {one.id for one in side}


def test_sides_are_disjoint_and_of_the_sizes_asked_for() -> None:
    made = split(plain(1000), hold_out=0.3, seed=1, groups={})
    assert (len(made.test), len(made.stop), len(made.train), made.near) == (300, 70, 630, 0)
    assert ids(made.test) | ids(made.stop) | ids(made.train) == {f"q{n}" for n in range(1000)}


def test_a_seed_decides() -> None:
    first, again, other = (split(plain(60), hold_out=0.5, seed=seed, groups={}) for seed in (1, 1, 2))
    assert first == again
    assert ids(first.test) != ids(other.test)


def test_few_questions_leave_none_to_stop_by() -> None:
    size = 2 * 10 * STOP_LEAST
    assert split(plain(size - 20), hold_out=0.5, seed=1, groups={}).stop == ()
    assert len(split(plain(size), hold_out=0.5, seed=1, groups={}).stop) == STOP_LEAST


def test_everything_may_be_learned() -> None:
    made = split(plain(10), hold_out=0, seed=1, groups={})
    assert (len(made.train), made.test) == (10, ())


@given(
    st.lists(st.tuples(st.sets(st.integers(0, 30), min_size=1, max_size=3), st.integers(0, 12)), min_size=8),
    st.integers(0, 5),
)
@settings(deadline=None)
def test_answers_and_groups_are_never_torn_apart(given: list[tuple[set[int], int]], seed: int) -> None:
    questions = [
        question(f"q{n}", f"word{n}x name{n}y thing{n}z", *(f"d{row}" for row in rows))
        for n, (rows, _) in enumerate(given)
    ]
    groups: Mapping[str, str] = {f"q{n}": str(group) for n, (_, group) in enumerate(given) if group < 6}
    try:
        made = split(questions, hold_out=0.5, seed=seed, groups=groups)
    except InvalidInputError:
        return  # they all hang together
    sides = [(*made.train, *made.stop), made.test]
    rows, names = (
        [{key for one in side for key in keys(one)} for side in sides]
        for keys in (
            lambda one: one.relevant,
            lambda one: [groups[one.id]] if one.id in groups else [],
        )
    )
    assert not rows[0] & rows[1]
    assert not names[0] & names[1]


def test_rows_that_do_not_answer_tie_nothing() -> None:
    questions = [question(f"q{n}", f"word{n}x name{n}y", f"d{n}", shared=0) for n in range(10)]
    assert len(split(questions, hold_out=0.5, seed=1, groups={}).test) == 5


def test_nearly_the_same_question_is_not_learned() -> None:
    """Every question has a twin with one word more, about another row."""
    questions = [
        question(f"{twin}{n}", f"red{n} green{n} blue{n} black{n} {'please' * twin}", f"{twin}d{n}")
        for n in range(40)
        for twin in (0, 1)
    ]
    made = split(questions, hold_out=0.25, seed=3, groups={})
    judged = {one.id[1:] for one in made.test}
    assert not judged & {one.id[1:] for one in (*made.train, *made.stop)}
    assert made.near == len(judged) - (len(made.test) - len(judged))


@given(
    st.lists(st.sets(st.integers(0, 12), min_size=1), max_size=12),
    st.lists(st.sets(st.integers(0, 12), min_size=1), max_size=12),
)
@settings(deadline=None)
def test_near_duplicates_are_all_found(first: list[set[int]], second: list[set[int]]) -> None:
    sides = [[" ".join(f"zz{number}" for number in one) for one in side] for side in (first, second)]
    words = [[set(terms(text)) for text in side] for side in sides]
    wanted = [any(len(a & b) >= NEAR * len(a | b) for b in words[1]) for a in words[0]]
    assert near_duplicates(*sides) == wanted


@pytest.mark.parametrize("hold_out", [-0.1, 1, 1.5])
def test_a_share_is_a_share(hold_out: float) -> None:
    with pytest.raises(InvalidInputError, match="hold_out is a share"):
        split(plain(4), hold_out=hold_out, seed=1, groups={})


def test_questions_that_hang_together_cannot_be_split() -> None:
    questions = [question(f"q{n}", f"word{n}x name{n}y", "d") for n in range(6)]
    with pytest.raises(InvalidInputError, match="6 questions in 1 groups that hang together cannot be split"):
        split(questions, hold_out=0.5, seed=1, groups={})
