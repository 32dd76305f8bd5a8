"""What the documents say is so: code runs, commands run, links lead somewhere, wordings and file lists agree."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import itertools
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import memory_plugin
from memory_plugin.engine.describe import PROTECTION
from tests import sets
from tests.command import Invoke
from tests.command import here as here
from tests.command import invoke as invoke
from tests.test_examples import environment

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PYTHON, CONSOLE = "python", ("console", "sh")

_BLOCK = re.compile(r"(?P<before>^<!--[^\n]*-->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: \S.{10,} -->\n")
_LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\((?P<target>[^)\s]+)\)")


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    """Blocks of a language that are not marked with a reason not to run, by document and number."""
    for document in DOCUMENTS:
        for number, found in enumerate(_BLOCK.finditer(text(document)), 1):
            if found["language"] in languages and not _NOT_RUN.fullmatch(found["before"] or ""):
                yield f"{document}:{number}", found["code"]


PYTHON_BLOCKS = dict(blocks(PYTHON))
CONSOLE_BLOCKS = dict(blocks(*CONSOLE))


def test_every_kind_of_block_is_there() -> None:
    """A pattern that finds nothing would pass everything below."""
    assert {"README.md", "SECURITY.md"} <= {name.split(":")[0] for name in PYTHON_BLOCKS}
    assert "README.md" in {name.split(":")[0] for name in CONSOLE_BLOCKS}
    assert len(DOCUMENTS) >= 12


def test_only_fragments_are_left_out() -> None:
    marked = [document for document in DOCUMENTS for _ in _NOT_RUN.finditer(text(document))]
    assert marked == ["CONTRIBUTING.md"]


def test_no_code_hides_in_a_block_of_another_kind() -> None:
    """Python and commands are marked as such, or they would not run."""
    for document in DOCUMENTS:
        for found in _BLOCK.finditer(text(document)):
            where, code = f"{document}: {found[0][:200]}", found["code"]
            assert found["language"] in (PYTHON, *CONSOLE, "json", "toml", "text", ""), where
            if found["language"] in ("text", ""):
                assert not re.search(r"^(?:from \w[\w.]* )?import \w", code, re.MULTILINE), where
                assert not re.search(r"^\$ ", code, re.MULTILINE), where


def test_extras_named_anywhere_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras, seen = set(project["optional-dependencies"]), set()
    for document in DOCUMENTS:
        for named in re.findall(r"memory-plugin\[([^\]]*)\]", text(document)):
            seen |= set(named.replace(" ", "").split(","))
    assert {"langchain", "mcp"} <= seen <= extras


@pytest.mark.parametrize("name", PYTHON_BLOCKS)
def test_python_block_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PYTHON_BLOCKS[name]]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_the_readme_shows_the_quickstart() -> None:
    shown = next(code for name, code in PYTHON_BLOCKS.items() if name.startswith("README.md"))
    assert shown in (ROOT / "examples" / "quickstart.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CONSOLE_BLOCKS)
def test_console_block_runs(name: str, here: Path, invoke: Invoke) -> None:
    """Its lines, one after the other, in a directory with a handbook and a small evaluation set."""
    (here / "handbook.md").write_text("# Travel\n\nTrains are booked by Ines.\n", encoding="utf-8")
    sets.write(here / "questions")
    if "add " not in CONSOLE_BLOCKS[name]:
        invoke("add", "handbook.md", "-n", "company")
    for line in CONSOLE_BLOCKS[name].splitlines():
        prompt, *words = shlex.split(line)
        given = None
        if words[0] == "echo":
            _, given, pipe, *words = words
            assert pipe == "|"
        assert (prompt, words[0]) == ("$", "memory-plugin")
        invoke(*words[1:], text=given)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_named_in_passing_exist(document: str, invoke: Invoke) -> None:
    for command in sorted(set(re.findall(r"`memory-plugin (\w+)[^`]*`", text(document)))):
        assert "Usage" in invoke(command, "--help").stdout


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_resolve(document: str) -> None:
    for found in _LINK.finditer(text(document)):
        target = found["target"].partition("#")[0]
        if target and not target.startswith(("https://", "http://", "mailto:")):
            assert (ROOT / document).parent.joinpath(target).exists(), found[0]


def test_make_targets_are_those_that_are_described() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"^\| `make ([a-z]+)` \|", text("CONTRIBUTING.md"), re.MULTILINE)) == targets


# ── the package ───────────────────────────────────────────────────────────────────────────────────


def modules() -> list[str]:
    """All but the one that is a program, and those that need a framework which is not there."""
    found = [one.name for one in pkgutil.walk_packages(memory_plugin.__path__, "memory_plugin.")]
    left = () if importlib.util.find_spec("torch") else ("memory_plugin.train.loop", "memory_plugin.train.loss")
    fit = (one for one in found if not one.endswith("__main__") and ".adapters." not in one and one not in left)
    return ["memory_plugin", *fit]


def test_docstring_examples_run() -> None:
    for name in modules():
        failed, _ = doctest.testmod(importlib.import_module(name), verbose=False)
        assert failed == 0, name


def test_the_package_docstring_runs(tmp_path: Path) -> None:
    doc = memory_plugin.__doc__ or ""
    code = doc[doc.index("from memory_plugin import") :]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Alice moved to Lisbon in May." in done.stdout


def wordings(document: str) -> dict[str, str]:
    """The list of vector modes in a document, its line ends taken as blanks."""
    found = re.findall(r'^\* `(\w+)`(?: \(default\))?: "([^"]+)"', text(document), re.MULTILINE)
    return {mode: " ".join(words.split()) for mode, words in found}


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/sealed-format.md"])
def test_vector_modes_are_worded_as_in_the_code(document: str) -> None:
    assert wordings(document) == PROTECTION


SHIPPED_BESIDE_A_NOTICE = (".onnx", ".json", ".npz")


def files() -> set[str]:
    """Every file of the package and of adapters/, without what Python makes and what a NOTICE names."""
    found = itertools.chain((ROOT / "memory_plugin").rglob("*"), (ROOT / "adapters").rglob("*"))
    names = {path.relative_to(ROOT).as_posix() for path in found if path.is_file() and "__pycache__" not in path.parts}
    inside_link = "memory_plugin/adapters/"
    return {one for one in names if not one.startswith(inside_link) and not one.endswith(SHIPPED_BESIDE_A_NOTICE)}


def test_architecture_names_every_file() -> None:
    named = set(re.findall(r"^\| `((?:memory_plugin|adapters)/[^`]+)` \|", text("ARCHITECTURE.md"), re.MULTILINE))
    named.discard("memory_plugin/adapters")
    assert named == files()


def test_files_named_anywhere_exist() -> None:
    for document in DOCUMENTS:
        for name in re.findall(r"`((?:memory_plugin|tests|scripts|examples|docs|adapters)/[^`*… ]*)`", text(document)):
            if not name.startswith(("memory_plugin/embedders/acme", "tests/embedders/test_acme")):
                assert (ROOT / name).exists(), f"{document}: {name}"


def test_no_document_names_a_place_on_a_developers_machine() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"(?<![\w./])/(?:work|tmp|home|root|Users)/", text(document)), document
