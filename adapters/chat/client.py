"""A vendor's client with a memory: the same class and the same calls, and memories in every request that is a chat.

All calls of such a client, also ``parse``, ``stream`` and ``with_raw_response``, go through its method ``request``:
that is where memories are put in, and where the answer comes by.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, TypeVar

from memory_plugin import AsyncMemoryStore
from memory_plugin.adapters.chat.answers import Listener, answered
from memory_plugin.adapters.chat.formats import Format, get
from memory_plugin.adapters.chat.turns import Exchange, Turns
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.flow import IO, Blocking, OnLoop, run

C = TypeVar("C")

_TURNS = "_memory_plugin_turns"


def remembering(client: C, turns: Turns, addresses: Mapping[str, Format], resource: str) -> C:
    """The client with a memory: a new one of a subclass, with the same connections; the one given stays as it is.

    Args:
        client: Of a vendor's SDK.
        turns: What to do around each request.
        addresses: Which requests are chats, and in which format.
        resource: The attribute of the client by which they are sent.

    Raises:
        InvalidInputError: It has a memory already.
        ConfigurationError: A blocking client, and an ``AsyncMemoryStore``; or a version of the SDK that is too old.
    """
    base: Any = type(client)
    if hasattr(client, _TURNS):
        raise InvalidInputError("this client has a memory already: wrap the one that it was made of")
    if not inspect.iscoroutinefunction(base.request) and isinstance(turns.chat.conversation.store, AsyncMemoryStore):
        raise ConfigurationError(f"{base.__name__} blocks: give it a MemoryStore, or wrap an asynchronous client")
    made = _twin(client, base)
    setattr(made, _TURNS, _Requests(turns, addresses))
    wrapped: C = made
    if getattr(getattr(wrapped, resource), "_client", wrapped) is not wrapped:
        raise ConfigurationError(f"this version of {base.__module__.partition('.')[0]} is not supported: upgrade it")
    return wrapped


def _twin(client: Any, base: Any) -> Any:
    """A client of the subclass with the same settings and connections."""
    # Resources such as ``chat`` call the client that they were made for: those made at first use are left out, and
    # where a version of the SDK makes them with the client, it makes the twin too.
    kept = {
        name: value
        for name, value in vars(client).items()
        if not isinstance(getattr(base, name, None), functools.cached_property)
    }
    if any(getattr(value, "_client", None) is client for value in kept.values()):
        made = client.copy()
        made.__class__ = _subclass(base)
        return made
    made = object.__new__(_subclass(base))
    vars(made).update(kept)
    return made


def turns_of(client: object) -> Turns:
    """What a client with a memory does around each request.

    Raises:
        InvalidInputError: It has none.
    """
    requests = getattr(client, _TURNS, None)
    if not isinstance(requests, _Requests):
        raise InvalidInputError(f"this {type(client).__name__} has no memory: make one with with_memory")
    return requests.turns


@functools.cache
def _subclass(base: Any) -> Any:
    async def awaited(self: Any, *args: Any, **kwargs: Any) -> Any:
        send = functools.partial(base.request, self)
        return await getattr(self, _TURNS).exchange(OnLoop(), send, args, kwargs)

    def blocking(self: Any, *args: Any, **kwargs: Any) -> Any:
        send = functools.partial(base.request, self)
        return run(getattr(self, _TURNS).exchange(Blocking(), send, args, kwargs))

    def again(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Another client with the same memory."""
        made = base.copy(self, *args, **kwargs)
        setattr(made, _TURNS, getattr(self, _TURNS))
        return made

    request = awaited if inspect.iscoroutinefunction(base.request) else blocking
    members = {"__module__": base.__module__, "__doc__": base.__doc__, "request": request}
    return type(base.__name__, (base,), {**members, "copy": again, "with_options": again})


class _Requests:
    """Around ``request``; the same for blocking and asynchronous clients."""

    def __init__(self, turns: Turns, addresses: Mapping[str, Format]) -> None:
        self.turns = turns
        self._addresses = addresses

    async def exchange(self, io: IO, send: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Send a request: with memories, and with an ear for the answer, if it is a chat."""
        options = kwargs.get("options") or args[1]
        form = self._form(options)
        if form is None:
            return await io.call(send, *args, **kwargs)
        exchange = await self.turns.before(io, form, options.json_data)
        changed = copy.copy(options)
        changed.json_data = exchange.body
        if "options" in kwargs:
            kwargs = {**kwargs, "options": changed}
        else:
            args = (args[0], changed, *args[2:])
        answer = await io.call(send, *args, **kwargs)
        if hasattr(answer, "http_response"):
            return await self._raw(io, exchange, answer)
        if kwargs.get("stream"):
            return self._listened(io, exchange, answer)
        await self._answered(io, exchange, answer)
        return answer

    def _form(self, options: Any) -> Format | None:
        address = str(options.url).partition("?")[0].rstrip("/")
        is_chat = str(options.method).lower() == "post" and isinstance(options.json_data, Mapping)
        return self._addresses.get(address) if is_chat else None

    async def _answered(self, io: IO, exchange: Exchange, answer: Any) -> None:
        said = answered(exchange.form, answer)
        if said is not None:
            await self.turns.after(io, exchange, said, get(answer, "id"))

    # ── streams ───────────────────────────────────────────────────────────────────────────────────

    def _listened(self, io: IO, exchange: Exchange, stream: Any) -> Any:
        """The SDK's own stream object, with an ear on its events."""
        hear = self._blocking_ear if isinstance(io, Blocking) else self._ear
        stream._iterator = hear(exchange, stream._iterator)
        return stream

    def _blocking_ear(self, exchange: Exchange, events: Iterator[Any]) -> Iterator[Any]:
        listener = Listener(exchange.form)
        try:
            for event in events:
                # Before the last event is passed on: many readers stop there, and then never come back.
                if listener.hear(event):
                    run(self.turns.after(Blocking(), exchange, listener.answer or (), listener.id))
                yield event
        finally:
            close = getattr(events, "close", None)
            if close is not None:
                close()

    async def _ear(self, exchange: Exchange, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        listener = Listener(exchange.form)
        try:
            async for event in events:
                if listener.hear(event):
                    await self.turns.after(OnLoop(), exchange, listener.answer or (), listener.id)
                yield event
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()

    # ── with_raw_response, with_streaming_response ────────────────────────────────────────────────

    async def _raw(self, io: IO, exchange: Exchange, response: Any) -> Any:
        """A response that the caller parses: what was read already is remembered now, the rest when it is parsed."""
        if response.http_response.is_closed:
            try:
                body = json.loads(response.http_response.content)
            except ValueError:
                return response  # parsing it will say so
            await self._answered(io, exchange, body)
            return response
        parse = response.parse
        heard: list[Any] = []

        def listened(parsed: Any) -> Any:
            if hasattr(parsed, "_iterator") and not any(parsed is one for one in heard):
                heard.append(parsed)
                self._listened(io, exchange, parsed)
            return parsed

        async def awaited(**kwargs: Any) -> Any:
            parsed = await parse(**kwargs)
            if not heard and not hasattr(parsed, "_iterator"):
                heard.append(parsed)
                await self._answered(io, exchange, parsed)
            return listened(parsed)

        def blocking(**kwargs: Any) -> Any:
            parsed = parse(**kwargs)
            if not heard and not hasattr(parsed, "_iterator") and isinstance(io, Blocking):
                heard.append(parsed)
                run(self._answered(io, exchange, parsed))
            return listened(parsed)

        response.parse = awaited if inspect.iscoroutinefunction(parse) else blocking
        return response
