"""A directory to run commands in, and how to run them in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from memory_plugin import registry
from memory_plugin.cli.app import app

Invoke = Callable[..., Result]

CHAT = (
    {"role": "user", "content": "I plan a trip to Porto.", "name": "Alice", "time": "2024-05-03T10:00:00"},
    {"role": "assistant", "content": "Noted.", "model": "m"},
    {"role": "assistant", "content": None},
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with notes and a chat, a user without a store, and a cross-encoder that needs no model."""
    for name in ("MEMORY_PLUGIN_STORE", "MEMORY_PLUGIN_KEYS", "MEMORY_PLUGIN_EMBEDDER", "MEMORY_PLUGIN_KEK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(registry, "RERANKERS", {"local": ("memory_plugin.testing.doubles:OverlapReranker", "")})
    work = tmp_path / "work"
    (work / "notes" / ".git").mkdir(parents=True)
    (work / "notes.md").write_text("# Alice\n\nAlice moved to Lisbon in May.\n", encoding="utf-8")
    (work / "notes" / "errors.txt").write_text("Error E1042: the disk is full.\n", encoding="utf-8")
    (work / "notes" / "photo.png").write_bytes(b"\x89PNG")
    (work / "notes" / "latin.txt").write_bytes(b"caf\xe9")
    (work / "notes" / "empty.txt").touch()
    (work / "notes" / "link.txt").symlink_to(work / "notes.md")
    (work / "notes" / ".git" / "config.txt").write_text("hidden", encoding="utf-8")
    (work / "notes" / "rows.jsonl").write_text('{"a": 1}\n', encoding="utf-8")
    (work / "chat.jsonl").write_text("\n".join(map(json.dumps, CHAT)) + "\n", encoding="utf-8")
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def invoke(here: Path) -> Invoke:
    """Runs a command in this process; fails the test unless it leaves with ``status``."""

    def call(*arguments: str, status: int = 0, text: str | None = None) -> Result:
        result = CliRunner().invoke(app, arguments, input=text)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.output
        return result

    return call


def data(result: Result) -> Any:
    return json.loads(result.stdout)
