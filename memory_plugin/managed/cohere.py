"""Cohere's SDK, for its embedder and its reranker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from memory_plugin.managed.failure import CallError, answered, unreadable
from memory_plugin.managed.http import guarded, httpx_failures
from memory_plugin.managed.service import Service


class CohereConnection:
    """Calls of the SDK, its retries switched off.

    Args:
        service: Says where, and with which key.
    """

    def __init__(self, service: Service) -> None:
        import cohere

        self._http = httpx.Client(**guarded(service))
        key = service.key()
        self._sdk = cohere.ClientV2(
            api_key="none" if key is None else key.reveal(),
            base_url=service.base_url,
            httpx_client=self._http,
            client_name="memory-plugin",
            log_warning_experimental_features=False,
        )

    def embed(self, seconds: float, **body: Any) -> Any:
        """POST /v2/embed; the answer's JSON."""
        return self._call(self._sdk.embed, seconds, body)

    def rerank(self, seconds: float, **body: Any) -> Any:
        """POST /v2/rerank; the answer's JSON."""
        return self._call(self._sdk.rerank, seconds, body)

    def close(self) -> None:
        """Close the sockets."""
        self._http.close()

    def _call(self, method: Callable[..., Any], seconds: float, body: dict[str, Any]) -> Any:
        from cohere.core.api_error import ApiError

        options = {"timeout_in_seconds": seconds, "max_retries": 0}
        try:
            with httpx_failures(seconds):
                answer = method(**body, request_options=options)
        except ApiError as error:
            headers = {name.lower(): value for name, value in (error.headers or {}).items()}
            if error.status_code is None or error.status_code < 300:
                raise unreadable("is no JSON of this kind", headers=headers, cause=error) from None
            raise answered(error.status_code, headers, error.body, cause=error) from None
        try:
            # What the SDK makes of an answer is not checked by it: back to JSON, which is checked here.
            found = answer.model_dump(mode="python", by_alias=True, warnings=False)
            vectors = found.get("embeddings")
            if isinstance(vectors, dict) and "float_" in vectors:  # as older versions call it
                vectors["float"] = vectors.pop("float_")
            return found
        except Exception as error:  # noqa: BLE001 - an answer of another form may break it anywhere
            raise CallError("an answer of another form than Cohere's", cause=error) from None
