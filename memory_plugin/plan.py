"""What a store of so many memories will take, before anybody pays: bytes, time, money.  Pure.

    plan(Load(10_000_000), Choice("openai:text-embedding-3-small", 512)).disk_bytes

Every formula and constant is written down in docs/sizing.md, with what it was measured against;
``tests/test_plan.py`` holds them against real stores.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from memory_plugin.crypto.envelope import OVERHEAD, bucket
from memory_plugin.errors import InvalidInputError
from memory_plugin.managed.prices import price
from memory_plugin.types import Quantization

Engine: TypeAlias = Literal["embedded", "server"]
ENGINES: tuple[Engine, ...] = ("embedded", "server")

EMBEDDED_UP_TO = 300_000
"""Memories up to which the embedded engine answers in a few milliseconds; beyond, a server's graph is faster."""

# ── what text is like: means over four sets of chats, articles, specifications and answers ───────────
BYTES_PER_TOKEN = 4.2
TERMS_PER_TOKEN = 0.36
VOCABULARY = 10.0, 0.6  # distinct terms of a subject: 10 · (terms of all its passages) ^ 0.6

# ── the engine's files ───────────────────────────────────────────────────────────────────────────
BLOCK = 128  # payloads and term weights are stored in blocks
REFERENCE = 16  # and found by a table
ID = 29
TAGS = 160  # indexes of subject, document and day
TAG = 48  # index of one further tag
POSTING, TERM = 8, 43  # an inverted index on disk
GRAPH, LINKS = 12, 4.8  # a graph's bytes a point: 12 + 4.8 · log2(points)
SEGMENT = 400_000
LOG = 4 * 32 * 2**20

# ── a point's payload, and what is sealed in it ──────────────────────────────────────────────────
PAYLOAD = 112
PAYLOAD_FIELD, PAYLOAD_PREFIX = 45, 19
RECORD = 120
TOKEN_VECTOR = 50
SEALED_VECTOR = 2  # bytes a dimension, half precision
SUBJECT_KEYS = 330  # in the key file

# ── memory ───────────────────────────────────────────────────────────────────────────────────────
HEAP, HEAP_TERM, HEAP_TAG = 750, 18.3, 110
PROCESS = 9_000_000
ROTATION, ROTATIONS_KEPT, MAKING = 4, 64 * 2**20, 16  # bytes a squared dimension; those kept; those of making one

# ── seconds of one core ──────────────────────────────────────────────────────────────────────────
WRITE, WRITE_TERM = 0.2e-3, 0.022e-3
LINK, LINK_DIMENSION = 9.8e-6, 0.016e-6  # times log2(points)

DIMENSIONS: Mapping[str, int] = MappingProxyType(
    {
        "local": 384,
        "openai:text-embedding-3-small": 1536,
        "openai:text-embedding-3-large": 3072,
        "openai:text-embedding-ada-002": 1536,
        "cohere:embed-v4.0": 1536,
        "cohere:embed-english-v3.0": 1024,
        "cohere:embed-multilingual-v3.0": 1024,
        "voyage:voyage-4-large": 1024,
        "voyage:voyage-4": 1024,
        "voyage:voyage-4-lite": 1024,
        "voyage:voyage-3-large": 1024,
        "voyage:voyage-3.5": 1024,
        "voyage:voyage-3.5-lite": 1024,
        "voyage:voyage-code-3": 1024,
        "jina:jina-embeddings-v3": 1024,
        "jina:jina-embeddings-v4": 2048,
        "zeroentropy:zembed-1": 2560,
    }
)
"""Length of the vectors that a model makes unless told otherwise."""

