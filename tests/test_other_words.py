"""Other words out of a subject's own memories, by the local model."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from memory_plugin.evaluate import OtherWords
from memory_plugin.types import Namespace, Record

ALICE = (
    "the car stopped and the automobile was repaired",
    "a car is a vehicle, an automobile too",
    "the doctor and the physician were happy",
    "a doctor may be glad, the physician was happy and glad",
    "we bought a vehicle and walked to the hospital",
    "the hospital was near, and we walked",
    "cars and doctors",
    "cars, doctors and Michael",
)
BOB = ("the limousine was big", "a big limousine", "the surgeon was big", "a big surgeon")


def records(texts: tuple[str, ...], namespace: Namespace) -> list[Record]:
    time = datetime(2024, 1, 1, tzinfo=UTC)
    return [Record(f"{namespace}{number}", namespace, text, time) for number, text in enumerate(texts)]


@pytest.fixture(scope="module")
def others() -> OtherWords:
    return OtherWords([*records(ALICE, ("alice",)), *records(BOB, ("bob", "s-1"))])


def test_near_words_of_another_stem(others: OtherWords) -> None:
    assert others("alice", "car") in {"automobile", "vehicle"}
    assert others("alice", "doctor") == "physician"


def test_each_subject_has_its_own_words(others: OtherWords) -> None:
    words = {others("alice", word) for word in ("car", "doctor", "hospital", "automobile", "physician")}
    assert not words & {"limousine", "surgeon"}
    assert others("bob", "car") is None  # no word of bob's
    assert others("nobody", "car") is None


def test_words_without_another(others: OtherWords) -> None:
    assert others("alice", "walked") is None  # nothing near enough
    assert others("alice", "vehicle") != "vehicle"
    assert others("alice", "michael") is None  # a name is no word for anything


def test_the_same_whatever_the_order() -> None:
    forth = OtherWords(records(ALICE, ("alice",)))
    back = OtherWords(list(reversed(records(ALICE, ("alice",)))))
    for word in ("car", "doctor", "hospital"):
        assert forth("alice", word) == back("alice", word)
