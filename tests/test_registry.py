from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory_plugin import registry
from memory_plugin.errors import MissingExtraError, UnknownProviderError
from memory_plugin.testing.doubles import HashEmbedder

MODULE = """
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker

class AcmeEmbedder(HashEmbedder):
    def __init__(self, model="small"):
        super().__init__(revision=model)

class AcmeReranker(OverlapReranker):
    def __init__(self, model="judge"):
        self.model = f"acme:{model}"

class AcmeLate:
    model = encoder = "acme:late"
"""

ENTRY_POINTS = """
[memory_plugin.embedders]
acme = acme_memory:AcmeEmbedder
local = acme_memory:AcmeEmbedder
[memory_plugin.rerankers]
acme = acme_memory:AcmeReranker
[memory_plugin.late_interaction]
acme = acme_memory:AcmeLate
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed distribution that brings providers."""
    (tmp_path / "acme_memory.py").write_text(MODULE)
    info = tmp_path / "acme_memory-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-memory\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("acme_memory", None)


@pytest.mark.usefixtures("acme")
def test_other_packages_bring_providers() -> None:
    assert registry.embedder("acme").identity.revision == "small"
    assert registry.embedder("acme:large").identity.revision == "large"
    assert registry.embedder("acme:org/name:v2").identity.revision == "org/name:v2"
    assert registry.reranker("acme").model == "acme:judge"
    assert registry.reranker("acme:strict").model == "acme:strict"
    assert registry.late_interaction("acme").model == "acme:late"


@pytest.mark.usefixtures("acme")
def test_other_packages_do_not_replace_ours() -> None:
    assert registry.embedder("local").identity.provider == "local"


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("name", ["nobody", "nobody:small", "", ":small", "Local"])
def test_an_unknown_provider_is_told_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownProviderError, match=r"no provider .* known are: acme, .*local") as caught:
        registry.embedder(name)
    assert repr(name.partition(":")[0]) in str(caught.value)


@pytest.mark.parametrize("make", [registry.reranker, registry.late_interaction])
def test_each_kind_has_names_of_its_own(make: object) -> None:
    assert callable(make)
    with pytest.raises(UnknownProviderError, match="no provider 'nobody'"):
        make("nobody")


def test_a_provider_without_its_package_names_the_extra() -> None:
    table = {"acme": ("no_such_sdk_anywhere:Embedder", "acme")}
    with pytest.raises(MissingExtraError, match=r"memory-plugin\[acme\]") as caught:
        registry._make("acme:small", table, "memory_plugin.embedders")
    assert caught.value.extra == "acme"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_broken_provider_of_the_core_is_not_called_missing() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_sdk_anywhere"):
        registry._make("acme", {"acme": ("no_such_sdk_anywhere:Embedder", "")}, "memory_plugin.embedders")


def test_every_provider_of_the_tables_is_there_or_says_what_it_needs() -> None:
    tables = {"embedders": registry.EMBEDDERS, "rerankers": registry.RERANKERS, "late_interaction": registry.LATE}
    for group, table in tables.items():
        for name, (target, extra) in table.items():
            module, _, attribute = target.partition(":")
            assert module.startswith("memory_plugin."), (group, name)
            assert attribute.isidentifier()
            assert extra == "" or extra.isidentifier() or "-" in extra


class Counting(HashEmbedder):
    encoder = "mini"
    tokenizer = object()

    def count(self, text: str, /) -> int:
        return len(text)


def test_an_embedder_with_a_tokenizer_is_cut_with_it() -> None:
    mine = Counting()
    assert registry.pieces(mine) is mine
    local = registry.pieces(HashEmbedder())
    assert local.count("the river") == 4
