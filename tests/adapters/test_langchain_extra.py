"""LangChain is loaded when it is asked for, and said to be missing in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from memory_plugin.adapters import langchain

LOADS_NOTHING = """
import sys
import memory_plugin.adapters.langchain as adapter
assert not any(name.startswith(("langchain", "langgraph", "pydantic")) for name in sys.modules), sys.modules
from memory_plugin import MissingExtraError
sys.modules["langchain"] = None
adapter.MemoryRetriever
try:
    adapter.MemoryMiddleware
except MissingExtraError as error:
    assert "memory-plugin[langchain]" in str(error) and "middleware" in str(error)
for name in [name for name in sys.modules if name.startswith(("langchain", "memory_plugin.adapters.langchain."))]:
    del sys.modules[name]
sys.modules["langchain_core"] = None
missing = 0
for name in adapter.__all__:
    try:
        getattr(adapter, name)
    except MissingExtraError as error:
        missing += "pip install 'memory-plugin[langchain]'" in str(error)
assert missing == len(adapter.__all__), missing
"""


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    done = subprocess.run([sys.executable, "-c", LOADS_NOTHING], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_names() -> None:
    assert all(getattr(langchain, name).__name__ == name for name in langchain.__all__)
    with pytest.raises(AttributeError, match="Nothing"):
        _ = langchain.Nothing
