"""One vendor's model at one address: its key, its connections, how long to try, what it was used for."""

from __future__ import annotations

import importlib.util
import os
import re
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, TypeVar
from urllib.parse import urlsplit

from memory_plugin.errors import (
    ConfigurationError,
    InvalidInputError,
    MemoryPluginError,
    MissingExtraError,
    ProviderError,
    QuotaError,
)
from memory_plugin.managed import prices
from memory_plugin.managed.failure import CallError, chain, harmless
from memory_plugin.managed.meter import Meter
from memory_plugin.managed.retry import Policy, persist
from memory_plugin.managed.secret import Secret
from memory_plugin.managed.work import Turns, in_order
from memory_plugin.network import is_loopback

T = TypeVar("T")
R = TypeVar("R")


class Options(TypedDict, total=False):
    """What every managed provider may be told; all by keyword.

    Args:
        base_url: Where the service is.  Default: what the vendor's environment variable says, else the vendor's own.
        api_key: The key.  Default: what the vendor's environment variable holds, which is sent to the vendor's own
            address, and to one that is in the environment too, but to no other.
        key_from: Another environment variable to take the key from, whatever the address.
        revision: Tells two models of one name apart.  Default: the version of the vendor's interface, and the host
            where it is not the vendor's own: the same name elsewhere need not be the same model.  Give your own to
            say that it is, when a service moves.
        batch: Texts in a request at most, where a service takes fewer than the vendor does.
        concurrency: Requests at a time, whoever makes them.
        attempts: Of one request at most.
        timeout: Seconds for an attempt.
        deadline: Seconds for a request with all its attempts and the waits between them.
        backoff: Seconds of the first wait at most, doubled each time; a vendor that asks for another gets it.
        prices: Dollars per million tokens by "provider:model", before those of ``managed.prices``; per thousand
            searches for rerankers that are charged so.
    """

    base_url: str | None
    api_key: str | Secret | None
    key_from: str | None
    revision: str | None
    batch: int | None
    concurrency: int
    attempts: int
    timeout: float
    deadline: float
    backoff: float
    prices: Mapping[str, float] | None


@dataclass(frozen=True, slots=True)
class Vendor:
    """Where a vendor is and what it wants.

    Args:
        name: As in a provider's name.
        base_url: Its own address; "" where everybody has their own.
        key: Environment variable of the key; "" where none is needed.
        address: Environment variable of another address.
        api: Version of its interface.
        package: What its SDK is imported as; "" where none is needed.
        extra: What brings the SDK.
        also: Further addresses of its own.
        self_hosted: Whether users run the service themselves: its key is for wherever it is, and need not be.
    """

    name: str
    base_url: str
    key: str = ""
    address: str = ""
    api: str = "v1"
    package: str = ""
    extra: str = ""
    also: tuple[str, ...] = ()
    self_hosted: bool = False


class Connection(Protocol):
    """Whatever requests are made with."""

    def close(self) -> None:
        """Let go of its sockets."""


