"""What a model said: in a whole answer, or in the events of a stream.  No SDK is needed for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memory_plugin.adapters.chat.formats import Format, get, words

UNFINISHED = ("queued", "in_progress")
FAILED = ("failed", "cancelled")


def answered(form: Format, answer: Any) -> tuple[str, ...] | None:
    """The messages of an answer, each as its words; None when it is the account of a failure.

    Of several choices the first.  What the model refused, thought or called is left out.
    """
    if form == "chat":
        choices = get(answer, "choices")
        return (words(get(get(choices[0], "message"), "content")),) if choices else None
    if form == "anthropic":
        return (words(get(answer, "content")),) if get(answer, "type") == "message" else None
    if get(answer, "status") in FAILED or get(answer, "error") is not None:
        return None
    if get(answer, "status") in UNFINISHED:
        return ()  # it is fetched later, past this client
    said = [one for one in get(answer, "output") or () if get(one, "type") == "message"]
    return tuple(words(get(one, "content")) for one in said)


class Listener:
    """Listens to the events of a stream until the answer is whole.

    Args:
        form: The format of the events.
    """

    def __init__(self, form: Format) -> None:
        self._form = form
        self._said: list[str] = []
        self.id: str | None = None
        self.answer: tuple[str, ...] | None = None

    def hear(self, event: Any) -> bool:
        """Take in an event.

        Returns:
            Whether the answer became whole with it: once a stream, never for one that broke off.
        """
        if self.answer is None:
            listen: dict[Format, Callable[[Any], None]] = {
                "chat": self._chat, "responses": self._responses, "anthropic": self._anthropic,
            }  # fmt: skip
            listen[self._form](event)
            return self.answer is not None
        return False

    def _chat(self, event: Any) -> None:
        self.id = self.id or get(event, "id")
        for choice in get(event, "choices") or ():
            if get(choice, "index") in (0, None):
                said = get(get(choice, "delta"), "content")
                self._said.append(said if isinstance(said, str) else "")
                if get(choice, "finish_reason") is not None:
                    self.answer = ("".join(self._said),)

    def _responses(self, event: Any) -> None:
        if get(event, "type") in ("response.completed", "response.incomplete"):
            self.id = get(get(event, "response"), "id")
            self.answer = answered("responses", get(event, "response"))

    def _anthropic(self, event: Any) -> None:
        match get(event, "type"):
            case "message_start":
                self.id = get(get(event, "message"), "id")
            case "content_block_start" if get(get(event, "content_block"), "type") == "text":
                self._said.append(get(get(event, "content_block"), "text") or "")
            case "content_block_delta" if get(get(event, "delta"), "type") == "text_delta":
                self._said.append(get(get(event, "delta"), "text") or "")
            case "message_stop":
                self.answer = ("".join(self._said),)
