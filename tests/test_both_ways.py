"""``MemoryStore`` and ``AsyncMemoryStore`` have the same verbs, and the same answers to the same questions."""

from __future__ import annotations

import asyncio
import inspect
import json
import shutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import (
    AsyncMemoryStore,
    Document,
    MemoryPluginError,
    MemoryStore,
    Message,
    Settings,
    eq,
    not_,
    range_,
)
from memory_plugin.rerankers.late_interaction import MaxSim
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
VERBS = [name for name in vars(MemoryStore) if not name.startswith("_")]


def test_the_verbs_and_their_arguments_are_the_same() -> None:
    assert [name for name in vars(AsyncMemoryStore) if not name.startswith("_")] == VERBS
    for name in VERBS:
        one, other = getattr(MemoryStore, name), getattr(AsyncMemoryStore, name)
        assert inspect.signature(one) == inspect.signature(other), name
        assert inspect.iscoroutinefunction(other) != (name == "open"), name
        assert other.__doc__, name
    assert inspect.signature(MemoryStore) == inspect.signature(AsyncMemoryStore)


def told(value: Any) -> Any:
    """A value without what differs between two runs: seconds."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: told(getattr(value, one.name)) for one in fields(value) if one.name != "seconds"}
    if isinstance(value, dict):
        return {key: told(one) for key, one in value.items()}
    return [told(one) for one in value] if isinstance(value, list | tuple) else value


def bare(number: int) -> Message:
    return Message("tool", "", id=f"bare {number}", time=NOON, value={"n": number})


SCRIPT: list[tuple[str, Callable[[Any], Any]]] = [
    ("add", lambda s: s.add([f"note {n} of {'whales' if n % 2 else 'birds'}" for n in range(9)], "alice", time=NOON)),
    ("again", lambda s: s.add(["note 1 of whales", "a new note"], "alice", time=NOON)),
    ("named", lambda s: s.add("fish " * 700, ("alice", "s1"), source="f", time=NOON, metadata={"topic": "f", "n": 1})),
    ("message", lambda s: s.add(Message("user", "hello", name="Ana", id="1"), "bob", time=NOON + timedelta(days=2))),
    ("replaced", lambda s: s.add("trout", ("alice", "s1"), source="f", time=NOON, metadata={"topic": ["a", "b"]})),
    (
        "values",
        lambda s: s.add([Document("kite", source="v", time=NOON, value=[1]), bare(2), bare(3)], ("alice", "s1")),
    ),
    ("named ones", lambda s: s.get_sources(["v", "f", "bare 2", "none"], ("alice", "s1"))),
    ("kinds", lambda s: s.count("alice", filter=not_(eq("$kind", "value")))),
    ("several", lambda s: s.delete(("alice", "s1"), source=["bare 2", "bare 3", "none"])),
    ("names", lambda s: s.get_sources("v", "alice")),
    ("search", lambda s: s.search("whales note 3", "alice")),
    ("late", lambda s: s.search("whales note 3", ["alice", "bob"], rerank="late", limit=3)),
    ("fused", lambda s: s.search("trout", "alice", rerank="none", neighbours=1, per_document=1, limit=1)),
    ("filtered", lambda s: s.search("note", "alice", filter=eq("topic", "a"), limit=4)),
    ("context", lambda s: s.context("trout", "alice", max_tokens=200, limit=1)),
    ("list", lambda s: s.list("bob", newest_first=True)),
    ("count", lambda s: s.count("alice", filter=range_("n", gte=1))),
    ("facet", lambda s: s.facet("topic", "alice")),
    ("facet of all", lambda s: s.facet("$source", "alice")),
    ("wrong id", lambda s: s.get("nothing", "alice")),
    ("wrong namespace", lambda s: s.count("")),
    ("wrong text", lambda s: s.add("", "alice")),
    ("wrong file", lambda s: s.add_file("no/such/file", "alice")),
    ("wrong cursor", lambda s: s.list("alice", after="x")),
    ("wrong delete", lambda s: s.delete("alice")),
    ("verify", lambda s: s.verify()),
    ("delete", lambda s: s.delete("alice", source="f")),
    ("delete some", lambda s: s.delete("alice", filter=eq("$kind", "document"))),
    ("forget a part", lambda s: s.forget(("alice", "s1"))),
    ("forget", lambda s: s.forget("bob")),
    ("describe", lambda s: s.describe()),
    ("close", lambda s: s.close()),
    ("closed", lambda s: s.count("alice")),
]


@pytest.mark.parametrize("vectors", ["plain", "sealed"])
def test_the_answers_are_the_same(tmp_path: Path, vectors: Any) -> None:  # noqa: C901 - the same twice
    def parts() -> dict[str, Any]:
        return {
            "embedder": HashEmbedder(),
            "reranker": OverlapReranker(),
            "late": MaxSim(),
            "settings": Settings(filterable=("topic",), vectors=vectors),
        }

    # Two copies of one store with its keys, so that ids and tags are the same as well.
    with MemoryStore.open(tmp_path / "one" / "m", keyring=tmp_path / "one" / "k.json", **parts()) as empty:
        for subject in ("alice", "bob"):
            empty.add("for the key", subject)
            empty.delete(subject, everything=True)
    shutil.copytree(tmp_path / "one", tmp_path / "other")

    def answer_of(value: Any) -> Any:
        return json.loads(json.dumps(told(value), default=str).replace(str(tmp_path / "other"), str(tmp_path / "one")))

    def error_of(error: MemoryPluginError) -> Any:
        return answer_of([type(error).__name__, str(error)])

    blocking: dict[str, Any] = {}
    store = MemoryStore.open(tmp_path / "one" / "m", keyring=tmp_path / "one" / "k.json", **parts())
    for what, verb in SCRIPT:
        try:
            blocking[what] = answer_of(verb(store))
        except MemoryPluginError as error:
            blocking[what] = error_of(error)

    async def main() -> dict[str, Any]:
        answers: dict[str, Any] = {}
        async with AsyncMemoryStore.open(
            tmp_path / "other" / "m", keyring=tmp_path / "other" / "k.json", **parts()
        ) as store:
            for what, verb in SCRIPT:
                try:
                    answers[what] = answer_of(await verb(store))
                except MemoryPluginError as error:
                    answers[what] = error_of(error)
        return answers

    awaited = asyncio.run(main())
    for answers in (blocking, awaited):
        described = answers.pop("describe")
        assert {"store", "data", "keys", "protection"} <= described.keys()
    assert blocking.keys() == awaited.keys()
    for what, _ in SCRIPT:
        assert blocking.get(what) == awaited.get(what), what
