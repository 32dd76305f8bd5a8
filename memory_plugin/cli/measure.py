"""The command that measures retrieval: eval, on a set with labels, or on a store and questions of one's own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from memory_plugin.assembly import LOCAL
from memory_plugin.cli import report, show
from memory_plugin.cli.options import (
    JsonOption,
    KeysOption,
    OfflineOption,
    Place,
    PlaintextOption,
)
from memory_plugin.cli.options import (
    namespace as namespace_of,
)
from memory_plugin.cli.sizing import PriceOption, Quantized, prices_of
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.make_questions import KINDS, SEED, make_questions
from memory_plugin.plan import count
from memory_plugin.questions import read_questions, write_questions

if TYPE_CHECKING:
    from memory_plugin.dataset import Dataset, Question
    from memory_plugin.evaluate import Evaluation
    from memory_plugin.store import MemoryStore

_OWN = "Your own store and questions"
STORE_VARIABLE, EMBEDDER_VARIABLE = "MEMORY_PLUGIN_STORE", "MEMORY_PLUGIN_EMBEDDER"


class Stage(StrEnum):
    """The last stage of a search."""

    none = "none"
    late = "late"
    local = "local"


class Leg(StrEnum):
    """What proposes candidates."""

    dense = "dense"
    lexical = "lexical"
    hybrid = "hybrid"
    learned = "learned"


DirectoryArgument: TypeAlias = Annotated[
    Path | None,
    typer.Argument(metavar="[DIR]", help="Holds corpus.jsonl.gz, queries.jsonl.gz, qrels.tsv.", show_default=False),
]
EmbeddersOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--embedder", metavar="NAME", help="A model. Several to compare.", show_default=LOCAL),
]
DimensionsOption: TypeAlias = Annotated[
    list[int] | None,
    typer.Option("--dimension", help="Of the stored vectors. Several to compare.", show_default="the model's own"),
]
QuantizationsOption: TypeAlias = Annotated[
    list[Quantized] | None,
    typer.Option("--quantization", help="Of the vectors. Several to compare.", show_default="turbo4"),
]
StagesOption: TypeAlias = Annotated[
    list[Stage] | None,
    typer.Option(
        "--reranker",
        help="Last stage: fusion, late interaction, cross-encoder. Several to compare.",
        show_default="local",
    ),
]
LegsOption: TypeAlias = Annotated[
    list[Leg] | None,
    typer.Option("--legs", help="What proposes candidates. Several to compare.", show_default="hybrid"),
]
SampleOption: TypeAlias = Annotated[
    int | None, typer.Option(help="Ask that many questions only, always the same.", show_default=False)
]
MemoriesOption: TypeAlias = Annotated[
    str, typer.Option("--memories", metavar="NUMBER", help="For how many memories size and cost are told.")
]
PictureOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--picture", metavar="FILE", help="Also draw it: an SVG of quality against memory and time.", show_default=False
    ),
]
EvalStoreOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH",
        help="With DIR: keep store and keys here, and do not embed again what is there. "
        f"With questions of your own: the store that has the memories (or {STORE_VARIABLE}).",
        show_default=False,
    ),
]
QuestionsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Ask your store these questions in place of DIR.", show_default=False, rich_help_panel=_OWN
    ),
]
MakeOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--make-questions", help="Make a first set from your memories, to be edited by hand.", rich_help_panel=_OWN
    ),
]
OutOption: TypeAlias = Annotated[
    Path,
    typer.Option("--out", metavar="FILE", help="Where the questions that are made go.", rich_help_panel=_OWN),
]
CountOption: TypeAlias = Annotated[int, typer.Option("--count", help="How many to make.", rich_help_panel=_OWN)]
SeedOption: TypeAlias = Annotated[int, typer.Option("--seed", help="Another makes others.", rich_help_panel=_OWN)]
WhoseOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME[/PART…]",
        help="Whose memories questions are made of. Several times for several.",
        show_default=False,
        rich_help_panel=_OWN,
    ),
]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be measured, as options say."""

    embedders: list[str]
    dimensions: list[int] | None
    quantizations: list[Quantized] | None
    stages: list[Stage]
    legs: list[Leg]
    limit: int
    sample: int | None
    memories: int
    prices: dict[str, float]
    offline: bool

    @property
    def common(self) -> dict[str, Any]:
        """Arguments of every kind of evaluation."""
        return {
            "reranker": [one.value for one in self.stages],
            "legs": [one.value for one in self.legs],
            "limit": self.limit,
        }

    @property
    def compared(self) -> dict[str, Any]:
        """Arguments where stores are made."""
        return {
            "embedder": self.embedders or [os.environ.get(EMBEDDER_VARIABLE) or LOCAL],
            "dimension": self.dimensions,
            "quantization": None if self.quantizations is None else [one.value for one in self.quantizations],
            "planned_for": self.memories,
            "prices": self.prices,
            "allow_network": not self.offline,
        }

    @property
    def makes_stores(self) -> bool:
        """Whether anything but the store as it is was asked for."""
        return bool(len(self.embedders) > 1 or self.dimensions or self.quantizations)


