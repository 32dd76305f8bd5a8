"""Stores to break, and processes to break them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from memory_plugin.flow import Blocking, run
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.index_examples import create

ROOT = Path(__file__).parents[2]
Script: TypeAlias = Callable[..., "subprocess.Popen[str]"]
PRELUDE = """
import os, sys, time
import numpy as np
from memory_plugin.errors import *
from memory_plugin.flow import Blocking, run
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.index_examples import *
from memory_plugin.types import *
io = Blocking()
def say(*words):
    print(*words, flush=True)
"""


@pytest.fixture
def script() -> Iterator[Script]:
    """Start a program in another process, with the names above; it is killed when the test ends."""
    started: list[subprocess.Popen[str]] = []

    def start(body: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PRELUDE + body, *map(str, arguments)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: what a killed process leaves is the same there, and it is fast."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


@pytest.fixture
def store(scratch: Path) -> Path:
    """The directory of a store that was made and closed."""
    path = scratch / "store"
    index = EdgeIndex(path)
    run(create(index, Blocking()))
    run(index.close(Blocking()))
    return path
