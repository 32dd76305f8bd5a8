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
from memory_plugin.errors import (
    ConfigurationError,
    MemoryPluginError,
    MissingExtraError,
    NetworkForbiddenError,
    UnknownProviderError,
)
from memory_plugin.network import require_local
from memory_plugin.protocols import AnyEmbedder, Embedder, LateInteraction, Reranker
from memory_plugin.types import ModelIdentity

# name → (module:attribute, the extra that it needs or "")
EMBEDDERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "local": ("memory_plugin.embedders.local:LocalEmbedder", ""),
        "sentence-transformers": (
            "memory_plugin.embedders.sentence_transformers:SentenceTransformersEmbedder",
            "sentence-transformers",
        ),
        "fastembed": ("memory_plugin.embedders.fastembed:FastEmbedEmbedder", "fastembed"),
        "clip": ("memory_plugin.embedders.clip:ClipEmbedder", "images"),
        "bge-m3": ("memory_plugin.embedders.bge_m3:BgeM3Embedder", ""),
        "openai": ("memory_plugin.embedders.openai:OpenAIEmbedder", "openai"),
        "azure": ("memory_plugin.embedders.azure:AzureEmbedder", "openai"),
        "ollama": ("memory_plugin.embedders.ollama:OllamaEmbedder", "openai"),
        "cohere": ("memory_plugin.embedders.cohere:CohereEmbedder", "cohere"),
        "voyage": ("memory_plugin.embedders.voyage:VoyageEmbedder", ""),
        "jina": ("memory_plugin.embedders.jina:JinaEmbedder", ""),
        "zeroentropy": ("memory_plugin.embedders.zeroentropy:ZeroEntropyEmbedder", ""),
        "tei": ("memory_plugin.embedders.tei:TeiEmbedder", ""),
        "vectors": ("memory_plugin.embedders.given:GivenVectors", ""),
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
        "sentence-transformers": (
            "memory_plugin.rerankers.sentence_transformers:SentenceTransformersReranker",
            "sentence-transformers",
        ),
        "fastembed": ("memory_plugin.rerankers.fastembed:FastEmbedReranker", "fastembed"),
        "cohere": ("memory_plugin.rerankers.cohere:CohereReranker", "cohere"),
        "voyage": ("memory_plugin.rerankers.voyage:VoyageReranker", ""),
        "jina": ("memory_plugin.rerankers.jina:JinaReranker", ""),
        "zeroentropy": ("memory_plugin.rerankers.zeroentropy:ZeroEntropyReranker", ""),
        "tei": ("memory_plugin.rerankers.tei:TeiReranker", ""),
    }
)

EMBEDDER_GROUP = "memory_plugin.embedders"
TRUNCATED = "memory_plugin.embedders.truncated:Truncated"

SECRETS = ("key", "token", "secret", "password")
"""Options whose names end like this have no place in a provider's name."""


def embedder(name: str, *, allow_network: bool = True) -> Embedder:
    """The embedder of that name.

    Args:
        name: ``provider[:model][?option=value&…]``.  ``dimension`` shortens the vectors of any model that was trained
            for it; ``force=true`` beside it those of another.
        allow_network: False refuses one that leaves the machine, before it is asked for anything.

    Raises:
        NetworkForbiddenError: It leaves the machine, or does not tell, and ``allow_network`` is False.
        UnknownProviderError: None of that name.
        MissingExtraError: Its package is not installed.
        ConfigurationError: It has no such option, or no choice of models.
    """
    provider, model, options = split(name)
    factory = _factory(provider, EMBEDDERS, EMBEDDER_GROUP)
    shorter: dict[str, Any] = {}
    if "dimension" in options and not _takes(factory, "dimension"):  # the model gives one dimension only: cut it
        shorter = {key: options.pop(key) for key in ("dimension", "force") if key in options}
    made = _called(provider, factory, model, options)
    if not allow_network:
        require_local(made, "embedder")
    return cast("Embedder", _imported(TRUNCATED)(made, **shorter) if shorter else made)


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
    """The late interaction of that name: "local", or an embedder's whose token vectors it is to score.

    Raises:
        UnknownProviderError: None of that name.
        MissingExtraError: Its package is not installed.
        ConfigurationError: The embedder of that name gives no token vectors to compare.
    """
    provider = split(name)[0]
    if provider in LATE or provider not in EMBEDDERS:
        return cast("LateInteraction", _make(name, LATE, "memory_plugin.late_interaction"))
    own = own_late_interaction(embedder(name))
    if own is None:
        raise ConfigurationError(f"{provider!r} gives no token vectors to compare: leave late out, or say 'local'")
    return own


