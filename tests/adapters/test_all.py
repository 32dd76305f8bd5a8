"""What holds for every adapter: it says what it needs, and its page and its row in the table are there and true."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.test_docs import PYTHON_BLOCKS, ROOT, text

PACKAGE = "memory_plugin.adapters"
SHARED = {"__init__", "conversation", "extras", "query", "single_flight", "tail", "transcript"}
"""What adapters share."""
ADAPTERS = sorted(path.stem for path in (ROOT / "adapters").iterdir() if path.stem not in {*SHARED, "__pycache__"})
FRAMEWORKS = {
    "anthropic": ("anthropic", ["anthropic"]),
    "chat": (None, []),
    "langchain": ("langchain", ["langchain", "langchain_core"]),
    "langgraph": ("langgraph", ["langgraph"]),
    "llama_index": ("llama-index", ["llama_index"]),
    "mcp": ("mcp", ["mcp"]),
    "openai": ("openai", ["openai"]),
    "openai_agents": ("openai-agents", ["agents"]),
}
"""By adapter: the extra that brings its framework, and the packages that the framework is imported as."""

_ROW = re.compile(r"^\| (?!-)(?P<adapter>[^|]+) \| (?P<imported>[^|]+) \|(?P<rest>.*)\|$", re.MULTILINE)


def rows() -> list[re.Match[str]]:
    """Those of the table of adapters, without its head."""
    return [row for row in _ROW.finditer(text("docs/adapters.md")) if PACKAGE in row["imported"]]


def test_every_adapter_is_known_here() -> None:
    assert set(FRAMEWORKS) == set(ADAPTERS)


# Imports all of an adapter in a process in which no framework can be found.
WITHOUT = """
import importlib, json, sys
from memory_plugin import MissingExtraError

absent = set(sys.argv[2].split())

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
found = {}
for adapter in sys.argv[1].split():
    try:
        module = importlib.import_module(f"memory_plugin.adapters.{adapter}")
    except MissingExtraError as error:
        found[adapter] = [[error.extra, str(error)]]
        continue
    found[adapter] = []
    for name in module.__all__:
        try:
            getattr(module, name)
            found[adapter].append([None, name])
        except MissingExtraError as error:
            found[adapter].append([error.extra, str(error)])
assert not absent & {name.partition(".")[0] for name in sys.modules}
print(json.dumps(found))
"""


def test_without_its_framework_each_says_which_extra_brings_it() -> None:
    absent = {package for _, packages in FRAMEWORKS.values() for package in packages}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, " ".join(ADAPTERS), " ".join(sorted(absent))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    found: dict[str, Any] = json.loads(done.stdout)
    for adapter, (extra, _) in FRAMEWORKS.items():
        assert found[adapter], adapter
        for said, words in found[adapter]:
            assert said == extra, (adapter, words)
            if extra is not None:
                assert f"pip install 'memory-plugin[{extra}]'" in words
                assert extra in extras


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_everything_it_offers_is_there_and_explained(adapter: str) -> None:
    for package in FRAMEWORKS[adapter][1]:
        pytest.importorskip(package, reason=f"{package} is not installed here")
    module = importlib.import_module(f"{PACKAGE}.{adapter}")
    assert (module.__doc__ or "").strip()
    assert module.__all__, "says in __all__ what users import"
    for name in module.__all__:
        offered = getattr(module, name)
        if inspect.isclass(offered) or inspect.isfunction(offered):
            assert (offered.__doc__ or "").strip(), name


def test_the_table_has_every_adapter() -> None:
    named = {name for row in rows() for name in re.findall(rf"`{PACKAGE}\.(\w+)", row["imported"])}
    assert named == set(ADAPTERS)


@pytest.mark.parametrize("row", rows(), ids=lambda row: "-".join(re.findall(r"\w+", row["adapter"])[:3]))
def test_a_row_of_the_table_is_true(row: re.Match[str]) -> None:
    """What it names as ours is there; its page says how to install it and has code, which tests run."""
    adapters = re.findall(rf"`{PACKAGE}\.(\w+)", row["imported"])
    for package in {package for adapter in adapters for package in FRAMEWORKS[adapter][1]}:
        pytest.importorskip(package, reason=f"{package} is not installed here")
    modules = [importlib.import_module(f"{PACKAGE}.{adapter}") for adapter in adapters]
    for name in re.findall(r"`(Memory\w+)", row["rest"]):
        assert any(hasattr(module, name) for module in modules), name
    pages = re.findall(r"\]\(([\w-]+\.md)\)", row["adapter"])
    assert pages, "the first cell links to the adapter's page"
    for page in pages:
        assert any(name.startswith(f"docs/{page}:") for name in PYTHON_BLOCKS), page
        wanted = [extra for adapter in adapters if (extra := FRAMEWORKS[adapter][0])]
        named = set(",".join(re.findall(r"memory-plugin\[([^\]]*)\]", text(f"docs/{page}"))).split(","))
        assert set(wanted) <= named, page


def test_every_page_of_an_adapter_is_in_the_table() -> None:
    linked = {page for row in rows() for page in re.findall(r"\]\(([\w-]+\.md)\)", row["adapter"])}
    pages = {path.name for path in Path(ROOT / "docs").glob("*.md") if f"{PACKAGE}." in text(f"docs/{path.name}")}
    assert pages - {"adapters.md"} <= linked
