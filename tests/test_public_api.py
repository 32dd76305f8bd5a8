from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import memory_plugin
from memory_plugin import AsyncMemoryStore, MemoryStore

PACKAGE = Path(memory_plugin.__file__).parent
FILES = sorted({path.resolve(): path for path in PACKAGE.rglob("*.py")}.values())

_PUBLIC = """
PLAINTEXT Added AsyncMemoryStore CachedEmbedder CallbackKek Chunk Citation ConfigurationError Context DecryptionError
Document EmbeddingError Embeddings FileKeyRing Forgotten ForkedStoreError Hit IndexUnavailableError InvalidInputError
KeyServiceError LocalKek ManifestMismatchError MemoryNotFoundError MemoryPluginError MemoryStore Message
Migration MigrationError MigrationProgress MissingExtraError ModelDriftError ModelIdentity
NetworkForbiddenError Page ProviderError QuotaError Record RerankError Results Rotated
SealError Settings StageScore StoreClosedError StoreLockedError TokenVectors TrainingError UnknownKeyError
UnknownProviderError UnsealedPayloadError Usage Verified WrongKeyError and_ any_of eq not_ or_ range_ time_range
"""
PUBLIC = _PUBLIC.split()


def test_all_is_exactly_what_is_promised() -> None:
    assert sorted(memory_plugin.__all__) == sorted(PUBLIC)
    assert all(hasattr(memory_plugin, name) for name in PUBLIC)


def test_nothing_else_is_public() -> None:
    mine = {
        name for name, value in vars(memory_plugin).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert mine == set(PUBLIC)


def members(store: type) -> dict[str, Any]:
    """Those of the class and of what it inherits from, in their order."""
    named = dict.fromkeys(name for kind in reversed(store.__mro__[:-1]) for name in vars(kind))
    return {name: getattr(store, name) for name in named if not name.startswith("_") or name == "__init__"}


def test_both_stores_have_the_same_verbs() -> None:
    assert list(members(MemoryStore)) == list(members(AsyncMemoryStore))


@pytest.mark.parametrize("verb", members(MemoryStore))
def test_both_stores_have_the_same_signatures(verb: str) -> None:
    blocking, awaited = members(MemoryStore)[verb], members(AsyncMemoryStore)[verb]
    assert inspect.signature(blocking) == inspect.signature(awaited)
    assert not inspect.iscoroutinefunction(blocking)
    assert inspect.iscoroutinefunction(awaited) == (verb not in ("__init__", "open"))


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "PLAINTEXT"])
def test_everything_public_is_explained(name: str) -> None:
    assert (getattr(memory_plugin, name).__doc__ or "").strip()


_HEAVY = """
openai cohere voyageai llama_index langchain langchain_core langgraph mcp agents anthropic torch transformers
onnxruntime tiktoken qdrant_client qdrant_edge keyring boto3
"""
HEAVY = _HEAVY.split()


@pytest.mark.parametrize("module", ["memory_plugin", "memory_plugin.registry", "memory_plugin.adapters"])
def test_importing_loads_no_engine_no_sdk_and_no_framework(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}} & set({HEAVY!r})))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == []


def statements(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its docstring aside."""
    first = node.body[0]
    words = ast.get_docstring(node) and (first.end_lineno or 0) - first.lineno + 1
    return (node.end_lineno or 0) - node.lineno + 1 - (words or 0)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_file_is_over_400_lines_and_no_function_over_60(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 400
    long = [
        f"{node.name}: {size}"
        for node in ast.walk(ast.parse("\n".join(lines)))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (size := statements(node)) > 60
    ]
    assert long == []


def imports(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports when it is itself imported."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("memory_plugin"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if _is_module(whole) else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("memory_plugin"))
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_type_checking(node):
            waiting.extend(ast.iter_child_nodes(node))


def _is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_there_is_no_import_cycle() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        graph[name] = set(imports(path)) - {name}
    assert len(graph) > 30
    while free := {name for name, needs in graph.items() if not needs & set(graph)}:
        graph = {name: needs for name, needs in graph.items() if name not in free}
    assert graph == {}


def test_layers_import_downwards_only(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        linter = importlib.import_module("importlinter.cli")
    except ImportError:
        pytest.skip("import-linter is not installed")
    monkeypatch.chdir(PACKAGE.parent)
    assert linter.lint_imports(no_cache=True, config_filename="pyproject.toml") == 0


def test_the_only_asyncio_is_in_flow() -> None:
    users = {path.name for path in FILES if "import asyncio" in path.read_text()}
    assert users == {"flow.py"}


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    assert project["version"] == memory_plugin.__version__


def test_the_wheel_has_every_package_and_every_model_file() -> None:
    root = PACKAGE.parent
    setuptools = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    # rglob does not follow the link to adapters/ on every Python.
    adapters = {path.parent.relative_to(root) for path in (root / "adapters").rglob("__init__.py")}
    folders = {path.parent for path in PACKAGE.rglob("__init__.py")} | {PACKAGE / path for path in adapters}
    assert sorted(setuptools["packages"]) == sorted(".".join(one.relative_to(root).parts) for one in folders)
    shipped = {
        path for glob in setuptools["package-data"]["memory_plugin.models"] for path in (PACKAGE / "models").glob(glob)
    }
    assert shipped == {path for path in (PACKAGE / "models").glob("*/*") if path.suffix != ".pyc"}
