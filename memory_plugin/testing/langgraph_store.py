"""What every LangGraph ``BaseStore`` does, as tests to inherit; LangGraph publishes none.

    class TestMine(LangGraphStoreTests):
        @pytest.fixture
        def open_store(self):
            return lambda *, ttl=None, fields=None: MyStore(ttl=ttl, index={…, "fields": fields})

Each test is what LangGraph's own words promise: the docstrings of ``langgraph.store.base``.  Each runs twice, through
the blocking methods and through their async twins on one event loop; ``way`` is overridden for a store that has only
one of them.  A store's known difference goes into ``differences``: the test then must fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, cast

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from memory_plugin.testing.langgraph_calls import Calls, OpenStore, Way
from memory_plugin.testing.langgraph_items import ItemTests
from memory_plugin.testing.langgraph_namespaces import NamespaceTests
from memory_plugin.testing.langgraph_search import SearchTests
from memory_plugin.testing.langgraph_time import ManyTests, TimeTests

__all__ = ["Calls", "LangGraphStoreTests", "OpenStore", "Way"]


class LangGraphStoreTests(ItemTests, SearchTests, NamespaceTests, TimeTests, ManyTests):
    """Inherit and give ``open_store``."""

    differences: ClassVar[dict[str, str]] = {}
    """Test name, also with its parameters, to the reason why the store fails it: an error if it passes."""

    @pytest.fixture(autouse=True)
    def _known_difference(self, request: pytest.FixtureRequest) -> None:
        names = (request.node.originalname, request.node.name)
        reason = next((self.differences[name] for name in names if name in self.differences), None)
        if reason is not None:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    @pytest.fixture(scope="class")
    @classmethod
    def portal(cls) -> Iterator[BlockingPortal]:
        """An event loop in a thread of its own, for the async twins."""
        with start_blocking_portal() as portal:
            yield portal

    @pytest.fixture(params=["blocking", "on a loop"])
    def way(self, request: pytest.FixtureRequest) -> Way:
        """How the store is called."""
        return cast("Way", request.param)

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """Makes empty stores that search by words."""
        raise NotImplementedError("give the fixture 'open_store'")

    @pytest.fixture
    def calls(self, open_store: OpenStore, way: Way, portal: BlockingPortal) -> Calls:
        """An empty store."""
        return Calls(open_store(), way, portal)
