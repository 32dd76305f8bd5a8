from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import registry
from memory_plugin.errors import ConfigurationError, MissingExtraError, UnknownProviderError
from memory_plugin.testing.doubles import HashEmbedder

MODULE = """
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker

class AcmeEmbedder(HashEmbedder):
    def __init__(self, model="small", *, dimension=64, base_url="", prefixes=(), api_key=None):
        super().__init__(dimension, revision=model)
        self.base_url, self.prefixes = base_url, prefixes

class Open(HashEmbedder):
    def __init__(self, model="", **anything):
        super().__init__()
        self.anything = anything

class Fixed(HashEmbedder):
    def __init__(self, *, workers=1):
        super().__init__()

class AcmeReranker(OverlapReranker):
    def __init__(self, model="judge"):
        self.model = f"acme:{model}"

class AcmeLate:
    model = encoder = "acme:late"
"""

ENTRY_POINTS = """
[memory_plugin.embedders]
acme = acme_memory:AcmeEmbedder
open = acme_memory:Open
fixed = acme_memory:Fixed
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
def test_options_follow_a_question_mark() -> None:
    made: Any = registry.embedder(
        "acme:large:v2?dimension=128&base_url=http://localhost:8080/v1?a%3Db%26c&prefixes=[1,2]"
    )
    assert (made.identity.revision, made.identity.dimension) == ("large:v2", 128)
    assert (made.base_url, made.prefixes) == ("http://localhost:8080/v1?a=b&c", [1, 2])
    assert registry.embedder("acme?dimension=32").identity.dimension == 32
    anything: Any = registry.embedder('open?a=1&b=true&c="1"&d=x+y&e=&f=NaN&g=null')
    assert anything.anything == {"a": 1, "b": True, "c": "1", "d": "x+y", "e": "", "f": "NaN", "g": None}


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acme?dimensions=3", "'acme' has no option 'dimensions'; it has: base_url, dimension, prefixes"),
        ("acme?model=small", "no option 'model'"),
        ("acme?dimension", "option=value"),
        ("acme?=3", "option=value"),
        ("acme?dimension=3&dimension=4", "'dimension' is given twice"),
        ("acme:small?api_key=verysecret", "set the provider's environment variable"),
        ("local:other", "name a directory that `memory-plugin train` wrote"),
        ("fixed:other", "'fixed' has one model only: leave out ':other'"),
        ("local?threads=2", "'local' has no option 'threads'; it has: workers"),
        ("local?workers=0", "workers must be at least 1"),
    ],
)
def test_an_option_that_is_not_there_is_told_those_that_are(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        registry.embedder(name)
    assert message in str(caught.value)
    assert "verysecret" not in str(caught.value)


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


@pytest.mark.parametrize("make", [registry.embedder, registry.reranker], ids=["embedder", "reranker"])
def test_options_that_all_managed_providers_have_are_known_by_name(make: Any) -> None:
    made = make("jina:some-model?base_url=http://localhost:1/v1&concurrency=2&revision=2024&deadline=9.5")
    assert repr(made).endswith("('some-model', base_url='http://localhost:1/v1')")
    with pytest.raises(ConfigurationError, match=r"no option 'retries'; it has: attempts, .*deadline.*, too_long"):
        make("jina?retries=3")
    with pytest.raises(ConfigurationError, match="no place for 'api_key'"):
        make("jina?api_key=secret")


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
