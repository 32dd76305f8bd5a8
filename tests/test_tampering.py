"""Somebody writes to Qdrant behind the store's back: what was changed is refused, and ``verify`` names it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from memory_plugin import (
    DecryptionError,
    Document,
    MemoryNotFoundError,
    SealError,
    Settings,
    UnsealedPayloadError,
    eq,
    range_,
)
from memory_plugin.engine.payload import vector_key
from memory_plugin.flow import Blocking, run
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.manifest import space
from memory_plugin.rerankers.late_interaction import MaxSim
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Point
from tests.conftest import Driver, Opener

TEXTS = {
    ("alice", "s1"): ["whales of alice", "birds of alice"],
    ("alice", "s2"): ["trains of alice"],
    ("bob",): ["rivers of bob"],
}


VECTOR = vector_key(space(HashEmbedder().identity))


class Vault:
    """A closed store, and its points laid open by their texts."""

    def __init__(self, open_store: Opener, **settings: Any) -> None:
        self._open = open_store
        self._settings = Settings(filterable=("topic",), **settings)
        store = self.store()
        self.ids: dict[str, str] = {}
        for namespace, texts in TEXTS.items():
            for text in texts:
                word = text.split()[0]
                [self.ids[text]] = store.add(text, namespace, source=word, metadata={"topic": word}).ids
        store.close()

    def store(self) -> Driver:
        return self._open(settings=self._settings, late=MaxSim() if self._settings.late_interaction else None)

    def change(self, path: Any, **new: Callable[[dict[str, Point]], Any]) -> Driver:
        """Give points another payload, then open the store.

        Args:
            path: The store's directory.
            new: By the first word of a text, what makes its point's new payload out of all points.
        """
        index, io = EdgeIndex(path), Blocking()
        run(index.read_manifest(io))
        found = {
            word: run(index.fetch(io, [self.ids[text]], payload=True, vectors=True))[0]
            for text in self.ids
            for word in [text.split()[0]]
        }
        changed = [replace(found[word], payload=make(found)) for word, make in new.items()]
        run(index.upsert(io, changed))
        run(index.close(io))
        return self.store()


def of(word: str, **keys: str) -> Callable[[dict[str, Point]], dict[str, Any]]:
    """The point's own payload, but some keys from another point: ``of("whales", e="birds")``."""

    def make(points: dict[str, Point]) -> dict[str, Any]:
        payload = dict(points[word].payload)
        for key, other in keys.items():
            if key in points[other].payload:
                payload[key] = points[other].payload[key]
            else:
                payload.pop(key, None)
        return payload

    return make


def put(word: str, **values: Any) -> Callable[[dict[str, Point]], dict[str, Any]]:
    """The point's own payload with other values; a function is given the old one, None takes the key away."""

    def make(points: dict[str, Point]) -> dict[str, Any]:
        payload = dict(points[word].payload)
        for key, value in values.items():
            payload[key] = value(payload[key]) if callable(value) else value
        return {key: value for key, value in payload.items() if value is not None}

    return make


PLAIN = json.dumps(
    {"ns": ["alice", "s1"], "text": "forged", "time": 0, "kind": "document", "at": [0, 6, 0, 1], "doc": "x"}
)

SEALED: dict[str, dict[str, Any]] = {
    "e swapped inside a subject": {"whales": of("whales", e="birds"), "birds": of("birds", e="whales")},
    "e swapped between subjects": {"whales": of("whales", e="rivers"), "rivers": of("rivers", e="whales")},
    "e copied from another subject": {"whales": of("whales", e="rivers")},
    "m swapped": {"whales": of("whales", m="birds"), "birds": of("birds", m="whales")},
    "m as e": {"whales": lambda points: {**points["whales"].payload, "e": points["whales"].payload["m"]}},
    "e truncated": {"whales": put("whales", e=lambda e: e[:40])},
    "e shortened by a group": {"whales": put("whales", e=lambda e: e[:-4])},
    "a byte changed": {"whales": put("whales", e=lambda e: e[:200] + ("A" if e[200] != "A" else "B") + e[201:])},
    "e is plaintext JSON": {"whales": put("whales", e=PLAIN)},
    "e is what PLAINTEXT writes": {"whales": put("whales", e="plain:" + PLAIN)},
    "e is base64 of plaintext": {"whales": put("whales", e=base64.b64encode(PLAIN.encode()).decode())},
    "e is an object": {"whales": put("whales", e=json.loads(PLAIN))},
    "e is empty": {"whales": put("whales", e="")},
    "e is gone": {"whales": put("whales", e=None)},
    "everything copied to another id": {"whales": lambda points: dict(points["birds"].payload)},
    "the subject is another's": {"rivers": of("rivers", t="whales")},
    "subject and namespace are another's": {"rivers": of("rivers", t="whales", p="whales")},
    "the namespace is another of the subject": {"trains": of("trains", p="whales")},
    "namespace and document are another's": {"trains": of("trains", p="whales", d="whales")},
}