class Service:
    """Makes requests of one model, whichever vendor's.

    Args:
        vendor: Whose it is.
        model: Its name there.
        error: What a failure becomes.
        connect: Makes a connection; called once a process.  A method of whoever holds the service.
        options: As the caller gave them.

    Raises:
        MissingExtraError: The vendor's SDK is not installed.
        InvalidInputError: An option cannot be used.
    """

    def __init__(
        self,
        vendor: Vendor,
        model: str,
        error: type[ProviderError],
        connect: Callable[[Service], Connection],
        options: Options,
    ) -> None:
        hide_key(options)
        self._key = self._sent = Secret.of(options.get("api_key"))
        unknown = sorted(set(options) - set(Options.__annotations__))
        if unknown:
            known = ", ".join(sorted(Options.__annotations__))
            raise InvalidInputError(f"{vendor.name}: no argument {unknown[0]!r}; beside its own there are: {known}")
        if vendor.package and importlib.util.find_spec(vendor.package) is None:
            raise MissingExtraError(f"{vendor.name!r}", vendor.extra)
        if not isinstance(model, str) or not model.strip():
            raise InvalidInputError(f"{vendor.name}: name a model, such as {vendor.name}:some-model")
        self.vendor = vendor
        self.model = model
        self.name = f"{vendor.name}:{model}"
        self._error = error
        self._key_from = options.get("key_from")
        self.base_url = _address(vendor, options.get("base_url"))
        self._revision = options.get("revision")
        self.batch = _whole(options.get("batch"), "batch")
        self._concurrency = _whole(options.get("concurrency", 4), "concurrency") or 4
        given: dict[str, Any] = {name: options[name] for name in _POLICY if name in options}  # type: ignore[literal-required]
        self._policy = Policy(**given)
        own = options.get("prices")
        self._meter = Meter(prices.price(self.name, own), prices.price_of_search(self.name, own))
        self._connect = weakref.WeakMethod(connect)  # or the two would keep each other, and their sockets
        self._connections: dict[int, tuple[Connection, Turns]] = {}
        self._locks = {os.getpid(): threading.Lock()}
        weakref.finalize(self, _close, self._connections)

    # ── where, and as whom ────────────────────────────────────────────────────────────────────────

    @property
    def leaves_machine(self) -> bool:
        """Whether texts are sent to another machine."""
        return not is_loopback(self.base_url)

    @property
    def own_address(self) -> bool:
        """Whether the address is the vendor's own."""
        return not self.vendor.self_hosted and self.base_url in (self.vendor.base_url, *self.vendor.also)

    @property
    def host(self) -> str:
        """Host and port of the address."""
        return urlsplit(self.base_url).netloc

    def revision(self, found: str | None = None) -> str:
        """What tells this model from another of the same name.

        Args:
            found: What the service itself says, e.g. a hash of its weights.
        """
        if self._revision is not None:
            return str(self._revision)
        if found:
            return found
        return self.vendor.api if self.own_address else f"{self.vendor.api}@{self.host}"

    def key(self) -> Secret | None:
        """The key to send; None where none is needed.

        Raises:
            ConfigurationError: There is none; it says where it may be put.
        """
        if self._key is None:
            self._sent = self._found_key()
        return self._sent

    def _found_key(self) -> Secret | None:
        if self._key_from:
            found = Secret.of(os.environ.get(self._key_from))
            if found is None:
                raise ConfigurationError(f"{self.name}: the environment variable {self._key_from} holds no key")
            return found
        there = bool(self.vendor.address) and os.environ.get(self.vendor.address, "").rstrip("/") == self.base_url
        if not (self.own_address or self.vendor.self_hosted or there):
            return None
        found = Secret.of(os.environ.get(self.vendor.key, ""))
        if found is None and self.own_address:
            raise ConfigurationError(f"{self.name}: no key: set {self.vendor.key}, or pass api_key=")
        return found

    # ── calling ───────────────────────────────────────────────────────────────────────────────────

    def run(self, jobs: Sequence[T], send: Callable[[Any, T, float], R]) -> list[R]:
        """Send all jobs, some at a time, each until it succeeds; a result for each, in order.

        Args:
            jobs: One for each request.
            send: Makes one attempt with a connection, a job, and so many seconds; raises ``CallError``.

        Raises:
            ProviderError: One failed for good.
            QuotaError: The account is out of credit.
        """
        connection, turns = self._connection()
        error: ProviderError
        try:
            return in_order(
                jobs,
                lambda job, stop: persist(lambda seconds: send(connection, job, seconds), self._policy, stop),
                turns=turns,
                workers=self._concurrency,
                patience=self._policy.deadline + 1,
            )
        except CallError as failure:
            error = self._typed(failure)
        except MemoryPluginError:
            raise
        except Exception as raised:  # noqa: BLE001 - whatever an SDK raises is an error of the provider
            error = self._typed(CallError(f"{type(raised).__name__}: {raised}", cause=raised))
        raise error  # here, where no frame of an SDK with its headers is behind it, and no unchecked word of a vendor

    def count(self, *, texts: int, tokens: int, searches: float = 0) -> None:
        """Book an answer."""
        self._meter.add(texts=texts, tokens=tokens, searches=searches)

    @property
    def meter(self) -> Meter:
        """What was used."""
        return self._meter

    def close(self) -> None:
        """Let go of the connections; another call makes new ones."""
        _close(self._connections)

    def _connection(self) -> tuple[Connection, Turns]:
        """The connection of this process: sockets do not survive a fork, nor do locks."""
        process = os.getpid()
        with self._locks.setdefault(process, threading.Lock()):
            if process not in self._connections:
                connect = self._connect()
                assert connect is not None
                self._connections[process] = connect(self), Turns(self._concurrency)
            return self._connections[process]

    # ── what went wrong ───────────────────────────────────────────────────────────────────────────

    def _typed(self, failure: CallError) -> ProviderError:
        """The error for users, without frames of the SDK, and without the key."""
        told = self._sent.hide(failure.message) if self._sent is not None else failure.message
        kind = QuotaError if failure.quota else self._error
        words = f"{self.name}: {f'{failure.status}: ' if failure.status else ''}{told}"
        if failure.attempts > 1:
            words += f" ({failure.attempts} attempts in {failure.seconds:.1f} s)"
        if failure.request_id:
            words += f" [request {failure.request_id}]"
        advice = self._advice(failure)
        error = kind(
            f"{words}: {advice}" if advice else words,
            provider=self.name,
            retryable=failure.retryable,
            request_id=failure.request_id,
        )
        cause = harmless(failure.cause)
        if cause is not None and not (self._sent is not None and self._sent.within(*chain(cause))):
            error.__cause__ = cause
        return error

    def _advice(self, failure: CallError) -> str:
        """What to do next."""
        if failure.quota:
            return "add credit to the account or raise its limit; waiting does not help"
        if failure.status in (401, 403):
            return self._advice_on_key()
        if failure.wait is not None and failure.wait > self._policy.deadline:
            return f"it asks to wait {failure.wait:.0f} s, longer than deadline={self._policy.deadline:g} allows"
        if failure.status == 429:
            return "try again later, with a smaller concurrency= or a longer deadline="
        if failure.status == 413 or (failure.status in (400, 422) and _TOO_MUCH.search(failure.message)):
            return "where this is about too many texts in a request, pass a smaller batch="
        if failure.status == 404:
            return f"check the model's name and base_url={self.base_url!r}"
        return ""

    def _advice_on_key(self) -> str:
        if self._key_from:
            return f"check the key in {self._key_from}"
        if self._sent is None and not self.own_address and self.vendor.key and not self.vendor.self_hosted:
            return (
                f"the key in {self.vendor.key} goes to {urlsplit(self.vendor.base_url).netloc or 'the vendor'} only; "
                f"to send one to {self.host}, pass api_key=, or key_from= with the name of an environment variable"
            )
        return f"check the key in {self.vendor.key or 'api_key='}"


