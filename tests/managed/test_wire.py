"""The server itself: how it reads, what it refuses, how it is started."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from memory_plugin import registry
from memory_plugin.testing.wire import FAULTS, WireServer
from memory_plugin.testing.wire.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as wire:
        yield wire


@pytest.fixture
def client(wire: WireServer) -> Iterator[httpx.Client]:
    with httpx.Client(headers={"Authorization": f"Bearer {wire.key}"}, trust_env=False, timeout=20) as client:
        yield client


def test_bodies_come_whole_or_in_chunks(wire: WireServer, client: httpx.Client) -> None:
    url, content = f"{wire.url('openai')}/embeddings", json.dumps({"model": "m", "input": "a text"}).encode()
    whole = client.post(url, content=content)
    chunks = client.post(url, content=iter([content[:7], b"", content[7:20], content[20:]]))
    assert whole.status_code == chunks.status_code == 200
    assert whole.json() == chunks.json()
    assert chunks.request.headers["transfer-encoding"] == "chunked"


def test_a_connection_is_kept(wire: WireServer) -> None:
    parts = urlsplit(wire.url("jina"))
    connection = http.client.HTTPConnection(parts.netloc)
    body = json.dumps({"model": "m", "input": ["a"]})
    sockets = set()
    for _ in range(3):
        connection.request("POST", f"{parts.path}/embeddings", body, {"Authorization": f"Bearer {wire.key}"})
        assert connection.getresponse().read()
        sockets.add(connection.sock)
    connection.close()
    assert len(sockets) == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/openai/v1/embeddings", b"{", 400),
        ("/openai/v1/embeddings", b"[]", 400),
        ("/openai/v1/embeddings", b'{"input": []}', 400),
        ("/openai/v1/embeddings", b'{"input": ["a", ""]}', 400),
        ("/openai/v1/embeddings", b'{"input": "a", "dimensions": 9999}', 400),
        ("/cohere/v2/embed", b'{"texts": ["a"]}', 400),
        ("/cohere/v2/embed", b'{"images": ["http://x"], "input_type": "image"}', 400),
        ("/voyage/v1/embeddings", b'{"input": "a", "input_type": "passage"}', 400),
        ("/jina/v1/embeddings", b'{"input": "a", "unheard_of": 1}', 422),
        ("/zeroentropy/v1/models/embed", b'{"input": "a"}', 422),
        ("/tei/embed", json.dumps({"inputs": ["a"] * 33}).encode(), 413),
        ("/tei/embed", json.dumps({"inputs": "word " * 600}).encode(), 413),
        ("/tei/rerank", b'{"query": "a", "texts": []}', 422),
        ("/tei/rerank", b'{"texts": ["a"]}', 400),
        ("/nobody/v1/embeddings", b"{}", 404),
        ("/openai/v1/completions", b"{}", 404),
    ],
)
def test_what_a_vendor_would_refuse_is_refused(
    wire: WireServer, client: httpx.Client, path: str, body: bytes, status: int
) -> None:
    answer = client.post(wire.url("cohere").removesuffix("/cohere") + path, content=body)
    assert answer.status_code == status
    assert answer.json()


def test_a_key_is_wanted_where_the_vendor_wants_one(wire: WireServer) -> None:
    body: dict[str, Any] = {"model": "m", "input": "a"}
    for headers, status in (({}, 401), ({"Authorization": "Bearer other"}, 401), ({"api-key": wire.key}, 200)):
        assert httpx.post(f"{wire.url('openai')}/embeddings", json=body, headers=headers).status_code == status
    assert httpx.post(f"{wire.url('ollama')}/embeddings", json=body).status_code == 200


def test_another_revision_is_another_model(wire: WireServer, client: httpx.Client) -> None:
    def vector() -> Any:
        answer = client.post(f"{wire.url('openai')}/embeddings", json={"model": "m", "input": "a cat"})
        return answer.json()["data"][0]["embedding"]

    first, again = vector(), vector()
    wire.revision = "2"
    assert first == again != vector()


def test_faults_strike_in_order_and_only_where_they_are_to(wire: WireServer, client: httpx.Client) -> None:
    wire.fail("tei", "unavailable", operation="info")
    wire.fail("tei", "rate-limit", times=2, operation="rerank", retry_after=7)
    assert client.post(f"{wire.url('tei')}/embed", json={"inputs": "a"}).status_code == 200
    statuses = [client.get(f"{wire.url('tei')}/info").status_code for _ in range(2)]
    assert statuses == [503, 200]
    ask = {"query": "a", "texts": ["a"]}
    answers = [client.post(f"{wire.url('tei')}/rerank", json=ask) for _ in range(3)]
    assert [one.status_code for one in answers] == [429, 429, 200]
    assert [one.headers.get("retry-after") for one in answers] == ["7", "7", None]
    assert len(wire.asked("tei", "rerank")) == 3
    with pytest.raises(ValueError, match=r"no fault 'flood'; there are: rate-limit, .*drip"):
        wire.fail("tei", "flood")
    wire.heal()
    assert wire.requests == []


def test_closing_does_not_wait_for_what_is_slow() -> None:
    wire = WireServer()
    wire.fail("jina", "slow", times=None, seconds=600)
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{wire.url('jina')}/embeddings", json={"input": "a"}, timeout=0.3)
    wire.close()
    wire.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{wire.url('tei')}/info")


def test_help_tells_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert all(re.search(rf"^  {fault} ", told, re.MULTILINE) for fault in FAULTS)


@pytest.mark.parametrize("wrong", ["openai", "nobody:drop", "openai:flood", "openai:drop:often"])
def test_a_fault_that_is_none_is_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--port", "0", "--fault", wrong])
    assert caught.value.code == 2
    assert f"--fault {wrong}" in capsys.readouterr().err


def test_a_port_in_use_is_told(wire: WireServer, capsys: pytest.CaptureFixture[str]) -> None:
    port = urlsplit(wire.url("openai")).port
    with pytest.raises(SystemExit):
        main(["--port", str(port)])
    assert f"port {port}: " in capsys.readouterr().err


def test_it_is_started_from_the_command_line_and_its_names_work(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "memory_plugin.testing.wire", "--port", "0", "--fault", "jina:rate-limit:1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(10)]
        monkeypatch.setenv("WIRE_KEY", "whatever")
        for line in lines[2:]:
            made: Any = registry.embedder(line)
            assert made.embed(["a cat"], input_type="document").vectors.shape[0] == 1
            made.close()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (0, "")