def readers(store: Driver, namespace: Any) -> dict[str, Callable[[], set[str]]]:
    """Every verb that returns texts."""
    return {
        "search": lambda: {hit.text for hit in store.search("of alice bob", namespace, limit=20)},
        "dense": lambda: {hit.text for hit in store.search("of alice", namespace, legs="dense", rerank="none")},
        "lexical": lambda: {hit.text for hit in store.search("alice bob whales", namespace, legs="lexical")},
        "filtered": lambda: {hit.text for hit in store.search("of alice", namespace, filter=eq("$kind", "document"))},
        "context": lambda: {hit.text for hit in store.context("of alice bob", namespace, neighbours=1).hits},
        "list": lambda: {record.text for record in store.list(namespace).records},
        "newest": lambda: {record.text for record in store.list(namespace, newest_first=True, limit=1).records},
        "facet": lambda: {str(value) for value in store.facet("$source", namespace)},
        "declared": lambda: {str(value) for value in store.facet("topic", namespace)},
        "by name": lambda: {
            one.text for found in store.get_sources(["birds", "whales"], namespace).values() for one in found
        },
    }


@pytest.mark.parametrize("attack", SEALED)
def test_what_was_changed_is_refused_and_named(open_store: Opener, tmp_path: Any, attack: str) -> None:
    vault = Vault(open_store)
    changes = SEALED[attack]
    store = vault.change(tmp_path / "memory", **changes)
    hit = [text for text in vault.ids if text.split()[0] in changes]
    assert set(store.verify().failures) == {vault.ids[text] for text in hit}
    for namespace, texts in {**TEXTS, ("alice",): TEXTS["alice", "s1"] + TEXTS["alice", "s2"]}.items():
        honest = {*texts, *(text.split()[0] for text in texts)}
        for verb, read in readers(store, namespace).items():
            try:
                assert read() <= honest, verb
            except SealError:
                assert namespace != ("bob",) or set(changes) & {"rivers"}, f"{verb}: nothing of bob's was changed"
        for text in hit:
            with suppress(SealError, MemoryNotFoundError):
                assert store.get(vault.ids[text], namespace).text in texts


def test_plaintext_is_said_to_be_that(open_store: Opener, tmp_path: Any) -> None:
    vault = Vault(open_store)
    store = vault.change(tmp_path / "memory", whales=SEALED["e is plaintext JSON"]["whales"])
    with pytest.raises(UnsealedPayloadError):
        store.list("alice")
    with pytest.raises(UnsealedPayloadError):
        store.search("whales", "alice")


TAGS: dict[str, dict[str, Any]] = {
    "document": {"whales": of("whales", d="birds")},
    "revision": {"whales": of("whales", r="birds")},
    "revision gone": {"whales": put("whales", r=None)},
    "chunks": {"whales": put("whales", n=7)},
    "chunks gone": {"whales": put("whales", n=None)},
    "chunks a word": {"whales": put("whales", n="many")},
    "day": {"whales": put("whales", y=lambda day: day + 1)},
    "day gone": {"whales": put("whales", y=None)},
    "prefix gone": {"whales": put("whales", p=None)},
    "one key more": {"whales": put("whales", zz="x")},
}


@pytest.mark.parametrize("attack", TAGS)
def test_verify_holds_every_tag_against_the_record(open_store: Opener, tmp_path: Any, attack: str) -> None:
    vault = Vault(open_store, late_interaction=False)
    store = vault.change(tmp_path / "memory", **TAGS[attack])
    assert set(store.verify().failures) == {vault.ids["whales of alice"]}
    for read in readers(store, "alice").values():
        with suppress(SealError):
            read()
    with suppress(SealError):  # whoever writes meets it too, and no foreign error comes out
        store.add("whales of alice", ("alice", "s1"), metadata={"topic": "whales"})


def test_a_value_that_is_not_the_memorys_own_is_not_counted_as_its_own(open_store: Opener, tmp_path: Any) -> None:
    vault = Vault(open_store, late_interaction=False)
    store = vault.store()
    engine = (getattr(store.store, "_opened", None) or store.store._verbs).engine
    key = engine.field_key("topic")
    store.close()
    store = vault.change(tmp_path / "memory", whales=put("whales", **{key: ["0123456789abcdef"]}))
    assert set(store.verify().failures) == {vault.ids["whales of alice"]}
    with pytest.raises(DecryptionError, match="not its own"):
        store.facet("topic", ("alice", "s1"))
    assert store.facet("topic", "bob") == {"rivers": 1}


