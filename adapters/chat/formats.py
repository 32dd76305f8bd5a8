"""The message formats of chat APIs: what was said in them, and where memories go.  No SDK is needed for it.

    "chat"       OpenAI's Chat Completions, and all that speak it
    "responses"  OpenAI's Responses: a text, or items
    "anthropic"  Anthropic's Messages

A message is a mapping, or an object of an SDK.  Nothing that was given is changed: what needs another content is made
anew, all else is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from memory_plugin.adapters.conversation import Turn
from memory_plugin.errors import InvalidInputError

Format: TypeAlias = Literal["chat", "responses", "anthropic"]
Place: TypeAlias = Literal["user", "developer", "system"]

FORMATS: tuple[Format, ...] = ("chat", "responses", "anthropic")
PLACES: tuple[Place, ...] = ("user", "developer", "system")

_TEXT = {"chat": "text", "responses": "input_text", "anthropic": "text"}
_TEXTS = ("text", "input_text", "output_text")
_TELLING: dict[str, Format] = {
    **dict.fromkeys(("image_url", "input_audio", "file", "refusal"), "chat"),
    **dict.fromkeys(("input_text", "output_text", "input_image", "input_file"), "responses"),
    **dict.fromkeys(("tool_use", "tool_result", "thinking", "redacted_thinking", "image", "document"), "anthropic"),
    **dict.fromkeys(("search_result", "server_tool_use", "container_upload"), "anthropic"),
}
_BREAKPOINTS = ("cache_control", "prompt_cache_breakpoint")


def get(value: Any, name: str) -> Any:
    """A member of a mapping or an attribute of an object; None where there is none."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


# ── which ─────────────────────────────────────────────────────────────────────────────────────────


def detect(messages: str | Sequence[Any], given: Format | None = None) -> Format:
    """The format of the messages; "chat" where they are the same in all.

    Raises:
        InvalidInputError: They are of several formats, or of none.
    """
    if given is not None:
        if given not in FORMATS:
            raise InvalidInputError(f"a format is one of {', '.join(FORMATS)}, not {given!r:.40}")
        return given
    if isinstance(messages, str):
        return "responses"
    found = {told for message in messages for told in _told(message)}
    if len(found) > 1:
        raise InvalidInputError(f"the messages look like {' and '.join(sorted(found))}: say which with format=")
    return next(iter(found), "chat")


def _told(message: Any) -> Iterable[Format]:
    role, kind, content = get(message, "role"), get(message, "type"), get(message, "content")
    if role is None and kind is None and get(message, "id") is None:
        raise InvalidInputError(f"a message is a mapping or an object with a role, not {type(message).__name__}")
    if role in ("tool", "function") or get(message, "tool_calls"):
        yield "chat"
    elif role is None or (kind == "message" and role != "assistant"):
        yield "responses"  # an assistant's "message" is also what Anthropic answers with
    if isinstance(content, Sequence) and not isinstance(content, str):
        for part in content:
            if get(part, "type") in _TELLING:
                yield _TELLING[get(part, "type")]
            elif get(part, "cache_control") is not None:
                yield "anthropic"


# ── what was said ─────────────────────────────────────────────────────────────────────────────────


def turns(messages: str | Sequence[Any], form: Format, clean: Callable[[str], str] = str) -> list[Turn]:
    """One turn a message, in order.

    Args:
        messages: As the API takes them.
        form: Their format.
        clean: What to do with a user's words: takes out memories that were put in before.
    """
    if isinstance(messages, str):
        return [Turn("user", clean(messages))]
    return [_turn(message, form, clean) for message in messages]


def _turn(message: Any, form: Format, clean: Callable[[str], str]) -> Turn:
    role = get(message, "role")
    if not isinstance(role, str) or (form == "responses" and get(message, "type") not in (None, "message")):
        return Turn(str(get(message, "type") or "item"), words(get(message, "output")))
    content = get(message, "content")
    if role == "user":
        if form == "anthropic" and _only_results(content):
            return Turn("tool", "\n".join(words(get(part, "content")) for part in content))
        own = [clean(one) for one in _texts(content)]
        name = get(message, "name")
        return Turn("user", "\n".join(one for one in own if one), name if isinstance(name, str) else None)
    return Turn(role, words(content))