_TOO_MUCH = re.compile(r"batch|too (?:many|large)|at most|maximum|exceed|limit", re.IGNORECASE)

_POLICY = ("attempts", "timeout", "deadline", "backoff")


def hide_key(options: Options) -> Options:
    """The options, their key wrapped in place, so that no frame that holds them shows it.  The first thing to do."""
    key = Secret.of(options.pop("api_key", None))
    if key is not None:
        options["api_key"] = key
    return options


def described(provider: object) -> str:
    """Model and address of a provider, for its ``repr``; nothing while it is being made."""
    service = getattr(provider, "_service", None)
    return f"{service.model!r}, base_url={service.base_url!r}" if isinstance(service, Service) else ""


def _close(connections: dict[int, tuple[Connection, Turns]]) -> None:
    """Close this process's; another's are not ours to close."""
    found = connections.pop(os.getpid(), None)
    if found is not None:
        found[0].close()


def _address(vendor: Vendor, given: str | None) -> str:
    found = given or (os.environ.get(vendor.address) if vendor.address else None) or vendor.base_url
    if not found:
        raise ConfigurationError(f"{vendor.name}: no address: set {vendor.address}, or pass base_url=")
    if not isinstance(found, str):
        raise InvalidInputError(f"{vendor.name}: base_url is an http(s) address, not {found!r:.80}")
    parts = urlsplit(found)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInputError(f"{vendor.name}: base_url is an http(s) address, not {found!r:.80}")
    if parts.username or parts.password:
        raise InvalidInputError(f"{vendor.name}: base_url is no place for a password: pass api_key=")
    return found.rstrip("/")


def _whole(value: int | None, name: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InvalidInputError(f"{name} is a whole number from 1 on, not {value!r:.80}")
    return value
