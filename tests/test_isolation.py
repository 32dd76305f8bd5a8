"""Fifty people in one store, and thousands of attempts to read another's memories."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from memory_plugin import (
    InvalidInputError,
    MemoryNotFoundError,
    MemoryStore,
    Settings,
    and_,
    any_of,
    eq,
    not_,
    or_,
    range_,
)
from memory_plugin.testing.doubles import HashEmbedder, WordTokenizer

Crowd: TypeAlias = tuple[MemoryStore, list[tuple[str, ...]], dict[str, int]]

MEMORIES = 200
QUERIES = int(os.environ.get("MEMORY_PLUGIN_QUERIES", "2000"))

# Names that something between here and the disk might take for one another, or for a command.
NAMES = [
    *(
        "alice",
        "alic",
        "alice2",
        "Alice",
        "ALICE",
        " alice",
        "alice ",
        "alice\u200b",
        "\u0430lice",
        "alice\x00",
        "\x00",
    ),
    *(
        "caf\u00e9",
        "cafe\u0301",
        "\u212b",
        "\u00c5",
        "A\u030a",
        "ﬁ",
        "fi",
        "\u202ealice",
        "a",
        "b",
        "a/b",
        "a/b/c",
        "b/c",
    ),
    *(
        "..",
        "../alice",
        ".",
        "/",
        "\\",
        "*",
        "$",
        "$role",
        "%00",
        "'",
        '"',
        "' OR 1=1 --",
        '{"$ne": null}',
        "a\nb",
        "null",
    ),
    *("None", "staged", "intent", "head", "0", "-1", "NaN", "🦊", "🦊\u200d", "ا", "x" * 1024),
]
SUBJECTS = [(name,) for name in NAMES]
# The same words, joined otherwise.
BELOW = [
    ("a", "b/c"),
    ("a/b", "c"),
    ("a", "b", "c"),
    ("a", "b"),
    ("alice", "2"),
    ("alice", ".."),
    ("a", "/b"),
    ("b", "a"),
]

HUGE = "y" * 2**20
HOSTILE = [
    *("alice", "secret", "'; DROP TABLE memories; --", "../../etc/passwd", "$role", "\x00", "a\x00b", "*", "%", "[1]"),
    *('{"filter": {}}', "caf\u00e9", "cafe\u0301", "\u202esecret", "🦊", "ا", "token of alice", "x" * 5_000, "\ud800"),
    *("", " ", "\u200b", "\ufeff\u2060", "secret " * 200),
]
FIELDS = [
    "topic",
    "other",
    "$source",
    "$kind",
    "$name",
    "$ns",
    "t",
    "p",
    "e",
    "d",
    "f",
    "..",
    "",
    "a.b",
    "a[]",
    "\x00",
    "\ud800",
]
VALUES: list[Any] = [
    "alice",
    "topic of alice",
    "'",
    "$",
    "",
    "\x00",
    "\ud800",
    None,
    True,
    0,
    1.5,
    2**70,
    float("nan"),
    "x" * 9_000,
]


class Words(HashEmbedder):
    """Hashed words, cut by a tokenizer that costs nothing."""

    tokenizer = None
    count = WordTokenizer().count


def owner_of(text: str) -> int:
    return int(text.rsplit(" ", 1)[1])


@pytest.fixture(scope="module")
def crowd(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Crowd]:
    """The store, its namespaces, and who owns each point."""
    path = tmp_path_factory.mktemp("crowd")
    people = [*SUBJECTS[: 50 - 8], *BELOW]
    assert len(people) == len(set(people)) == 50
    owners: dict[str, int] = {}
    settings = Settings(filterable=("topic",), late_interaction=False, batch=MEMORIES)
    with MemoryStore.open(
        path / "m", embedder=Words(16), reranker=None, late=None, keyring=path / "k.json", settings=settings
    ) as store:
        for number, person in enumerate(people):
            items = [
                {
                    "role": "user",
                    "content": f"secret {n} token of {number}",
                    "id": f"m{n}",
                    "metadata": {"topic": f"topic of {number}", "other": n % 7},
                }
                for n in range(MEMORIES)
            ]
            owners.update(dict.fromkeys(store.add(items, person).ids, number))
        assert len(owners) == 50 * MEMORIES
        yield store, people, owners


def inside(asked: Any, person: tuple[str, ...]) -> bool:
    """Whether a namespace that was asked for holds a person's memories."""
    names = asked if isinstance(asked, list) else [asked]
    parts = [(name,) if isinstance(name, str) else name for name in names]
    return any(isinstance(one, tuple) and person[: len(one)] == one for one in parts)


