"""How long texts are for models whose tokenizer is elsewhere: tiktoken's tables, else word pieces with a margin."""

from __future__ import annotations

from semantic_text_splitter import TextSplitter

from memory_plugin.managed.limits import Ruler
from memory_plugin.models import runtime
from memory_plugin.tokens import Estimate, counter

_TIKTOKEN_MODEL = "text-embedding-3-small"


def openai_ruler() -> Ruler:
    """Measures as OpenAI's embedding models do; the splitter brings their tables, so that it cuts exactly, offline."""
    return Ruler(
        counter(_pieces, "cl100k_base"), lambda limit: TextSplitter.from_tiktoken_model(_TIKTOKEN_MODEL, limit)
    )


def estimating_ruler() -> Ruler:
    """Measures from above for models whose tokenizer is not known."""
    estimate = Estimate(_pieces)
    return Ruler(estimate, lambda limit: TextSplitter.from_callback(estimate, limit))


def _pieces(text: str) -> int:
    return len(runtime.load().pieces(text))
