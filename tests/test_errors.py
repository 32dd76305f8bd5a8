from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest

import memory_plugin
from memory_plugin import errors
from memory_plugin.errors import (
    ConfigurationError,
    EmbeddingError,
    InvalidInputError,
    MemoryNotFoundError,
    MemoryPluginError,
    MissingExtraError,
    ProviderError,
    StoreLockedError,
    WrongKeyError,
    translate,
)

CLASSES = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, MemoryPluginError)]


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)(\w+Error)\b", line)
        if match:
            depth = len(match[1]) // 4
            above[depth:] = [match[2]]
            drawn[match[2]] = above[depth - 1] if depth else "Exception"
    real = {one.__name__: one.__bases__[0].__name__ for one in CLASSES}
    assert drawn == real


def test_every_error_is_public_and_the_tree_escapes_as_one() -> None:
    for one in CLASSES:
        assert getattr(memory_plugin, one.__name__) is one


@pytest.mark.parametrize(
    ("error", "builtin"),
    [(MissingExtraError, ImportError), (InvalidInputError, ValueError), (MemoryNotFoundError, LookupError)],
)
def test_errors_that_python_code_already_catches(error: type, builtin: type) -> None:
    assert issubclass(error, builtin)


def test_a_missing_extra_says_what_to_install() -> None:
    error = MissingExtraError("'openai'", "openai")
    assert error.extra == "openai"
    assert "pip install 'memory-plugin[openai]'" in str(error)


@pytest.mark.parametrize("raised", [ValueError("odd"), TimeoutError(), StopIteration(3), KeyError("k")])
def test_translate_keeps_the_cause(raised: Exception) -> None:
    with pytest.raises(EmbeddingError) as caught, translate(EmbeddingError, provider="acme:small"):
        raise raised
    assert caught.value.__cause__ is raised
    assert caught.value.provider == "acme:small"
    assert caught.value.retryable is False
    assert str(caught.value) == f"acme:small: {type(raised).__name__}: {raised}"


@pytest.mark.parametrize("raised", [InvalidInputError("no"), WrongKeyError("k1"), EmbeddingError("x", provider="y")])
def test_translate_lets_our_own_pass(raised: Exception) -> None:
    with pytest.raises(type(raised)) as caught, translate(ProviderError, provider="acme"):
        raise raised
    assert caught.value is raised


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_translate_lets_the_interpreter_stop(raised: BaseException) -> None:
    with pytest.raises(type(raised)), translate(ProviderError, provider="acme"):
        raise raised


def test_translate_of_no_error_is_nothing() -> None:
    with translate(ProviderError, provider="acme"):
        done = True
    assert done


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("plain"),
        MissingExtraError("'openai'", "openai"),
        EmbeddingError("busy", provider="acme", retryable=True),
        StoreLockedError("locked", provider="qdrant-edge", pid=7),
        MemoryNotFoundError("gone"),
    ],
)
@pytest.mark.parametrize("across", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"])
def test_errors_cross_process_borders(error: MemoryPluginError, across: Any) -> None:
    again = across(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
