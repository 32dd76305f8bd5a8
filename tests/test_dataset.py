"""Reading evaluation sets: what counts, what is left out, what is refused."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memory_plugin import Document, InvalidInputError, Message
from memory_plugin.dataset import read, timestamp
from tests import sets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-05-08T13:56:00", datetime(2023, 5, 8, 13, 56, tzinfo=UTC)),
        ("2023-05-08T13:56:00+02:00", datetime(2023, 5, 8, 11, 56, tzinfo=UTC)),
        ("2023-05-08", datetime(2023, 5, 8, tzinfo=UTC)),
        ("1:56 pm on 8 May, 2023", datetime(2023, 5, 8, 13, 56, tzinfo=UTC)),
        ("12:09 am on 13 September, 2023", datetime(2023, 9, 13, 0, 9, tzinfo=UTC)),
        ("12:30 pm on 1 Jan 2024", datetime(2024, 1, 1, 12, 30, tzinfo=UTC)),
        ("2023/05/20 (Sat) 02:21", datetime(2023, 5, 20, 2, 21, tzinfo=UTC)),
        ("Monday, May 8th, 2023 at 10:00", datetime(2023, 5, 8, 10, tzinfo=UTC)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1.5e9, datetime.fromtimestamp(1.5e9, UTC)),
        ("yesterday", None),
        ("25:99 on 8 May, 2023", None),
        ("", None),
        (None, None),
        (True, None),
        (1e40, None),
    ],
)
def test_timestamps(text: object, expected: datetime | None) -> None:
    assert timestamp(text) == expected


def test_documents(tmp_path: Path) -> None:
    found = read(sets.write(tmp_path / "tiny"))
    assert (found.name, found.rows, list(found.corpus), found.dropped) == ("tiny", 4, [("tiny",)], {})
    first = found.corpus["tiny",][0]
    assert first == Document("alpha bravo", source="d1", metadata={"title": "one"})
    one = found.questions[0]
    assert (one.id, one.type, one.namespace) == ("q1", "easy", ("tiny",))
    assert found.questions[1].relevant == {"d3": 1, "d4": 2}


def test_conversations(tmp_path: Path) -> None:
    found = read(sets.conversations(tmp_path / "talk"))
    assert list(found.corpus) == [("talk/a",), ("talk/b",)]
    ana, _ = found.corpus["talk/a",]
    assert isinstance(ana, Message)
    assert (ana.id, ana.name, ana.time) == ("a1", "Ana", datetime(2023, 5, 8, 13, 56, tzinfo=UTC))
    window = found.corpus["talk/b",][1]
    assert isinstance(window, Document)
    assert window.source == "b2"
    assert [one.namespace for one in found.questions] == [("talk/a",), ("talk/b",)]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    rows: list[Mapping[str, object]] = [*sets.ROWS, {"id": "d5", "text": "  "}, {"id": "d1", "text": "again"}]
    rows.append({"id": "d6", "text": "late", "meta": {"timestamp": "some day"}})
    questions = [*sets.QUESTIONS, {"id": "q4", "text": " "}, {"id": "q5", "text": "nobody knows"}]
    questions.append({"id": "q6", "text": "elsewhere", "conversation_id": "z"})
    labels = [*sets.LABELS, ("q1", "gone", 1), ("q5", "d1", 0), ("q6", "d1", 1)]
    found = read(sets.write(tmp_path / "odd", rows, questions, labels))
    assert found.rows == 5
    assert found.dropped == {
        "empty rows": 1,
        "rows with an id that was there": 1,
        "times that cannot be read": 1,
        "labels of rows that are not there": 1,
        "empty questions": 1,
        "questions without labels": 1,
        "questions whose conversation is not there": 1,
    }


def test_a_sample_is_always_the_same(tmp_path: Path) -> None:
    questions = [{"id": f"q{number}", "text": "bravo"} for number in range(50)]
    labels = [(f"q{number}", "d1", 1) for number in range(50)]
    found = read(sets.write(tmp_path / "many", questions=questions, labels=labels))
    sample = found.sample(10)
    assert len(sample.questions) == 10
    assert sample == found.sample(10)
    assert sample.corpus is found.corpus
    assert [one for one in found.questions if one in sample.questions] == list(sample.questions)
    assert found.sample(50) is found.sample(99) is found
    with pytest.raises(InvalidInputError, match="at least one"):
        found.sample(0)


def test_plain_files_do_too(tmp_path: Path) -> None:
    where = sets.write(tmp_path / "tiny")
    for name in ("corpus", "queries"):
        packed = where / f"{name}.jsonl.gz"
        (where / f"{name}.jsonl").write_bytes(gzip.decompress(packed.read_bytes()) + b"\n")
        packed.unlink()
    assert read(where).rows == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus.jsonl.gz", b"no gzip", "cannot be read"),
        ("corpus.jsonl.gz", gzip.compress(b"{", mtime=0), "line 1 is no JSON"),
        ("corpus.jsonl.gz", gzip.compress(b"[]", mtime=0), "no object with id and text"),
        ("corpus.jsonl.gz", gzip.compress(b'{"id": "a"}', mtime=0), "no object with id and text"),
        (
            "corpus.jsonl.gz",
            gzip.compress(b'{"id": "a", "text": "b", "meta": 1}', mtime=0),
            "meta of row 'a' is no object",
        ),
        ("corpus.jsonl.gz", gzip.compress(b"\xff", mtime=0), "cannot be read"),
        ("corpus.jsonl.gz", gzip.compress(b"x" * 99, mtime=0)[:-9], "cannot be read"),
        ("queries.jsonl.gz", gzip.compress(b"", mtime=0), "nothing to measure"),
        ("qrels.tsv", b"q1\td1\n", "line 1 is not"),
        ("qrels.tsv", b"query_id\tdoc_id\trel\nq1\td1\tmuch\n", "line 2 is not"),
    ],
)
def test_damaged_sets_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    where = sets.write(tmp_path / "bad")
    (where / name).write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        read(where)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no directory"):
        read(tmp_path / "nowhere")
    where = sets.write(tmp_path / "bad")
    (where / "qrels.tsv").unlink()
    with pytest.raises(InvalidInputError, match=r"qrels\.tsv cannot be read: No such file"):
        read(where)
