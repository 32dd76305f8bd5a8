"""Evaluation sets on disk: questions with labels over a corpus.

A directory with ``corpus.jsonl.gz`` (``id``, ``text``, ``meta``), ``queries.jsonl.gz`` (``id``, ``text``,
``type``) and ``qrels.tsv`` (``query_id``, ``doc_id``, ``rel``, with a header line); the ``.gz`` may be missing.
A set whose rows name a ``meta.conversation_id`` is a conversation set: a question looks in its own conversation.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from memory_plugin.errors import InvalidInputError
from memory_plugin.types import Document, Json, Message, Namespace, PointId, Record

SAMPLE_SEED = 20240607

_FORMATS = (
    "%d %B, %Y",
    "%d %B %Y",
    "%d %b, %Y",
    "%d %b %Y",
    "%B %d, %Y",
    "%B %d %Y",
    "%b %d, %Y",
    "%b %d %Y",
    "%Y/%m/%d",
    "%Y-%m-%d",
    "%m/%d/%Y",
)
_CLOCK = re.compile(r"\b(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([ap])?\.?(?:m\b\.?)?", re.IGNORECASE)
_NOISE = re.compile(r"\([^)]*\)|\b(?:on|at|UTC|GMT|(?:mon|tues?|wednes|thurs?|fri|satur|sun)day)\b,?", re.IGNORECASE)
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Expected:
    """A memory that answers a question, by what is known of it: all that is given has to hold.

    Args:
        source: What its document is called.
        id: The point.
        text: A part of its text, white space and case aside.
    """

    source: str | None = None
    id: PointId | None = None
    text: str | None = None

    def matches(self, record: Record) -> bool:
        """Whether the memory is one such."""
        return (
            (self.source is None or record.source == self.source)
            and (self.id is None or record.id == self.id)
            and (self.text is None or _plain(self.text) in _plain(record.passage))
        )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


@dataclass(frozen=True, slots=True)
class Question:
    """A question and what answers it.

    Args:
        id: In the set.
        text: As asked.
        type: Its kind, such as "temporal"; "" when it has none.
        namespace: Where to look.
        relevant: Gain by row id; at least one is positive.
        expected: What rows 0, 1, … of ``relevant`` stand for, where a row is not simply a document of that source.
    """

    id: str
    text: str
    type: str
    namespace: Namespace
    relevant: Mapping[str, int]
    expected: tuple[Expected, ...] = ()

    def ranking(self, records: Sequence[Record]) -> list[str]:
        """What was found, best first, as rows: each once, named as in ``relevant`` where it is one of those."""
        if not self.expected:
            return list(dict.fromkeys(record.source or record.id for record in records))
        rows: list[str] = []
        for record in records:
            fits = [str(place) for place, one in enumerate(self.expected) if one.matches(record)]
            rows += fits or [record.id]
        return list(dict.fromkeys(rows))


@dataclass(frozen=True, slots=True)
class Dataset:
    """An evaluation set.

    Args:
        name: Of its directory.
        corpus: What to add, by namespace; the source or id of each is its row's id.
        questions: In the order of the file.
        dropped: How much was left out, by reason.
        originals: By source, the memories that the rows are copies of, where they were taken from a store.
    """

    name: str
    corpus: Mapping[Namespace, Sequence[Document | Message]]
    questions: tuple[Question, ...]
    dropped: Mapping[str, int]
    originals: Mapping[str, Record] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of the corpus."""
        return sum(map(len, self.corpus.values()))

    def sample(self, size: int) -> Dataset:
        """The same corpus with that many questions, always the same ones, in the order of the file.

        Args:
            size: Questions to keep; all when there are fewer.

        Raises:
            InvalidInputError: ``size`` is not positive.
        """
        if size < 1:
            raise InvalidInputError(f"a sample has at least one question, not {size}")
        if size >= len(self.questions):
            return self
        picks = sorted(random.Random(SAMPLE_SEED).sample(range(len(self.questions)), size))  # noqa: S311
        return replace(self, questions=tuple(self.questions[place] for place in picks))


def read(directory: str | Path) -> Dataset:
    """Read a set.

    Args:
        directory: See the module.

    Raises:
        InvalidInputError: A file is missing or damaged, or no question is left.
    """
    where = Path(directory)
    if not where.is_dir():
        raise InvalidInputError(f"{where} is no directory: give one with corpus.jsonl.gz, queries.jsonl.gz, qrels.tsv")
    name = where.resolve().name
    dropped: Counter[str] = Counter()
    corpus: dict[Namespace, list[Document | Message]] = {}
    homes: dict[str, Namespace] = {}
    for row in _objects(where, "corpus.jsonl", ("id", "text")):
        meta = row.get("meta") or {}
        text, identity = str(row["text"]), str(row["id"])
        if not isinstance(meta, dict):
            raise InvalidInputError(f"{where}: the meta of row {identity!r:.60} is no object")
        if not text.strip() or identity in homes:
            dropped["empty rows" if not text.strip() else "rows with an id that was there"] += 1
            continue
        homes[identity] = _home(name, meta)
        corpus.setdefault(homes[identity], []).append(_item(identity, text, meta, dropped))
    labels = _labels(where, homes, dropped)
    questions = tuple(_questions(where, name, labels, corpus, dropped))
    if not questions:
        raise InvalidInputError(f"{where} has no question with a label in its corpus: there is nothing to measure")
    return Dataset(name, corpus, questions, dict(dropped))


