"""One request to a model: memories into it, and what was said out of it, whatever client sends it.  No SDK here."""

from __future__ import annotations

import hashlib
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from memory_plugin.adapters.chat import Chat, formats
from memory_plugin.adapters.chat.formats import Format, get
from memory_plugin.adapters.conversation import Turn
from memory_plugin.errors import InvalidInputError, MemoryPluginError
from memory_plugin.flow import IO

OnError: TypeAlias = "Literal['warn', 'raise'] | Callable[[MemoryPluginError], object]"

_KEPT = 256  # answers that a later request may continue; user messages whose answers never came
_TAIL = 20  # turns that are known of a conversation that the provider keeps


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request under way.

    Args:
        form: Its format.
        body: Its JSON, with memories.
        turns: The conversation up to it.
        since: Place of the first turn that is new in it.
        text: Memories in its instructions.
        chained: Whether the provider keeps the conversation, so that the turns before are not in the request.
    """

    form: Format
    body: dict[str, Any] = field(repr=False)
    turns: tuple[Turn, ...]
    since: int
    text: str = field(default="", repr=False)
    chained: bool = False


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is known of a conversation that the provider keeps."""

    turns: tuple[Turn, ...]
    text: str = field(repr=False)


class Turns:
    """What a client with a memory does around each request.

    Args:
        chat: Whose memories, and where they go.
        instructions: Put memories into the ``instructions`` of each Responses request.
        on_error: What to do when the answer is there and cannot be remembered.
    """

    def __init__(self, chat: Chat, *, instructions: bool = False, on_error: OnError = "warn") -> None:
        if on_error not in ("warn", "raise") and not callable(on_error):
            raise InvalidInputError(f"on_error is 'warn', 'raise' or a function, not {on_error!r:.40}")
        self.chat = chat
        self._instructions = instructions
        self._on_error = on_error
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._open: OrderedDict[bytes, None] = OrderedDict()  # user messages whose answers did not come yet
        self._guard = threading.Lock()

    async def before(self, io: IO, form: Format, body: Mapping[str, Any]) -> Exchange:
        """The request with memories.

        Raises:
            MemoryPluginError: The store failed: nothing is sent.
        """
        name = "input" if form == "responses" else "messages"
        given = body.get(name)
        listed = given if isinstance(given, str | list) else list(given or ())
        talk, clean = self.chat.conversation, self.chat.conversation.stripped
        said = await io.call(formats.turns, listed, form, clean)
        before = self._before(body)
        turns = (*(before.turns if before else ()), *said)
        asks = any(turn.role == "user" for turn in said)
        text = await talk.recalled(io, turns) if asks else (before.text if before else "")
        made = {**body, name: listed} if listed is not given else dict(body)
        instructs = form == "responses" and (before is not None or self._instructions)
        if text and instructs:
            own = body.get("instructions")
            made["instructions"] = f"{own}\n\n{text}" if isinstance(own, str) and own else text
        elif text:
            made[name] = await io.call(formats.put, listed, text, form, self.chat.place, clean)
        since = await io.call(self._since, turns, len(turns) - len(said) if before else _last_exchange(turns))
        return Exchange(form, made, turns, since, text if instructs else "", before is not None)

    async def after(self, io: IO, exchange: Exchange, answer: Sequence[str], id_: str | None) -> None:
        """Remember what was said in the request and in its answer."""
        turns = [*exchange.turns, *(Turn("assistant", one) for one in answer)]
        if exchange.chained and id_:
            # The provider has the turns before: the same words again are told apart by the answer's name.
            turns[exchange.since :] = [
                replace(turn, id=f"turn-{_digest(f'{id_} {place}').hex()}")
                for place, turn in enumerate(turns[exchange.since :])
            ]
        self._keep(exchange, turns, id_)
        try:
            await self.chat.conversation.remember(io, turns, since=exchange.since)
        except MemoryPluginError as error:
            self._failed(error)
        else:
            with self._guard:
                for turn in exchange.turns[exchange.since :]:
                    self._open.pop(_digest(turn.text), None)

    def _failed(self, error: MemoryPluginError) -> None:
        if self._on_error == "raise":
            raise error
        if self._on_error == "warn":
            warnings.warn(f"not remembered: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2)
        else:
            self._on_error(error)

    def _before(self, body: Mapping[str, Any]) -> _Kept | None:
        """What the request continues; None where it holds the whole conversation itself."""
        names = _continued(body)
        if not names:
            return None
        with self._guard:
            return self._kept.get(names[0], _Kept((), ""))

    def _keep(self, exchange: Exchange, turns: Sequence[Turn], id_: str | None) -> None:
        if exchange.form != "responses" and get(exchange.body, "thread") is None:
            return
        with self._guard:
            for name in filter(None, (id_, _conversation(exchange.body))):
                self._kept[name] = _Kept(tuple(turns[-_TAIL:]), exchange.text)
                self._kept.move_to_end(name)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def _since(self, turns: Sequence[Turn], start: int) -> int:
        """Where what is to be remembered begins: the last exchange, or an earlier one whose answer never came.

        What an application put before that, examples for the model or a history from elsewhere, was not said here.
        """
        names = [_digest(turn.text) if turn.role == "user" and turn.text else b"" for turn in turns]
        with self._guard:
            known = [place for place, name in enumerate(names[:start]) if name in self._open]
            for name in names[start:]:
                if name:
                    self._open[name] = None
                    self._open.move_to_end(name)
            while len(self._open) > _KEPT:
                self._open.popitem(last=False)
        return min([start, *known])


def _continued(body: Mapping[str, Any]) -> list[str]:
    """The names of what the provider keeps and this request continues."""
    previous = (body.get("previous_response_id"), get(body.get("thread"), "previous_message_id"))
    return [one for one in (*previous, _conversation(body)) if isinstance(one, str) and one]


def _conversation(body: Mapping[str, Any]) -> str | None:
    """OpenAI's name of a conversation."""
    given = body.get("conversation")
    name = get(given, "id") or given
    return name if isinstance(name, str) else None


def _last_exchange(turns: Sequence[Turn]) -> int:
    """The place of the last user message, or of the first of those without an answer in between."""
    last = next((place for place in range(len(turns) - 1, -1, -1) if turns[place].role == "user"), len(turns))
    while last > 0 and turns[last - 1].role == "user":
        last -= 1
    return last


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:16]
