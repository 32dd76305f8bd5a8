"""The command line as users see it: what it prints, how it leaves, what it takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from memory_plugin import __version__
from memory_plugin.cli.app import run
from memory_plugin.cli.options import namespace
from tests import sets
from tests.command import CHAT, Invoke, data
from tests.command import here as here
from tests.command import invoke as invoke


def test_round_trip(invoke: Invoke) -> None:
    assert "1 added, 0 unchanged, 0 replaced" in invoke("add", "notes.md", "-n", "alice").stdout
    added = data(
        invoke("add", "-", "-n", "alice/work", "--meta", "team=search", "--json", text="Initech hired Alice.\n")
    )
    assert (added["added"], added["written"], added["skipped"], len(added["ids"])) == (1, 1, {}, 1)

    found = data(invoke("search", "Where does Alice live?", "-n", "alice", "--json"))
    assert [hit["rank"] for hit in found["hits"]] == [1, 2]
    assert found["hits"][0]["source"] == "notes.md"
    assert {"dense", "fused", "late", "rerank"} <= set(found["hits"][0]["stages"])
    assert (found["query"], found["rerank"]) == ("Where does Alice live?", "applied")

    (one,) = data(invoke("list", "-n", "alice/work", "--json"))["memories"]
    assert one["id"] == added["ids"][0]
    assert (one["text"], one["namespace"], one["metadata"]) == (
        "Initech hired Alice.",
        ["alice", "work"],
        {"team": "search"},
    )
    assert data(invoke("get", one["id"], "-n", "alice", "--json")) == one
    assert invoke("get", one["id"], "-n", "alice").stdout == "Initech hired Alice.\n"
    named = data(invoke("get", "-n", "alice", "--source", "notes.md", "--source", "no.md", "--json"))["sources"]
    assert [(name, record["kind"], record["value"]) for name, (record,) in named.items()] == [
        ("notes.md", "document", None)
    ]
    invoke("get", "-n", "alice", "--source", "no.md", status=1)
    invoke("get", one["id"], "-n", "alice", "--source", "notes.md", status=2)
    invoke("get", "-n", "alice", status=2)
    assert invoke("count", "-n", "alice").stdout == "2\n"
    assert data(invoke("count", "-n", "alice", "--where", "team=search", "--json")) == {"count": 1}
    facets = data(invoke("facet", "$source", "-n", "alice", "--json"))["values"]
    assert {one["value"]: one["count"] for one in facets} == {"notes.md": 1, None: 1}

    assert data(invoke("delete", "-n", "alice", one["id"], "--json")) == {"deleted": 1}
    assert invoke("delete", "-n", "alice", "--source", "notes.md").stdout == "1 memories deleted\n"
    assert invoke("count", "-n", "alice").stdout == "0\n"
    assert data(invoke("verify", "--json"))["ok"]


def test_add_says_what_it_did(invoke: Invoke, here: Path) -> None:
    first = data(invoke("add", "notes", "notes.md", "notes.md", "chat.jsonl", "-n", "alice", "--json"))
    assert (first["documents"], first["added"], first["unchanged"], first["replaced"]) == (4, 4, 0, 0)
    assert first["skipped"] == {
        "hidden": 1,
        "no text by its name": 1,
        "no regular file": 1,
        "not readable as text": 2,
        "empty": 1,
        "messages without text": 1,
    }
    again = invoke("add", "./notes/errors.txt", "chat.jsonl", "-n", "alice")
    assert "0 added, 3 unchanged, 0 replaced (0 chunks written)" in again.stdout
    assert "skipped: 1 messages without text" in again.stderr
    (here / "notes.md").write_text("Alice moved to Faro.", encoding="utf-8")
    assert "0 added, 0 unchanged, 1 replaced" in invoke("add", "notes.md", "-n", "alice").stdout


def test_a_chat_log(invoke: Invoke) -> None:
    invoke("add", "chat.jsonl", "-n", "alice", "--time", "2024-05-04")
    said, noted = data(invoke("list", "-n", "alice", "--json"))["memories"]
    assert (said["source"], said["role"], said["name"]) == ("chat.jsonl:1", "user", "Alice")
    assert said["time"] == "2024-05-03T10:00:00+00:00"
    assert (noted["time"], noted["metadata"]) == ("2024-05-04T00:00:00+00:00", {"model": "m"})
    assert invoke("count", "-n", "alice", "--since", "2024-05-04").stdout == "1\n"
    assert invoke("count", "-n", "alice", "--until", "2024-05-04", "--where", "$name=Alice").stdout == "1\n"
    lines = "\n".join(json.dumps({**CHAT[0], "id": number}) for number in range(3))
    assert data(invoke("add", "-", "-n", "bob", "--format", "chat", "--json", text=lines))["added"] == 3


def test_pages(invoke: Invoke) -> None:
    invoke("add", "chat.jsonl", "notes.md", "-n", "alice")
    first = data(invoke("list", "-n", "alice", "--limit", "2", "--json"))
    second = data(invoke("list", "-n", "alice", "--limit", "2", "--after", first["next"], "--json"))
    assert (len(first["memories"]), len(second["memories"]), second["next"]) == (2, 1, None)
    newest = data(invoke("list", "-n", "alice", "--newest-first", "--json"))["memories"]
    assert [one["id"] for one in newest][::-1] == [one["id"] for one in first["memories"] + second["memories"]]
    assert f"--after {first['next']}" in invoke("list", "-n", "alice", "--limit", "2").stderr


def test_lines_for_pipes(invoke: Invoke) -> None:
    invoke("add", "-", "-n", "alice", text="a\ttab, \x1b[31mred\x1b[0m\nand [bold]brackets[/bold]")
    heading, line = invoke("search", "tab", "-n", "alice", "-n", "bob", "--rerank", "late").stdout.splitlines()
    assert heading.split("\t")[:2] == ["#", "score"]
    assert len(line.split("\t")) == len(heading.split("\t"))
    row = dict(zip(heading.split("\t"), line.split("\t"), strict=True))
    assert row["text"] == "a tab, �[31mred�[0m and [bold]brackets[/bold]"
    assert (row["namespace"], row["late"]) == ("alice", "1")
    assert "\x1b" not in invoke("context", "tab", "-n", "alice").stdout


def test_neighbours_are_shown(invoke: Invoke) -> None:
    text = "\n\n".join(f"Paragraph {number} " + "word " * 120 for number in range(3))
    invoke("add", "-", "-n", "alice", text=text)
    row = invoke("search", "Paragraph 1", "-n", "alice", "-k", "1", "--legs", "lexical", "--neighbours", "1").stdout
    assert "Paragraph 0" in row
    assert "Paragraph 1" in row


def test_context(invoke: Invoke) -> None:
    invoke("add", "notes.md", "notes/errors.txt", "-n", "alice")
    plain = invoke("context", "Where does Alice live?", "-n", "alice")
    assert "Lisbon" in plain.stdout
    assert "of 1000 tokens" in plain.stderr
    found = data(invoke("context", "Where does Alice live?", "-n", "alice", "--max-tokens", "90", "--json"))
    assert found["text"] in plain.stdout
    assert 0 < found["tokens"] <= 90
    assert (found["citations"][0]["source"], found["citations"][0]["number"]) == ("notes.md", 1)


def test_doctor(invoke: Invoke, here: Path, tmp_path: Path) -> None:
    before = invoke("doctor")
    assert "there is no store" in before.stderr
    assert data(invoke("doctor", "--json"))["exists"] is False
    invoke("add", "notes.md", "-n", "alice")
    found = data(invoke("doctor", "--json"))
    assert found["data"] == str(tmp_path / "home" / "memory-plugin" / "store")
    assert str(tmp_path / "home" / "memory-plugin" / "keys") in found["keys"]
    assert (found["memories"], found["subjects"], found["sealed"]) == (1, 1, True)
    assert found["versions"]["qdrant-edge-py"]
    assert found["models"]["embedder"].startswith("local:")
    text = invoke("doctor").stdout
    assert "AES-256-GCM" in text
    assert re.search(r"bytes\t[0-9.]+ [KM]iB", text)
    assert "Lisbon" not in text


def test_doctor_warns(invoke: Invoke, here: Path) -> None:
    invoke("add", "notes.md", "-n", "alice", "--store", "open", "--plaintext")
    assert "PLAINTEXT" in invoke("doctor", "--store", "open", "--plaintext").stdout
    invoke("add", "notes.md", "-n", "alice", "--store", "kept", "--keys", "kept/keys.json")
    (here / "kept").chmod(0o755)
    (first, second) = data(invoke("doctor", "--store", "kept", "--keys", "kept/keys.json", "--json"))["warnings"]
    assert "inside the data" in first
    assert "open to other users" in second


def test_keys_from_the_environment(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_PLUGIN_KEK", "q" * 42 + "8=")
    monkeypatch.setenv("MEMORY_PLUGIN_STORE", "elsewhere")
    invoke("add", "notes.md", "-n", "alice", "--keys", "environment")
    assert invoke("count", "-n", "alice", "--keys", "environment").stdout == "1\n"
    monkeypatch.setenv("MEMORY_PLUGIN_KEK", "r" * 42 + "8=")
    assert "memory-plugin:" in invoke("count", "-n", "alice", "--keys", "environment", status=1).stderr


def test_forget(invoke: Invoke) -> None:
    invoke("add", "notes.md", "chat.jsonl", "-n", "alice")
    text = invoke("forget", "-n", "alice").stdout
    assert "3 memories deleted, 1 keys destroyed" in text
    assert "Gone: " in text
    assert data(invoke("forget", "-n", "alice", "--yes", "--json"))["memories"] == 0
    assert "whole data subject" in invoke("forget", "-n", "alice/work", status=2).stderr


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (["search", "x", "-n", "alice"], "ConfigurationError", "there is no store"),
        (["add", "nowhere.txt", "-n", "alice"], "InvalidInputError", "there is no file nowhere.txt"),
        (["add", "notes.md", "-n", "alice//x"], "InvalidInputError", "empty"),
        (["add", "notes.md", "-n", "[1"], "InvalidInputError", "no JSON list"),
        (["add", "notes/latin.txt", "-n", "alice"], "InvalidInputError", "UTF-8"),
        (["add", "notes/rows.jsonl", "-n", "alice"], "InvalidInputError", "line 1 is no chat message"),
        (["add", "notes", "-n", "alice", "--format", "chat"], None, ""),
        (["add", "notes.md", "chat.jsonl", "-n", "a", "--source", "s"], "InvalidInputError", "names one file"),
        (["add", "notes.md", "-n", "alice", "--meta", "x"], "InvalidInputError", "KEY=VALUE"),
        (["add", "notes.md", "-n", "alice", "--time", "soon"], "InvalidInputError", "--time is no time"),
        (["add", "notes.md", "-n", "a", "--plaintext", "--keys", "k"], "ConfigurationError", "contradict"),
        (["add", "notes.md", "-n", "a", "--embedder", "nobody"], "UnknownProviderError", "nobody"),
        (["add", "/dev/null", "-n", "a"], "InvalidInputError", "neither a file nor a directory"),
        (["count", "-n", "a", "--where", "x"], "InvalidInputError", "FIELD=VALUE"),
        (["delete", "-n", "a"], "InvalidInputError", "exactly one"),
        (["delete", "-n", "a", "--all", "--source", "x"], "InvalidInputError", "exactly one"),
        (["eval", "notes"], "InvalidInputError", "cannot be read"),
    ],
)
def test_errors(invoke: Invoke, arguments: list[str], kind: str | None, message: str) -> None:
    if kind is None:
        invoke(*arguments)
        return
    plain = invoke(*arguments, status=2)
    assert plain.stdout == ""
    assert plain.stderr.startswith("memory-plugin: ")
    assert message in plain.stderr
    error = data(invoke(*arguments, "--json", status=2))["error"]
    assert error["type"] == kind
    assert message in error["message"]


def test_what_is_not_there(invoke: Invoke) -> None:
    invoke("add", "notes.md", "-n", "alice")
    assert "no memory" in invoke("get", "x", "-n", "alice", status=1).stderr
    nothing = invoke("search", "x", "-n", "bob")
    assert (nothing.stderr, nothing.stdout.count("\n")) == ("nothing found\n", 1)
    assert data(invoke("search", "x", "-n", "bob", "--json"))["hits"] == []
    invoke("add", "-", "-n", "alice", status=2, text=" \n")


def test_usage_errors_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "x", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "UsageError"
    assert "namespace" in error["message"]
    assert run(["search", "x"]) == 2
    assert "namespace" in capsys.readouterr().err


def test_a_defect_is_one_line(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr("memory_plugin.cli.options.index_at", broken)
    assert run(["add", "notes.md", "-n", "alice"]) == 1
    assert "RuntimeError: surprise" in capsys.readouterr().err
    monkeypatch.setenv("MEMORY_PLUGIN_DEBUG", "1")
    with pytest.raises(RuntimeError, match="surprise"):
        run(["add", "notes.md", "-n", "alice"])


def test_version_and_help(invoke: Invoke) -> None:
    assert invoke("--version").stdout == f"memory-plugin {__version__}\n"
    listing = invoke("--help").stdout
    assert all(name in listing for name in ("add", "search", "context", "list", "delete", "doctor", "eval"))


def test_eval(invoke: Invoke, here: Path) -> None:
    sets.write(here / "tiny")
    found = data(invoke("eval", "tiny", "--legs", "lexical", "--reranker", "none", "--json"))
    assert [row["type"] for row in found["rows"]] == ["all", "easy", "hard"]
    assert found["rows"][1]["ndcg@10"] == 1
    assert {"stages", "tokens", "models"} <= set(found)
    text = invoke("eval", "tiny", "--reranker", "none", "--reranker", "local", "--sample", "2").stdout
    assert "NDCG@10" in text
    assert "p95 ms" in text
    assert "\ncross-encoder\t" in text


@pytest.mark.parametrize(
    ("text", "parts"),
    [("alice", ("alice",)), ("alice/session-7", ("alice", "session-7")), ('["a/b", "c"]', ("a/b", "c"))],
)
def test_namespaces(text: str, parts: tuple[str, ...]) -> None:
    assert namespace(text) == parts