def evaluate(
    directory: DirectoryArgument = None,
    embedder: EmbeddersOption = None,
    dimension: DimensionsOption = None,
    quantization: QuantizationsOption = None,
    reranker: StagesOption = None,
    legs: LegsOption = None,
    limit: Annotated[int, typer.Option("--limit", "-k", help="Rows that a search returns.")] = 10,
    sample: SampleOption = None,
    memories: MemoriesOption = "1M",
    price: PriceOption = None,
    picture: PictureOption = None,
    store: EvalStoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    offline: OfflineOption = False,
    questions: QuestionsOption = None,
    make: MakeOption = False,
    out: OutOption = Path("questions.jsonl"),
    number: CountOption = 50,
    seed: SeedOption = SEED,
    namespace: WhoseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure retrieval on questions with labels, candidates side by side: quality, size, time, cost.

    DIR's corpus is added to stores of its own, which are deleted afterwards. With --questions, your store is asked as
    it is; with several models, dimensions or quantizations, its memories are copied to sealed stores for the time, and
    the first model named is the one that opens it.
    """
    if sum((directory is not None, questions is not None, make)) != 1:
        raise InvalidInputError("name a DIR, or --questions FILE, or --make-questions: one of the three")
    asked = _Asked(
        embedders=list(dict.fromkeys(embedder or [])),
        dimensions=list(dimension) if dimension else None,
        quantizations=list(quantization) if quantization else None,
        stages=list(reranker or (Stage.local,)),
        legs=list(legs or (Leg.hybrid,)),
        limit=limit,
        sample=sample,
        memories=count(memories),
        prices=prices_of(price),
        offline=offline,
    )
    if directory is not None:
        found = _of_set(directory, asked, store)
    else:
        model = asked.embedders[0] if asked.embedders else os.environ.get(EMBEDDER_VARIABLE)
        where = Place(store or os.environ.get(STORE_VARIABLE), keys, plaintext, model, offline)
        if make:
            _make(where, namespace, out, number, seed, as_json=as_json)
            return
        assert questions is not None
        found = _of_own(where, questions, asked)
    if picture is not None:
        report.draw(found, picture)
    if as_json:
        show.emit(found.to_json())
    else:
        report.show_evaluation(found, picture)


def _of_set(directory: Path, asked: _Asked, store: str | None) -> Evaluation:
    from memory_plugin.evaluate import evaluate as measured

    with show.progress() as tell:
        return measured(directory, **asked.common, **asked.compared, sample=asked.sample, store=store, progress=tell)


def _of_own(where: Place, file: Path, asked: _Asked) -> Evaluation:
    """The store as it is, or what is in it under other models."""
    from memory_plugin.evaluate import evaluate_copy, evaluate_store

    questions = _sampled(read_questions(file), asked.sample)
    with show.progress() as tell, ExitStack() as opened:
        memory = opened.enter_context(where.open(reranks=Stage.local in asked.stages))
        if not asked.makes_stores:
            return evaluate_store(memory, questions, name=file.name, progress=tell, **asked.common)
        data = _gathered(memory, questions, file.name)
        opened.close()  # what is measured now must not share the machine with it
        return evaluate_copy(data, progress=tell, **asked.common, **asked.compared)


def _sampled(questions: Sequence[Question], sample: int | None) -> Sequence[Question]:
    from memory_plugin.dataset import Dataset

    return questions if sample is None else Dataset("", {}, tuple(questions), {}).sample(sample).questions


def _gathered(memory: MemoryStore, questions: Sequence[Question], name: str) -> Dataset:
    from memory_plugin.evaluate import gathered

    return gathered(memory, questions, name=name)


def _make(where: Place, texts: Sequence[str] | None, out: Path, number: int, seed: int, *, as_json: bool) -> None:
    """Write a first set of questions to a file that only its owner can read."""
    from memory_plugin.evaluate import OtherWords, listed

    if not texts:
        raise ConfigurationError("--make-questions needs a --namespace: questions are made of somebody's memories")
    if number < 1:
        raise InvalidInputError(f"--count must be at least 1, not {number}")
    if out.exists():
        raise InvalidInputError(f"{out} is there already, perhaps edited: name another file with --out, or remove it")
    spaces = dict.fromkeys(map(namespace_of, texts))
    with where.open() as memory:
        records = [record for space in spaces for record in listed(memory, space)]
    made = make_questions(records, number, seed=seed, other_words=OtherWords(records))
    private = {record.text for record in records if record.local_only}
    notes = {
        question.id: "of a memory that no model outside this machine may see: so no such model may see this question"
        for question in made
        if any(one.text and any(one.text in text for text in private) for one in question.expected)
    }
    text = write_questions(made, notes)
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InvalidInputError(f"{out} cannot be written: {error.strerror or error}") from error
    kinds = {kind: sum(question.type == kind for question in made) for kind in KINDS}
    if as_json:
        show.emit({"file": str(out), "questions": len(made), **kinds, "local_only": len(notes)})
        return
    show.say(f"{len(made)} questions in {out}: " + ", ".join(f"{number} {kind}" for kind, number in kinds.items()))
    if notes:
        show.say(f"{len(notes)} of them are of memories marked local_only; each says so in its note.")
    show.say(f"Edit them, then: memory-plugin eval --questions {out}")