def words(content: Any) -> str:
    """The text of a content: a string, or parts of which the text ones are taken."""
    return "".join(_texts(content))


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    if not isinstance(content, Iterable) or isinstance(content, Mapping | bytes):
        return []
    found = (part if isinstance(part, str) else get(part, "text") for part in content if _is_text(part))
    return [one for one in found if isinstance(one, str)]


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or get(part, "type") in _TEXTS


def _only_results(content: Any) -> bool:
    """Whether the "user" of an Anthropic message is a tool."""
    parts = content if isinstance(content, list | tuple) else []
    return bool(parts) and all(str(get(part, "type")).endswith("tool_result") for part in parts)


# ── where memories go ─────────────────────────────────────────────────────────────────────────────


def put(messages: str | Sequence[Any], text: str, form: Format, place: Place, clean: Callable[[str], str]) -> Any:
    """The messages with the text in the last user message, or in a message of its own before that.

    What comes before the last user message stays as it is, to the byte: providers keep the prefix of a prompt at hand.

    Args:
        messages: As the API takes them.
        text: The memories.
        form: The format.
        place: "user": before the user's words; "developer" or "system": a message of that role.
        clean: Takes out memories that were put in before.

    Returns:
        A new list, or a text; the messages themselves when no user speaks in them.

    Raises:
        InvalidInputError: The format has no such role.
    """
    if form == "anthropic" and place == "developer":
        raise InvalidInputError("Anthropic's messages have no developer: place='user' or place='system'")
    own = {"role": place, "content": text}
    if isinstance(messages, str):
        said = clean(messages)
        return f"{text}\n\n{said}" if place == "user" else [own, {"role": "user", "content": said}]
    last = _last(messages, form)
    if last is None:
        return messages
    if place == "user":
        return [*messages[:last], _with(messages[last], text, form, clean), *messages[last + 1 :]]
    return [*messages[:last], own, *messages[last:]]


def _last(messages: Sequence[Any], form: Format) -> int | None:
    """The last message of a user, who is not a tool."""
    for place in range(len(messages) - 1, -1, -1):
        if _turn(messages[place], form, str).role == "user":
            return place
    return None


def _with(message: Any, text: str, form: Format, clean: Callable[[str], str]) -> dict[str, Any]:
    content = get(message, "content")
    made = _plain(message)
    if isinstance(content, str):
        return {**made, "content": f"{text}\n\n{clean(content)}"}
    parts = [part for part in made.get("content") or () if not _is_old(part, clean)]
    place = _before_words(parts)
    return {**made, "content": [*parts[:place], {"type": _TEXT[form], "text": text}, *parts[place:]]}


def _plain(message: Any) -> dict[str, Any]:
    if isinstance(message, Mapping):
        return dict(message)
    dump = getattr(message, "model_dump", None)
    if not callable(dump):
        raise InvalidInputError(f"a message is a mapping or an SDK's object, not {type(message).__name__}")
    plain: dict[str, Any] = dump(mode="json", exclude_unset=True)
    return plain


def _is_old(part: Any, clean: Callable[[str], str]) -> bool:
    """Whether the part is nothing but memories of an earlier injection."""
    text = get(part, "text") if _is_text(part) else None
    return isinstance(text, str) and text != "" and clean(text) == ""


def _before_words(parts: Sequence[Any]) -> int:
    """Before the first text, but behind results of tools, and behind what the application marked to be cached.

    A part that is new in each turn before such a mark would make what is cached useless in the next turn.
    """
    behind = 0
    for place, part in enumerate(parts):
        if str(get(part, "type")).endswith("tool_result") or any(get(part, name) is not None for name in _BREAKPOINTS):
            behind = place + 1
    first = next((place for place, part in enumerate(parts) if _is_text(part)), 0)
    return max(first, behind)
