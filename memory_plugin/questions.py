"""Questions about a store of one's own, in a file that people edit: one JSON object a line, ``#`` begins a comment.

    {"query": "who books trains", "namespace": "company", "source": "handbook.md", "text": "Trains are booked by"}

``query`` and ``namespace`` (a text, or a list of its parts) are needed, and what answers the question: ``source``,
``id``, ``text`` (a part of the memory's text), any of them together for one memory; ``expect`` holds a list of such
objects where several memories answer together.  ``id`` of the question itself is ``name``; ``type`` groups questions
in reports.  Other keys are kept for people.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from memory_plugin import ids
from memory_plugin.dataset import Expected, Question
from memory_plugin.errors import InvalidInputError
from memory_plugin.types import Namespace

MAX_BYTES = 64 * 2**20
_ANSWER = ("source", "id", "text")

HEADER = """\
# Questions about your own memories, one JSON object a line.  Lines that begin with # are comments.
#
# These were made from the memories themselves, without a language model: they are a beginning.  Edit them:
#   query      what you would ask.  Rephrase it in words of your own: that is what makes the figures yours.
#   text       a part of the memory that answers it.  source, id: its document, its id.  All that is given must hold.
#   expect     [{"source": ..., "text": ...}, ...] in place of these where several memories answer together.
#   namespace  whose memories are asked: "alice", or ["alice", "session-7"].
#   type       any word; reports have a line for each.
# Delete lines that make no sense, add your own.  Fifty good questions are enough to begin with.
#
# This file holds text of your memories in the clear: keep it where you would keep them.
"""


def read_questions(path: str | Path) -> list[Question]:
    """Read a file of questions.

    Args:
        path: See the module.

    Returns:
        In the order of the file; each has ``expected``, and a gain of 1 for each of them.

    Raises:
        InvalidInputError: The file cannot be read, a line is no question, or there is none.
    """
    where = Path(path)
    questions: list[Question] = []
    names: set[str] = set()
    for number, line in enumerate(_lines(where), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            question = _question(line, number, f"{where} line {number}")
            if question.id in names:
                raise InvalidInputError(f"{where} line {number}: there is a question named {question.id!r:.60} already")
            names.add(question.id)
            questions.append(question)
    if not questions:
        raise InvalidInputError(f"{where} has no question: `memory-plugin eval --make-questions` makes a first set")
    return questions


def _lines(path: Path) -> Iterator[str]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInputError(f"{path} is larger than {MAX_BYTES // 2**20} MiB: that is no file of questions")
        yield from path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would cut inside texts
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidInputError(f"{path} cannot be read: {reason}") from error


def _question(line: str, number: int, where: str) -> Question:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidInputError(f"{where} is no JSON object; a comment begins with #") from None
    if not isinstance(found, dict):
        raise InvalidInputError(f"{where} is no JSON object")
    query = found.get("query")
    if not isinstance(query, str) or not ids.visible(query):
        raise InvalidInputError(f"{where} has no query")
    expected = _expected(found, where)
    kind = found.get("type") or ""
    name = found.get("name") or f"line {number}"
    if not isinstance(kind, str) or not isinstance(name, str):
        raise InvalidInputError(f"{where}: name and type are texts")
    relevant = {str(place): 1 for place in range(len(expected))}
    return Question(name, query, kind, _namespace(found.get("namespace"), where), relevant, expected)


def _namespace(value: object, where: str) -> Namespace:
    parts = tuple(value) if isinstance(value, list) else value
    try:
        return ids.namespace(parts)  # type: ignore[arg-type]  # it is checked there
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error}") from None


def _expected(found: Mapping[str, Any], where: str) -> tuple[Expected, ...]:
    listed = found.get("expect")
    if listed is None:
        listed = [found]
    elif any(found.get(key) is not None for key in _ANSWER):
        raise InvalidInputError(f"{where}: give what answers it in expect, or beside it, not both")
    if not isinstance(listed, list) or not listed or not all(isinstance(one, dict) for one in listed):
        raise InvalidInputError(f"{where}: expect is a list of objects with source, id or text")
    made = []
    for one in listed:
        known = {key: one.get(key) for key in _ANSWER if one.get(key) is not None}
        if not known or not all(isinstance(value, str) and ids.visible(value) for value in known.values()):
            raise InvalidInputError(
                f"{where} does not say what answers it: give a source, an id, or a part of the text"
            )
        made.append(Expected(**known))
    return tuple(made)


def write_questions(questions: Iterable[Question], notes: Mapping[str, str] | None = None) -> str:
    """The questions as the text of a file that ``read_questions`` reads, with how to edit it at the top.

    Args:
        questions: Made by ``read_questions``, or likewise.
        notes: By name of a question, a remark for people.
    """
    lines = []
    for question in questions:
        space = question.namespace
        answers = [_answer(one) for one in question.expected]
        line: dict[str, Any] = {
            "query": question.text,
            **(answers[0] if len(answers) == 1 else {"expect": answers}),
            "namespace": space[0] if len(space) == 1 else list(space),
            "type": question.type,
            "name": question.id,
        }
        if notes and question.id in notes:
            line["note"] = notes[question.id]
        lines.append(json.dumps(line, ensure_ascii=False))
    return HEADER + "".join(f"{line}\n" for line in lines)


def _answer(one: Expected) -> dict[str, str]:
    found = {"text": one.text, "source": one.source, "id": one.id}
    return {key: value for key, value in found.items() if value is not None}
