"""What an embedder or a reranker behind an API does when the API fails, as tests to inherit.

    class TestMine(ManagedEmbedderTests):
        vendor = "openai"

        def make(self, wire, **options):
            return MyEmbedder(base_url=wire.url("openai"), api_key=wire.key, **options)

The options are those of ``managed.service.Options``: ``attempts``, ``timeout``, ``deadline``, ``backoff``, ``batch``,
``concurrency``.  Every trial of ``TRIALS`` runs against ``testing.wire``, with whatever SDK the provider uses.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from memory_plugin.errors import EmbeddingError, ProviderError, QuotaError, RerankError
from memory_plugin.protocols import Embedder, Reranker
from memory_plugin.testing.providers import TEXTS, EmbedderTests, ProviderTests, RerankerTests
from memory_plugin.testing.wire import WireServer

QUERY = "Where does the cat sleep?"

QUICK: Mapping[str, Any] = MappingProxyType({"attempts": 4, "backoff": 0.02, "timeout": 5.0, "deadline": 10.0})
"""How providers are made in trials."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault, and what has to come of it.

    Args:
        name: What it is called.
        fault: Its kind, see ``wire.FAULTS``.
        options: Of the fault; without ``times`` it strikes for good.
        settings: Of the provider, over ``QUICK``.
        outcome: "right": the same result as without the fault; "error": the typed error; "quota": ``QuotaError``.
        requests: How many requests the vendor sees; None: as many as it takes.
        retryable: What the error says of itself.
        needs: "index" or "base64": what a format must have for the trial to mean something; "vector": embedders only.
        seconds: It takes so long at least, and at most.
    """

    name: str
    fault: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    outcome: Literal["right", "error", "quota"] = "right"
    requests: int | None = 1
    retryable: bool = False
    needs: Literal["", "index", "base64", "vector"] = ""
    seconds: tuple[float, float] = (0.0, 60.0)


def _passing(fault: str, times: int = 2, name: str = "", **options: Any) -> Trial:
    return Trial(name or f"{fault}, {times}x", fault, {"times": times, **options}, requests=times + 1)


def _lasting(fault: str, options: Mapping[str, Any] = MappingProxyType({}), **changes: Any) -> Trial:
    given: dict[str, Any] = {"outcome": "error", "requests": QUICK["attempts"], "retryable": True, **changes}
    return Trial(f"{fault}, for good", fault, {"times": None, **options}, **given)


def _fatal(fault: str, **changes: Any) -> Trial:
    return Trial(fault, fault, {"times": None}, **{"outcome": "error", **changes})


SLOW = {"timeout": 0.4, "deadline": 1.0, "attempts": 2}

TRIALS: tuple[Trial, ...] = (
    _passing("rate-limit"),
    Trial("Retry-After 0.4", "rate-limit", {"retry_after": 0.4}, requests=2, seconds=(0.4, 60.0)),
    Trial("retry-after-ms 400", "rate-limit", {"retry_after_ms": 400}, requests=2, seconds=(0.4, 60.0)),
    Trial(
        "Retry-After 3600", "rate-limit", {"times": None, "retry_after": 3600}, outcome="error", retryable=True,
        seconds=(0.0, 60.0),
    ),
    _lasting("rate-limit"),
    _fatal("quota", outcome="quota"),
    _fatal("unauthorized"),
    _fatal("forbidden"),
    _fatal("bad-request"),
    _fatal("not-found"),
    _fatal("redirect"),
    _passing("server-error"),
    _lasting("server-error"),
    _passing("unavailable"),
    _passing("drop"),
    _lasting("drop"),
    _passing("truncated", 1),
    _passing("malformed", 1),
    _lasting("malformed"),
    _lasting("html"),
    Trial("slow, 1x", "slow", {"seconds": 1.5}, {"timeout": 0.5}, requests=None),
    _lasting("slow", {"seconds": 60.0}, settings=SLOW, requests=None, seconds=(0.4, 30.0)),
    _lasting("drip", {"seconds": 60.0}, settings=SLOW, requests=None, seconds=(0.4, 30.0)),
    _fatal("short-vector", needs="vector"),
    _fatal("nan"),
    _fatal("zero", needs="vector"),
    _fatal("missing"),
    _fatal("extra"),
    _fatal("wrong-index", needs="index"),
    _fatal("bad-base64", needs="base64"),
    Trial("shuffled", "shuffled", needs="index"),
    Trial("base64, unasked", "base64", needs="base64"),
    Trial("float, unasked", "float", needs="base64"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial.

    Args:
        expected: What the provider returned before.
        result: What it returned, or None.
        error: What it raised, or None.
        requests: How many requests the vendor saw.
        seconds: How long it took.
        answered: How many answers, and texts in them, the provider counted.
    """

    expected: Any
    result: Any
    error: Exception | None
    requests: int
    seconds: float
    answered: tuple[int, int]

    @property
    def words(self) -> str:
        """In a few words."""
        times = f"{self.requests} request{'' if self.requests == 1 else 's'}"
        if self.error is None:
            return f"right, {times}"
        again = ", retryable" if getattr(self.error, "retryable", False) else ""
        return f"{type(self.error).__name__}{again}, {times}"


