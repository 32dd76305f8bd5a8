"""``mcp token`` and ``mcp config``, and what ``mcp`` refuses before it serves."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from memory_plugin import MemoryStore
from memory_plugin.adapters.mcp import Tokens, clients
from memory_plugin.cli import mcp
from memory_plugin.cli.options import Place
from memory_plugin.testing.doubles import HashEmbedder
from tests.command import Invoke
from tests.command import here as here
from tests.command import invoke as invoke


def test_a_token_is_shown_once(here: Path, invoke: Invoke) -> None:
    made = invoke("mcp", "token", "--tokens", "t.json", "-n", "alice/work", "--name", "laptop")
    shown = made.stdout.strip()
    assert "alice/work" in made.stderr
    assert shown not in (here / "t.json").read_text(encoding="utf-8")
    found = Tokens(here / "t.json").find(shown)
    assert found is not None
    assert (found.name, found.namespace) == ("laptop", ("alice", "work"))
    invoke("mcp", "token", "--tokens", "t.json", "-n", "bob")
    listed = invoke("mcp", "token", "--tokens", "t.json", "--list").stdout
    assert [line.split("\t") for line in listed.splitlines()[1:]] == [["laptop", "alice/work"], ["bob-2", "bob"]]
    invoke("mcp", "token", "--tokens", "t.json", "--revoke", "laptop")
    assert Tokens(here / "t.json").find(shown) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["mcp", "token", "-n", "alice"], "--tokens"),
        (["mcp", "token", "--tokens", "t.json"], "--namespace"),
        (["mcp", "token", "--tokens", "t.json", "-n", "alice", "--name", "phone"], "already"),
        (["mcp", "token", "--tokens", "t.json", "--revoke", "nobody"], "no token called"),
        (["mcp", "token", "--tokens", "notes.md", "-n", "alice"], "no file of tokens"),
        (["mcp", "token", "--tokens", "t.json", "-n", "alice//x"], "empty"),
        (["mcp"], "--namespace"),
        (["mcp", "-n", "alice", "--plaintext", "--keys", "k.json"], "contradict"),
        (["mcp", "-n", ""], "empty"),
        (["mcp", "--http"], "--tokens"),
        (["mcp", "--http", "-n", "alice", "--tokens", "t.json"], "leave --namespace out"),
        (["mcp", "--http", "--tokens", "missing.json"], "cannot be read"),
        (["mcp", "--http", "--tokens", "none.json"], "no token in"),
        (["mcp", "--http", "-n", "alice", "--host", "0.0.0.0"], "--tokens"),
        (["mcp", "--http", "--tokens", "t.json", "--host", "0.0.0.0"], "--allow-host"),
        (["mcp", "config", "--client", "codex"], "--namespace"),
        (["mcp", "config", "--client", "claude-desktop", "--url", "https://m.example/mcp"], "stdio"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_cannot_be_is_said(here: Path, invoke: Invoke, arguments: list[str], says: str) -> None:
    invoke("mcp", "token", "--tokens", "t.json", "-n", "alice", "--name", "phone")
    (here / "none.json").write_text('{"tokens": []}', encoding="utf-8")
    (here / "none.json").chmod(0o600)
    done = invoke(*arguments, status=2)
    assert says in done.stderr
    assert done.stdout == ""


def test_one_token_of_the_environment(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mcp.TOKEN, "t" * 32)
    found = mcp._tokens(None, "alice")
    assert found is not None
    one = found.find("t" * 32)
    assert one is not None
    assert one.namespace == ("alice",)
    invoke("mcp", "token", "--tokens", "t.json", "-n", "alice")
    assert "contradict" in invoke("mcp", "--http", "--tokens", "t.json", status=2).stderr
    monkeypatch.setenv(mcp.TOKEN, "short")
    assert "at least 32" in invoke("mcp", "--http", "-n", "alice", status=2).stderr


@pytest.mark.parametrize("client", clients.CLIENTS)
def test_settings_start_this_installation(here: Path, invoke: Invoke, client: str) -> None:
    known = clients.CLIENTS[client]
    shown = invoke("mcp", "config", "--client", client, "-n", "alice", "--store", "./m", "--read-only", "--offline")
    assert known.title in shown.stderr
    read = tomllib.loads(shown.stdout) if known.toml else json.loads(shown.stdout)
    server = read[known.key]["memory"]
    assert Path(server["command"]).is_absolute()
    assert Path(server["command"]).is_file()
    assert server["args"][-7:] == [
        "mcp",
        "--namespace",
        "alice",
        "--read-only",
        "--offline",
        "--store",
        str(here / "m"),
    ]


@pytest.mark.parametrize("client", [name for name, one in clients.CLIENTS.items() if one.remote])
def test_settings_of_a_server_elsewhere_hold_no_token(invoke: Invoke, client: str) -> None:
    known = clients.CLIENTS[client]
    shown = invoke("mcp", "config", "--client", client, "--url", "https://memory.example.com/mcp").stdout
    read = tomllib.loads(shown) if known.toml else json.loads(shown)
    assert "https://memory.example.com/mcp" in read[known.key]["memory"].values()
    assert "Bearer" in shown or "bearer_token_env_var" in shown


def test_paths_become_whole_ones(here: Path, invoke: Invoke) -> None:
    given = ("--store", "https://qdrant.example", "--keys", "environment", "--embedder", "local", "--plaintext")
    shown = invoke("mcp", "config", "--client", "cursor", "-n", "alice", *given)
    arguments = json.loads(shown.stdout)["mcpServers"]["memory"]["args"]
    assert arguments[-6:] == ["--store", "https://qdrant.example", "--keys", "environment", "--embedder", "local"]
    shown = invoke("mcp", "config", "--client", "cursor", "-n", "alice", "--keys", "~/k.json")
    assert json.loads(shown.stdout)["mcpServers"]["memory"]["args"][-1] == str(Path.home() / "k.json")


def test_without_a_script_beside_it_python_runs_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert mcp.executable() == [str(tmp_path / "python"), "-m", "memory_plugin"]
    (tmp_path / "memory-plugin").touch()
    assert mcp.executable() == [str(tmp_path / "memory-plugin")]


def test_whether_texts_leave_the_machine(tmp_path: Path) -> None:
    def leaves(**given: object) -> bool:
        place = {"store": str(tmp_path / "s"), "keys": None, "plaintext": False, "embedder": None, **given}
        return mcp._leaves_machine(Place(**place))  # type: ignore[arg-type]

    assert not leaves()
    assert not leaves(embedder="local")
    assert leaves(embedder="ollama:nomic-embed-text?base_url=https://gpu.example/v1")
    assert leaves(embedder="nobody:knows")
    assert not leaves(embedder="nobody:knows", offline=True)
    assert leaves(store="https://qdrant.example")
    assert not leaves(store="http://localhost:6333")
    with MemoryStore.open(tmp_path / "s", embedder=HashEmbedder(8), reranker=None, keyring=tmp_path / "k.json"):
        assert leaves()  # a model that nobody can make from its name may be anywhere


def test_the_readme_shows_the_same_settings() -> None:
    """Every client's block in README is what the command prints for that path."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    shown = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    shown += [tomllib.loads(block) for block in re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    for name, known in clients.CLIENTS.items():
        made = clients.settings(name, ["/path/to/memory-plugin", "mcp", "--namespace", "alice"])
        assert (tomllib.loads(made) if known.toml else json.loads(made)) in shown, name
        assert known.title in text
    assert len(shown) == 5