# Tokens a minute that a vendor lets a new paying account embed, read on 2026-11-21.  openai: tier 1 of
# platform.openai.com/docs/models (tiers 3 to 5: 5 to 10 million); voyage: docs.voyageai.com/docs/rate-limits, tier 1;
# cohere: docs.cohere.com/docs/rate-limits counts inputs.
_RATES: Mapping[str, int] = MappingProxyType(
    {
        "openai:text-embedding-3-small": 1_000_000,
        "openai:text-embedding-3-large": 1_000_000,
        "openai:text-embedding-ada-002": 1_000_000,
        "voyage:voyage-4-large": 3_000_000,
        "voyage:voyage-4": 8_000_000,
        "voyage:voyage-4-lite": 16_000_000,
        "voyage:voyage-3-large": 3_000_000,
        "voyage:voyage-3.5": 8_000_000,
        "voyage:voyage-3.5-lite": 16_000_000,
        "voyage:voyage-code-3": 3_000_000,
    }
)
_INPUTS: Mapping[str, int] = MappingProxyType({"cohere": 2000})


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be kept.

    Args:
        memories: Passages: messages, and documents in pieces of at most ``chunk_tokens``.
        subjects: Data subjects that they belong to.
        tokens: Word pieces of a memory, on average.
        metadata: Bytes of its metadata, source and names as JSON.
        fields: Metadata fields declared filterable.
        depth: Parts of a namespace.
        terms: Distinct lexical terms of a memory; None: as many as its tokens let expect.
        text: Bytes of its text; None: likewise.
        distinct: Distinct terms of a subject; None: as many as its passages let expect.

    Raises:
        InvalidInputError: There are more subjects than memories, or a number is out of range.
    """

    memories: int
    subjects: int = 1
    tokens: float = 100
    metadata: int = 60
    fields: int = 0
    depth: int = 1
    terms: float | None = None
    text: float | None = None
    distinct: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 1 <= self.subjects <= self.memories:
            raise InvalidInputError(
                f"a store has a memory at least, and a data subject for one memory at most, not {self.memories:,} "
                f"memories of {self.subjects:,} subjects"
            )
        if not 1 <= self.tokens <= 65_535 or self.metadata < 0 or self.fields < 0 or self.depth < 1:
            raise InvalidInputError("tokens is from 1 to 65,535, metadata and fields at least 0, depth at least 1")

    @property
    def points(self) -> int:
        """Memories, and one point a subject that holds what is known of it as a whole."""
        return self.memories + self.subjects

    @property
    def postings(self) -> float:
        """Distinct terms of a memory."""
        return self.tokens * TERMS_PER_TOKEN if self.terms is None else self.terms

    @property
    def vocabulary(self) -> float:
        """Distinct terms of all; a subject's terms have ids of their own."""
        if self.distinct is not None:
            return self.distinct * self.subjects
        factor, power = VOCABULARY
        each = self.memories / self.subjects * self.postings
        return min(factor * float(each**power), each) * self.subjects


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate.

    Args:
        embedder: "provider:model"; options after a question mark are ignored.
        dimension: Of the stored vectors.
        quantization: Of the first pass of a search.
        engine: "embedded" or "server".
        late: Whether token vectors are kept.
        vectors: "rotated", "sealed" or "plain".
    """

    embedder: str
    dimension: int
    quantization: Quantization = "turbo4"
    engine: Engine = "embedded"
    late: bool = True
    vectors: Literal["rotated", "sealed", "plain"] = "rotated"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a candidate takes.

    Args:
        choice: The candidate.
        disk: Bytes by what they hold.
        memory: Bytes that a search goes through, by what they hold; the rest of the disk is read when it is needed.
        tokens: To be embedded.
        cost: Of embedding them once, in US dollars; None where no price is known.
        embed_seconds: At ``rate``; None where none is known.
        rate: Tokens a second.
        write_seconds: Sealing and writing, of one core.
        build_seconds: Of the graph on a server, of one core; 0 embedded.
    """

    choice: Choice
    disk: Mapping[str, int]
    memory: Mapping[str, int]
    tokens: int
    cost: float | None
    embed_seconds: float | None
    rate: float | None
    write_seconds: float
    build_seconds: float

    @property
    def disk_bytes(self) -> int:
        """All of it, the log left out."""
        return sum(size for name, size in self.disk.items() if name != "log")

    @property
    def memory_bytes(self) -> int:
        """All of it."""
        return sum(self.memory.values())

    def to_json(self) -> dict[str, object]:
        """One object."""
        choice = self.choice
        return {
            "embedder": choice.embedder,
            "dimension": choice.dimension,
            "quantization": choice.quantization,
            "engine": choice.engine,
            "disk_bytes": self.disk_bytes,
            "memory_bytes": self.memory_bytes,
            "disk": dict(self.disk),
            "memory": dict(self.memory),
            "tokens": self.tokens,
            "cost_usd": self.cost,
            "tokens_per_second": self.rate,
            "embed_seconds": self.embed_seconds,
            "write_core_seconds": self.write_seconds,
            "build_core_seconds": self.build_seconds,
        }


def plan(load: Load, choice: Choice, *, rate: float | None = None, prices: Mapping[str, float] | None = None) -> Plan:
    """What a candidate takes for a load.

    Args:
        load: What is to be kept.
        choice: How.
        rate: Tokens that are embedded a second; None: the vendor's limit for a new account, where it is known.
        prices: Your own, in dollars per million tokens by "provider:model".
    """
    tokens = round(load.memories * load.tokens)
    dollars = price(choice.embedder, prices)
    per_second = rate if rate is not None else vendor_rate(choice.embedder, load.tokens)
    return Plan(
        choice=choice,
        disk={name: round(size) for name, size in _disk(load, choice).items() if size},
        memory={name: round(size) for name, size in _memory(load, choice).items() if size},
        tokens=tokens,
        cost=None if dollars is None else tokens / 1e6 * dollars,
        embed_seconds=None if not per_second else tokens / per_second,
        rate=per_second,
        write_seconds=load.memories * (WRITE + WRITE_TERM * load.postings),
        build_seconds=_build_seconds(load, choice),
    )


def vendor_rate(embedder: str, tokens: float) -> float | None:
    """Tokens a second that a vendor lets a new paying account embed; None where it is not known.

    Args:
        embedder: "provider:model".
        tokens: Of a memory, for vendors that count inputs.
    """
    plain = embedder.partition("?")[0]
    inputs = _INPUTS.get(plain.partition(":")[0])
    found = _RATES.get(plain) if inputs is None else inputs * tokens
    return None if found is None else found / 60


