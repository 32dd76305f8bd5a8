"""What a text-embeddings-inference server tells of itself."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from memory_plugin.errors import ManifestMismatchError
from memory_plugin.managed.answers import at, whole
from memory_plugin.managed.http import HttpConnection
from memory_plugin.managed.limits import Facts
from memory_plugin.managed.service import Service

ANY = "any"
"""The model that stands for whichever one the server runs."""

TOKENS = 400_000
"""Of all texts in a request; the server takes bodies of 2 MB."""


class Info:
    """GET /info, asked once.

    Args:
        service: Where the server is.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def model(self) -> str:
        """The model's name on the hub, or its directory.

        Raises:
            ManifestMismatchError: The server runs another one than was asked for.
        """
        found = str(at(self._told, "model_id"))
        if self._service.model not in (ANY, found):
            raise ManifestMismatchError(
                f"the server at {self._service.base_url} runs {found!r}, not {self._service.model!r}: "
                f"start it with that model, or name {found!r}"
            )
        return found

    @property
    def revision(self) -> str | None:
        """The commit of the model's repository and the element type it is run in, where the server knows it."""
        commit = self._told.get("model_sha")
        return f"{str(commit)[:16]}+{self._told.get('model_dtype', '')}" if commit else None

    @property
    def facts(self) -> Facts:
        """What the server takes."""
        return Facts(
            sizes=None,
            window=(whole(self._told, "max_input_length") or 512) - 2,  # it counts [CLS] and [SEP]
            texts=whole(self._told, "max_client_batch_size") or 32,
            tokens=TOKENS,
        )

    @cached_property
    def _told(self) -> dict[str, Any]:
        def ask(connection: HttpConnection, path: str, seconds: float) -> dict[str, Any]:
            found = connection.get(path, seconds)
            at(found, "model_id")
            return dict(found)

        return self._service.run(["/info"], ask)[0]
