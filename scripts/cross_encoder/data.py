"""Training data: what a group is, how a set is read, and how hard negatives are found in it."""

from __future__ import annotations

import collections
import gzip
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import Stemmer

from scripts.cross_encoder.model import Encoder

WORD = re.compile(r"\w+")
STOP = frozenset(
    WORD.findall(
        "a about above after again all am an and any are as at be because been before being below between both but by"
        " can did do does doing down during each few for from further had has have having he her here hers him his how"
        " i if in into is it its itself just me more most my no nor not now of off on once only or other our out over"
        " own s same she should so some such t than that the their them then there these they this those through to"
        " too under until up very was we were what when where which while who whom why will with you your yours"
    )
)


@dataclass(frozen=True, slots=True)
class Group:
    """A query, a passage that answers it, and passages that look as if they did."""

    source: str
    query: str
    positive: str
    negatives: tuple[str, ...]
    dev: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A query and the ids of its relevant rows."""

    id: str
    text: str
    docs: tuple[str, ...]
    row: dict[str, Any]


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def load_set(folder: Path) -> tuple[dict[str, dict[str, Any]], list[Query]]:
    corpus = {row["id"]: row for row in rows(folder / "corpus.jsonl.gz")}
    relevant: dict[str, list[str]] = collections.defaultdict(list)
    for line in (folder / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, doc, _ = line.split("\t")
        if doc in corpus:
            relevant[query].append(doc)
    queries = [
        Query(row["id"], row["text"], tuple(relevant[row["id"]]), row)
        for row in rows(folder / "queries.jsonl.gz")
        if relevant[row["id"]]
    ]
    return corpus, queries


def held_out(key: str, share: float = 0.07) -> bool:
    """A fixed pseudo-random share of keys."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) < share * 2**32


class Bm25:
    """Okapi BM25 over stemmed words."""

    def __init__(self, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        self._stem = Stemmer.Stemmer("english")
        documents = [self.terms(text) for text in texts]
        lengths = np.array([len(terms) for terms in documents], np.float32)
        norm = k1 * (1 - b + b * lengths / max(lengths.mean(), 1))
        postings: dict[str, tuple[list[int], list[int]]] = {}
        for number, terms in enumerate(documents):
            for term, count in collections.Counter(terms).items():
                ids, counts = postings.setdefault(term, ([], []))
                ids.append(number)
                counts.append(count)
        self._size = len(documents)
        self._postings = {}
        for term, (ids, counts) in postings.items():
            where, tf = np.array(ids), np.array(counts, np.float32)
            idf = math.log(1 + (self._size - len(ids) + 0.5) / (len(ids) + 0.5))
            self._postings[term] = (where, (idf * tf * (k1 + 1) / (tf + norm[where])).astype(np.float32))

    def terms(self, text: str) -> list[str]:
        """Stems of the words that are not stop words."""
        return self._stem.stemWords([word for word in WORD.findall(text.lower()) if word not in STOP])

    def scores(self, query: str) -> np.ndarray:
        """One score a text."""
        scores = np.zeros(self._size, np.float32)
        for term in self.terms(query):
            if term in self._postings:
                where, weights = self._postings[term]
                scores[where] += weights
        return scores


class Pool:
    """Texts of one search scope, with the two rankings that hard negatives come from."""

    def __init__(self, ids: Sequence[str], texts: Sequence[str], encoder: Encoder | None) -> None:
        self.ids, self.texts = list(ids), list(texts)
        self._bm25 = Bm25(self.texts)
        self._encoder = encoder
        self._vectors = encoder.encode(self.texts) if encoder else None

    def mine(self, queries: Sequence[str], top: int) -> Iterator[list[str]]:
        """Ids that rank high lexically and densely, interleaved, for each query."""
        vectors = self._encoder.encode(queries) if self._encoder else None
        for number, query in enumerate(queries):
            lists = [self._best(self._bm25.scores(query), top)]
            if vectors is not None and self._vectors is not None:
                lists.append(self._best(self._vectors @ vectors[number], top))
            yield list(dict.fromkeys(self.ids[i] for rank in zip(*lists, strict=False) for i in rank))

    @staticmethod
    def _best(scores: np.ndarray, top: int) -> list[int]:
        top = min(top, len(scores))
        best = np.argpartition(-scores, top - 1)[:top]
        return [int(i) for i in best[np.argsort(-scores[best], kind="stable")]]
