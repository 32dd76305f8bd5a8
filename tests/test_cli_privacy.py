"""Commands that keep texts on this machine, and those that take pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import registry
from tests.command import Invoke, data
from tests.command import here as here
from tests.command import invoke as invoke
from tests.pictures import ColourEmbedder, png
from tests.recorders import RemoteEmbedder

MADE: list[Any] = []


class Remote(RemoteEmbedder):
    def __init__(self) -> None:
        super().__init__()
        MADE.append(self)


class Colours(ColourEmbedder):
    def __init__(self) -> None:
        super().__init__()


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    MADE.clear()
    more = {"remote": (f"{__name__}:Remote", ""), "colours": (f"{__name__}:Colours", "")}
    monkeypatch.setattr(registry, "EMBEDDERS", {**registry.EMBEDDERS, **more})
    monkeypatch.delenv("MEMORY_PLUGIN_OFFLINE", raising=False)


def saw(word: str) -> bool:
    return any(one.saw(word) for one in MADE)


def test_local_only_keeps_files_from_a_model_elsewhere(invoke: Invoke) -> None:
    invoke("add", "notes.md", "-n", "alice", "--embedder", "remote", "--local-only")
    assert not saw("Lisbon")
    found = data(invoke("search", "Lisbon", "-n", "alice", "--embedder", "remote", "--legs", "lexical", "--json"))
    assert [hit["local_only"] for hit in found["hits"]] == [True]
    assert not saw("Lisbon")
    invoke("add", "notes", "-n", "alice", "--embedder", "remote")
    assert saw("disk is full")


def test_a_line_of_a_chat_log_says_so_itself(invoke: Invoke, here: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"role": "user", "content": "Nobody needs the zyqqvorth.", "local_only": True},
        {"role": "user", "content": "The house by the river."},
    ]
    (here / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    invoke("add", "log.jsonl", "-n", "alice", "--embedder", "remote")
    assert not saw("zyqqvorth")
    assert saw("river")
    lines[0]["local_only"] = "true"
    (here / "log.jsonl").write_text(json.dumps(lines[0]) + "\n", encoding="utf-8")
    refused = invoke("add", "log.jsonl", "-n", "bob", "--embedder", "remote", status=2)
    assert "local_only is True or False" in refused.stderr
    assert not saw("zyqqvorth")


@pytest.mark.parametrize("how", ["option", "environment"])
def test_offline_refuses_a_model_elsewhere(
    invoke: Invoke, here: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    offline = ["--offline"] if how == "option" else []
    if how == "environment":
        monkeypatch.setenv("MEMORY_PLUGIN_OFFLINE", "1")
    refused = invoke("add", "notes.md", "-n", "alice", "--embedder", "remote", *offline, status=2)
    assert "reaches another machine" in refused.stderr
    assert not (here.parent / "home").exists()
    assert not saw("Lisbon")
    invoke("add", "notes.md", "-n", "alice", *offline)
    assert "Lisbon" in invoke("search", "Lisbon", "-n", "alice", *offline).stdout
    refused = invoke("list", "-n", "alice", "--store", "http://qdrant.example:6333", *offline, status=2)
    assert "qdrant.example is another machine" in refused.stderr


def test_offline_refuses_the_model_that_a_store_was_made_with(invoke: Invoke) -> None:
    invoke("add", "notes.md", "-n", "alice", "--embedder", "remote")
    refused = invoke("search", "Lisbon", "-n", "alice", "--offline", status=2)
    assert "another machine" in refused.stderr
    refused = invoke("migrate", "--to", "remote", "--offline", status=2)
    assert "another machine" in refused.stderr


# ── pictures ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def pictures(here: Path) -> Path:
    place = here / "pictures"
    (place / "more").mkdir(parents=True)
    (place / "red.png").write_bytes(png("red"))
    (place / "more" / "blue.PNG").write_bytes(png("blue"))
    (place / "broken.jpg").write_bytes(b"no image")
    (place / "notes.txt").write_text("not taken", encoding="utf-8")
    return place


def test_images_are_added_and_found(invoke: Invoke, pictures: Path) -> None:
    how = ("-n", "alice", "--embedder", "colours", "--format", "image")
    added = data(invoke("add", "pictures", *how, "--meta", "album=summer", "--json"))
    assert (added["added"], added["skipped"]) == (2, {"no image by its name": 1, "not readable as image": 1})
    assert data(invoke("add", "pictures", *how, "--meta", "album=summer", "--json"))["unchanged"] == 2
    invoke("add", "pictures/red.png", *how, "--caption", "A red square.", "--source", "square")
    found = data(invoke("search", "blue", "-n", "alice", "--embedder", "colours", "--json"))["hits"][0]
    assert (found["source"], found["kind"], found["media_type"]) == ("pictures/more/blue.PNG", "image", "image/png")
    assert found["metadata"] == {"album": "summer"}
    table = invoke("search", "blue", "-n", "alice", "--embedder", "colours").stdout
    assert "(image/png)" in table
    listing = invoke("list", "-n", "alice", "--embedder", "colours").stdout
    assert "A red square." in listing
    identity = found["id"]
    assert "(image/png)" in invoke("get", identity, "-n", "alice", "--embedder", "colours").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pictures/red.png", "--embedder", "local", "--format", "image"), "embeds no images"),
        (("pictures", "--format", "image", "--caption", "c", "--embedder", "colours"), "--caption is of one file"),
        (("pictures/red.png", "--caption", "c", "--embedder", "colours"), "say --format image"),
        (("pictures/broken.jpg", "--format", "image", "--embedder", "colours"), "no PNG, JPEG, WebP or GIF"),
        (("pictures/red.png", "--embedder", "colours"), "is not UTF-8 text"),
    ],
)
def test_what_cannot_be_is_refused(invoke: Invoke, pictures: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in invoke("add", *arguments, "-n", "alice", status=2).stderr
