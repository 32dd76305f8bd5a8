"""What users give to train on: queries with passages that answer them, as a file of pairs or an evaluation set.

A file has one JSON object a line (``.jsonl``, or ``.jsonl.gz``):

    {"query": "…", "passage": "…", "negatives": ["…"], "score": 1, "group": "…"}

``query`` and ``passage`` are needed.  ``negatives`` look as if they answered the query, and do not.  ``score`` says
how well the passage answers, on a scale of the user's: above 0 it does (the default is 1), at 0 or below it does not.
``group`` ties pairs together that must not be torn apart between training and judging.  A query may have many lines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory_plugin import dataset as sets
from memory_plugin.dataset import Dataset, Question
from memory_plugin.errors import InvalidInputError
from memory_plugin.types import Document, Message, Namespace

NAMESPACE = ("pairs",)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Questions over a corpus, with what is known of each.

    Args:
        data: Questions, their gains by row, and the corpus.
        groups: Name of its group by question id, where it has one.
        grades: How well each row answers, by question id and row, where the user told it for several rows.
    """

    data: Dataset
    groups: Mapping[str, str] = field(default_factory=dict)
    grades: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def read(path: str | os.PathLike[str], *, group_by: str | None = None) -> Pairs:
    """Read pairs.

    Args:
        path: A file of pairs, or a directory as ``memory_plugin.dataset`` reads it.
        group_by: A field of the rows' metadata: questions about rows of one value are a group.  Directories only.

    Raises:
        InvalidInputError: It cannot be read, or holds nothing to train on.
    """
    where = Path(path).expanduser()
    if where.is_dir():
        data = sets.read(where)
        return Pairs(data, _groups(data, group_by) if group_by else {})
    if group_by:
        raise InvalidInputError("--group-by names a field of a directory's rows: in a file of pairs write a group")
    return _collect(where)


def _groups(data: Dataset, name: str) -> dict[str, str]:
    values = {
        item.source if isinstance(item, Document) else item.id: item.metadata.get(name)
        for items in data.corpus.values()
        for item in items
    }
    if all(value is None for value in values.values()):
        raise InvalidInputError(f"no row of {data.name} has {name!r} in its meta: there is nothing to group by")
    groups = {}
    for question in data.questions:
        first = next(row for row, gain in question.relevant.items() if gain > 0)
        if values[first] is not None:
            groups[question.id] = json.dumps(values[first], sort_keys=True)
    return groups


class _Collector:
    """Lines of a file, as the values of a data set."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}
        self.scores: dict[str, dict[str, float]] = {}
        self.groups: dict[str, str] = {}

    def row(self, text: str) -> str:
        """The row of a passage; equal passages are one."""
        return self.rows.setdefault(text, f"p{len(self.rows) + 1}")

    def add(self, query: str, passage: str, negatives: list[str], score: float, group: str | None) -> None:
        """A line; of several scores of a pair the highest counts."""
        scores = self.scores.setdefault(query, {})
        row = self.row(passage)
        scores[row] = max(score, scores.get(row, score))
        for text in negatives:
            scores.setdefault(self.row(text), 0.0)
        if group is not None:
            self.groups.setdefault(query, group)


def _collect(path: Path) -> Pairs:
    found = _Collector()
    for number, line in enumerate(sets.lines(path), 1):
        if line.strip():
            found.add(*_parse(line, f"{path} line {number}"))
    questions, groups, grades = [], {}, {}
    for number, (query, scores) in enumerate(found.scores.items(), 1):
        if not any(score > 0 for score in scores.values()):
            continue
        identity = f"q{number}"
        gains = {row: max(1, round(score)) if score > 0 else 0 for row, score in scores.items()}
        questions.append(Question(identity, query, "", NAMESPACE, gains))
        if query in found.groups:
            groups[identity] = found.groups[query]
        if len(set(scores.values())) > 2:
            grades[identity] = scores
    if not questions:
        raise InvalidInputError(f"{path} holds no pair with a score above 0: there is nothing to train on")
    corpus: dict[Namespace, Sequence[Document | Message]] = {
        NAMESPACE: [Document(text, source=row) for text, row in found.rows.items()]
    }
    dropped = {"queries without an answer": len(found.scores) - len(questions)}
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    return Pairs(Dataset(name, corpus, tuple(questions), {k: n for k, n in dropped.items() if n}), groups, grades)


def _parse(line: str, where: str) -> tuple[str, str, list[str], float, str | None]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidInputError(f"{where} is no JSON") from None
    if not isinstance(row, dict):
        raise InvalidInputError(f'{where} is no object: write {{"query": "…", "passage": "…"}}')
    negatives, score, group = row.get("negatives") or [], row.get("score", 1), row.get("group")
    if not isinstance(negatives, list):
        raise InvalidInputError(f"{where}: negatives is a list of texts, not {type(negatives).__name__}")
    if isinstance(score, bool) or not isinstance(score, int | float) or not -1e9 < score < 1e9:
        raise InvalidInputError(f"{where}: score is a number, not {score!r:.40}")
    texts = [_text(row.get("query"), f"{where}: query"), _text(row.get("passage"), f"{where}: passage")]
    wrong = [_text(one, f"{where}: a negative") for one in negatives]
    return texts[0], texts[1], wrong, float(score), None if group is None else str(group)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInputError(f"{what} is a text that is not empty, not {value!r:.40}")
    return value.strip()
