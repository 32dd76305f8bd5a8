"""The file of questions that people edit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import InvalidInputError
from memory_plugin.dataset import Expected, Question
from memory_plugin.questions import HEADER, read_questions, write_questions
from memory_plugin.types import Namespace, Record


def record(number: int, text: str, source: str | None = None, namespace: Namespace = ("alice",)) -> Record:
    point = f"00000000-0000-5000-8000-{number:012d}"
    return Record(point, namespace, text, datetime(2024, 5, 1, tzinfo=UTC), source=source, document=source or point)


def write(where: Path, *lines: dict[str, Any] | str) -> Path:
    where.write_text(
        "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines), encoding="utf-8"
    )
    return where


def test_what_people_write(tmp_path: Path) -> None:
    both = [{"source": "a.md"}, {"id": record(7, "").id}]
    where = write(
        tmp_path / "questions.jsonl",
        "# a comment",
        "",
        {"query": "who books trains?", "namespace": "company", "source": "b.md", "text": "booked by", "note": "mine"},
        '  # {"query": "one that is not asked for now"}',
        {"query": "both", "namespace": ["alice", "s-7"], "expect": both, "type": "two", "name": "second"},
    )
    first, second = read_questions(where)
    assert first == Question(
        "line 3", "who books trains?", "", ("company",), {"0": 1}, (Expected(source="b.md", text="booked by"),)
    )
    assert (second.id, second.type, second.namespace) == ("second", "two", ("alice", "s-7"))
    assert second.relevant == {"0": 1, "1": 1}
    assert second.expected == (Expected(source="a.md"), Expected(id=record(7, "").id))


def test_there_and_back(tmp_path: Path) -> None:
    asked = [
        Question("a", "line\u2028separator", "sentence", ("alice",), {"0": 1}, (Expected(text="x\u2028 y"),)),
        Question("b", "two", "", ("alice", "s"), {"0": 1, "1": 1}, (Expected(source="q"), Expected(id="i", text="t"))),
    ]
    text = write_questions(asked, notes={"b": "for people"})
    assert text.startswith(HEADER)
    assert json.loads(text.splitlines()[-1])["note"] == "for people"
    where = tmp_path / "q.jsonl"
    where.write_text(text, encoding="utf-8")
    assert read_questions(where) == asked


def test_every_line_of_the_header_is_a_comment() -> None:
    assert all(line.startswith("#") for line in HEADER.splitlines())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no json", "line 2 is no JSON object; a comment begins with #"),
        ("[1]", "line 2 is no JSON object"),
        ({"namespace": "a", "source": "s"}, "line 2 has no query"),
        ({"query": " \u200b", "namespace": "a", "source": "s"}, "line 2 has no query"),
        ({"query": "q", "source": "s"}, "line 2: a namespace is a string"),
        ({"query": "q", "namespace": ["a", 7], "source": "s"}, "line 2: a part of a namespace must be a string"),
        ({"query": "q", "namespace": "a"}, "does not say what answers it"),
        ({"query": "q", "namespace": "a", "text": " "}, "does not say what answers it"),
        ({"query": "q", "namespace": "a", "id": 7}, "does not say what answers it"),
        ({"query": "q", "namespace": "a", "expect": []}, "expect is a list of objects"),
        ({"query": "q", "namespace": "a", "expect": [{}]}, "does not say what answers it"),
        ({"query": "q", "namespace": "a", "expect": [{"id": "x"}], "source": "s"}, "not both"),
        ({"query": "q", "namespace": "a", "source": "s", "type": 7}, "name and type are texts"),
        ({"query": "q", "namespace": "a", "source": "s", "name": "line 1"}, "a question named 'line 1' already"),
    ],
)
def test_what_is_no_question(tmp_path: Path, line: dict[str, Any] | str, message: str) -> None:
    where = write(tmp_path / "q.jsonl", {"query": "q", "namespace": "a", "source": "s"}, line)
    with pytest.raises(InvalidInputError, match=message):
        read_questions(where)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read: No such file"):
        read_questions(tmp_path / "none.jsonl")
    with pytest.raises(InvalidInputError, match="--make-questions"):
        read_questions(write(tmp_path / "empty.jsonl", "# nothing yet"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_questions(tmp_path / "bytes")


def test_what_a_memory_has_to_be() -> None:
    found = record(1, "Trains are  booked\nby Ines.", "handbook.md")
    assert Expected(text="trains ARE booked by").matches(found)
    assert Expected(source="handbook.md", id=found.id, text="Ines").matches(found)
    assert not Expected(source="other.md", text="Ines").matches(found)
    assert not Expected(source="handbook.md", text="Otto").matches(found)
    assert not Expected(id=record(2, "").id).matches(found)


def test_a_ranking_names_what_was_expected() -> None:
    expected = (Expected(source="a.md"), Expected(text="Ines"))
    asked = Question("q", "?", "", ("alice",), {"0": 1, "1": 1}, expected)
    other, first, again, both = (
        record(1, "nothing"),
        record(2, "part one", "a.md"),
        record(3, "part two", "a.md"),
        record(4, "Ines", "a.md"),
    )
    assert asked.ranking([other, first, again, both]) == [other.id, "0", "1"]
    assert asked.ranking([both, first]) == ["0", "1"]  # one memory that answers both parts
    assert asked.ranking([]) == []


def test_a_ranking_of_a_set_names_rows_by_their_source() -> None:
    asked = Question("q", "?", "", ("alice",), {"a.md": 1})
    assert asked.ranking([record(1, "x", "a.md"), record(2, "y"), record(3, "z", "a.md")]) == ["a.md", record(2, "").id]
