"""OpenAI's embedding models through its SDK, and whatever else speaks its format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, Unpack

from memory_plugin.errors import InvalidInputError
from memory_plugin.managed.answers import at, ordered, parsed, whole
from memory_plugin.managed.embedder import ManagedEmbedder
from memory_plugin.managed.failure import answered, unreadable
from memory_plugin.managed.http import guarded, timed_out, unreachable
from memory_plugin.managed.limits import Facts, Ruler, TooLong
from memory_plugin.managed.service import Connection, Options, Service, Vendor, hide_key
from memory_plugin.managed.vendors import OPENAI
from memory_plugin.models.ruler import openai_ruler
from memory_plugin.types import InputType

if TYPE_CHECKING:
    from openai import OpenAI


class _Limits(TypedDict):
    window: int
    texts: int
    tokens: int


LIMITS: _Limits = {"window": 8191, "texts": 2048, "tokens": 300_000}
"""Of OpenAI's own models."""


class OpenAIEmbedder(ManagedEmbedder):
    """text-embedding-3-small, -large, or any model of a service that speaks OpenAI's format.

    With ``base_url`` it talks to vLLM, LM Studio, llama.cpp, text-embeddings-inference, LiteLLM, a vendor.  Of a model
    that is not OpenAI's own, the dimension is asked for and the window is not known, and requests hold 32 texts, which
    every such service takes; ``window=`` and ``batch=`` tell better.

    Args:
        model: The service's name of the model.
        dimension: Shorter vectors ("dimensions" of the request), where the model was trained for it.
        too_long: "pool" or "refuse", see ``ManagedEmbedder``.
        query_prefix: Put before a query, for models that want it; this class does it, not the service.
        document_prefix: Put before a document.
        window: Tokens of a text that the model reads.
        encoding: How vectors travel: "base64", a third of the bytes, or "float" for services that refuse base64.  Both
            are understood, whatever was asked for.
        options: See ``managed.service.Options``.
    """

    vendor: ClassVar[Vendor] = OPENAI
    models: ClassVar[dict[str, Facts]] = {
        "text-embedding-3-small": Facts(1536, None, **LIMITS),
        "text-embedding-3-large": Facts(3072, None, **LIMITS),
        "text-embedding-ada-002": Facts(1536, (), **LIMITS),
    }
    unknown: ClassVar[Facts] = Facts(sizes=None, texts=32, tokens=LIMITS["tokens"])

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        dimension: int | None = None,
        too_long: TooLong = "pool",
        query_prefix: str = "",
        document_prefix: str = "",
        window: int | None = None,
        encoding: Literal["base64", "float"] = "base64",
        **options: Unpack[Options],
    ) -> None:
        hide_key(options)
        if encoding not in ("base64", "float"):
            raise InvalidInputError(f"encoding is 'base64' or 'float', not {encoding!r:.80}")
        if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 8):
            raise InvalidInputError(f"window is a whole number of tokens from 8 on, not {window!r:.80}")
        super().__init__(model, dimension=dimension, too_long=too_long, **options)
        self._prefixes = {"query": str(query_prefix), "document": str(document_prefix)}
        self._window = window
        self._encoding = encoding

    def _connect(self, service: Service) -> Connection:
        import openai

        key = service.key()
        return openai.OpenAI(
            api_key="none" if key is None else key.reveal(), base_url=service.base_url, **sdk_options(service)
        )

    def _request(self, connection: OpenAI, texts: list[str], input_type: InputType, seconds: float) -> Any:
        sized = self._sized()
        named: dict[str, Any] = {} if sized is None else {"dimensions": sized}
        with openai_failures(seconds):
            answer = connection.embeddings.with_raw_response.create(
                model=self._service.model, input=texts, encoding_format=self._encoding, timeout=seconds, **named
            )
            # Parsed here: what the SDK makes of an answer that is not as it should be depends on its version.
            return parsed(answer.http_response.content, lowered(answer.http_response.headers))

    def _rows(self, body: Any, number: int) -> list[Any]:
        return ordered(at(body, "data"), number, "embedding")

    def _billed(self, body: Any) -> int:
        return whole(body, "usage", "total_tokens") or whole(body, "usage", "prompt_tokens")

    def _ruler(self) -> Ruler:
        return openai_ruler()

    def _prefix(self, input_type: InputType) -> str:
        return self._prefixes[input_type]

    def _facts(self) -> Facts:
        facts = super()._facts()
        if self._window is None:
            return facts
        return Facts(facts.dimension, facts.sizes, window=self._window, texts=facts.texts, tokens=facts.tokens)


def sdk_options(service: Service) -> dict[str, Any]:
    """What every client of the SDK is made with: no retries of its own, no redirects, no proxy to this machine."""
    import openai

    return {"max_retries": 0, "http_client": openai.DefaultHttpxClient(**guarded(service))}


@contextmanager
def openai_failures(seconds: float) -> Iterator[None]:
    """Turn what the SDK raises into ``CallError``.

    Args:
        seconds: What the attempt was given.
    """
    import openai

    try:
        yield
    except openai.APITimeoutError as error:
        raise timed_out(seconds, error) from None
    except openai.APIConnectionError as error:
        behind = error.__cause__ or error
        if type(behind).__name__ in ("RemoteProtocolError", "DecodingError"):
            raise unreadable(f"broke off ({behind})", cause=error) from None
        raise unreachable(behind) from None
    except openai.APIStatusError as error:
        headers = lowered(error.response.headers)
        body = error.body if error.body is not None else error.response.text
        raise answered(error.status_code, headers, body, cause=error) from None


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by lower-case name."""
    return {name.lower(): value for name, value in headers.items()}
