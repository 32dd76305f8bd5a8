"""Questions made of memories: of what sets them apart, with what answers them, the same every time."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memory_plugin import InvalidInputError
from memory_plugin.lexical import STOP_WORDS, identifiers, words
from memory_plugin.make_questions import make_questions
from memory_plugin.questions import read_questions, write_questions
from memory_plugin.types import Namespace, Record

PARTS = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
NOUNS = sorted({"".join(random.Random(number).choices(PARTS, k=3)) for number in range(700)})
VERBS = ["carried", "painted", "repaired", "borrowed", "measured", "collected", "admired", "dropped"]
FOOTER = "This message and its attachments are confidential and meant for the named recipient only."


def record(number: int, text: str, namespace: Namespace = ("alice",), source: str | None = None) -> Record:
    name = source or f"note-{number}.md"
    return Record(
        f"00000000-0000-5000-8000-{number:012d}", namespace, text, datetime(2024, 1, 1, tzinfo=UTC),
        source=name, document=name,
    )  # fmt: skip


def sentence(choose: random.Random) -> str:
    one, two, three, four, five = choose.sample(NOUNS, 5)
    first, second = choose.sample(VERBS, 2)
    return f"The {one} was {first} before the {two} and the {three} were {second} near the {four} with a {five}."


@pytest.fixture
def memories() -> list[Record]:
    choose = random.Random(1)
    made = []
    for number in range(80):
        text = f"{sentence(choose)} {sentence(choose)}\n\n{FOOTER}"
        if number % 4 == 0:
            text += f" Ticket AB-{1000 + number} was closed."
        made.append(record(number, text))
    return made


def test_each_names_the_memory_that_it_was_made_of(memories: list[Record]) -> None:
    made = make_questions(memories, 40)
    assert Counter(question.type for question in made) == {"sentence": 28, "identifier": 12}
    assert len({question.id for question in made}) == 40
    for question in made:
        assert question.namespace == ("alice",)
        answers = [one for one in memories if any(expected.matches(one) for expected in question.expected)]
        assert len(answers) == len(question.expected) == len(question.relevant) == 1
        assert set(question.relevant.values()) == {1}


def test_a_sentence_loses_most_of_its_words(memories: list[Record]) -> None:
    for question in make_questions(memories, 40):
        if question.type == "sentence":
            asked, told = words(question.text), words(question.expected[0].text or "")
            assert 4 <= len(asked) <= 8
            assert len(asked) < len(told) * 0.6
            assert not {word.lower() for word in asked} & STOP_WORDS
            places = [told.index(word) for word in asked]
            assert places == sorted(places)  # in their order


def test_boilerplate_is_not_asked_for(memories: list[Record]) -> None:
    assert not any(
        FOOTER[:20] in (one.text or "") for question in make_questions(memories, 80) for one in question.expected
    )


def test_near_copies_are_not_asked_for() -> None:
    choose = random.Random(2)
    one, *others = (sentence(choose) for _ in range(30))
    copies = [record(number, one.replace("The", word)) for number, word in enumerate(("The", "That", "A"))]
    made = make_questions([*copies, *(record(10 + place, text) for place, text in enumerate(others))], 30)
    assert len(made) > 15
    assert not any(
        expected.source in {copy.source for copy in copies} for question in made for expected in question.expected
    )


def test_identifiers_name_all_that_hold_them() -> None:
    made = make_questions(
        [
            record(1, "The pump ZX-4471-B was replaced."),
            record(2, "ZX-4471-b leaks again, says the report."),
            record(3, "Nothing happened here on that day at all."),
            *(record(10 + place, f"Pump QQ-1 was seen, day {place} of many days.") for place in range(6)),
        ],
        10,
    )
    (found,) = [question for question in made if "4471" in question.text]
    assert found.text.lower() == "what mentions zx-4471-b"
    assert {one.source for one in found.expected} == {"note-1.md", "note-2.md"}
    assert not any("QQ-1" in question.text for question in made)  # too many hold it


def test_the_same_every_time_whatever_the_order(memories: list[Record], tmp_path: Path) -> None:
    first = make_questions(memories, 30)
    shuffled = list(memories)
    random.Random(9).shuffle(shuffled)
    assert make_questions(shuffled, 30) == first
    assert make_questions(memories, 30, seed=2) != first
    where = tmp_path / "questions.jsonl"
    where.write_text(write_questions(first), encoding="utf-8")
    assert read_questions(where) == first


def test_subjects_do_not_mix() -> None:
    choose = random.Random(3)
    spaces: list[Namespace] = [("alice",), ("bob", "s-1"), ("bob", "s-2")]
    made = make_questions(
        [
            record(number, f"{sentence(choose)} Ticket T-{number // 3 + 100}.", spaces[number % 3])
            for number in range(60)
        ],
        40,
    )
    assert {question.namespace for question in made} == set(spaces)
    for question in made:
        if question.type == "identifier":
            # Both sessions of bob hold it: asked of one, the other's would not count.
            assert question.namespace == ("alice",)


def test_documents_take_turns() -> None:
    choose = random.Random(4)
    long = [record(number, sentence(choose), source="long.md") for number in range(40)]
    short = [record(100 + number, sentence(choose)) for number in range(10)]
    made = make_questions([*long, *short], 11)
    assert sum(question.expected[0].source == "long.md" for question in made) <= 2


def test_a_single_subject_of_few_memories() -> None:
    (question,) = make_questions([record(1, "Alice moved from Lisbon to Porto with her dog and two large violins.")], 5)
    assert question.type == "sentence"


@pytest.mark.parametrize("text", ["", "ok", "Yes!", '{"a": [1, 2, 3], "b": {"c": 4}, "d": [5, 6, 7, 8, 9]}'])
def test_nothing_to_ask_for(text: str) -> None:
    with pytest.raises(InvalidInputError, match="no question can be made"):
        make_questions([record(1, text), record(2, text)], 5)


def test_words_as_they_are_written() -> None:
    assert words("It's fooBar, os.path and ZX-1.") == ["It's", "fooBar", "os.path", "and", "ZX-1"]
    assert identifiers("It's fooBar, os.path and ZX-1, fooBar, long-term, 2024.") == ["fooBar", "os.path", "ZX-1"]


def test_in_other_words(memories: list[Record]) -> None:
    """Every second sentence; names and words without another stay, and so does the answer."""
    plain = {one.expected: one for one in make_questions(memories, 40) if one.type == "sentence"}
    made = make_questions(memories, 40, other_words=lambda subject, word: f"{subject}-{word}-2")
    assert Counter(question.type for question in made) == {"sentence": 14, "paraphrase": 14, "identifier": 12}
    for question in made:
        if question.type == "paraphrase":
            words_of = question.text.split()
            changed = sum(word.startswith("alice-") for word in words_of)
            assert 0.6 < changed / len(words_of) < 0.8  # two thirds, rounded
            assert len(plain[question.expected].text.split()) == len(words_of)
    assert make_questions(memories, 40, other_words=lambda subject, word: None) == make_questions(memories, 40)
