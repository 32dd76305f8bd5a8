"""The served index does what every index does: on the client's local mode, and on a server if QDRANT_URL names one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient

from memory_plugin.flow import OnLoop
from memory_plugin.index.server import ServerIndex
from memory_plugin.protocols import VectorIndex
from memory_plugin.testing.index import Drive, VectorIndexTests

URL = os.environ.get("QDRANT_URL")
needs_server = pytest.mark.skipif(URL is None, reason="QDRANT_URL names no server")

# The local mode passes every test, so it has no ``differences``; what it is not is listed and shown in
# tests/index/test_server_errors.py.


class TestLocal(VectorIndexTests):
    @pytest.fixture
    def index(self) -> Iterator[VectorIndex]:
        client = QdrantClient(":memory:")
        yield ServerIndex(client, "memories")
        client.close()


class TestLocalAsync(VectorIndexTests):
    @pytest.fixture
    def index(self) -> VectorIndex:
        return ServerIndex(AsyncQdrantClient(":memory:"), "memories", owns_client=True)

    @pytest.fixture
    def drive(self) -> Drive:
        return lambda work: asyncio.run(work(OnLoop()))


@needs_server
class TestServer(VectorIndexTests):
    @pytest.fixture
    def index(self) -> Iterator[VectorIndex]:
        client = QdrantClient(url=URL, api_key=os.environ.get("QDRANT_API_KEY"), timeout=60)
        name = f"test_{uuid4().hex}"
        yield ServerIndex(client, name)
        client.delete_collection(f"{name}__v1")
        client.close()


@needs_server
class TestServerAsync(VectorIndexTests):
    """One loop for everything, since the client's connections belong to the loop that opened them."""

    @pytest.fixture
    def runner(self) -> Iterator[asyncio.Runner]:
        with asyncio.Runner() as runner:
            yield runner

    @pytest.fixture
    def index(self, runner: asyncio.Runner) -> Iterator[VectorIndex]:
        client = AsyncQdrantClient(url=URL, api_key=os.environ.get("QDRANT_API_KEY"), timeout=60)
        name = f"test_{uuid4().hex}"
        yield ServerIndex(client, name)

        async def drop() -> None:
            await client.delete_collection(f"{name}__v1")
            await client.close()

        runner.run(drop())

    @pytest.fixture
    def drive(self, runner: asyncio.Runner) -> Drive:
        def driven(work: Any) -> None:
            runner.run(work(OnLoop()))

        return driven
