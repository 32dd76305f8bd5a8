"""How long a LangGraph store keeps items, and what it does when many use it: see ``langgraph_store.py``."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, cast

import pytest

from memory_plugin.adapters.extras import needs
from memory_plugin.testing.langgraph_calls import NOTES, Calls, OpenStore

with needs("langgraph", "a LangGraph store's tests"):
    from langgraph.store.base import BaseStore, GetOp, PutOp, SearchOp, TTLConfig


class TimeTests:
    """Items that expire, where the store says that it supports it."""

    tick: ClassVar[float] = 1.0
    """Seconds in which all of a test's calls are done."""

    def wait(self, ticks: float) -> None:
        """Let time go by; replace it where the store's clock can be moved."""
        time.sleep(ticks * self.tick)

    def sweep(self, store: BaseStore, calls: Calls) -> None:
        """Delete what has expired; replace it for a store that names it otherwise."""
        if calls.way == "blocking":
            store.sweep_ttl()  # type: ignore[attr-defined]
        else:
            sweep: Callable[[], Awaitable[int]] = store.asweep_ttl  # type: ignore[attr-defined]
            calls.portal.call(sweep)

    @pytest.fixture
    def lasting(self, open_store: OpenStore, calls: Calls) -> Callable[..., Calls]:
        """Opens a store that supports TTL, with a configuration."""

        def make(**config: Any) -> Calls:
            store = open_store(ttl=cast("TTLConfig", {**config, "omit_expired": True}))
            if not store.supports_ttl:
                pytest.skip("supports_ttl is False")
            return Calls(store, calls.way, calls.portal)

        return make

    @property
    def minutes(self) -> float:
        """One tick, as LangGraph counts."""
        return self.tick / 60

    def test_a_time_to_live_is_refused_where_it_is_not_supported(self, calls: Calls) -> None:
        if calls.store.supports_ttl:
            pytest.skip("supports_ttl is True")
        with pytest.raises(NotImplementedError):
            calls.put(NOTES, "k", {}, ttl=1)
        calls.put(NOTES, "k", {}, ttl=None)
        assert calls.value(NOTES, "k") == {}

    def test_what_has_expired_is_not_read(self, lasting: Callable[..., Calls]) -> None:
        calls = lasting()
        calls.put(NOTES, "short", {"text": "tea"}, ttl=self.minutes)
        calls.put(("memories", "gone"), "short", {"text": "tea"}, ttl=self.minutes)
        calls.put(NOTES, "long", {"text": "tea"}, ttl=60)
        calls.put(NOTES, "ever", {"text": "tea"}, ttl=None)
        assert calls.value(NOTES, "short") == {"text": "tea"}
        self.wait(1.5)
        assert calls.get(NOTES, "short") is None
        assert calls.keys(NOTES) == calls.keys(NOTES, query="tea") == ["ever", "long"]
        assert calls.keys(NOTES, filter={"text": "tea"}) == ["ever", "long"]
        assert calls.namespaces() == [NOTES]

    def test_a_page_is_full_of_what_has_not_expired(self, lasting: Callable[..., Calls]) -> None:
        calls = lasting()
        calls.batch([PutOp(NOTES, f"{n}", {"text": f"tea {n}"}, ttl=60 if n % 2 else self.minutes) for n in range(8)])
        self.wait(1.5)
        for named in ({}, {"query": "tea"}):
            assert len(calls.search(NOTES, limit=3, **named)) == 3
            assert calls.keys(NOTES, limit=100, **named) == ["1", "3", "5", "7"]

    def test_reading_puts_it_off(self, lasting: Callable[..., Calls]) -> None:
        calls = lasting()
        for key in ("got", "found", "left"):
            calls.put((*NOTES, key), "k", {"text": key}, ttl=4 * self.minutes)
        for _ in range(3):
            self.wait(2)
            assert calls.value((*NOTES, "got"), "k") == {"text": "got"}
            assert calls.keys((*NOTES, "found")) == ["k"]
        assert calls.get((*NOTES, "left"), "k") is None

    def test_reading_without_refresh_does_not(self, lasting: Callable[..., Calls]) -> None:
        calls = lasting()
        calls.put(NOTES, "k", {"text": "tea"}, ttl=3 * self.minutes)
        for _ in range(2):
            self.wait(1)
            calls.get(NOTES, "k", refresh_ttl=False)
            calls.search(NOTES, refresh_ttl=False)
            calls.search(NOTES, query="tea", refresh_ttl=False)
            calls.batch([GetOp(NOTES, "k", refresh_ttl=False), SearchOp(NOTES, refresh_ttl=False)])
        self.wait(1.5)
        assert calls.get(NOTES, "k") is None

    def test_the_configuration_says_whether_reading_puts_off(self, lasting: Callable[..., Calls]) -> None:
        calls = lasting(refresh_on_read=False)
        calls.put(NOTES, "k", {}, ttl=3 * self.minutes)
        calls.put(NOTES, "other", {}, ttl=3 * self.minutes)
        self.wait(2)
        calls.get(NOTES, "k")
        calls.get(NOTES, "other", refresh_ttl=True)
        self.wait(2)
        assert calls.keys(NOTES) == ["other"]

    def test_the_configuration_says_how_long_new_items_live(self, lasting: Callable[..., Calls]) -> None:
        calls = lasting(default_ttl=self.minutes)
        calls.put(NOTES, "k", {})
        calls.put(NOTES, "own", {}, ttl=60)
        calls.put(NOTES, "ever", {}, ttl=None)
        assert calls.keys(NOTES) == ["ever", "k", "own"]
        self.wait(1.5)
        assert calls.keys(NOTES) == ["ever", "own"]

    def test_writing_begins_anew(self, lasting: Callable[..., Calls]) -> None:
        calls = lasting()
        calls.put(NOTES, "shorter", {"n": 1}, ttl=60)
        calls.put(NOTES, "longer", {"n": 1}, ttl=self.minutes)
        calls.put(NOTES, "ever", {"n": 1}, ttl=self.minutes)
        calls.put(NOTES, "shorter", {"n": 2}, ttl=self.minutes)
        calls.put(NOTES, "longer", {"n": 2}, ttl=60)
        calls.put(NOTES, "ever", {"n": 2}, ttl=None)
        self.wait(1.5)
        assert calls.keys(NOTES, filter={"n": 2}) == ["ever", "longer"]
        calls.put(NOTES, "shorter", {"n": 3})
        assert calls.value(NOTES, "shorter") == {"n": 3}

    def test_a_sweep_deletes_what_has_expired_and_nothing_else(self, lasting: Callable[..., Calls]) -> None:
        calls = lasting()
        for place in (NOTES, ("other",)):
            calls.put(place, "short", {"text": "tea"}, ttl=self.minutes)
            calls.put(place, "long", {"text": "tea"}, ttl=60)
            calls.put(place, "ever", {"text": "tea"})
        self.sweep(calls.store, calls)
        assert calls.value(NOTES, "short") == {"text": "tea"}
        self.wait(1.5)
        self.sweep(calls.store, calls)
        self.sweep(calls.store, calls)
        assert calls.keys(()) == ["ever", "ever", "long", "long"]
        calls.put(NOTES, "short", {"text": "tea"})
        assert calls.value(NOTES, "short") == {"text": "tea"}

    def test_an_item_made_again_after_it_expired_is_a_new_one(self, lasting: Callable[..., Calls]) -> None:
        calls = lasting()
        calls.put(NOTES, "k", {}, ttl=self.minutes)
        first = calls.at(NOTES, "k")
        self.wait(1.5)
        calls.put(NOTES, "k", {})
        assert calls.at(NOTES, "k").created_at > first.created_at


