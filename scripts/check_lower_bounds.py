"""Installs each extra at the lowest versions that it allows, and tries what it is for.

    python scripts/check_lower_bounds.py [EXTRA ...] [--tests]

Takes some 20 s an extra, most of it downloads.  Needs uv (``pip install uv``) and nothing of ours.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ADAPTERS = "memory_plugin.adapters"
CORE = "core"
LOWEST = ("--resolution", "lowest-direct", "--only-binary", ":all:")
EXTRAS = {
    "anthropic": f"{ADAPTERS}.anthropic",
    "langchain": f"{ADAPTERS}.langchain",
    "langgraph": f"{ADAPTERS}.langgraph",
    "llama-index": f"{ADAPTERS}.llama_index",
    "mcp": f"{ADAPTERS}.mcp",
    "openai": f"{ADAPTERS}.openai",
    "openai-agents": f"{ADAPTERS}.openai_agents",
    "cohere": "memory_plugin.embedders.cohere",
    "fastembed": "memory_plugin.embedders.fastembed",
    "images": "PIL",
}
"""What each is imported for."""
STORE = """
import tempfile
from memory_plugin import MemoryStore
with tempfile.TemporaryDirectory() as place, MemoryStore.open(f"{place}/m", keyring=f"{place}/k.json") as store:
    store.add(["Alice moved to Lisbon in May.", "Bob likes tea."], "alice")
    assert store.search("Where does Alice live?", "alice")[0].text.startswith("Alice")
"""
EVERYTHING = """
import {0} as module
for name in getattr(module, "__all__", ()):
    getattr(module, name)
"""
TESTS = {
    "anthropic": ["tests/adapters/test_*anthropic*.py"],
    "openai": ["tests/adapters/test_openai*.py", "tests/managed/test_faults.py::TestOpenAI"],
    "cohere": ["tests/managed/test_faults.py::TestCohere"],
    "fastembed": ["tests/embedders/test_fastembed.py"],
    "images": ["tests/test_picture.py"],
}
BESIDE = {"langchain": ["langchain-tests"], "langgraph": ["langchain", "langmem"]}
"""What the tests of an extra import that it does not bring."""


def uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or sys.exit(
        "uv is not installed: pip install uv"
    )
    return subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def tests_of(extra: str) -> list[str]:
    """The files that exist of those which test it."""
    found = []
    for pattern in TESTS.get(extra, [f"tests/adapters/test_{extra.replace('-', '_')}*.py"]):
        glob, _, name = pattern.partition("::")
        found += [f"{path}::{name}" if name else str(path) for path in sorted(ROOT.glob(glob))]
    return found


def check(extra: str, place: Path, *, tests: bool) -> str:
    """What is wrong with the extra at its lowest versions; "" for nothing."""
    made = uv("venv", "--quiet", "--python", sys.executable, str(place))
    python = str(place / "bin" / "python")
    wanted = ROOT.as_posix() if extra == CORE else f"{ROOT.as_posix()}[{extra}]"
    if made.returncode == 0:
        made = uv("pip", "install", "--quiet", "--python", python, *LOWEST, "-e", wanted)
    if made.returncode:
        return made.stderr
    code = STORE if extra == CORE else EVERYTHING.format(EXTRAS[extra])
    tried = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if tried.returncode:
        return tried.stderr
    chosen = tests_of(extra) if tests else []
    if chosen:
        # What tests need besides is not held to anything.
        beside = ["pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "pillow", *BESIDE.get(extra, ())]
        uv("pip", "install", "--quiet", "--python", python, *beside)
        ran = subprocess.run(
            [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "filterwarnings=default", *chosen],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return ran.stdout[-3000:] if ran.returncode else ""
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("extra", nargs="*", default=[CORE, *EXTRAS], help=f"{CORE}, {', '.join(EXTRAS)}; default all")
    parser.add_argument("--tests", action="store_true", help="run the adapter's tests, too")
    given = parser.parse_args()
    failed = 0
    for extra in given.extra:
        with tempfile.TemporaryDirectory() as directory:
            wrong = check(extra, Path(directory) / "venv", tests=given.tests)
        print(f"{extra:16} {'fails' if wrong else 'works'}\n{wrong}".rstrip(), flush=True)
        failed += bool(wrong)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
