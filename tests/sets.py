"""Small evaluation sets whose figures can be worked out by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

ROWS: tuple[Mapping[str, object], ...] = (
    {"id": "d1", "text": "alpha bravo", "meta": {"title": "one"}},
    {"id": "d2", "text": "charlie echo foxtrot", "meta": {}},
    {"id": "d3", "text": "delta golf hotel", "meta": {}},
    {"id": "d4", "text": "india juliett kilo"},
)
QUESTIONS: tuple[Mapping[str, object], ...] = (
    {"id": "q1", "text": "bravo", "type": "easy"},
    {"id": "q2", "text": "delta", "type": "hard"},
    {"id": "q3", "text": "november", "type": "hard"},
)
LABELS = (("q1", "d1", 1), ("q2", "d3", 1), ("q2", "d4", 2), ("q3", "d2", 1))

TURNS = (
    {"id": "a1", "text": "My dog is called Rex.", "meta": {"conversation_id": "a", "speaker": "Ana"}},
    {"id": "b1", "text": "My dog is called Bella.", "meta": {"conversation_id": "b", "speaker": "Ben"}},
    {"id": "a2", "text": "We moved to Porto.", "meta": {"conversation_id": "a", "speaker": "Ana"}},
    {"id": "b2", "text": "window of several speakers", "meta": {"conversation_id": "b", "speaker": None}},
)
TALK = (
    {"id": "p", "text": "What is the dog called?", "type": "single", "conversation_id": "a"},
    {"id": "q", "text": "What is the dog called?", "type": "single", "conversation_id": "b"},
)


def write(
    where: Path,
    rows: Sequence[Mapping[str, object]] = ROWS,
    questions: Sequence[Mapping[str, object]] = QUESTIONS,
    labels: Sequence[tuple[str, str, int]] = LABELS,
) -> Path:
    """A set in a new directory."""
    where.mkdir(parents=True)
    for name, objects in (("corpus", rows), ("queries", questions)):
        with gzip.open(where / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(one) + "\n" for one in objects)
    lines = ["query_id\tdoc_id\trel", *("\t".join(map(str, one)) for one in labels)]
    (where / "qrels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return where


def conversations(where: Path, *, timestamp: str = "1:56 pm on 8 May, 2023") -> Path:
    """Two conversations in which the same question has two answers."""
    turns = [{**turn, "meta": {**turn["meta"], "timestamp": timestamp}} for turn in TURNS]  # type: ignore[dict-item]
    return write(where, turns, TALK, (("p", "a1", 1), ("q", "b1", 1)))
