"""What a reranker behind an API does beside its one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

from memory_plugin.errors import InvalidInputError, RerankError
from memory_plugin.managed.embedder import check_texts
from memory_plugin.managed.limits import Facts, Part, Ruler, TooLong, batches, best, parts
from memory_plugin.managed.service import Connection, Options, Service, Vendor, described, hide_key
from memory_plugin.types import Usage

QUERY_SHARE = 2
"""A query takes at most one part in so many of what the model reads."""


class ManagedReranker:
    """Scores from a model behind an API.  A vendor's reranker says what differs: see the hooks below.

    Each pair of query and text is scored by itself, so that it does not matter in which request it is sent; where a
    model reads all texts together, they go into one.  Safe to use from several threads, and after a fork.

    Args:
        model: The vendor's name of the model.
        too_long: What is done with a text that, with the query, is longer than the model reads: "pool" scores its
            parts and takes the best; "refuse" raises.
        options: See ``managed.service.Options``.

    Raises:
        MissingExtraError: The vendor's SDK is not installed.
        InvalidInputError: An argument cannot be used.
    """

    vendor: ClassVar[Vendor]
    models: ClassVar[dict[str, Facts]] = {}
    """Those that are known."""
    unknown: ClassVar[Facts] = Facts(texts=1000)
    """What is taken to hold for others."""
    listwise: ClassVar[frozenset[str]] = frozenset()
    """Models that read all texts together."""

    def __init__(self, model: str, *, too_long: TooLong = "pool", **options: Unpack[Options]) -> None:
        hide_key(options)
        if too_long not in ("pool", "refuse"):
            raise InvalidInputError(f"too_long is 'pool' or 'refuse', not {too_long!r:.80}")
        self._service = Service(self.vendor, model, RerankError, self._connect, options)
        self._too_long: TooLong = too_long

    # ── what a vendor's reranker says ─────────────────────────────────────────────────────────────

    def _connect(self, service: Service) -> Connection:
        """What requests are made with."""
        raise NotImplementedError

    def _request(self, connection: Any, query: str, texts: list[str], seconds: float) -> Any:
        """One request: the answer's JSON; raises ``CallError``."""
        raise NotImplementedError

    def _scores(self, body: Any, number: int) -> list[float]:
        """The scores in the answer, in the order of the texts."""
        raise NotImplementedError

    def _billed(self, body: Any) -> tuple[int, float]:
        """Tokens and search units that the answer says were charged."""
        raise NotImplementedError

    def _ruler(self) -> Ruler:
        """Measures texts in the model's tokens."""
        raise NotImplementedError

    def _facts(self) -> Facts:
        """What is known of the model; its window is for query and text together."""
        return self.models.get(self._service.model, self.unknown)

    # ── what all have ─────────────────────────────────────────────────────────────────────────────

    @property
    def model(self) -> str:
        """Vendor and model, and what tells it from another of that name."""
        return f"{self._service.name}@{self._service.revision()}"

    @property
    def leaves_machine(self) -> bool:
        """Whether texts are sent to another machine."""
        return self._service.leaves_machine

    @property
    def usage(self) -> Usage:
        """All of it since the reranker was made."""
        return self._service.meter.usage

    def rerank(self, query: str, texts: Sequence[str], /) -> list[float]:
        """One score a text, in input order; higher is better.

        Raises:
            InvalidInputError: The query or a text is empty, holds a lone surrogate, or is too long and to be refused.
            RerankError: The vendor failed, or what it returned is not n finite scores.
            QuotaError: The account is out of credit.
        """
        check_texts([query], "query")
        check_texts(texts)
        if not texts:
            return []
        facts, ruler = self._facts(), self._ruler()
        query, room = self._fitting(query, ruler, facts)
        sent = parts(texts, ruler, window=room, prefix="", too_long=self._too_long)
        limit = self._service.batch or facts.texts
        if self._service.model in self.listwise and len(sent) > limit:
            raise InvalidInputError(
                f"{self._service.name} reads all texts together, at most {limit}, not {len(sent)}: rerank fewer"
            )
        beside = 0 if facts.tokens is None else ruler.tokens(query)  # which vendors count once for each text
        jobs = batches(sent, ruler, texts=limit, tokens=facts.tokens, beside=beside)

        def send(connection: Any, job: Sequence[Part], seconds: float) -> list[float]:
            body = self._request(connection, query, [part.text for part in job], seconds)
            tokens, searches = self._billed(body)
            self._service.count(texts=len(job), tokens=tokens, searches=searches)
            return self._scores(body, len(job))

        made = self._service.run(jobs, send)
        return best((score for scores in made for score in scores), sent, len(texts))

    def close(self) -> None:
        """Let go of the connections; another call makes new ones."""
        self._service.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({described(self)})"

    def _fitting(self, query: str, ruler: Ruler, facts: Facts) -> tuple[str, int | None]:
        """The query, its beginning kept where it is too long, and the tokens that it leaves for a text."""
        if facts.window is None:
            return query, None
        share = facts.window // QUERY_SHARE
        if not ruler.fits(query, share):
            if self._too_long == "refuse":
                raise InvalidInputError(f"the query has more than {share} tokens: shorten it, or use too_long='pool'")
            query = ruler.parts(query, share)[0]
        return query, facts.window - ruler.tokens(query) - SPECIAL


SPECIAL = 8
"""Tokens that a model may put around query and text."""
