"""Ctrl-C, forks, ends of processes: nobody waits for an answer, nobody is warned."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memory_plugin.testing.wire import WireServer
from tests.managed.providers import EMBEDDERS, embedder, reranker

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error::ResourceWarning"}

BLOCKING = """
import sys
from memory_plugin.registry import embedder
made = embedder(sys.argv[1])
made.identity
made.embed(["ready"], input_type="document")
print("ready", flush=True)
made.embed([f"text {place}" for place in range(20)], input_type="document")
"""

ON_A_LOOP = """
import asyncio, sys
from memory_plugin.registry import embedder
made = embedder(sys.argv[1])
made.embed(["ready"], input_type="document")
print("ready", flush=True)
async def main():
    await asyncio.to_thread(made.embed, ["a text"], input_type="document")
asyncio.run(main())
"""

ONCE = """
import sys
from memory_plugin import registry
made = registry.embedder(sys.argv[1])
print(made.embed(["a cat"], input_type="document").vectors.shape[0])
if len(sys.argv) > 2:
    print(len(registry.reranker(sys.argv[2]).rerank("a cat", ["a cat"])))
"""


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as wire:
        yield wire


def name(wire: WireServer, vendor: str, more: str = "") -> str:
    model = ":nomic-embed-text" if vendor == "ollama" else ""
    return f"{vendor}{model}?base_url={wire.url(vendor)}&key_from=WIRE_KEY{more}"


def start(code: str, *given: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *given],
        env={**ENVIRONMENT, "WIRE_KEY": "wire-key"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("vendor", ["openai", "cohere", "voyage"])
def test_ctrl_c_does_not_wait_for_an_answer(wire: WireServer, vendor: str) -> None:
    with start(BLOCKING, name(wire, vendor, "&batch=5&timeout=300&deadline=300")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wire.fail(vendor, "slow", times=None, seconds=300)
        deadline = time.monotonic() + 30
        while len(wire.asked(vendor)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode != 0
    assert told.rstrip().endswith("KeyboardInterrupt")
    assert "wire-key" not in told


def test_ctrl_c_on_a_loop_does_not_wait_for_an_answer(wire: WireServer) -> None:
    """The first one asks the loop to end; it waits for its threads, so a second one ends the wait."""
    with start(ON_A_LOOP, name(wire, "voyage", "&timeout=300&deadline=300")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wire.fail("voyage", "slow", times=None, seconds=300)
        deadline = time.monotonic() + 30
        while len(wire.asked("voyage")) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.7)
        process.communicate(timeout=30)
    assert process.returncode != 0


@pytest.mark.parametrize("vendor", EMBEDDERS)
def test_a_process_ends_without_a_warning_though_nothing_was_closed(wire: WireServer, vendor: str) -> None:
    names = [name(wire, vendor)] + ([name(wire, vendor)] if vendor not in ("openai", "azure", "ollama") else [])
    with start(ONCE, *names) as process:
        told = process.communicate(timeout=120)
    assert process.returncode == 0, told[1]
    assert told == ("1\n" * len(names), "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("vendor", ["openai", "cohere", "jina"])
def test_parent_and_child_both_go_on_after_a_fork(wire: WireServer, vendor: str) -> None:
    made = embedder(vendor, wire)
    expected = made.embed(["a cat", "a dog"], input_type="document").vectors
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def child() -> None:
        found = made.embed(["a cat", "a dog"], input_type="document").vectors
        send.send((float(abs(found - expected).max()), made.usage.requests))
        made.close()

    processes = [context.Process(target=child) for _ in range(2)]
    for process in processes:
        process.start()
    again = made.embed(["a cat", "a dog"], input_type="document").vectors
    found = []
    for process in processes:
        assert receive.poll(60)
        found.append(receive.recv())
        process.join(60)
        assert process.exitcode == 0
    assert abs(again - expected).max() < 1e-6
    assert found == [(0.0, 2), (0.0, 2)]
    assert made.usage.requests == 2
    made.close()
    receive.close()
    send.close()


def test_a_provider_that_is_dropped_closes_its_sockets(wire: WireServer) -> None:
    def use() -> None:
        made: Any = embedder("jina", wire)
        made.embed(["a cat"], input_type="document")
        judge = reranker("voyage", wire)
        judge.rerank("a cat", ["a cat"])

    use()  # an unclosed socket would be a warning, and a warning is an error here
    deadline = time.monotonic() + 10
    while wire._connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not wire._connections