def own_late_interaction(embedder: Embedder) -> LateInteraction | None:
    """Late interaction by an embedder's own token vectors; None where it has none (see ``TokenEncoder``)."""
    if not hasattr(embedder, "token_vectors"):
        return None
    return cast("LateInteraction", _factory("local", LATE, "")(embedder))


def adapted(value: AnyEmbedder, *, allow_network: bool = True) -> Embedder:
    """What was passed as an embedder, as one: an embedding object of LlamaIndex or LangChain is bridged.

    Anything else is returned as it is; whoever asked checks that it is an embedder.

    Raises:
        NetworkForbiddenError: It leaves the machine, or does not tell, and ``allow_network`` is False.
    """
    if not allow_network and hasattr(value, "embed"):
        require_local(value, "embedder")  # before its identity is looked at: some ask their service for it
    if not (hasattr(value, "embed") and hasattr(value, "identity")):
        bridges = importlib.import_module("memory_plugin.embedders.bridges")
        if bridges.framework_of(value) is not None:
            return cast("Embedder", bridges.Bridge(value))
    return cast("Embedder", value)


def of(identity: ModelIdentity, *, allow_network: bool = True) -> Embedder:
    """An embedder of exactly that identity, made from its name alone.

    Raises:
        NetworkForbiddenError: It leaves the machine, or does not tell, and ``allow_network`` is False.
        ConfigurationError: The name does not tell all of it, a package or a key is missing, or it changed since.
    """
    plain, size = f"{identity.provider}:{identity.model}", f"dimension={identity.dimension}"
    why = ""
    for head in (identity.provider, plain):
        for tail in ("", f"?{size}", f"?{size}&force=true"):
            try:
                made = embedder(head + tail, allow_network=allow_network)
                if made.identity == identity:
                    return made
            except NetworkForbiddenError:
                raise
            except MemoryPluginError as error:
                why = why or f" ({error})" if head == plain else why
    raise ConfigurationError(
        f"the model {plain} of {identity.dimension} dimensions, revision {identity.revision[:12]}, cannot be made from "
        f"its name{why}: name it with its options, e.g. --embedder '{plain}?base_url=…', or pass the object"
    )


def pieces(embedder: Embedder) -> Pieces:
    """The tokenizer to cut passages with: the embedder's own, else the local model's."""
    if hasattr(embedder, "count") and hasattr(embedder, "tokenizer"):
        return cast("Pieces", embedder)
    return local_pieces()


def local_pieces() -> Pieces:
    """The local model's tokenizer."""
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
    return _called(provider, _factory(provider, table, group), model, options)


def _called(provider: str, factory: Callable[..., Any], model: str, options: Mapping[str, Any]) -> Any:
    _check_arguments(provider, factory, model, options)
    return factory(model, **options) if model else factory(**options)


def _takes(factory: Callable[..., Any], option: str) -> bool:
    parameters = inspect.signature(factory).parameters
    return option in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _imported(target: str) -> Callable[..., Any]:
    module, _, attribute = target.partition(":")
    return cast("Callable[..., Any]", getattr(importlib.import_module(module), attribute))


def _factory(provider: str, table: Mapping[str, tuple[str, str]], group: str) -> Callable[..., Any]:
    if provider in table:
        target, extra = table[provider]
        try:
            return _imported(target)
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
