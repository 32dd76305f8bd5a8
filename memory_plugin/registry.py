"""Names to providers: ``provider[:model][?option=value&…]``.  Lazy: a provider's module loads when asked for.

Examples are "local", "openai:text-embedding-3-small?dimension=256", and
"openai:nomic-embed-text?base_url=http://localhost:11434/v1".  What follows the question mark are keyword arguments
of the provider's class, each read as JSON where it is JSON, else as text; a quoted value is always text.  ``%26``
stands for an ampersand in a value.  Keys have no place in a name, which ends up in shell histories and error texts.

Other packages add providers through the entry point groups ``memory_plugin.embedders`` and
``memory_plugin.rerankers``.  Indexes, ciphers and key rings have no names: pass the object.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast, get_args, get_type_hints
from urllib.parse import unquote

from memory_plugin.chunk import Pieces
from memory_plugin.errors import ConfigurationError, MissingExtraError, UnknownProviderError
from memory_plugin.protocols import Embedder, LateInteraction, Reranker

# name → (module:attribute, the extra that it needs or "")
EMBEDDERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "local": ("memory_plugin.embedders.local:LocalEmbedder", ""),
        "openai": ("memory_plugin.embedders.openai:OpenAIEmbedder", "openai"),
        "azure": ("memory_plugin.embedders.azure:AzureEmbedder", "openai"),
        "ollama": ("memory_plugin.embedders.ollama:OllamaEmbedder", "openai"),
        "cohere": ("memory_plugin.embedders.cohere:CohereEmbedder", "cohere"),
        "voyage": ("memory_plugin.embedders.voyage:VoyageEmbedder", ""),
        "jina": ("memory_plugin.embedders.jina:JinaEmbedder", ""),
        "zeroentropy": ("memory_plugin.embedders.zeroentropy:ZeroEntropyEmbedder", ""),
        "tei": ("memory_plugin.embedders.tei:TeiEmbedder", ""),
    }
)
LATE: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "local": ("memory_plugin.rerankers.late_interaction:MaxSim", ""),
    }
)
RERANKERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "local": ("memory_plugin.rerankers.local:LocalReranker", ""),
        "cohere": ("memory_plugin.rerankers.cohere:CohereReranker", "cohere"),
        "voyage": ("memory_plugin.rerankers.voyage:VoyageReranker", ""),
        "jina": ("memory_plugin.rerankers.jina:JinaReranker", ""),
        "zeroentropy": ("memory_plugin.rerankers.zeroentropy:ZeroEntropyReranker", ""),
        "tei": ("memory_plugin.rerankers.tei:TeiReranker", ""),
    }
)

SECRETS = ("key", "token", "secret", "password")
"""Options whose names end like this have no place in a provider's name."""


def embedder(name: str) -> Embedder:
    """The embedder of that name.

    Args:
        name: ``provider[:model][?option=value&…]``.

    Raises:
        UnknownProviderError: None of that name.
        MissingExtraError: Its package is not installed.
        ConfigurationError: It has no such option, or no choice of models.
    """
    return cast("Embedder", _make(name, EMBEDDERS, "memory_plugin.embedders"))


def reranker(name: str) -> Reranker:
    """The reranker of that name.

    Args:
        name: ``provider[:model][?option=value&…]``.

    Raises:
        UnknownProviderError: None of that name.
        MissingExtraError: Its package is not installed.
        ConfigurationError: It has no such option, or no choice of models.
    """
    return cast("Reranker", _make(name, RERANKERS, "memory_plugin.rerankers"))


def late_interaction(name: str) -> LateInteraction:
    """The late interaction model of that name.

    Raises:
        UnknownProviderError: None of that name.
    """
    return cast("LateInteraction", _make(name, LATE, "memory_plugin.late_interaction"))


