"""What several crypto tests share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memory_plugin
from memory_plugin.crypto.encoding import from_text
from memory_plugin.crypto.keyring import FileKeyRing
from memory_plugin.crypto.keys import RootKey
from memory_plugin.crypto.sealer import SubjectSealer

POINT = "0a1b2c3d-4e5f-8a6b-9c7d-8e9fa0b1c2d3"


OpenRing = Callable[..., FileKeyRing]
"""Opens the key file of the test: ``open_ring(kek, store_id)``."""


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def record(ring: FileKeyRing, subject: str) -> bytes:
    return ring.keys(subject, create=False)[0].derive("record")


def new_key() -> RootKey:
    return RootKey(os.urandom(4), os.urandom(32))


def new_sealer(store: str = "store", subject: str = "subject") -> SubjectSealer:
    return SubjectSealer(store, subject, [new_key()])


def raw(text: str) -> bytes:
    data = from_text(text)
    assert data is not None
    return data


def start_python(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Another process, not forked from this one."""
    environment = os.environ | {"PYTHONPATH": str(Path(memory_plugin.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out
