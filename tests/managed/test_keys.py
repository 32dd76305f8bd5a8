"""Keys go to whom they are for, and show nowhere; texts go nowhere else."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from memory_plugin.errors import ConfigurationError, EmbeddingError, InvalidInputError, MissingExtraError
from memory_plugin.managed.secret import Secret
from memory_plugin.managed.vendors import VOYAGE
from memory_plugin.testing.wire import WireServer
from tests.managed.providers import EMBEDDERS, RERANKERS, embedder, reranker

VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "cohere": "CO_API_KEY",
    "voyage": "VOYAGE_API_KEY",
    "jina": "JINA_API_KEY",
    "zeroentropy": "ZEROENTROPY_API_KEY",
}


def secret() -> str:
    """Not a local variable anywhere."""
    return "-".join(["sk", "very", "secret"])


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as wire:
        yield wire


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*VARIABLES.values(), "OPENAI_BASE_URL", "CO_API_URL", "ZEROENTROPY_BASE_URL", "TEI_API_KEY"]:
        monkeypatch.delenv(name, raising=False)


def ask(provider: Any) -> None:
    try:
        if hasattr(provider, "embed"):
            provider.embed(["a cat"], input_type="document")
        else:
            provider.rerank("a cat", ["a cat"])
    finally:
        provider.close()


def makers() -> list[Any]:
    return [pytest.param(embedder, vendor, id=vendor) for vendor in EMBEDDERS] + [
        pytest.param(reranker, vendor, id=f"{vendor} reranker") for vendor in RERANKERS
    ]


# ── where a key is looked for, and where it goes ──────────────────────────────────────────────────


@pytest.mark.parametrize("vendor", VARIABLES)
def test_without_a_key_nothing_is_sent_and_the_variable_is_named(vendor: str) -> None:
    for kind in [EMBEDDERS[vendor][0]] + ([RERANKERS[vendor]] if vendor in RERANKERS else []):
        provider = kind()
        assert provider.leaves_machine
        with pytest.raises(ConfigurationError, match=f"no key: set {VARIABLES[vendor]}, or pass api_key="):
            ask(provider)


@pytest.mark.parametrize("vendor", VARIABLES)
def test_the_vendors_key_does_not_go_elsewhere(vendor: str, wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[vendor], wire.key)
    provider = embedder(vendor, wire, api_key=None)
    with pytest.raises(EmbeddingError, match=f"the key in {VARIABLES[vendor]} goes to .* only; .* pass api_key="):
        ask(provider)
    ask(embedder(vendor, wire, api_key=None, key_from=VARIABLES[vendor]))


@pytest.mark.parametrize(("vendor", "address"), [("openai", "OPENAI_BASE_URL"), ("cohere", "CO_API_URL")])
def test_an_address_in_the_environment_gets_the_key_in_the_environment(
    vendor: str, address: str, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLES[vendor], wire.key)
    monkeypatch.setenv(address, wire.url(vendor) + "/")
    provider = EMBEDDERS[vendor][0]()
    assert not provider.leaves_machine
    ask(provider)
    assert len(wire.asked(vendor)) == 1


def test_a_key_from_an_empty_variable_is_none(wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_KEY", " ")
    with pytest.raises(ConfigurationError, match="GATEWAY_KEY holds no key"):
        ask(embedder("openai", wire, api_key=None, key_from="GATEWAY_KEY"))
    monkeypatch.setenv("GATEWAY_KEY", "wrong")
    with pytest.raises(EmbeddingError, match="check the key in GATEWAY_KEY"):
        ask(embedder("openai", wire, api_key=None, key_from="GATEWAY_KEY"))


def test_services_of_ones_own_need_no_key(wire: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(embedder("ollama", wire, api_key=None))
    ask(embedder("tei", wire, api_key=None))
    ask(reranker("tei", wire, api_key=None))
    with pytest.raises(ConfigurationError, match="no key: set AZURE_OPENAI_API_KEY, or pass api_key= or token_pro"):
        ask(embedder("azure", wire, api_key=None))
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", wire.key)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", wire.url("azure"))
    ask(EMBEDDERS["azure"][0]())
    ask(embedder("azure", wire, api_key=None, token_provider=lambda: wire.key))


def test_a_voyage_key_goes_where_it_is_good() -> None:
    plain = EMBEDDERS["voyage"][0](api_key="pa-one")
    atlas = EMBEDDERS["voyage"][0](api_key="al-two")
    assert VOYAGE.base_url in repr(plain)
    assert "https://ai.mongodb.com/v1" in repr(atlas)
    assert plain.identity == atlas.identity
    assert "https://ai.mongodb.com/v1" in repr(RERANKERS["voyage"](api_key="al-two"))


# ── keys show nowhere ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("make", "vendor"), makers())
@pytest.mark.parametrize(
    "wrong",
    [{"too_long": "cut"}, {"attempts": 0}, {"base_url": "ftp://x"}, {"concurrency": 0}, {"batch": -1}, {"timeout": 0}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_refused_argument_does_not_show_the_key(
    make: Any, vendor: str, wrong: dict[str, Any], wire: WireServer
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make(vendor, wire, **{"api_key": secret(), **wrong})
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [one for one in frames.stack if "/memory_plugin/" in one.filename]
    assert ours
    assert secret() not in str([one.locals for one in ours])
    assert secret() not in str(caught.value)


@pytest.mark.parametrize(("make", "vendor"), makers())
def test_a_key_that_the_vendor_repeats_is_taken_out(make: Any, vendor: str, wire: WireServer) -> None:
    provider = make(vendor, wire, api_key=secret())
    if vendor in ("ollama", "tei"):
        wire.fail(vendor, "unauthorized", message=f"bad key {secret()}")
    with pytest.raises(Exception, match=r"401: .*\[key\]") as caught:
        ask(provider)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [one for one in shown.stack if "/tests/" not in one.filename]
    assert secret() not in str(caught.value)
    assert secret() not in str([one.locals for one in frames])
    assert secret() not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(("make", "vendor"), makers())
def test_a_provider_is_not_pickled_with_its_key(make: Any, vendor: str, wire: WireServer) -> None:
    provider = make(vendor, wire)
    with pytest.raises(TypeError):
        pickle.dumps(provider)
    assert wire.key not in repr(vars(provider))


def test_a_secret_is_one() -> None:
    hidden = Secret(secret())
    assert secret() not in repr(hidden) + str(hidden) + f"{hidden}"
    assert copy.deepcopy([hidden])[0] is hidden
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(hidden)
    assert Secret.of("  ") is Secret.of("") is Secret.of(None) is None
    assert Secret.of(hidden) is hidden
    assert hidden.hide(f"a {secret()} b") == "a [key] b"


# ── texts go nowhere else ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("make", "vendor"), makers())
def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    make: Any, vendor: str, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    provider = make(vendor, wire, attempts=1)
    assert not provider.leaves_machine
    ask(provider)


@pytest.mark.parametrize(("make", "vendor"), makers())
def test_a_redirect_is_not_followed(make: Any, vendor: str, wire: WireServer) -> None:
    wire.fail(vendor, "redirect", times=None)
    with pytest.raises(Exception, match=r"a redirect to 'http://127\.0\.0\.1:9/elsewhere', which is not followed"):
        ask(make(vendor, wire))


@pytest.mark.parametrize("wrong", ["", "localhost:8080", "ftp://a/b", "http://", "http://me:pass@host/v1", 7])
def test_an_address_that_is_none_is_refused(wrong: Any) -> None:
    if wrong == "":
        with pytest.raises(ConfigurationError, match="no address: set AZURE_OPENAI_ENDPOINT"):
            EMBEDDERS["azure"][0](base_url=wrong)
        return
    with pytest.raises(InvalidInputError) as caught:
        EMBEDDERS["jina"][0](base_url=wrong)
    assert "pass@" not in str(caught.value)


def test_a_missing_sdk_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for package, vendors in {"openai": ("openai", "azure", "ollama"), "cohere": ("cohere",)}.items():
        monkeypatch.setitem(sys.modules, package, None)
        for vendor in vendors:
            kind, given = EMBEDDERS[vendor]
            with pytest.raises(MissingExtraError, match=rf"pip install 'memory-plugin\[{package}\]'") as caught:
                kind(*given, base_url="http://localhost:1", api_key="k")
            assert caught.value.extra == package
    with pytest.raises(MissingExtraError, match=r"memory-plugin\[cohere\]"):
        RERANKERS["cohere"](api_key="k")
    for vendor in ("voyage", "jina", "zeroentropy", "tei"):
        EMBEDDERS[vendor][0](api_key="k")