def quantized_bytes(dimension: int, quantization: Quantization) -> int:
    """What the first pass of a search reads of a vector beside the full one, in bytes; 0 for none."""
    match quantization:
        case "none":
            return 0
        case "turbo4":
            return _up(dimension, 8) // 2 + 8
        case "turbo2":
            return _up(dimension, 8) // 4 + 8
        case "int8":
            return _up(dimension, 16) + 4
        case "binary":
            return _up(dimension, 128) // 8


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def sealed_bytes(length: float) -> float:
    """Base64 of the envelope of so many bytes, on average: padded to the next of 64 bytes, or of some five percent."""
    framed = length + 4
    padded = framed + 32 if framed + 32 <= 1024 else (framed + bucket(math.ceil(framed))) / 2
    return (OVERHEAD + padded) * 4 / 3


def _dense(load: Load, choice: Choice) -> tuple[float, float]:
    """Bytes of all full vectors in Qdrant, and of the quantized ones beside them."""
    if choice.vectors == "sealed":
        return 0, 0
    return load.points * 4 * choice.dimension, load.points * quantized_bytes(choice.dimension, choice.quantization)


def _inverted(load: Load) -> float:
    return load.memories * load.postings * POSTING + load.vocabulary * TERM


def _disk(load: Load, choice: Choice) -> dict[str, float]:
    full, quantized = _dense(load, choice)
    text = load.tokens * BYTES_PER_TOKEN if load.text is None else load.text
    sealed_vector = sealed_bytes(SEALED_VECTOR * choice.dimension) if choice.vectors == "sealed" else 0
    prefixes = load.depth - 1
    tags = PAYLOAD + PAYLOAD_FIELD * load.fields + PAYLOAD_PREFIX * prefixes + BLOCK / 2 + REFERENCE
    indexes = TAGS + TAG * load.fields + (32 + 16 * prefixes if prefixes else 0)
    rewritten = choice.engine == "server" or choice.quantization == "int8"
    parts = {
        "vectors": full,
        "quantized vectors": quantized,
        "graph": _graph(load, choice),
        "term weights": load.memories * (16 + 8 * load.postings + BLOCK / 2 + REFERENCE),
        "lexical index": _inverted(load) if rewritten else 0,
        "sealed records": load.memories * sealed_bytes(RECORD + text + load.metadata),
        "sealed token vectors": load.memories * sealed_bytes(3 + TOKEN_VECTOR * load.tokens) if choice.late else 0,
        "sealed vectors": load.memories * sealed_vector,
        "tags": load.points * tags,
        "indexes and ids": load.points * (indexes + ID) + SEGMENT * (2 if rewritten else 1),
        "key file": load.subjects * SUBJECT_KEYS,
    }
    return {**parts, "log": min(LOG, sum(parts.values()))}


def _memory(load: Load, choice: Choice) -> dict[str, float]:
    full, quantized = _dense(load, choice)
    heap = HEAP + HEAP_TAG * (load.fields + load.depth - 1)
    rewritten = choice.engine == "server" or choice.quantization == "int8"
    return {
        "vectors": full if choice.quantization == "none" else 0,
        "quantized vectors": quantized,
        "opened vectors": load.memories * 4 * choice.dimension if choice.vectors == "sealed" else 0,
        "graph": _graph(load, choice),
        "lexical index": _inverted(load) if rewritten else load.memories * load.postings * HEAP_TERM,
        "indexes and ids": load.points * heap,
        "rotations": _rotations(load, choice) if choice.vectors == "rotated" else 0,
        "process": PROCESS,
    }


def _rotations(load: Load, choice: Choice) -> float:
    """The matrices of the subjects used last, and what making one takes."""
    one = ROTATION * choice.dimension**2
    return max(one, min(load.subjects * one, ROTATIONS_KEPT)) + MAKING * choice.dimension**2


def _graph(load: Load, choice: Choice) -> float:
    if choice.engine != "server" or choice.vectors == "sealed":
        return 0
    return load.points * (GRAPH + LINKS * math.log2(load.points))


def _build_seconds(load: Load, choice: Choice) -> float:
    """Core seconds that a server takes to link all vectors."""
    if not _graph(load, choice):
        return 0
    slower = 1.35 if choice.quantization == "none" else 1.0
    return slower * load.points * math.log2(load.points) * (LINK + LINK_DIMENSION * choice.dimension)


_COUNT = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmb]?)", re.IGNORECASE)
_FACTOR = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}
MOST = 10**12


def count(text: str) -> int:
    """A number as people write it: 10M, 2.5k, 1e6, 300_000.

    Raises:
        InvalidInputError: It is none, not whole, or beyond 10^12.
    """
    found = _COUNT.fullmatch(text.strip().replace("_", "").replace(",", ""))
    value = float(found[1]) * _FACTOR[found[2].lower()] if found else math.nan
    if not 1 <= value <= MOST or abs(value - round(value)) > 1e-6 * value:
        raise InvalidInputError(f"{text!r:.40} is no number of things: write 300000, 2.5k, 10M or 1e6")
    return round(value)