def some_filter(dice: random.Random, depth: int = 0) -> Any:
    """A filter, valid or not; building it may fail as well."""
    kind = dice.randrange(8 if depth < 3 else 4)
    if kind == 0:
        return None if depth == 0 else eq("topic", "x")
    if kind in (1, 2):
        return eq(dice.choice(FIELDS), dice.choice(VALUES))
    if kind == 3:
        return range_(dice.choice(FIELDS), gte=dice.choice([0, 1, -1e300, 2**70]))
    if kind == 4:
        return not_(some_filter(dice, depth + 1))
    if kind == 5:
        return any_of(dice.choice(FIELDS), dice.sample(VALUES, 3))
    combine = dice.choice([and_, or_])
    return combine(some_filter(dice, depth + 1), some_filter(dice, depth + 1))


def some_namespace(dice: random.Random, people: list[tuple[str, ...]]) -> Any:
    """Somebody's, nobody's, several, or none at all."""
    one = dice.choice(people)
    other = dice.choice(people)
    strange: list[Any] = [
        *(
            HUGE,
            ("alice", HUGE),
            "\ud800",
            (one[0], ""),
            (*one, "x"),
            one * 9,
            list(one),
            {one},
            7,
            b"alice",
        ),
        *([one, other], [one, (one[0], "x")], [one, None], one[0], "nobody", (one[0], one[0]), f"{one[0]}/{other[0]}"),
    ]
    return one if dice.random() < 0.6 else dice.choice(strange)


@pytest.mark.slow
def test_nobody_reads_what_is_anothers(crowd: Crowd) -> None:  # noqa: C901 - one branch a verb
    store, people, owners = crowd
    dice = random.Random(4471)
    points = list(owners)
    answered = refused = 0
    for _ in range(QUERIES):
        asked = some_namespace(dice, people)
        verb = dice.choice(["search", "search", "count", "list", "get", "facet"])
        allowed = None
        try:
            if verb == "get":
                point: Any = dice.choice([dice.choice(points), dice.choice(points), dice.choice(HOSTILE), None, 7])
                try:
                    record = store.get(point, asked)
                    assert inside(asked, people[owners[record.id]])
                    answered += 1
                except MemoryNotFoundError:
                    assert point not in owners or not inside(asked, people[owners[point]])
                continue
            filter_ = some_filter(dice) if dice.random() < 0.4 else None
            if verb == "search":
                legs: Any = dice.choice(["hybrid", "dense", "lexical", "sparse"])
                found = [
                    hit.record for hit in store.search(dice.choice(HOSTILE), asked, legs=legs, filter=filter_, limit=5)
                ]
            elif verb == "list":
                found = list(
                    store.list(asked, filter=filter_, limit=5, after=dice.choice([None, None, "", "xx"])).records
                )
            elif verb == "count":
                allowed = sum(MEMORIES for person in people if inside(asked, person))
                number = store.count(asked, filter=filter_)
                assert number <= allowed
                assert filter_ is not None or number == allowed
                found = []
            else:
                allowed = sum(MEMORIES for person in people if inside(asked, person))
                counted = store.facet(dice.choice(FIELDS), asked, filter=filter_)
                assert all(n <= allowed for n in counted.values())
                for value in counted:
                    if isinstance(value, str) and value.startswith("topic of "):
                        assert inside(asked, people[owner_of(value)])
                found = []
        except InvalidInputError:
            refused += 1
            continue
        answered += 1
        for record in found:
            assert inside(asked, people[owners[record.id]]), (verb, asked, record.id)
            assert people[owner_of(record.text)] == record.namespace
    assert answered > QUERIES // 4
    assert refused > QUERIES // 20