class _ManagedTests(ProviderTests):
    """What both kinds share."""

    vendor: ClassVar[str]
    """In whose format the provider speaks."""
    operation: ClassVar[str]
    error: ClassVar[type[ProviderError]]
    indexed: ClassVar[bool] = True
    """Whether results carry the index of their text."""
    base64: ClassVar[bool] = True
    """Whether vectors may travel as base64."""
    own_key: ClassVar[str] = ""
    """What an error about the key has to name."""

    @pytest.fixture
    def wire(self) -> Iterator[WireServer]:
        """The server, nothing failing."""
        with WireServer() as wire:
            yield wire

    def make(self, wire: WireServer, **options: Any) -> Any:
        """The provider to test."""
        raise NotImplementedError("say how the provider is made")

    def work(self, provider: Any) -> Any:
        """Let it do what it is for."""
        raise NotImplementedError

    def means(self, trial: Trial) -> bool:
        """Whether the trial means something for this format."""
        return {"": True, "index": self.indexed, "base64": self.base64, "vector": True}[trial.needs]

    def strike(self, trial: Trial, wire: WireServer) -> Outcome:
        """Work once without the fault, then with it."""
        provider = self.make(wire, **{**QUICK, **trial.settings})
        try:
            expected = self.work(provider)
            before, asked = provider.usage, len(wire.asked(self.vendor, self.operation))
            wire.fail(self.vendor, trial.fault, operation=self.operation, **trial.options)
            result, error, began = None, None, time.monotonic()
            try:
                result = self.work(provider)
            except Exception as raised:  # noqa: BLE001 - what it is, is what is asked
                error = raised
            seconds = time.monotonic() - began
            after = provider.usage
        finally:
            provider.close()
        seen = len(wire.asked(self.vendor, self.operation)) - asked
        answered = after.requests - before.requests, after.texts - before.texts
        return Outcome(expected, result, error, seen, seconds, answered)

    @pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
    def test_under_a_fault(self, trial: Trial, wire: WireServer, caplog: pytest.LogCaptureFixture) -> None:
        if not self.means(trial):
            pytest.skip("this format has no such thing")
        with caplog.at_level(logging.DEBUG):
            outcome = self.strike(trial, wire)
        if trial.requests is not None:
            assert outcome.requests == trial.requests, outcome.words
        assert trial.seconds[0] <= outcome.seconds <= trial.seconds[1]
        if trial.outcome == "right":
            assert outcome.error is None, repr(outcome.error)
            assert np.allclose(np.asarray(outcome.result), np.asarray(outcome.expected), atol=1e-6)
            assert outcome.answered == (1, len(TEXTS))
        else:
            self.check_error(trial, outcome)
        assert wire.key not in caplog.text
        assert wire.key not in str([record.args for record in caplog.records])

    def check_error(self, trial: Trial, outcome: Outcome) -> None:
        """The error is of the right kind, says what to do, and shows no key."""
        error = outcome.error
        assert isinstance(error, QuotaError if trial.outcome == "quota" else self.error), repr(error)
        assert error.retryable is trial.retryable, str(error)
        assert error.provider.startswith(f"{self.vendor}:")
        if trial.fault in ("unauthorized", "forbidden"):
            assert self.own_key in str(error)
        if trial.fault in ("unauthorized", "quota", "server-error", "rate-limit"):
            assert error.request_id is not None
            assert error.request_id in str(error)
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        assert "wire-key" not in shown
        assert "wire-key" not in repr(error)
        assert len(str(error)) < 1500

    def test_many_requests_keep_their_order_under_faults(self, wire: WireServer) -> None:
        provider = self.make(wire, **QUICK, batch=3, concurrency=3)
        expected = self.many(provider)
        before, asked = provider.usage, len(wire.asked(self.vendor, self.operation))
        wire.fail(self.vendor, "rate-limit", times=2, operation=self.operation)
        wire.fail(self.vendor, "drop", operation=self.operation)
        found, after = self.many(provider), provider.usage
        provider.close()
        assert np.allclose(np.asarray(found), np.asarray(expected), atol=1e-6)
        assert len(wire.asked(self.vendor, self.operation)) - asked == 14 + 3
        assert (after.requests - before.requests, after.texts - before.texts) == (14, 40)

    def many(self, provider: Any) -> Any:
        """Work on 40 texts."""
        raise NotImplementedError

    def test_the_key_shows_nowhere(self, wire: WireServer) -> None:
        provider = self.make(wire)
        self.work(provider)
        assert wire.key not in repr(provider)
        assert wire.key not in str({name: str(value) for name, value in vars(provider).items()})
        provider.close()
        self.work(provider)  # it opens again
        provider.close()
        provider.close()


def forty() -> list[str]:
    """Texts that differ."""
    return [f"{TEXTS[place % 3]} Remark {place}." for place in range(40)]


class ManagedEmbedderTests(_ManagedTests, EmbedderTests):
    """Inherit, and give ``vendor`` and ``make``."""

    operation = "embed"
    error = EmbeddingError

    @pytest.fixture
    def embedder(self, wire: WireServer) -> Iterator[Embedder]:
        """Nothing fails."""
        made = self.make(wire)
        yield made
        made.close()

    def work(self, provider: Any) -> Any:
        """Vectors of the texts."""
        return self.vectors(provider, TEXTS)

    def many(self, provider: Any) -> Any:
        """Vectors of 40 texts."""
        return self.vectors(provider, forty())


class ManagedRerankerTests(_ManagedTests, RerankerTests):
    """Inherit, and give ``vendor`` and ``make``."""

    operation = "rerank"
    error = RerankError
    base64 = False

    def means(self, trial: Trial) -> bool:
        """Scores are no vectors."""
        return trial.needs != "vector" and super().means(trial)

    @pytest.fixture
    def reranker(self, wire: WireServer) -> Iterator[Reranker]:
        """Nothing fails."""
        made = self.make(wire)
        yield made
        made.close()

    def work(self, provider: Any) -> Any:
        """Scores of the texts."""
        return self.call(provider.rerank, QUERY, TEXTS)

    def many(self, provider: Any) -> Any:
        """Scores of 40 texts."""
        return self.call(provider.rerank, QUERY, forty())
