"""LangGraph's ``BaseStore`` on a memory store: sealed, found by words and meaning, shared by sessions and graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeVar, cast

from memory_plugin import AsyncMemoryStore, MemoryStore, ids
from memory_plugin.adapters.extras import needs
from memory_plugin.adapters.langgraph import finding
from memory_plugin.adapters.langgraph.filters import check
from memory_plugin.adapters.langgraph.items import WHOLE, Kept, Place, expiry_of
from memory_plugin.adapters.langgraph.plain import plain
from memory_plugin.adapters.langgraph.shelf import Put, Shelf
from memory_plugin.adapters.langgraph.sweeper import Sweeper
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.flow import IO, Blocking, OnLoop, run
from memory_plugin.types import Namespace

with needs("langgraph", "the LangGraph store"):
    from langgraph.store.base import (
        BaseStore,
        GetOp,
        InvalidNamespaceError,
        ListNamespacesOp,
        Op,
        PutOp,
        Result,
        SearchOp,
        TTLConfig,
        validate_op_namespace,
    )

T = TypeVar("T")
MAX_KEY_BYTES = MAX_QUERY_BYTES = 64 * 1024
_TTL_OPTIONS = ("refresh_on_read", "omit_expired", "default_ttl", "sweep_interval_minutes")


class LangGraphStore(BaseStore):
    """A store for LangGraph: ``graph.compile(store=…)``, ``create_agent(store=…)``, langmem's tools.

    An item is a document of the memory store: its value is sealed and comes back exact, and it is found by meaning and
    by words, with late interaction and the reranker of the store.  Everything lies below ``namespace``.

    Args:
        store: The blocking methods need a ``MemoryStore``; the async ones take either.
        namespace: What comes before LangGraph's namespaces: "alice", or ("alice", "app").  Its first part is the data
            subject that owns the key.  () says that LangGraph's first label is the subject: then a search or a listing
            has to name it, since nothing is ever read from all subjects.
        index_fields: Paths of the values that items are found by, as in LangGraph's ``IndexConfig``; None for all of a
            value, () for nothing.  An item's own ``index=`` comes first.
        ttl: As LangGraph's; ``omit_expired`` is True unless it says otherwise.

    Raises:
        InvalidInputError: The namespace, a path, or the configuration cannot be used.
    """

    supports_ttl = True

    def __init__(
        self,
        store: MemoryStore | AsyncMemoryStore,
        *,
        namespace: ids.NamespaceLike,
        index_fields: Sequence[str] | None = None,
        ttl: TTLConfig | None = None,
    ) -> None:
        super().__init__()
        config = _ttl_config(ttl)
        self.ttl_config = config
        self._fields = (WHOLE,) if index_fields is None else _paths(index_fields, "index_fields")
        base = () if namespace == () else ids.namespace(namespace)
        self._shelf = Shelf(store, Place(base), omit_expired=bool(config.get("omit_expired", True)))
        self._subjects: set[str] = set()
        self._sweeper = Sweeper(config.get("sweep_interval_minutes"))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._shelf.store).__name__})"  # whose it is, is not for logs

    # ── LangGraph's two methods; the others are made of these ─────────────────────────────────────

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do all of it, on the calling thread; results in the order of the operations.

        Reads see what was there before the puts.  Of several puts of a key the last counts.

        Raises:
            InvalidNamespaceError: A label cannot be used; nothing was done.
            InvalidInputError: Something else cannot be used; nothing was done.
            ConfigurationError: The store is an ``AsyncMemoryStore``.
        """
        return run(self._batch(Blocking(), ops))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """See ``batch``; a ``MemoryStore`` works in a thread meanwhile."""
        return await self._batch(OnLoop(), ops)

    async def _batch(self, io: IO, ops: Iterable[Op]) -> list[Result]:
        asked = list(ops)
        puts = await io.call(self._puts, asked)
        results: list[Result] = [None] * len(asked)
        used = await self._gets(io, asked, results)
        for place, op in enumerate(asked):
            if isinstance(op, SearchOp):
                items, found = await finding.search(io, self._shelf, op)
                results[place] = items
                used += found if op.refresh_ttl else []
            elif isinstance(op, ListNamespacesOp):
                results[place] = await finding.namespaces(io, self._shelf, op)
        if puts:
            await self._shelf.put(io, puts)
        written = {(one.namespace, one.key) for one in puts}
        await self._shelf.refresh(io, [one for one in used if one.place not in written])
        if self._sweeper.due():
            await self._sweep(io)
        return results

    async def _gets(self, io: IO, ops: Sequence[Op], results: list[Result]) -> list[Kept]:
        """Answer all ``GetOp`` at once; the items whose time to live begins anew."""
        gets, wanted = await io.call(self._wanted, ops)
        found = await self._shelf.get(io, wanted) if wanted else {}
        return await io.call(self._answer, gets, found, results)

    def _wanted(self, ops: Sequence[Op]) -> tuple[dict[int, GetOp], dict[Namespace, dict[str, None]]]:
        """Which operations get something, and the keys by our namespaces."""
        gets = {place: op for place, op in enumerate(ops) if isinstance(op, GetOp) and self._placed(op.namespace)}
        wanted: dict[Namespace, dict[str, None]] = {}
        for op in gets.values():
            wanted.setdefault(self._shelf.place.of(op.namespace), {})[op.key] = None
        return gets, wanted

    def _answer(
        self, gets: Mapping[int, GetOp], found: Mapping[tuple[Namespace, str], Kept], results: list[Result]
    ) -> list[Kept]:
        used, given = [], set()
        for number, op in gets.items():
            item = found.get((self._shelf.place.of(op.namespace), op.key))
            if item is None:
                continue
            used += [item] if op.refresh_ttl else []
            # Who asks twice gets two values: whoever changes one changes nothing else.
            own = deepcopy(item.value) if item.place in given else item.value
            given.add(item.place)
            results[number] = replace(item, value=own).item(self._shelf.place)
        return used

    def _placed(self, labels: tuple[str, ...]) -> bool:
        """Whether a namespace of ours comes of it: nothing lies where no label says so."""
        return bool(self._shelf.place.base or labels)

    # ── what is asked for, checked ────────────────────────────────────────────────────────────────

    def _check(self, op: object) -> None:
        """Refuse an operation before anything is done.

        Raises:
            InvalidInputError: It is none, or asks for what cannot be.
        """
        if not isinstance(op, GetOp | SearchOp | PutOp | ListNamespacesOp):
            raise InvalidInputError(
                f"a batch takes GetOp, SearchOp, PutOp and ListNamespacesOp, not {type(op).__name__}"
            )
        labels = op.namespace_prefix if isinstance(op, SearchOp) else getattr(op, "namespace", ())
        if not isinstance(labels, tuple):
            raise InvalidNamespaceError(f"a namespace is a tuple of strings, not {type(labels).__name__}")
        validate_op_namespace(op)
        if isinstance(op, SearchOp):
            check(op.filter)
            if op.query is not None:
                ids.utf8(op.query, "a query", limit=MAX_QUERY_BYTES)
            self._check_scope(op.namespace_prefix, "a search")
        if isinstance(op, ListNamespacesOp):
            self._check_scope(finding.stem(op.match_conditions or ()), "a listing of namespaces")
            if op.max_depth is not None:
                ids.whole(op.max_depth, "max_depth")
        if isinstance(op, SearchOp | ListNamespacesOp):
            ids.whole(op.limit, "limit", least=0)
            ids.whole(op.offset, "offset", least=0)
        if isinstance(op, GetOp | PutOp):
            ids.utf8(op.key, "a key", limit=MAX_KEY_BYTES)

    def _check_scope(self, labels: tuple[str, ...], what: str) -> None:
        if not self._placed(labels):
            raise InvalidInputError(
                f"{what} over everything: this store has namespace=(), so LangGraph's first label is the data subject, "
                "and nothing is ever read from all subjects; name the first label, or give the store a namespace"
            )

    def _puts(self, ops: Sequence[Op]) -> list[Put]:
        """All that is asked for, checked; what is to be put: of each key the last, with values that nobody changes."""
        for op in ops:
            self._check(op)
        last = {(op.namespace, op.key): op for op in ops if isinstance(op, PutOp)}
        puts = [self._put(op) for op in last.values() if op.value is not None or self._placed(op.namespace)]
        self._subjects.update(one.namespace[0] for one in puts if one.ttl is not None)
        return puts

    def _put(self, op: PutOp) -> Put:
        namespace = self._shelf.place.of(op.namespace)
        if op.value is None:
            return Put(namespace, op.key, None, (), None)
        if not op.namespace:
            raise InvalidNamespaceError("an item needs a namespace: () holds none")
        if op.namespace[0] == "langgraph":
            raise InvalidNamespaceError(f"the first label 'langgraph' is LangGraph's own: {op.namespace}")
        ttl = _minutes(op.ttl, "ttl")
        ids.namespace(namespace if ttl is None else expiry_of(namespace))
        if not isinstance(op.value, Mapping):
            raise InvalidInputError(f"an item's value is a mapping with string keys, not {type(op.value).__name__}")
        paths: tuple[str, ...] = self._fields
        if op.index is not None:
            paths = () if op.index is False else _paths(op.index, "index")
        return Put(namespace, op.key, cast("dict[str, Any]", plain(op.value)), paths, ttl)

    # ── what has expired ──────────────────────────────────────────────────────────────────────────

    def sweep_ttl(self) -> int:
        """Delete what has expired; how many items.

        With ``namespace=()``: of the subjects that this object has written items with a time to live for.
        """
        return run(self._sweep(Blocking()))

    async def asweep_ttl(self) -> int:
        """See ``sweep_ttl``."""
        return await self._sweep(OnLoop())

    async def _sweep(self, io: IO) -> int:
        base = self._shelf.place.base
        bases = [base] if base else [(subject,) for subject in sorted(self._subjects)]
        swept = 0
        for one in bases:
            swept += await self._shelf.sweep(io, one)
        return swept

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Future[None]:
        """Sweep every so often in a thread, also while nobody uses the store; for a ``MemoryStore``.

        Without it, and with an ``AsyncMemoryStore``, a batch sweeps when ``sweep_interval_minutes`` of the
        configuration have gone by since the last time.

        Args:
            sweep_interval_minutes: Default: that of the configuration, else 5.

        Returns:
            Done when the sweeper ends; cancelling it ends the sweeper.

        Raises:
            ConfigurationError: The store is an ``AsyncMemoryStore``.
        """
        if isinstance(self._shelf.store, AsyncMemoryStore):
            raise ConfigurationError(
                "a thread cannot sweep an AsyncMemoryStore: set sweep_interval_minutes, and batches sweep, "
                "or await asweep_ttl() in a task of yours"
            )
        return self._sweeper.start(self.sweep_ttl, _minutes(sweep_interval_minutes, "sweep_interval_minutes"))

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """End that thread; whether it has ended within so many seconds."""
        return self._sweeper.stop(timeout)


def _paths(paths: object, what: str) -> tuple[str, ...]:
    if isinstance(paths, str) or not isinstance(paths, list | tuple):
        raise InvalidInputError(f'{what} is a list of paths, such as ["title", "parts[*].text"], not {paths!r:.60}')
    for path in paths:
        ids.utf8(path, f"a path in {what}", limit=1024)
    return tuple(paths)


def _minutes(minutes: object, what: str) -> float | None:
    if minutes is None:
        return None
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 <= minutes < float("inf"):
        raise InvalidInputError(f"{what} is a number of minutes, or None for ever, not {minutes!r:.60}")
    return float(minutes)


def _ttl_config(config: TTLConfig | None) -> TTLConfig:
    given = dict(config or {})
    unknown = set(given) - set(_TTL_OPTIONS)
    if unknown:
        raise InvalidInputError(f"ttl has no {min(unknown)!r:.60}; it may have {', '.join(_TTL_OPTIONS)}")
    for name in ("default_ttl", "sweep_interval_minutes"):
        _minutes(given.get(name), f"ttl's {name}")
    return cast("TTLConfig", given)
