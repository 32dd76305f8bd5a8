"""A real WordPiece tokenizer with a vocabulary of its own: every printable ASCII character, jamo, and some words."""

from __future__ import annotations

import string
from collections.abc import Iterable
from functools import cache
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

_WORDS = """
the of and to in is was for on with that it as at by an this from are not be have or which one had all they we you he
she her his were has been would there what when who how many days river house garden little great old new alice bob
lisbon moved lives now quick brown fox jumps over lazy dog install guide section paragraph memory error ing ed er est ly
"""
WORDS = _WORDS.split()

# Hangul and accented letters are taken apart before they are looked up.
JAMO = [
    chr(point) for block in (range(0x1100, 0x1113), range(0x1161, 0x1176), range(0x11A8, 0x11C3)) for point in block
]


def tokenizer(words: Iterable[str] = WORDS) -> Any:
    """As BERT's, lower-casing and accent-stripping, with [CLS] and [SEP]."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    signs = [sign for sign in string.printable if not sign.isspace() and not sign.isupper()]
    for piece in (*signs, *JAMO, *words):
        vocabulary.setdefault(piece, len(vocabulary))
        vocabulary.setdefault(f"##{piece}", len(vocabulary))
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made


class WordPieces:
    """What ``chunk`` asks of a model."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def count(self, text: str, /) -> int:
        """Word pieces, [CLS] and [SEP] included."""
        return len(self.tokenizer.encode(text).ids)


@cache
def pieces() -> WordPieces:
    """The tokenizer of the default vocabulary."""
    return WordPieces(tokenizer())
