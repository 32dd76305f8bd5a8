"""Models that Ollama runs, here or elsewhere."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar, Unpack

from memory_plugin.embedders.openai import OpenAIEmbedder
from memory_plugin.managed.failure import CallError
from memory_plugin.managed.http import HttpConnection
from memory_plugin.managed.limits import TooLong
from memory_plugin.managed.service import Options, Vendor, hide_key
from memory_plugin.managed.vendors import OLLAMA

TAGS_SECONDS = 10.0


class OllamaEmbedder(OpenAIEmbedder):
    """A model that Ollama runs, through its OpenAI interface; what holds for ``OpenAIEmbedder`` holds here.

    Ollama tells the digest of a model's file, which makes the revision: the space stays the same when the same model
    is served elsewhere, and is another one when ``ollama pull`` brings another file under the name.

    Ollama cuts what is longer than the model's context in silence, unless ``window=`` says how much that is.  Many
    of its models want prefixes, which it does not put: pass ``query_prefix="search_query: "`` and
    ``document_prefix="search_document: "`` for nomic-embed-text.
    """

    vendor: ClassVar[Vendor] = OLLAMA

    def __init__(
        self,
        model: str = "nomic-embed-text",
        *,
        dimension: int | None = None,
        too_long: TooLong = "pool",
        query_prefix: str = "",
        document_prefix: str = "",
        window: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(
            model,
            dimension=dimension,
            too_long=too_long,
            query_prefix=query_prefix,
            document_prefix=document_prefix,
            window=window,
            **hide_key(options),
        )

    def _revision(self) -> str | None:
        """The beginning of the digest; None where there is no such list, as behind a gateway."""
        connection = HttpConnection(self._service, base_url=self._service.base_url.removesuffix("/v1"))
        with contextlib.closing(connection), contextlib.suppress(CallError):
            return _digest(connection.get("/api/tags", TAGS_SECONDS), self._service.model)
        return None


def _digest(tags: Any, model: str) -> str | None:
    models = tags.get("models") if isinstance(tags, dict) else None
    for one in models if isinstance(models, list) else []:
        if isinstance(one, dict) and one.get("name") in (model, f"{model}:latest"):
            digest = str(one.get("digest") or "").removeprefix("sha256:")
            return digest[:16] or None
    return None
