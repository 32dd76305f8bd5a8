"""What to ask the memory for, out of what people write: words of bounded length, and whether they say enough.  Pure."""

from __future__ import annotations

import re

from memory_plugin.ids import visible

MAX_QUERY = 1200
"""Characters of a query: of a longer message the first and the last, since questions stand before or after a paste."""
MAX_BEFORE = 300
"""Characters of a message that comes before the query."""

_MAX_SCANNED = 20_000  # characters on each end of a message that are looked at for a query

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
WORD = re.compile(r"[^\W_](?:[\w'’.-]*\w)?")
_JOINED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
# Words that say nothing by themselves of what is asked for.
_FILLERS = """
a about actually again ah all also am an and another any anything are aren't as at be been but by can can't come
continue could did didn't do does doesn't doing don't done else fine for from get go good great had has have he hello
her here hers hey hi him his how how's i i'd i'll i'm i've if in is isn't it it's its just like look me mean more next
no nope not now of oh ok okay on one or other out please really right same say she should so some something sure tell
than thank thanks that that's the their them then there these they they're thing things this those to too try us was we
well were what what's when where where's which who who's whose why will with would wouldn't yeah yep yes you your yours
"""
_EMPTY = frozenset(_FILLERS.split())


def printable(text: str, size: int) -> str:
    """The text on one line, without what no model can read; of a long one, head and tail."""
    if len(text) > 2 * _MAX_SCANNED:
        text = f"{text[:_MAX_SCANNED]} {text[-_MAX_SCANNED:]}"
    text = " ".join(_CONTROL.sub(" ", text).split())
    if len(text) <= size:
        return text if visible(text) else ""
    half = size // 2 - 2
    return f"{_to_border(text[:half])} … {_to_border(text[-half:][::-1])[::-1]}"


def _to_border(text: str) -> str:
    """Without the word that the cut went through, unless that is half of it."""
    border = text.rfind(" ")
    return text[:border] if border > len(text) // 2 else text


def says_enough(text: str) -> bool:
    """Whether a search for these words alone makes sense: an identifier, two telling words, or some length."""
    telling = [word for word in WORD.findall(text) if word.lower().replace("’", "'") not in _EMPTY]
    if any(map(str.isdigit, "".join(telling))) or len(telling) >= 2:
        return True
    return len(_JOINED.findall(text)) >= 6  # scripts without blanks
