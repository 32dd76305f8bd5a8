"""The command that says what a store will take before anybody pays: plan."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated, TypeAlias

import typer

from memory_plugin import registry
from memory_plugin.cli import show
from memory_plugin.cli.options import JsonOption
from memory_plugin.embedders.truncated import family
from memory_plugin.errors import ConfigurationError, InvalidInputError, MemoryPluginError
from memory_plugin.managed import prices
from memory_plugin.network import leaves_machine
from memory_plugin.plan import DIMENSIONS, EMBEDDED_UP_TO, Choice, Engine, Load, Plan, count, plan
from memory_plugin.protocols import Embedder
from memory_plugin.types import Embeddings

USUAL = (
    "local",
    "openai:text-embedding-3-small",
    "openai:text-embedding-3-large",
    "cohere:embed-v4.0",
    "voyage:voyage-4",
)
PROBES = 12
PATIENCE = 3.0
PASSAGE = (
    "the",
    "report",
    "says",
    "who",
    "pays",
    "for",
    "the",
    "new",
    "roof",
    "and",
    "when",
    "it",
    "will",
    "be",
    "done",
)


class Quantized(StrEnum):
    """How the first pass of a search sees vectors."""

    none = "none"
    turbo4 = "turbo4"
    turbo2 = "turbo2"
    int8 = "int8"
    binary = "binary"


class Where(StrEnum):
    """What keeps the vectors."""

    embedded = "embedded"
    server = "server"


SubjectsOption: TypeAlias = Annotated[
    str, typer.Option("--subjects", metavar="NUMBER", help="Data subjects that they belong to.")
]
TokensOption: TypeAlias = Annotated[
    float, typer.Option("--tokens-per-memory", help="Word pieces of a memory, on average; a passage has up to 256.")
]
EmbeddersOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--embedder", metavar="NAME", help="A model. Several to compare.", show_default="some usual ones"),
]
DimensionsOption: TypeAlias = Annotated[
    list[int] | None,
    typer.Option("--dimension", help="Of the stored vectors. Several to compare.", show_default="the model's own"),
]
QuantizationsOption: TypeAlias = Annotated[
    list[Quantized] | None,
    typer.Option("--quantization", help="Of the vectors. Several to compare.", show_default="turbo4"),
]
EnginesOption: TypeAlias = Annotated[
    list[Where] | None,
    typer.Option(
        "--engine", help="Embedded Qdrant or a server.", show_default="embedded up to 300,000 memories, else server"
    ),
]
RateOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--rate",
        metavar="NUMBER",
        help="Tokens embedded a minute. Default: measured for a model on this machine, else the vendor's limit for a "
        "new account.",
        show_default=False,
    ),
]
PriceOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--price", metavar="NAME=DOLLARS", help="Your price of a million tokens.", show_default=False),
]


def sizes(
    memories: Annotated[str, typer.Option(metavar="NUMBER", help="How many: 300000, 2.5k, 10M, 1e6.")],
    subjects: SubjectsOption = "1",
    tokens: TokensOption = 100,
    embedder: EmbeddersOption = None,
    dimension: DimensionsOption = None,
    quantization: QuantizationsOption = None,
    engine: EnginesOption = None,
    fields: Annotated[int, typer.Option(help="Metadata fields declared filterable.")] = 0,
    metadata: Annotated[int, typer.Option(help="Bytes of metadata, source and names of a memory.")] = 60,
    cores: Annotated[int, typer.Option(help="Of the machine that writes, and of the server.")] = 4,
    rate: RateOption = None,
    price: PriceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a store of so many memories will take, for each candidate: memory, disk, time, money.

    Nothing is sent anywhere. The formulas, and how they fit measured stores, are in docs/sizing.md.
    """
    if cores < 1:
        raise InvalidInputError("--cores must be at least 1")
    load = Load(count(memories), count(subjects), tokens=tokens, metadata=metadata, fields=fields)
    engines: Sequence[Engine] = [one.value for one in engine or ()] or (
        ["embedded"] if load.memories <= EMBEDDED_UP_TO else ["server"]
    )
    per_minute = None if rate is None else count(rate)
    own = prices_of(price)
    plans = []
    notes: list[str] = []
    for name in dict.fromkeys(embedder or USUAL):
        speed = per_minute / 60 if per_minute is not None else _speed(name, load)
        for size in _dimensions(name, dimension, notes):
            for quantized in quantization or [Quantized.turbo4]:
                choices = [Choice(name, size, quantized.value, one) for one in engines]
                plans += [plan(load, one, rate=speed, prices=own) for one in choices]
    if not plans:
        raise InvalidInputError("no candidate is left: " + "; ".join(notes))
    if as_json:
        show.emit(_json(load, plans, cores, notes))
    else:
        _print(load, plans, cores, notes)


def prices_of(texts: Sequence[str] | None) -> dict[str, float]:
    """Prices as written on a command line.

    Raises:
        InvalidInputError: One is no NAME=DOLLARS.
    """
    found = {}
    for text in texts or ():
        name, equals, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not name or not equals or not found[name] >= 0:
            raise InvalidInputError(f"--price is NAME=DOLLARS for a million tokens, not {text!r:.80}")
    return found