def pieces(embedder: Embedder) -> Pieces:
    """The tokenizer to cut passages with: the embedder's own, else the local model's."""
    if hasattr(embedder, "count") and hasattr(embedder, "tokenizer"):
        return cast("Pieces", embedder)
    return cast("Pieces", _make("local", EMBEDDERS, ""))


def split(name: str) -> tuple[str, str, dict[str, Any]]:
    """A name's provider, model ("" for the provider's own choice) and options.

    >>> split("openai:text-embedding-3-small?dimension=256&base_url=http://localhost:8080/v1")
    ('openai', 'text-embedding-3-small', {'dimension': 256, 'base_url': 'http://localhost:8080/v1'})

    Raises:
        ConfigurationError: An option has no value, is given twice, or is a key.
    """
    head, _, tail = name.partition("?")
    provider, _, model = head.partition(":")
    options: dict[str, Any] = {}
    for part in filter(None, tail.split("&")):
        option, equals, value = part.partition("=")
        # The value is left out of these messages: it may be what should not be shown.
        if not option or not equals:
            raise ConfigurationError(f"in {head!r}, what follows '?' is option=value, joined by '&'")
        if option in options:
            raise ConfigurationError(f"{head!r}: the option {option!r} is given twice")
        if option.endswith(SECRETS):
            raise ConfigurationError(
                f"{head!r}: a name is no place for {option!r}: set the provider's environment variable, or pass the "
                "provider as an object"
            )
        options[option] = _value(unquote(value))
    return provider, model, options


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=lambda _: text)
    except ValueError:
        return text


def _make(name: str, table: Mapping[str, tuple[str, str]], group: str) -> Any:
    provider, model, options = split(name)
    factory = _factory(provider, table, group)
    _check_arguments(provider, factory, model, options)
    return factory(model, **options) if model else factory(**options)


def _factory(provider: str, table: Mapping[str, tuple[str, str]], group: str) -> Callable[..., Any]:
    if provider in table:
        target, extra = table[provider]
        module, _, attribute = target.partition(":")
        try:
            return cast("Callable[..., Any]", getattr(importlib.import_module(module), attribute))
        except ImportError as error:
            if not extra or isinstance(error, MissingExtraError):
                raise
            raise MissingExtraError(f"{provider!r}", extra) from error
    from importlib.metadata import entry_points  # reads mail headers: slow to load

    found = {point.name: point for point in entry_points(group=group)}
    if provider not in found:
        known = ", ".join(sorted({*table, *found}))
        raise UnknownProviderError(f"no provider {provider!r} in {group}; known are: {known}")
    return cast("Callable[..., Any]", found[provider].load())


def _check_arguments(provider: str, factory: Callable[..., Any], model: str, options: Mapping[str, Any]) -> None:
    """Refuse what the factory does not take, before it is called.

    Raises:
        ConfigurationError: It names what would do.
    """
    parameters = inspect.signature(factory).parameters.values()
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if model and not positional and not any(one.kind is one.VAR_POSITIONAL for one in parameters):
        raise ConfigurationError(f"{provider!r} has one model only: leave out {':' + model!r}")
    more = [one for one in parameters if one.kind is one.VAR_KEYWORD]
    unpacked = [name for one in more for name in _unpacked(factory, one.name)]
    if more and not unpacked:
        return
    named = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY or one in positional[1:]]
    known = [name for name in (*named, *unpacked) if not name.endswith(SECRETS)]
    for option in options:
        if option not in known:
            raise ConfigurationError(
                f"{provider!r} has no option {option!r}; it has: {', '.join(sorted(known)) or 'none'}"
            )


def _unpacked(factory: Callable[..., Any], name: str) -> list[str]:
    """The keys of ``**name: Unpack[SomeTypedDict]``."""
    hints = get_type_hints(getattr(factory, "__init__") if isinstance(factory, type) else factory)  # noqa: B009
    return [key for one in get_args(hints.get(name)) for key in getattr(one, "__annotations__", ())]
