"""Groups of a query, its passage and hard negatives, from each training set in its own way."""

from __future__ import annotations

import collections
import gzip
import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.cross_encoder.data import Bm25, Group, Pool, Query, held_out, load_set, rows
from scripts.cross_encoder.model import Encoder

IDENTIFIER = re.compile(
    r"\b(?:[A-Za-z]+(?:[_.][A-Za-z0-9]+)+|[a-z]+(?:[A-Z][a-z0-9]+)+|[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+)\b"
)


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
