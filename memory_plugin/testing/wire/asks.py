"""A request to the server, and what a vendor's format is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from memory_plugin.testing.wire.faults import Fault, damaged
from memory_plugin.testing.wire.vectors import embed, score, tokens, written
from memory_plugin.types import Matrix

Body: TypeAlias = Mapping[str, Any]
Handler: TypeAlias = "Callable[[Ask], Any]"

KNOWN = {
    "text-embedding-3-large": 3072,
    "text-embedding-3-small": 1536,
    "text-embedding-ada-002": 1536,
    "embed-v5.0-pro": 2048,
    "embed-v5.0-fast": 2048,
    "embed-v4.0": 1536,
    "embed-english-light-v3.0": 384,
    "embed-multilingual-light-v3.0": 384,
    "voyage-3-lite": 512,
    "voyage-code-2": 1536,
    "jina-embeddings-v5-text-nano": 768,
    "jina-embeddings-v4": 2048,
    "zembed-1": 2560,
    "nomic-embed-text": 768,
}
"""Dimension of a model; those that are not here have that of their vendor."""


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """The vendor answers with an error.

    Args:
        status: Its status.
        message: Its words.
        code: Its code.
    """

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


@dataclass(frozen=True, slots=True)
class Ask:
    """A request.

    Args:
        path: Below the vendor's address.
        body: Its JSON.
        fault: What is to go wrong in the answer.
        seed: Which model answers.
        dimension: Of models that are not known.
    """

    path: str
    body: Body
    fault: Fault
    seed: str
    dimension: int

    def texts(self, key: str, *, most: int, window: int, total: int = 10**9) -> list[str]:
        """The texts of the request, within limits."""
        given = self.body.get(key)
        found = [given] if isinstance(given, str) else given
        if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
            raise Refused(400, f"'{key}' has to be a text or a list of texts")
        if len(found) > most:
            raise Refused(400, f"'{key}' has {len(found)} texts, at most {most} are allowed")
        lengths = [tokens(one) for one in found]
        if not all(one.strip() for one in found):
            raise Refused(400, f"'{key}' must not hold an empty text")
        if max(lengths) > window:
            raise Refused(400, f"a text of {max(lengths)} tokens exceeds the maximum of {window}")
        if sum(lengths) > total:
            raise Refused(400, f"{sum(lengths)} tokens in a request exceed the maximum of {total}")
        return found

    def vectors(self, texts: list[str], told: str, asked: Any, default: int | None = None) -> list[tuple[int, Matrix]]:
        """Vectors with their indices, with the fault in them."""
        model = str(self.body.get("model", "")).split(":")[0]
        native = KNOWN.get(model, default or self.dimension)
        dimension = int(asked or native)
        if dimension > native:
            raise Refused(400, f"dimension {dimension} is more than the {native} of {model}")
        made = embed(texts, native=native, dimension=dimension, told=told, seed=f"{self.seed}\0{model}")
        return damaged(made, self.fault.kind)

    def encoding(self, asked: str) -> str:
        """How vectors travel, with the fault in it."""
        if self.fault.kind in ("base64", "float"):
            return self.fault.kind
        return "base64" if self.fault.kind == "bad-base64" and asked == "float" else asked

    def write(self, vector: Matrix, encoding: str) -> Any:
        """A vector as it travels, with the fault in it."""
        found = written(vector, encoding)
        return found[:-6] if self.fault.kind == "bad-base64" and isinstance(found, str) else found

    def ranked(self, key: str, name: str = "relevance_score") -> list[dict[str, Any]]:
        """Scores with their indices, best first, with the fault in them."""
        texts = self.texts(key, most=1000, window=10**9)
        query = self.body.get("query")
        if not isinstance(query, str) or not query:
            raise Refused(400, "'query' has to be a text")
        rows = [{"index": place, name: one} for place, one in enumerate(score(query, texts))]
        rows.sort(key=lambda row: -float(row[name]))
        kind = self.fault.kind
        if kind == "nan":
            rows[-1][name] = float("nan")
        if kind == "wrong-index":
            rows[-1]["index"] = len(rows) + 3
        if kind == "missing":
            rows.pop()
        if kind == "extra":
            rows.append(rows[-1])
        return rows[::-1] if kind == "shuffled" else rows


@dataclass(frozen=True, slots=True)
class Format:
    """A vendor's format.

    Args:
        base: What follows the vendor's name in its address.
        routes: Operation and handler by method and path; a path may hold ``*`` for one part.
        error: An error's JSON, of status, message and code.
        quota: Status, message and code when the account is out of credit.
        auth: Whether a key is wanted.
        request_id: Header with the name of the call.
    """

    base: str
    routes: Mapping[str, tuple[str, Handler]]
    error: Callable[[int, str, str], Any]
    quota: tuple[int, str, str]
    auth: bool = True
    request_id: str = "x-request-id"
    codes: Mapping[int, str] = field(default_factory=dict)
