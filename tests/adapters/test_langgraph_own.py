"""What is ours about the LangGraph store: whose items are, what a batch costs, what is refused, what stays on disk."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.store.base import GetOp, InvalidNamespaceError, ListNamespacesOp, MatchCondition, PutOp, SearchOp

from memory_plugin import (
    AsyncMemoryStore,
    ConfigurationError,
    InvalidInputError,
    MemoryStore,
    Record,
    Settings,
    StoreClosedError,
    and_,
    filters,
)
from memory_plugin.adapters.langgraph import LangGraphStore
from memory_plugin.adapters.langgraph.filters import passes, wider
from memory_plugin.adapters.langgraph.items import small, text_of
from memory_plugin.engine import candidates, manage
from memory_plugin.engine.payload import open_record
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.doubles import HashEmbedder
from tests.on_disk import written_below

NOTES = ("memories", "notes")
Opener = Callable[..., MemoryStore]


@pytest.fixture
def open_memory(tmp_path: Path) -> Iterator[Opener]:
    opened: list[MemoryStore] = []

    def make(**parts: Any) -> MemoryStore:
        index = EdgeIndex(tmp_path / "store", durability="process")
        given_ = {"embedder": HashEmbedder(), "reranker": None, "late": None, "keyring": tmp_path / "keys.json"}
        opened.append(MemoryStore(index, **{**given_, **parts}))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def memory(open_memory: Opener) -> MemoryStore:
    return open_memory()


@pytest.fixture
def store(memory: MemoryStore) -> LangGraphStore:
    return LangGraphStore(memory, namespace="alice")


def counted(monkeypatch: pytest.MonkeyPatch, memory: MemoryStore) -> Counter[str]:
    """How often each verb is called from now on."""
    calls: Counter[str] = Counter()

    def count(name: str) -> Callable[..., Any]:
        verb = getattr(memory, name)

        def call(*given_: Any, **named: Any) -> Any:
            calls[name] += 1
            return verb(*given_, **named)

        return call

    for name in ("add", "search", "list", "delete", "get_sources"):
        monkeypatch.setattr(memory, name, count(name))
    return calls


# ── whose ─────────────────────────────────────────────────────────────────────────────────────────


def test_another_subject_sees_nothing(memory: MemoryStore) -> None:
    alice, bob = LangGraphStore(memory, namespace="alice"), LangGraphStore(memory, namespace="bob")
    alice.put(NOTES, "tea", {"text": "Alice likes tea."})
    assert bob.get(NOTES, "tea") is None
    assert bob.search(()) == bob.search((), query="Alice likes tea.") == bob.list_namespaces() == []
    bob.delete(NOTES, "tea")
    bob.put(NOTES, "tea", {"text": "Bob likes none."})
    assert [item.value for item in alice.search((), query="tea")] == [{"text": "Alice likes tea."}]


def test_forgetting_the_subject_forgets_its_items(memory: MemoryStore) -> None:
    alice, bob = LangGraphStore(memory, namespace=("alice", "app")), LangGraphStore(memory, namespace="bob")
    alice.put(NOTES, "tea", {"text": "Alice likes tea."}, ttl=5)
    bob.put(NOTES, "tea", {"text": "Bob likes tea."})
    assert memory.forget("alice").keys == 1
    assert alice.get(NOTES, "tea") is None
    assert alice.search(()) == alice.list_namespaces() == []
    assert bob.get(NOTES, "tea") is not None


def test_the_first_label_may_be_the_subject(memory: MemoryStore) -> None:
    store = LangGraphStore(memory, namespace=())
    store.put(("alice", "notes"), "tea", {"text": "Alice likes tea."}, ttl=5)
    store.put(("bob", "notes"), "tea", {"text": "Bob likes tea."})
    assert [item.namespace for item in store.search(("alice",), query="tea")] == [("alice", "notes")]
    assert store.list_namespaces(prefix=("bob",)) == [("bob", "notes")]
    assert memory.count("alice") == 3  # what it is found by, its value, and when it expires
    for call in (
        lambda: store.search(()),
        lambda: store.search((), query="tea"),
        store.list_namespaces,
        lambda: store.list_namespaces(suffix=("notes",)),
        lambda: store.list_namespaces(prefix=("*", "notes")),
    ):
        with pytest.raises(InvalidInputError, match="nothing is ever read from all subjects"):
            call()
    assert store.get((), "tea") is None
    store.delete((), "tea")


def test_what_else_is_in_the_namespace_is_no_item_and_stays(memory: MemoryStore, store: LangGraphStore) -> None:
    for number in range(70):
        memory.add(f"Alice likes tea, said again, number {number}.", ("alice", *NOTES), source=f"{number}")
    store.put(NOTES, "tea", {"text": "Green tea."})
    found = store.search(NOTES, query="Alice likes tea, said again")
    assert [item.value for item in found] == [{"text": "Green tea."}]
    assert found[0].score is not None
    store.delete(NOTES, "tea")
    assert store.search(()) == store.list_namespaces() == []
    assert memory.count("alice") == 70


def test_items_are_memories_too(memory: MemoryStore, store: LangGraphStore) -> None:
    store.put(NOTES, "tea", {"text": "Alice likes green tea.", "sure": True})
    [hit] = memory.search("What does Alice like?", "alice")
    assert hit.text == "text: Alice likes green tea.\nsure: true"
    assert "Alice likes green tea." in memory.context("green tea", "alice").text


def test_items_are_there_when_the_store_is_opened_again(open_memory: Opener) -> None:
    memory = open_memory()
    before = LangGraphStore(memory, namespace="alice")
    before.put(NOTES, "tea", {"text": "Alice likes tea.", "n": [1, 2.0, None]}, ttl=60)
    item = before.get(NOTES, "tea")
    memory.close()
    after = LangGraphStore(open_memory(), namespace="alice")
    assert after.get(NOTES, "tea") == item


def test_nothing_of_an_item_is_readable_on_disk(tmp_path: Path, memory: MemoryStore, store: LangGraphStore) -> None:
    store.put(("Marzipan",), "Quetzal", {"Zinnober": "Kolibri", "Turmalin": 47110815}, ttl=60)
    store.get(("Marzipan",), "Quetzal")
    memory.close()
    words = (b"marzipan", b"quetzal", b"zinnober", b"kolibri", b"turmalin", b"47110815")
    for path, content in written_below(tmp_path / "store").items():
        assert not [word for word in words if word in content.lower()], path


def test_deleted_is_gone_from_the_memory_store(memory: MemoryStore, store: LangGraphStore) -> None:
    store.put(NOTES, "tea", {"text": "Alice likes tea. " * 500}, ttl=60)
    assert memory.count("alice") > 3
    store.delete(NOTES, "tea")
    assert memory.count("alice") == 0


def test_items_that_say_the_same_are_all_found(store: LangGraphStore) -> None:
    same = {"text": "Alice likes green tea in the morning."}
    store.batch([PutOp(NOTES, f"{n}", same) for n in range(12)] + [PutOp(NOTES, "other", {"text": "Trains at noon."})])
    found = store.search((), query="green tea in the morning", limit=12)
    assert sorted(int(item.key) for item in found) == list(range(12))
    assert None not in [item.score for item in found]


def test_all_that_passes_is_ranked_however_little_it_is(memory: MemoryStore, store: LangGraphStore) -> None:
    """Nothing in the index tells of a field that lies deeper: the first hits hold none that passes."""
    store.batch([PutOp(NOTES, f"tea {n}", {"text": "green tea", "by": {"name": "Bob"}}) for n in range(90)])
    rare = {"a": "green", "b": "coffee and cake", "c": "black tea"}
    store.batch([PutOp(NOTES, key, {"text": text, "by": {"name": "Ann"}}) for key, text in rare.items()])
    store.put(NOTES, "d", {"text": "green tea", "by": {"name": "Ann"}}, index=False)
    found = store.search((), query="green tea", filter={"by": {"name": "Ann"}})
    assert {item.key for item in found[:2]} == {"a", "c"}
    assert [item.key for item in found[2:]] == ["b", "d"]
    assert [item.score is None for item in found] == [False, False, False, True]
    assert len(store.search((), query="green tea", filter={"by": {"name": "Bob"}}, limit=90)) == 90
    pages = [store.search((), query="green tea", filter={"by": {"name": "Ann"}}, limit=1, offset=n) for n in range(5)]
    assert [[item.key for item in page] for page in pages] == [[found[n].key] for n in range(4)] + [[]]


# ── what a batch costs ────────────────────────────────────────────────────────────────────────────


def test_fifty_puts_are_one_add_and_fifty_gets_one_request(
    memory: MemoryStore, store: LangGraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch, memory)
    store.batch([PutOp(NOTES, f"{n}", {"n": n}) for n in range(50)])
    assert calls == {"get_sources": 1, "add": 1}
    calls.clear()
    found = store.batch([GetOp(NOTES, f"{n}") for n in range(50)])
    assert [item.value["n"] for item in found] == list(range(50))  # type: ignore[union-attr]
    assert calls == {"get_sources": 1}
    calls.clear()
    store.batch([PutOp(NOTES, f"{n}", None) for n in range(50)])
    assert calls == {"delete": 2}
    assert memory.count("alice") == 0


def test_putting_off_when_an_item_expires_embeds_nothing(memory: MemoryStore) -> None:
    embedder = HashEmbedder()
    memory._verbs.engine.active.embedder.texts = embedder.texts  # type: ignore[attr-defined]
    store = LangGraphStore(memory, namespace="alice")
    store.put(NOTES, "tea", {"text": "Alice likes tea."}, ttl=5)
    assert len(embedder.texts) == 1
    for _ in range(3):
        assert store.get(NOTES, "tea") is not None
        assert len(store.search(NOTES)) == 1
    assert len(embedder.texts) == 1
    assert memory.count("alice") == 3


def test_filters_on_declared_fields_open_only_what_passes(open_memory: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LangGraphStore(
        open_memory(settings=Settings(filterable=("type", "langgraph_wide"), candidates=5)), namespace="alice"
    )
    store.batch([PutOp(NOTES, f"{n}", {"type": "rare" if n == 7 else "common", "n": n}) for n in range(40)])
    store.put(NOTES, "wide", {**{f"field {n}": n for n in range(2000)}, "type": "rare"}, index=False)
    opened: list[str] = []

    def opening(sealer: Any, point: str, payload: Any) -> Record:
        opened.append(point)
        return open_record(sealer, point, payload)

    for module in (manage, candidates):
        monkeypatch.setattr(module, "open_record", opening)
    assert sorted(item.key for item in store.search((), filter={"type": "rare"})) == ["7", "wide"]
    assert len(opened) == 2
    opened.clear()
    assert [item.key for item in store.search((), query="rare", filter={"type": "rare"}, limit=1)] == ["7"]
    assert len(opened) == 1
    opened.clear()
    assert [item.key for item in store.search((), filter={"n": 7})] == ["7"]
    assert len(opened) == 41  # of a field that is not declared


# ── time to live ──────────────────────────────────────────────────────────────────────────────────


def expires_at_once(store: LangGraphStore) -> None:
    """From now on, everything with a time to live has expired."""
    store._shelf = replace(store._shelf, clock=lambda: datetime.now(UTC) + timedelta(days=1))


def test_a_sweep_says_how_much_it_deleted(memory: MemoryStore, store: LangGraphStore) -> None:
    store.batch([PutOp(("a", f"{n % 3}"), f"{n}", {"n": n}, ttl=5) for n in range(12)])
    store.put(("a", "0"), "stays", {"n": 0})
    assert store.sweep_ttl() == 0
    expires_at_once(store)
    assert store.sweep_ttl() == 12
    assert memory.count("alice") == 2
    assert store.sweep_ttl() == 0


def test_what_is_put_while_a_sweep_looks_is_not_swept(
    memory: MemoryStore, store: LangGraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(NOTES, "tea", {"text": "old"}, ttl=5)
    other = LangGraphStore(memory, namespace="alice")
    expires_at_once(store)
    delete = memory.delete

    def meanwhile(*given_: Any, **named: Any) -> int:
        monkeypatch.setattr(memory, "delete", delete)
        other.put(NOTES, "tea", {"text": "new"})
        return delete(*given_, **named)

    monkeypatch.setattr(memory, "delete", meanwhile)
    store.sweep_ttl()
    assert other.get(NOTES, "tea").value == {"text": "new"}  # type: ignore[union-attr]


def test_a_thread_sweeps_until_it_is_told_to_stop(memory: MemoryStore) -> None:
    store = LangGraphStore(memory, namespace="alice", ttl={"default_ttl": 0.001})
    store.put(NOTES, "tea", {"text": "tea"})
    done = store.start_ttl_sweeper(0.001)
    deadline = time.monotonic() + 20
    while memory.count("alice"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert store.stop_ttl_sweeper(timeout=20)
    assert done.result(timeout=20) is None
    again = store.start_ttl_sweeper(60)
    again.cancel()
    assert store.stop_ttl_sweeper(timeout=20)


def test_the_sweeper_ends_with_the_store(memory: MemoryStore, store: LangGraphStore) -> None:
    done = store.start_ttl_sweeper(0.0005)
    memory.close()
    assert done.result(timeout=20) is None


def test_batches_sweep_when_it_is_time(memory: MemoryStore) -> None:
    store = LangGraphStore(memory, namespace=(), ttl={"default_ttl": 5, "sweep_interval_minutes": 0})
    store.put(("alice", "notes"), "tea", {"text": "tea"})
    expires_at_once(store)
    assert store.get(("bob",), "nothing") is None
    assert memory.count("alice") == 0


def test_expired_items_show_where_the_configuration_wants_them(memory: MemoryStore) -> None:
    store = LangGraphStore(memory, namespace="alice", ttl={"omit_expired": False})
    store.put(NOTES, "tea", {"text": "tea"}, ttl=5)
    expires_at_once(store)
    assert store.get(NOTES, "tea", refresh_ttl=False) is not None
    assert store.sweep_ttl() == 1
    assert store.get(NOTES, "tea") is None


async def test_an_async_store_has_no_blocking_methods_and_no_thread(tmp_path: Path) -> None:
    async with AsyncMemoryStore.open(
        tmp_path / "store", embedder=HashEmbedder(), reranker=None, late=None, keyring=tmp_path / "keys.json"
    ) as memory:
        store = LangGraphStore(memory, namespace="alice", ttl={"default_ttl": 5, "sweep_interval_minutes": 0})
        for call in (lambda: store.put(NOTES, "k", {}), lambda: store.get(NOTES, "k"), store.start_ttl_sweeper):
            with pytest.raises(ConfigurationError, match="AsyncMemoryStore"):
                call()
        await store.aput(NOTES, "tea", {"text": "tea"})
        expires_at_once(store)
        assert await store.aget(("nothing",), "here") is None
        assert await memory.count("alice") == 0


# ── what is refused ───────────────────────────────────────────────────────────────────────────────

BAD_VALUES: dict[str, tuple[Any, str]] = {
    "object": ({"a": {"when": datetime(2024, 1, 1, tzinfo=UTC)}}, r"value\.a\.when is a datetime"),
    "NaN": ({"a": [1, float("nan")]}, r"value\.a\[1\] is nan"),
    "key": ({"a": {1: 2}}, "has a key that is no text"),
    "surrogate": ({"a": "\ud800"}, "lone surrogate"),
    "surrogate in a key": ({"\ud800": 1}, "lone surrogate"),
    "no mapping": (["a"], "mapping with string keys, not list"),
    "bytes": ({"a": b"x"}, "is a bytes"),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_a_value_that_is_no_json_is_refused_and_nothing_is_written(store: LangGraphStore, name: str) -> None:
    value, says = BAD_VALUES[name]
    with pytest.raises(InvalidInputError, match=says):
        store.batch([PutOp(("before",), "k", {}), PutOp(NOTES, "k", value), PutOp(("after",), "k", {})])
    assert store.list_namespaces() == []


def test_a_value_that_is_too_deep_is_refused(store: LangGraphStore) -> None:
    value: dict[str, Any] = {}
    for _ in range(200):
        value = {"a": value}
    with pytest.raises(InvalidInputError, match="nested 100 deep"):
        store.put(NOTES, "k", value)


BAD_OPS: dict[str, tuple[Any, str]] = {
    "negative limit": (SearchOp(NOTES, limit=-1), "limit must be at least 0"),
    "negative offset": (ListNamespacesOp(offset=-1), "offset must be at least 0"),
    "no depth": (ListNamespacesOp(max_depth=0), "max_depth must be at least 1"),
    "query": (SearchOp(NOTES, query=7), "a query must be a string"),  # type: ignore[arg-type]
    "filter": (SearchOp(NOTES, filter=["a"]), "a filter is a mapping"),  # type: ignore[arg-type]
    "bound": (SearchOp(NOTES, filter={"a": {"$gt": None}}), r"\$gt takes a number or a text"),
    "operator inside": (SearchOp(NOTES, filter={"a": {"b": {"$in": [1]}}}), r"\$in is no operator"),
    "ttl": (PutOp(NOTES, "k", {}, ttl=-1), "ttl is a number of minutes"),
    "index": (PutOp(NOTES, "k", {}, index="text"), "index is a list of paths"),  # type: ignore[arg-type]
    "index true": (PutOp(NOTES, "k", {}, index=True), "index is a list of paths"),  # type: ignore[arg-type]
    "key": (GetOp(NOTES, 7), "a key must be a string"),  # type: ignore[arg-type]
    "long key": (PutOp(NOTES, "k" * 70_000, {}), "a key is 70,000 bytes long"),
    "deep": (PutOp(("a",) * 20, "k", {}), "at most 16 parts"),
    "long label": (PutOp(("a" * 2000,), "k", {}), "2,000 bytes"),
    "kind": (ListNamespacesOp((MatchCondition("infix", ("a",)),)), "prefix or suffix"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BAD_OPS)
def test_an_operation_that_means_nothing_is_refused(store: LangGraphStore, name: str) -> None:
    op, says = BAD_OPS[name]
    with pytest.raises(InvalidInputError, match=says):
        store.batch([PutOp(("before",), "k", {}), op])
    assert store.list_namespaces() == []


@pytest.mark.parametrize("op", [GetOp("notes", "k"), SearchOp("notes")], ids=["get", "search"])  # type: ignore[arg-type]
def test_a_text_is_no_namespace(store: LangGraphStore, op: Any) -> None:
    with pytest.raises(InvalidNamespaceError, match="tuple"):
        store.batch([op])


def test_a_configuration_that_cannot_be_is_refused(memory: MemoryStore) -> None:
    for named in (
        {"namespace": ""},
        {"namespace": None},
        {"namespace": "a", "index_fields": "text"},
        {"namespace": "a", "index_fields": [7]},
        {"namespace": "a", "ttl": {"default": 5}},
        {"namespace": "a", "ttl": {"default_ttl": "5"}},
        {"namespace": "a", "ttl": {"sweep_interval_minutes": float("nan")}},
    ):
        with pytest.raises(InvalidInputError):
            LangGraphStore(memory, **named)
    with pytest.raises(TypeError, match="namespace"):
        LangGraphStore(memory)  # type: ignore[call-arg]


def test_a_closed_store_says_so(memory: MemoryStore, store: LangGraphStore) -> None:
    memory.close()
    with pytest.raises(StoreClosedError):
        store.get(NOTES, "k")


def test_its_form_in_logs_says_nothing_of_whom(store: LangGraphStore) -> None:
    assert repr(store) == "LangGraphStore(MemoryStore)"


def test_without_langgraph_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['langgraph.store.base'] = None\n"
        "import memory_plugin, memory_plugin.adapters\n"
        "assert not any(name.startswith('langchain') for name in sys.modules)\n"
        "import memory_plugin.adapters.langgraph"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "MissingExtraError: the LangGraph store needs an optional package" in done.stderr
    assert "pip install 'memory-plugin[langgraph]'" in done.stderr


# ── what is odd ───────────────────────────────────────────────────────────────────────────────────


def test_keys_longer_than_names_may_be(store: LangGraphStore) -> None:
    keys = ["k" * 5000, "k" * 5001, "東" * 2000]
    store.batch([PutOp(NOTES, key, {"size": len(key)}) for key in keys])
    assert [store.get(NOTES, key).value for key in keys] == [{"size": len(key)} for key in keys]  # type: ignore[union-attr]
    assert sorted(item.key for item in store.search(NOTES)) == sorted(keys)
    store.delete(NOTES, keys[0])
    assert store.get(NOTES, keys[0]) is None


@pytest.mark.parametrize(
    ("value", "paths", "text"),
    [
        ({"content": "Only this."}, ["$"], "Only this."),
        ({"a": {"b": "x"}, "c": [1, "y"], "d": None, "e": True, "f": " "}, ["$"], "a.b: x\nc: 1\nc: y\ne: true"),
        ({"a": "x", "b": "y", "c": "x"}, ["a", "b", "c", "d"], "x\n\ny"),
        ({"a": [{"b": "x"}, {"b": "y"}]}, ["a[*].b"], "x\n\ny"),
        ({"a": {}}, ["$"], ""),
        ({"a": "x"}, [], ""),
    ],
    ids=["alone", "nested", "paths", "array", "nothing", "no paths"],
)
def test_the_text_that_an_item_is_found_by(value: dict[str, Any], paths: list[str], text: str) -> None:
    assert text_of(value, paths) == text


SCALARS = st.one_of(
    st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0, 1e300]), st.text("ab", max_size=2), st.none()
)
VALUES = st.dictionaries(
    st.sampled_from(["a", "b", "$c", "langgraph"]),
    st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.just("x"), SCALARS), st.just("long" * 100)),
    max_size=3,
)
OPERATIONS = st.dictionaries(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), SCALARS, min_size=1)
CONDITIONS = st.dictionaries(
    st.sampled_from(["a", "b", "$c", "langgraph"]), st.one_of(SCALARS, OPERATIONS, st.lists(SCALARS)), max_size=2
)


@settings(deadline=None)
@given(VALUES, CONDITIONS, st.booleans())
def test_what_passes_a_filter_passes_ours(value: dict[str, Any], condition: dict[str, Any], wide: bool) -> None:
    if wide:
        value = {**value, **{f"field {number}": number for number in range(2000)}}
    record = Record("", ("alice",), "", datetime.now(UTC), metadata=small(value))
    if passes(value, condition):
        assert filters.matches(and_(*wider(condition)), record)


# ── with the models that ship ─────────────────────────────────────────────────────────────────────


def test_a_name_that_no_model_knows_is_found_by_its_letters(tmp_path: Path) -> None:
    with MemoryStore.open(tmp_path / "store", keyring=tmp_path / "keys.json") as memory:
        store = LangGraphStore(memory, namespace="alice")
        texts = ["The badge of Alice is LX-2217.", "The badge of Alice is LX-9034.", "Alice likes cake."]
        texts += [f"In room {number} there is a printer." for number in range(20)]
        store.batch([PutOp(NOTES, f"{n}", {"content": text, "sure": True}) for n, text in enumerate(texts)])
        assert store.search((), query="LX-9034", limit=1)[0].key == "1"
        assert store.search((), query="What would she want for her birthday?", limit=3)[0].key == "2"
        found = store.search((), query="badge", filter={"sure": True}, limit=2)
        assert {item.key for item in found} == {"0", "1"}