def _home(name: str, meta: Mapping[str, Json]) -> Namespace:
    """A conversation is a data subject of its own: its keys and term statistics are its own too."""
    conversation = meta.get("conversation_id")
    return (name,) if conversation is None else (f"{name}/{conversation}",)


def _item(identity: str, text: str, meta: dict[str, Json], dropped: Counter[str]) -> Document | Message:
    """A turn of a conversation as a message; any other row as a document, also one of several speakers' turns."""
    spoken, speaker = meta.get("timestamp"), meta.get("speaker")
    time = timestamp(spoken)
    if spoken is not None and time is None:
        dropped["times that cannot be read"] += 1
    if meta.get("conversation_id") is None or not isinstance(speaker, str) or not speaker:
        return Document(text, source=identity, metadata=meta, time=time)
    return Message("user", text, name=speaker, time=time, id=identity, metadata=meta)


def _labels(where: Path, rows: Mapping[str, object], dropped: Counter[str]) -> dict[str, dict[str, int]]:
    labels: dict[str, dict[str, int]] = {}
    for number, line in enumerate(lines(where / "qrels.tsv"), 1):
        cells = line.rstrip("\r\n").split("\t")
        if (number == 1 and cells[-1] == "rel") or not line.strip():
            continue
        try:
            query, row, gain = cells
            value = int(gain)
        except ValueError:
            raise InvalidInputError(f"{where}/qrels.tsv line {number} is not query_id, doc_id, rel") from None
        if row not in rows:
            dropped["labels of rows that are not there"] += 1
        else:
            labels.setdefault(query, {})[row] = value
    return labels


def _questions(
    where: Path,
    name: str,
    labels: Mapping[str, Mapping[str, int]],
    corpus: Mapping[Namespace, object],
    dropped: Counter[str],
) -> Iterator[Question]:
    for row in _objects(where, "queries.jsonl", ("id", "text")):
        identity, text = str(row["id"]), str(row["text"])
        relevant = labels.get(identity, {})
        home = _home(name, row)
        if not text.strip():
            dropped["empty questions"] += 1
        elif not any(gain > 0 for gain in relevant.values()):
            dropped["questions without labels"] += 1
        elif home not in corpus:
            dropped["questions whose conversation is not there"] += 1
        else:
            yield Question(identity, text, str(row.get("type") or ""), home, relevant)


def timestamp(value: object) -> datetime | None:
    """A time as data sets write it, in UTC where it names no zone; None when it cannot be read.

    Args:
        value: ISO 8601, seconds since 1970, or words such as "1:56 pm on 8 May, 2023".
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        if not isinstance(value, str):
            return datetime.fromtimestamp(value, UTC)
        return _zoned(datetime.fromisoformat(value.strip()))
    except (ValueError, OverflowError, OSError):
        return _words(value) if isinstance(value, str) else None


def _words(text: str) -> datetime | None:
    hour = minute = second = 0
    clock = _CLOCK.search(text)
    if clock:
        hour, minute, second = (int(clock[part] or 0) for part in (1, 2, 3))
        if clock[4]:
            hour = hour % 12 + (12 if clock[4].lower() == "p" else 0)
        text = text[: clock.start()] + text[clock.end() :]
    day = " ".join(_ORDINAL.sub("", _NOISE.sub(" ", text)).split()).strip(" ,")
    for form in _FORMATS:
        try:
            return datetime.strptime(day, form).replace(hour=hour, minute=minute, second=second, tzinfo=UTC)
        except ValueError:
            continue
    return None


def _zoned(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _objects(where: Path, name: str, needed: Sequence[str]) -> Iterator[dict[str, Json]]:
    path = where / f"{name}.gz"
    path = path if path.exists() else where / name
    for number, line in enumerate(lines(path), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            raise InvalidInputError(f"{path} line {number} is no JSON") from None
        if not isinstance(found, dict) or any(not isinstance(found.get(key), str | int) for key in needed):
            raise InvalidInputError(f"{path} line {number} is no object with {' and '.join(needed)}")
        yield found


def lines(path: Path) -> Iterator[str]:
    """The lines of a text file, which may be gzipped.

    Raises:
        InvalidInputError: It cannot be read.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8") as packed:
                yield from packed
        else:
            with path.open(encoding="utf-8") as plain:
                yield from plain
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidInputError(f"{path} cannot be read: {reason}") from error
