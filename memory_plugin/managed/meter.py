"""Counts what a provider was used for."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

from memory_plugin.types import Usage


class Meter:
    """Adds up, from any thread.

    Args:
        price: Dollars per million tokens; None where it is not known.
        price_of_search: Dollars per search unit, for vendors that charge by the search.
    """

    def __init__(self, price: float | None, price_of_search: float | None = None) -> None:
        self._price = price
        self._price_of_search = price_of_search
        self._total = Usage(cost=None if price is None and price_of_search is None else 0.0)
        self._locks = {os.getpid(): threading.Lock()}

    def add(self, *, texts: int, tokens: int, searches: float = 0) -> None:
        """Count a request that the vendor answered."""
        # After a fork another thread may have held the lock for good: each process has its own.
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            total, cost = self._total, self._total.cost
            if cost is not None:
                cost += tokens * (self._price or 0.0) / 1e6 + searches * (self._price_of_search or 0.0)
            self._total = replace(
                total,
                requests=total.requests + 1,
                texts=total.texts + texts,
                tokens=total.tokens + tokens,
                cost=cost,
            )

    @property
    def usage(self) -> Usage:
        """All of it so far."""
        return self._total
