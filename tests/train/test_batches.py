"""Batches say what answers what, and what must not count as wrong."""

from __future__ import annotations

import random

import numpy as np
import pytest

from memory_plugin.train.batches import SHARPNESS, batches
from memory_plugin.train.mine import Example, standardised

ANA = Example("who?", ("Ana.",), ("Ben.", "Cem.", "Dora."), (9.0, 3.0, 2.0, 1.0), doubtful=("Anna.",))
TWO = Example("which?", ("This.", "That."), ("Ana.",), (1.0, 2.0, 0.0), doubtful=())
ONE = Example("what?", ("Anna.",), (), (1.0,), doubtful=())


def test_each_passage_is_there_once_with_what_is_known_of_it() -> None:
    (batch,) = batches([ANA, ONE], 8, random.Random(0), negatives=9)
    assert sorted(batch.passages) == ["Ana.", "Anna.", "Ben.", "Cem.", "Dora."]
    rows = {query: row for row, query in enumerate(batch.queries)}
    ana, one = rows["who?"], rows["what?"]
    assert batch.passages[batch.answers[ana]] == "Ana."
    assert batch.passages[batch.answers[one]] == "Anna."
    doubted = batch.passages.index("Anna.")
    assert batch.unknown[ana].tolist() == [place == doubted for place in range(5)]
    assert not batch.unknown[one].any()
    assert [batch.passages[place] for place in batch.listed[ana]] == ["Ana.", "Ben.", "Cem.", "Dora."]
    assert batch.listed[one].tolist() == [doubted, -1, -1, -1]


def test_another_answer_is_no_wrong_one() -> None:
    for seed in range(8):
        (batch,) = batches([TWO, Example("that?", ("That.",), (), (1.0,), ())], 8, random.Random(seed), negatives=9)
        row = batch.queries.index("which?")
        if batch.passages[batch.answers[row]] == "This.":
            assert batch.unknown[row, batch.passages.index("That.")]
            break
    else:
        pytest.fail("the other answer was never drawn")


def test_grades_are_standardised_and_the_label_is_never_below_the_teachers_favourite() -> None:
    (batch,) = batches([ANA], 8, random.Random(0), negatives=9)
    assert batch.teacher[0] == pytest.approx(SHARPNESS * standardised([9, 3, 2, 1]))
    misjudged = Example("who?", ("Ana.",), ("Ben.", "Cem."), (1.0, 5.0, 0.0), ())
    (batch,) = batches([misjudged], 8, random.Random(0), negatives=9)
    assert batch.teacher[0] == pytest.approx(SHARPNESS * standardised([5, 5, 0]))
    assert standardised([2, 2]).tolist() == [0, 0]


def test_an_epoch_shows_every_example_once_in_batches_of_the_size() -> None:
    examples = [Example(f"q{n}", ("a" * (n % 40 + 1),), (), (1.0,), ()) for n in range(101)]
    made = list(batches(examples, 10, random.Random(5), negatives=4))
    assert sorted(query for batch in made for query in batch.queries) == sorted(one.query for one in examples)
    assert sorted({len(batch.queries) for batch in made}) == [1, 10]
    spread = np.mean([np.ptp([len(text) for text in batch.passages]) for batch in made])
    assert spread < 10, "a batch holds passages of about one length"


def test_hard_negatives_are_drawn() -> None:
    seen = set()
    for seed in range(20):
        (batch,) = batches([ANA], 8, random.Random(seed), negatives=1)
        assert len(batch.passages) == 2
        seen |= set(batch.passages)
    assert seen == {"Ana.", "Ben.", "Cem.", "Dora."}
