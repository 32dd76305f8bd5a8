"""Every example that ``--help`` shows is shown, and runs."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from memory_plugin.cli.app import app
from memory_plugin.cli.examples import EXAMPLES, NEEDS
from tests import sets
from tests.command import Invoke, data
from tests.command import here as here
from tests.command import invoke as invoke
from tests.test_examples import environment
from tests.train import toy

PACKAGES = {"train": ("torch", "sentence_transformers"), "mcp": ("mcp.server.mcpserver",)}
SHOP = (
    ("when do you open", "The shop is open from nine to five."),
    ("can I pay by card", "We take all cards, and cash."),
    ("do you repair bikes", "Our workshop mends bicycles while you wait."),
    ("where can I park", "There is room for cars behind the house."),
)
PLACEHOLDER = "00000000-0000-5000-8000-000000000000"


def test_every_command_has_examples() -> None:
    groups = [(f"{group.name} ", group.typer_instance) for group in app.registered_groups if group.typer_instance]
    commands = {f"{group}{one.name}" for group, made in [("", app), *groups] for one in made.registered_commands}
    alone = {group.strip() for group, made in groups if made.info.invoke_without_command is True}
    assert commands | alone == set(EXAMPLES)


def test_what_needs_an_extra_is_an_example() -> None:
    assert set(NEEDS) <= {line for lines in EXAMPLES.values() for line in lines}


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_shows_them(invoke: Invoke, command: str) -> None:
    text = " ".join(invoke(*command.split(), "--help").stdout.split())
    for example in EXAMPLES[command]:
        assert example in text


SERVING = [line for lines in EXAMPLES.values() for line in lines if "--http" in line]
"""Those that go on until they are told to end."""


@pytest.mark.parametrize("example", SERVING)
def test_they_serve(invoke: Invoke, here: Path, example: str) -> None:
    pytest.importorskip("mcp.server.mcpserver", reason="the extra mcp is not installed")
    invoke("mcp", "token", "--tokens", "tokens.json", "-n", "alice")
    _, *arguments = shlex.split(example.replace("8765", "0"))
    with subprocess.Popen(
        [sys.executable, "-m", "memory_plugin", *arguments],
        env=environment(here),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as serving:
        assert serving.stderr is not None
        assert serving.stderr.readline().startswith("serving http://127.0.0.1:")
        serving.send_signal(signal.SIGTERM)
        out, err = serving.communicate(timeout=20)
    assert (out, err) == ("", "")


@pytest.mark.parametrize("example", [line for lines in EXAMPLES.values() for line in lines if line not in SERVING])
def test_they_run(invoke: Invoke, here: Path, example: str) -> None:
    if example in NEEDS:
        for package in PACKAGES[NEEDS[example]]:
            pytest.importorskip(package, reason=f"the extra {NEEDS[example]} is not installed")
    sets.write(here / "questions")
    toy.write(here / "pairs.jsonl", SHOP)
    mine = {"query": "Where does Alice live?", "namespace": "alice", "source": "notes.md"}
    (here / "mine.jsonl").write_text(json.dumps(mine) + "\n", encoding="utf-8")
    if example.startswith("memory-plugin mcp token"):
        invoke("mcp", "token", "--tokens", "tokens.json", "-n", "alice", "--name", "phone")
    if not example.startswith("memory-plugin add"):
        ids = data(invoke("add", "notes.md", "-n", "alice", "--json"))["ids"]
        invoke("add", "notes", "chat.jsonl", "-n", "alice/session-7", "--meta", "team=search")
        example = example.replace(PLACEHOLDER, ids[0])
    text = None
    if example.startswith("echo "):
        echo, example = example.split(" | ")
        text = shlex.split(echo)[1] + "\n"
    program, *arguments = shlex.split(example)
    assert program == "memory-plugin"
    result = invoke(*arguments, text=text)
    if "--json" in arguments:
        assert "error" not in json.loads(result.stdout)