@pytest.mark.parametrize("attack", ["truncated", "swapped", "gone"])
def test_sealed_vectors_are_held_to_their_place(open_store: Opener, tmp_path: Any, attack: str) -> None:
    vault = Vault(open_store, vectors="sealed", late_interaction=False)
    change = {
        "truncated": {"whales": put("whales", **{VECTOR: lambda sealed: sealed[:-8]})},
        "swapped": {"whales": of("whales", **{VECTOR: "birds"}), "birds": of("birds", **{VECTOR: "whales"})},
        "gone": {"whales": put("whales", **{VECTOR: None})},
    }[attack]
    store = vault.change(tmp_path / "memory", **change)
    assert set(store.verify().failures) == {vault.ids[f"{word} of alice"] for word in change}
    if attack == "gone":  # as if the point were gone; only ``verify`` can tell
        assert vault.ids["whales of alice"] not in {hit.id for hit in store.search("whales", "alice", legs="dense")}
    else:
        with pytest.raises(SealError):
            store.search("whales", "alice", legs="dense")
    assert store.search("rivers", "bob", legs="dense")[0].text == "rivers of bob"


def test_the_sealed_statistics_of_a_subject_are_verified_too(open_store: Opener, tmp_path: Any) -> None:
    vault = Vault(open_store, late_interaction=False)
    index, io = EdgeIndex(tmp_path / "memory"), Blocking()
    run(index.read_manifest(io))
    from memory_plugin.types import AnyOf

    heads, _ = run(index.scroll(io, AnyOf("t", ("head",)), limit=10, payload=True))
    assert len(heads) == 2
    swapped = [
        replace(one, payload={**one.payload, "e": other.payload["e"]})
        for one, other in zip(heads, reversed(heads), strict=True)
    ]
    run(index.upsert(io, swapped))
    run(index.close(io))
    store = vault.store()
    assert set(store.verify().failures) == {head.id for head in heads}
    with pytest.raises(SealError):
        store.add("something new", "alice")
    assert store.count("alice") == 3
    assert len(store.search("of alice", "alice")) == 3


def test_a_forged_intent_without_its_tags_deletes_nothing(open_store: Opener, tmp_path: Any) -> None:
    vault = Vault(open_store, late_interaction=False)
    index, io = EdgeIndex(tmp_path / "memory"), Blocking()
    run(index.read_manifest(io))
    run(index.upsert(io, [Point("00000000-0000-4000-8000-000000000001", {"t": "intent"}, {})]))
    run(index.close(io))
    store = vault.store()
    assert (store.count("alice"), store.count("bob")) == (3, 1)
    assert store.verify().ok


def test_a_filter_that_opens_meets_what_was_changed(open_store: Opener, tmp_path: Any) -> None:
    vault = Vault(open_store, late_interaction=False)
    store = vault.change(tmp_path / "memory", trains=SEALED["the namespace is another of the subject"]["trains"])
    reads: list[Callable[[], Any]] = [
        lambda: store.count(("alice", "s1"), filter=range_("stars", gte=1)),
        lambda: store.delete(("alice", "s1"), filter=range_("stars", gte=1)),
        lambda: store.list(("alice", "s1")),
    ]
    for read in reads:
        with pytest.raises(DecryptionError, match="does not belong"):
            read()


@pytest.mark.parametrize("attack", ["document", "revision", "both", "mark", "mark of another"])
def test_a_value_stays_with_its_text(open_store: Opener, attack: str) -> None:
    """Of two documents with values, one's value cannot be shown as the other's, nor an old one beside a new text."""
    store = open_store()
    store.add([Document("whales", source="whales", value="of whales"), Document("birds", source="birds")], "alice")
    whales, birds = (store.get_sources([name], "alice")[name] for name in ("whales", "birds"))
    store.close()
    index, io = EdgeIndex(store.path), Blocking()
    run(index.read_manifest(io))
    value, other = run(index.fetch(io, [whales[1].id, birds[0].id], payload=True))
    keys = {"document": ["d"], "revision": ["r"], "both": ["d", "r"], "mark": ["j"], "mark of another": []}[attack]
    changed = {**value.payload, **{key: other.payload.get(key) for key in keys}}
    marked = {**other.payload, "j": 1}
    point = (
        Point(other.id, marked) if not keys else Point(value.id, {k: v for k, v in changed.items() if v is not None})
    )
    run(index.update_payloads(io, [point]) if not keys else index.upsert(io, [point]))
    run(index.close(io))
    store = open_store()
    assert set(store.verify().failures) == {point.id}
    for name, records in (("whales", whales), ("birds", birds)):
        with suppress(DecryptionError):
            found = store.get_sources([name], "alice").get(name, ())
            assert all(one in records for one in found), attack
