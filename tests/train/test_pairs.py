"""Pairs as users write them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import InvalidInputError
from memory_plugin.train.pairs import NAMESPACE, Pairs, read
from memory_plugin.types import Document
from tests import sets


def write(where: Path, *rows: Any) -> Path:
    where.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return where


def texts(found: Pairs) -> dict[str, str]:
    """Rows by their id."""
    rows = found.data.corpus[NAMESPACE]
    return {row.source: row.text for row in rows if isinstance(row, Document) and row.source is not None}


def test_pairs_become_questions_over_a_corpus(tmp_path: Path) -> None:
    found = read(
        write(
            tmp_path / "mine.jsonl",
            {"query": "who", "passage": "Ana.", "negatives": ["Ben.", "Ana?"]},
            "",
            {"query": " who ", "passage": "Ana and Ben."},
            {"query": "when", "passage": "Ben.", "group": 7},
        )
    )
    rows = texts(found)
    assert list(rows.values()) == ["Ana.", "Ben.", "Ana?", "Ana and Ben."], "equal passages are one row"
    assert found.data.name == "mine"
    who, when = found.data.questions
    assert who.text == "who"
    assert {rows[row]: gain for row, gain in who.relevant.items()} == {
        "Ana.": 1,
        "Ben.": 0,
        "Ana?": 0,
        "Ana and Ben.": 1,
    }
    assert {rows[row]: gain for row, gain in when.relevant.items()} == {"Ben.": 1}
    assert found.groups == {when.id: "7"}
    assert found.grades == {}


def test_scores_are_gains_and_grades(tmp_path: Path) -> None:
    found = read(
        write(
            tmp_path / "graded.jsonl",
            {"query": "q", "passage": "best", "score": 3.4},
            {"query": "q", "passage": "good", "score": 0.2},
            {"query": "q", "passage": "bad", "score": -1},
            {"query": "q", "passage": "good", "score": 0.1},
            {"query": "two", "passage": "best", "score": 1},
            {"query": "two", "passage": "bad", "score": 0},
            {"query": "none", "passage": "bad", "score": 0},
        )
    )
    rows = texts(found)
    first, second = found.data.questions
    assert {rows[row]: gain for row, gain in first.relevant.items()} == {"best": 3, "good": 1, "bad": 0}
    assert {rows[row]: grade for row, grade in found.grades[first.id].items()} == {"best": 3.4, "good": 0.2, "bad": -1}
    assert second.id not in found.grades, "right and wrong is no more than what labels say"
    assert found.data.dropped == {"queries without an answer": 1}


def test_a_gzipped_file(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "pairs.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write('{"query": "q", "passage": "p"}\n')
    found = read(tmp_path / "pairs.jsonl.gz")
    assert (found.data.name, found.data.rows, len(found.data.questions)) == ("pairs", 1, 1)


def test_an_evaluation_set_and_its_groups(tmp_path: Path) -> None:
    rows = [{"id": f"d{n}", "text": f"text {n}", "meta": {"doc": n // 2} if n < 4 else {}} for n in range(5)]
    questions = [{"id": f"q{n}", "text": f"question {n}"} for n in range(5)]
    where = sets.write(tmp_path / "set", rows, questions, [(f"q{n}", f"d{n}", 1) for n in range(5)])
    assert read(where).groups == {}
    assert read(where, group_by="doc").groups == {"q0": "0", "q1": "0", "q2": "1", "q3": "1"}
    with pytest.raises(InvalidInputError, match="no row of set has 'author' in its meta"):
        read(where, group_by="author")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 1 is no JSON"),
        ("[1]", 'line 1 is no object: write {"query"'),
        ({"query": "q"}, "line 1: passage is a text that is not empty, not None"),
        ({"query": " ", "passage": "p"}, "line 1: query is a text that is not empty"),
        ({"query": "q", "passage": "p", "negatives": "n"}, "negatives is a list of texts, not str"),
        ({"query": "q", "passage": "p", "negatives": [3]}, "a negative is a text that is not empty, not 3"),
        ({"query": "q", "passage": "p", "score": "high"}, "score is a number, not 'high'"),
        ({"query": "q", "passage": "p", "score": float("nan")}, "score is a number, not nan"),
        ({"query": "q", "passage": "p", "score": 0}, "no pair with a score above 0"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_line(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message.replace("{", r"\{").replace("[", r"\[")):
        read(write(tmp_path / "bad.jsonl", row))


def test_files_that_are_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"absent\.jsonl cannot be read: No such file"):
        read(tmp_path / "absent.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"query": "caf\xe9", "passage": "p"}')
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read(tmp_path / "latin.jsonl")
    with pytest.raises(InvalidInputError, match="in a file of pairs write a group"):
        read(write(tmp_path / "one.jsonl", {"query": "q", "passage": "p"}), group_by="doc")
