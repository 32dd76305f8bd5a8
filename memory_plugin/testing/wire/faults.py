"""What can go wrong, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from memory_plugin.types import Matrix

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "rate-limit": "429, with Retry-After or retry-after-ms where they are given",
        "quota": "out of credit, as the vendor says it",
        "unauthorized": "401",
        "forbidden": "403",
        "bad-request": "400",
        "not-found": "404",
        "server-error": "500",
        "unavailable": "503",
        "redirect": "307 to another address",
        "drop": "the connection is closed without an answer",
        "truncated": "the connection is closed in the middle of the answer",
        "malformed": "half of the JSON, as if it were all",
        "html": "a page of a proxy, with status 200",
        "slow": "the answer comes after some seconds",
        "drip": "the answer comes byte by byte over some seconds",
        "short-vector": "one vector lacks its last number",
        "nan": "one vector, or score, is not a number",
        "zero": "one vector is zero",
        "missing": "one result is missing",
        "extra": "one result is there twice",
        "wrong-index": "two results have the same index",
        "shuffled": "results in another order, with their indices",
        "base64": "base64 though floats were asked for",
        "float": "floats though base64 was asked for",
        "bad-base64": "base64 that breaks off",
    }
)
"""Every fault and what it is."""

STATUSES: Mapping[str, int] = MappingProxyType(
    {
        "rate-limit": 429,
        "unauthorized": 401,
        "forbidden": 403,
        "bad-request": 400,
        "not-found": 404,
        "server-error": 500,
        "unavailable": 503,
    }
)


@dataclass(slots=True)
class Fault:
    """One fault, for some requests.

    Args:
        kind: Its name, one of ``FAULTS``.
        times: For how many requests; None: all from now on.
        operation: "embed", "rerank", "info", or "" for embed and rerank.
        retry_after: The header's value: seconds or a date.
        retry_after_ms: Likewise, milliseconds.
        seconds: For "slow" and "drip".
        message: What the vendor says.
    """

    kind: str
    times: int | None = 1
    operation: str = ""
    retry_after: float | str | None = None
    retry_after_ms: float | None = None
    seconds: float = 1.0
    message: str = ""

    def __post_init__(self) -> None:
        """Refuse an unknown one."""
        if self.kind not in FAULTS:
            raise ValueError(f"no fault {self.kind!r}; there are: {', '.join(FAULTS)}")

    def is_for(self, operation: str) -> bool:
        """Whether it strikes such a request."""
        wanted = (self.operation,) if self.operation else ("embed", "rerank")
        return self.times != 0 and operation in wanted

    @property
    def headers(self) -> dict[str, str]:
        """What asks the client to wait."""
        found = {"Retry-After": self.retry_after, "retry-after-ms": self.retry_after_ms}
        return {name: str(value) for name, value in found.items() if value is not None}


NO_FAULT = Fault("drop", times=0)


def damaged(vectors: Matrix, kind: str) -> list[tuple[int, Matrix]]:
    """Vectors with their indices, as a fault leaves them."""
    rows = list(enumerate(vectors))
    last = vectors[-1].copy()
    changed = {
        "short-vector": last[:-1],
        "nan": np.concatenate([last[:-1], np.full(1, np.nan, np.float32)]),
        "zero": np.zeros_like(last),
    }
    if kind in changed:
        rows[-1] = (rows[-1][0], changed[kind])
    return rearranged(rows, kind)


def rearranged(rows: list[tuple[int, Matrix]], kind: str) -> list[tuple[int, Matrix]]:
    """Results missing, doubled, or in another order."""
    if kind == "missing":
        return rows[:-1]
    if kind == "extra":
        return [*rows, rows[-1]]
    if kind == "wrong-index":
        return [*rows[:-1], (max(len(rows) - 2, 0) if len(rows) > 1 else 7, rows[-1][1])]
    if kind == "shuffled":
        return rows[::-1]
    return rows