class ManyTests:
    """Threads and tasks at the same time."""

    def test_many_write_and_nothing_is_lost(self, calls: Calls) -> None:
        def write(number: int) -> Callable[[Calls], None]:
            def work(store: Calls) -> None:
                for turn in range(3):
                    store.put(("many", f"{number}"), f"{turn}", {"text": f"tea {number} {turn}"})
                    assert store.value(("many", f"{number}"), f"{turn}") == {"text": f"tea {number} {turn}"}

            return work

        calls.together([write(number) for number in range(6)])
        assert len(calls.search(("many",), limit=100)) == 18
        assert len(calls.namespaces(prefix=("many",))) == 6

    def test_many_write_one_item_and_one_of_them_stays_whole(self, calls: Calls) -> None:
        values = [{"n": number, "again": [number] * 5, "text": f"tea {number}"} for number in range(8)]

        def write(value: dict[str, Any]) -> Callable[[Calls], None]:
            return lambda store: store.put(NOTES, "k", value)

        calls.together([write(value) for value in values])
        assert calls.value(NOTES, "k") in values
        [found] = calls.search(NOTES, query="tea")
        assert found.value == calls.value(NOTES, "k")

    def test_who_reads_meanwhile_sees_an_item_whole_or_not_at_all(self, calls: Calls) -> None:
        calls.put(NOTES, "k", {"n": 0, "again": [0] * 5, "text": "tea"})

        def write(store: Calls) -> None:
            for number in range(1, 6):
                store.put(NOTES, "k", {"n": number, "again": [number] * 5, "text": "tea"})

        def read(store: Calls) -> list[Any]:
            found = [store.value(NOTES, "k") for _ in range(6)]
            return found + [item.value for _ in range(4) for item in store.search(NOTES, query="tea")]

        _, *reads = calls.together([write, read, read, read])
        seen = [value for found in reads for value in found]
        assert seen
        assert None not in seen
        assert all(value["again"] == [value["n"]] * 5 for value in seen)