def _dimensions(name: str, wanted: Sequence[int] | None, notes: list[str]) -> Iterator[int]:
    """The dimensions to plan for: those asked for that the model can have, else its own."""
    full, model = _model(name, wanted, notes)
    for size in dict.fromkeys(wanted or [full]):
        if size < 1 or size > full:
            notes.append(f"{name} has {full} dimensions, not {size}: left out")
            continue
        if size < full and family(model) is None:
            notes.append(f"{name} is not known to be trained for {size} dimensions: expect it to find less")
        yield size


def _model(name: str, wanted: Sequence[int] | None, notes: list[str]) -> tuple[int, str]:
    """A model's own dimension and its name; one that is not in the table is asked, which may want its key."""
    provider, model, options = registry.split(name)
    plain = f"{provider}:{model}" if model else provider
    if plain in DIMENSIONS:
        asked = options.get("dimension")
        return (asked if isinstance(asked, int) else DIMENSIONS[plain]), model or plain
    try:
        identity = registry.embedder(name).identity
    except MemoryPluginError as error:
        if wanted:
            notes.append(f"{name} was not asked for its dimension: {error}")
            return max(wanted), model
        raise ConfigurationError(f"{error}; to plan without it, give its dimension: --dimension 1024") from error
    return identity.dimension, identity.model


def _speed(name: str, load: Load) -> float | None:
    """Tokens a second, measured where the model runs on this machine."""
    provider = registry.split(name)[0]
    if provider not in prices.FREE:
        return None
    try:
        made = registry.embedder(name)
    except MemoryPluginError:
        return None
    return None if leaves_machine(made) else measured_speed(made, load.tokens)


def measured_speed(embedder: Embedder, tokens: float) -> float | None:
    """Word pieces that an embedder embeds a second, in passages of so many; None when it fails."""
    pieces = registry.pieces(embedder)
    length = max(1, min(round(tokens), 250) - 2)
    text = " ".join((PASSAGE * (length // len(PASSAGE) + 1))[:length])
    total = pieces.count(text)
    try:
        embedder.embed([text], input_type="document")  # loads the model
        start = time.perf_counter()
        done = 0
        while done < PROBES or time.perf_counter() - start < PATIENCE / 3:
            made = embedder.embed([f"{number} {text}" for number in range(done, done + 4)], input_type="document")
            if not isinstance(made, Embeddings | Sequence) or time.perf_counter() - start > PATIENCE:
                break
            done += 4
    except MemoryPluginError:
        return None
    return done * total / (time.perf_counter() - start) if done else None


def _json(load: Load, plans: Sequence[Plan], cores: int, notes: Sequence[str]) -> dict[str, object]:
    return {
        "memories": load.memories,
        "subjects": load.subjects,
        "tokens_per_memory": load.tokens,
        "cores": cores,
        "candidates": [
            {**one.to_json(), "write_seconds": one.write_seconds / cores, "build_seconds": one.build_seconds / cores}
            for one in plans
        ],
        "notes": list(notes),
        "prices_as_of": prices.AS_OF,
    }


def _print(load: Load, plans: Sequence[Plan], cores: int, notes: Sequence[str]) -> None:
    columns = [
        "embedder",
        "dim",
        "quantization",
        "engine",
        "memory",
        "disk",
        "write",
        "index build",
        "embedding",
        "cost",
    ]
    show.table(
        columns,
        [
            [
                one.choice.embedder,
                one.choice.dimension,
                one.choice.quantization,
                one.choice.engine,
                amount(one.memory_bytes),
                amount(one.disk_bytes),
                duration(one.write_seconds / cores),
                duration(one.build_seconds / cores) if one.build_seconds else "none",
                "–" if one.embed_seconds is None else duration(one.embed_seconds),
                money(one.cost),
            ]
            for one in plans
        ],
    )
    if len(plans) == 1:
        _print_parts(plans[0])
    facts = [
        ["memories", f"{load.memories:,}, of {load.subjects:,} data subject(s), {load.tokens:g} tokens each"],
        ["tokens to embed", f"{plans[0].tokens:,}"],
        ["memory", "what a search goes through; full vectors and texts are read from the disk when they are needed"],
        ["write, index build", f"on {cores} cores; the embedded engine needs no index"],
        ["embedding", "at the rate measured here, given, or allowed to a new account of the vendor"],
        ["cost", f"of embedding everything once, by prices of {prices.AS_OF}; –: no price known, see --price"],
        *[["note", one] for one in notes],
    ]
    if load.memories > EMBEDDED_UP_TO and any(one.choice.engine == "embedded" for one in plans):
        facts.append(["note", f"embedded is meant for up to {EMBEDDED_UP_TO:,} memories: searches take longer beyond"])
    show.table(["what", ""], facts)


def _print_parts(one: Plan) -> None:
    names = dict.fromkeys([*one.disk, *one.memory])
    rows = [[name, *(amount(part[name]) if name in part else "" for part in (one.memory, one.disk))] for name in names]
    show.table(["part", "memory", "disk"], rows)


def amount(size: float) -> str:
    """Bytes in the unit that fits, of powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if size >= 99.5 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration(seconds: float) -> str:
    """A time in the unit that fits."""
    for limit, unit, size in ((90, "s", 1), (90 * 60, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 9.5 else f"{value:.1f} {unit}"
    return f"{seconds / 86400:.1f} days"


def money(dollars: float | None) -> str:
    """Dollars, or a dash where no price is known."""
    if dollars is None:
        return "–"
    if 0 < dollars < 0.01:
        return f"${dollars:.4f}"
    return f"${dollars:,.2f}" if dollars < 1000 else f"${dollars:,.0f}"