def test_twins_are_two(crowd: Crowd) -> None:
    """Each namespace has exactly its own memories and those below it, whatever its name resembles."""
    store, people, _ = crowd
    for person in people:
        expected = sum(MEMORIES for other in people if inside(person, other))
        assert store.count(person) == expected, person
        hits = store.search("secret token", person, limit=20)
        assert len(hits) == 20 or len({hit.text for hit in hits}) == len(hits)
        assert all(inside(person, hit.record.namespace) for hit in hits)
        assert len(store.facet("topic", person)) == expected // MEMORIES
        named = store.get_sources([f"m{n}" for n in range(MEMORIES)], person)
        assert [one.namespace for found in named.values() for one in found] == [person] * MEMORIES


NOWHERE: list[Any] = [
    None,
    "",
    (),
    [],
    [""],
    [()],
    [None],
    ("",),
    ("alice", ""),
    0,
    {},
    b"alice",
    [["alice"]],
    ["alice", ""],
]


@pytest.mark.parametrize("nowhere", NOWHERE, ids=repr)
def test_a_read_without_a_namespace_is_an_error(crowd: Crowd, nowhere: Any) -> None:
    store, _, owners = crowd
    point = next(iter(owners))
    verbs: list[Callable[[], object]] = [
        lambda: store.search("secret", nowhere),
        lambda: store.context("secret", nowhere),
        lambda: store.get(point, nowhere),
        lambda: store.get_sources(["m1"], nowhere),
        lambda: store.list(nowhere),
        lambda: store.count(nowhere),
        lambda: store.facet("topic", nowhere),
        lambda: store.delete(nowhere, everything=True),
        lambda: store.forget(nowhere),
        lambda: store.add("x", nowhere),
    ]
    for verb in verbs:
        with pytest.raises(InvalidInputError, match="namespace"):
            verb()


def test_a_namespace_cannot_be_left_out(crowd: Crowd) -> None:
    store: Any = crowd[0]
    for verb, arguments in itertools.chain(
        [
            ("search", ("secret",)),
            ("context", ("secret",)),
            ("get", ("x",)),
            ("get_sources", ([],)),
            ("facet", ("topic",)),
            ("add", ("x",)),
        ],
        [("list", ()), ("count", ()), ("delete", ()), ("forget", ())],
    ):
        with pytest.raises(TypeError, match="namespace"):
            getattr(store, verb)(*arguments)
    with pytest.raises(InvalidInputError, match="nothing is ever read from all"):
        store.search("secret", [])


def test_one_verb_takes_one_namespace_only(crowd: Crowd) -> None:
    """A list would be ambiguous where something is written or paged."""
    store: Any = crowd[0]
    for verb in (store.list, store.count, store.forget, lambda names: store.get_sources(["m1"], names)):
        with pytest.raises(InvalidInputError):
            verb(["alice", "a"])


def test_pages_and_ids_of_one_do_not_open_anothers(crowd: Crowd, tmp_path: Path) -> None:
    store, people, owners = crowd
    cursor = store.list(people[0], limit=5).next
    after = store.list(people[1], limit=MEMORIES, after=cursor)
    assert all(people[owners[record.id]] == people[1] for record in after.records)
    foreign = [point for point, number in owners.items() if number == 0][:20]
    assert store.delete(people[1], foreign) == 0
    assert store.count(people[0]) == MEMORIES * sum(inside(people[0], person) for person in people)
