"""What vendors charge: a table with a date, for estimates.  Pure.

Prices change and contracts differ: hand in your own as ``prices={"openai:text-embedding-3-small": 0.016}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

AS_OF = "2026-11-21"
"""When the table was last compared with its sources."""

# Dollars per million tokens of input, list price without volume or batch discount.  Sources, all read on that date:
#   openai: developers.openai.com/api/docs/models/text-embedding-3-large and -small; ada-002: docs.praison.ai
#   cohere: embed-v4.0 and embed-v5.0: vercel.com/ai-gateway and developersdigest.tech, which quote cohere.com/pricing;
#     embed v3 is left out, since that page states no price for it any more
#   voyage: usagepricing.com and vercel.com/ai-gateway, which quote docs.voyageai.com/docs/pricing; voyage-3.x and
#     rerank-2.x: getmaxim.ai's table of Voyage's list prices
#   zeroentropy: zeroentropy.dev/pricing as transcribed in github.com/api-evangelist/zeroentropy on 2026-10-07
#   jina: sells tokens in packages whose price its public pages do not state: left out
_TOKENS: Mapping[str, float] = MappingProxyType(
    {
        "openai:text-embedding-3-small": 0.02,
        "openai:text-embedding-3-large": 0.13,
        "openai:text-embedding-ada-002": 0.10,
        "cohere:embed-v4.0": 0.12,
        "cohere:embed-v5.0-pro": 0.12,
        "cohere:embed-v5.0-fast": 0.08,
        "voyage:voyage-4-large": 0.12,
        "voyage:voyage-4": 0.06,
        "voyage:voyage-4-lite": 0.02,
        "voyage:voyage-3-large": 0.18,
        "voyage:voyage-3": 0.06,
        "voyage:voyage-3-lite": 0.02,
        "voyage:voyage-code-3": 0.18,
        "voyage:voyage-finance-2": 0.12,
        "voyage:voyage-law-2": 0.12,
        "voyage:voyage-multilingual-2": 0.12,
        "voyage:rerank-2.5": 0.05,
        "voyage:rerank-2.5-lite": 0.02,
        "voyage:rerank-2": 0.05,
        "voyage:rerank-2-lite": 0.02,
        "zeroentropy:zembed-1": 0.05,
        "zeroentropy:zerank-2": 0.025,
    }
)

# Dollars per thousand searches: one query with up to 100 documents.  Source: developer.puter.com on Cohere's prices of
# June 2026, and vercel.com/ai-gateway.
_SEARCHES: Mapping[str, float] = MappingProxyType(
    {"cohere:rerank-v3.5": 2.00, "cohere:rerank-v4.0-fast": 2.00, "cohere:rerank-v4.0-pro": 2.50}
)

FREE = frozenset(
    {"local", "ollama", "tei", "sentence-transformers", "fastembed", "bge-m3", "clip", "vectors", "testing"}
)
"""Providers that nobody bills by the token."""


def price(name: str, overrides: Mapping[str, float] | None = None) -> float | None:
    """What a model's input costs.

    Args:
        name: "provider:model"; options after a question mark are ignored.
        overrides: Your own prices by the same names; they win.

    Returns:
        Dollars per million tokens; None where it is not known, or not charged by the token.
    """
    plain = name.partition("?")[0]
    if overrides is not None and plain in overrides:
        return overrides[plain]
    return 0.0 if plain.partition(":")[0] in FREE else _TOKENS.get(plain)


def price_of_search(name: str, overrides: Mapping[str, float] | None = None) -> float | None:
    """What one search unit costs with a reranker that is charged by the search.

    Args:
        name: "provider:model".
        overrides: Your own prices in dollars per thousand searches; they win.

    Returns:
        Dollars per search unit; None where it is not known, or not charged by the search.
    """
    found = (overrides or {}).get(name, _SEARCHES.get(name))
    return None if found is None else found / 1000
