"""Counting tokens offline: tiktoken where its tables are on disk, else the local tokenizer with a margin.

tiktoken downloads its tables at first use.  This module never does: it looks where tiktoken caches
them and where llama-index-core carries a copy, and says which counter it is.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import re
import tempfile
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from memory_plugin.protocols import TokenCounter

if TYPE_CHECKING:
    import tiktoken

DEFAULT_ENCODING = "o200k_base"

# Where tiktoken fetches a table; it caches it under the SHA-1 of this address.
_ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/{encoding}.tiktoken"

MARGIN = 1.25
"""By how much word pieces are multiplied to stay above tiktoken's count; see tests/test_tokens.py."""

# What word pieces do not see, or see too few of: long words, white space but for one blank before a word
# or a sign, capitals inside a word, and all beyond ASCII.
_UNSEEN = re.compile(
    r"\S{50,}|\s{2,}|[\t\n]| (?![A-Za-z!-/:-@\[-`{-~])|(?<=[A-Za-z])[A-Z]|[^\x00-\x7f]+|[\x00-\x08\x0b-\x1f\x7f]"
)

_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")

_loading = threading.Lock()


class Tiktoken:
    """Counts as OpenAI's models do."""

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self._encoding = encoding
        self.name = f"tiktoken:{encoding.name}"

    def __call__(self, text: str, /) -> int:
        """Tokens of the text; control words such as <|endoftext|> count as the text that they are."""
        return len(self._encoding.encode_ordinary(text))


class Estimate:
    """Counts word pieces, adds what they do not see, and a margin."""

    def __init__(self, pieces: Callable[[str], int]) -> None:
        self._pieces = pieces
        self.name = f"local word pieces × {MARGIN}"

    def __call__(self, text: str, /) -> int:
        """An upper estimate of a byte-pair tokenizer's count."""
        if not text:
            return 0
        # Word pieces drop white space and case, and take a word they do not know (over 100 characters, a
        # row of emoji) as one; a byte-pair tokenizer spends tokens on all of it, at most one a byte.
        unseen = sum(len(run.encode(errors="replace")) for run in _UNSEEN.findall(text))
        # A character that the vocabulary lacks hides the rest of its word, digits and all: it is counted by its bytes.
        return math.ceil((self._pieces(_BEYOND_ASCII.sub(" ", text)) + unseen) * MARGIN)


def counter(pieces: Callable[[str], int], encoding: str = DEFAULT_ENCODING) -> TokenCounter:
    """The best counter there is without a network.

    Args:
        pieces: Counts the local model's word pieces.
        encoding: A tiktoken encoding.
    """
    found = _tiktoken(encoding)
    return found if found is not None else Estimate(pieces)


@lru_cache(maxsize=4)
def _tiktoken(encoding: str) -> Tiktoken | None:
    directory = _table_directory(encoding)
    if directory is None:
        return None
    import tiktoken  # loads a compiled module of 3 MB: only when a context is packed

    with _loading:
        before = os.environ.get("TIKTOKEN_CACHE_DIR")
        os.environ["TIKTOKEN_CACHE_DIR"] = str(directory)
        try:
            return Tiktoken(tiktoken.get_encoding(encoding))
        finally:
            if before is None:
                del os.environ["TIKTOKEN_CACHE_DIR"]
            else:
                os.environ["TIKTOKEN_CACHE_DIR"] = before


def _table_directory(encoding: str) -> Path | None:
    """The first directory that holds the encoding's table."""
    name = hashlib.sha1(_ADDRESS.format(encoding=encoding).encode(), usedforsecurity=False).hexdigest()
    places = [os.environ.get("TIKTOKEN_CACHE_DIR"), os.environ.get("DATA_GYM_CACHE_DIR")]
    candidates = [Path(place) for place in places if place]
    candidates.append(Path(tempfile.gettempdir()) / "data-gym-cache")
    package = importlib.util.find_spec("llama_index")
    roots = (package.submodule_search_locations or []) if package else []
    candidates.extend(Path(root) / "core" / "_static" / "tiktoken_cache" for root in roots)
    return next((place for place in candidates if (place / name).is_file()), None)
