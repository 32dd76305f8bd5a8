"""eval on the command line: candidates of a set, and a store and questions of one's own."""

from __future__ import annotations

import json
import stat
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from memory_plugin.cli import report, show
from memory_plugin.questions import read_questions
from tests import sets
from tests.command import Invoke, data
from tests.command import here as here
from tests.command import invoke as invoke

NOTES = (
    "The harbour festival begins on the second Saturday of August with a parade of painted fishing boats.",
    "Grandmother keeps her recipe for walnut bread in the blue tin above the kitchen stove.",
    "The library asks borrowers to return atlases before noon because schools need them in the afternoon.",
    "Our telescope arrived with a cracked mirror, so the shop promised a replacement within three weeks.",
    "Cyclists should avoid the northern bridge while masons repair its oldest granite pillars.",
    "Ticket ZX-4471-B was opened when the greenhouse sensors reported impossible temperatures.",
    "The orchestra rehearses Bruckner on Tuesdays, and visitors may listen quietly from the balcony.",
    "Marta traded her violin for a secondhand kayak and has not regretted the bargain once.",
)


@pytest.fixture
def filled(invoke: Invoke, here: Path) -> Path:
    """A store with memories of alice's and bob's."""
    for number, note in enumerate(NOTES):
        (here / f"note-{number}.txt").write_text(note, encoding="utf-8")
    invoke("add", *(f"note-{number}.txt" for number in range(len(NOTES))), "-n", "alice")
    invoke("add", "note-0.txt", "-n", "bob")
    return here


def ask(where: Path, *lines: dict[str, object]) -> str:
    where.write_text("# mine\n" + "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(where)


def test_candidates_of_a_set(invoke: Invoke, here: Path) -> None:
    sets.write(here / "questions")
    options = ("--dimension", "384", "--dimension", "64", "--quantization", "turbo4", "--quantization", "binary")
    found = data(invoke("eval", "questions", *options, "--reranker", "late", "--memories", "10M", "--json"))
    assert [(one["dimension"], one["quantization"]) for one in found["stores"]] == [
        (384, "turbo4"), (384, "binary"), (64, "turbo4"), (64, "binary"),
    ]  # fmt: skip
    assert [one["forced"] for one in found["stores"]] == [False, False, True, True]
    assert {one["planned_for"] for one in found["stores"]} == {10_000_000}
    assert len(found["differences"]) == 3
    assert found["models"]["embedder"].startswith("local:all-MiniLM-L6-v2@")


def test_one_table_and_one_picture(invoke: Invoke, here: Path) -> None:
    sets.write(here / "questions")
    result = invoke("eval", "questions", "--reranker", "none", "--reranker", "late", "--picture", "eval.svg")
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert lines[0][:5] == ["candidate", "R@10", "above the first", "NDCG@10", "p50 ms"]
    assert lines[0][6:] == ["memory at 1,000,000", "disk", "cost"]
    assert [line[0] for line in lines[1:3]] == ["fusion", "late"]
    assert lines[1][2] == "–"
    assert lines[2][2].count("[") == 1
    assert lines[3] == ["what can be concluded"]
    assert "questions cannot tell late from fusion: the difference is between" in lines[4][0]
    assert ["picture", "eval.svg"] in lines
    root = ET.parse(here / "eval.svg").getroot()
    assert "3 questions" in (root.findtext("{http://www.w3.org/2000/svg}title") or "")
    text = "".join(root.itertext())
    assert "memory for 1,000,000 memories" in text
    assert "recall@10" in text


def test_the_picture_is_shown_on_a_terminal(invoke: Invoke, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets.write(here / "questions")
    monkeypatch.setattr(show, "is_terminal", lambda: True)
    text = invoke("eval", "questions", "--reranker", "none", "--reranker", "late").stdout
    assert "recall@10 against memory for 1,000,000 memories" in text
    assert "A fusion   " in text
    single = invoke("eval", "questions", "--reranker", "none").stdout
    assert "against" not in single
    assert "above the first" not in single


def test_a_picture_that_cannot_be_written(invoke: Invoke, here: Path) -> None:
    sets.write(here / "questions")
    failed = invoke("eval", "questions", "--reranker", "none", "--picture", "nowhere/eval.svg", status=2)
    assert "nowhere/eval.svg cannot be written" in failed.stderr


def test_questions_of_a_store_made_edited_asked(invoke: Invoke, filled: Path) -> None:
    made = data(invoke("eval", "--make-questions", "-n", "alice", "--count", "6", "--json"))
    assert made["file"] == "questions.jsonl"
    assert (made["questions"], made["identifier"], made["local_only"]) == (6, 1, 0)
    assert made["sentence"] + made["paraphrase"] == 5
    file = filled / "questions.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    questions = read_questions(file)
    assert {question.namespace for question in questions} == {("alice",)}
    assert any("ZX-4471-B" in question.text for question in questions)
    again = invoke("eval", "--make-questions", "-n", "alice", status=2)
    assert "questions.jsonl is there already, perhaps edited" in again.stderr
    mine = {
        "query": "who swapped an instrument for a boat?",
        "namespace": "alice",
        "source": "note-7.txt",
        "type": "mine",
    }
    with file.open("a", encoding="utf-8") as text:
        text.write(json.dumps(mine) + "\n")
    found = data(invoke("eval", "--questions", "questions.jsonl", "--reranker", "late", "--json"))
    assert found["questions"] == 7
    assert {"all", "sentence", "identifier", "mine"} <= {row["type"] for row in found["rows"]}
    assert found["rows"][0]["recall@10"] == 1
    assert found["stores"][0]["memories"] == len(NOTES) + 1
    told = invoke(
        "eval", "--questions", "questions.jsonl", "--reranker", "none", "--reranker", "late", "--sample", "3"
    ).stdout
    assert "memory at" not in told  # the store as it is, not one of a million
    assert "questions.jsonl: 0 rows, 3 questions" in told


def test_its_memories_under_other_models(invoke: Invoke, filled: Path) -> None:
    file = ask(
        filled / "mine.jsonl",
        {"query": "when is the harbour festival", "namespace": "alice", "text": "second Saturday of August"},
        {"query": "ticket ZX-4471-B", "namespace": "alice", "source": "note-5.txt"},
    )
    options = ("--dimension", "384", "--dimension", "32", "--reranker", "none", "--legs", "dense")
    found = data(invoke("eval", "--questions", file, *options, "--json"))
    assert [one["dimension"] for one in found["stores"]] == [384, 32]
    assert {one["memories"] for one in found["stores"]} == {len(NOTES)}  # alice's alone
    assert found["rows"][0]["recall@10"] == 1
    before = data(invoke("doctor", "--json"))
    assert (before["memories"], before["models"]["dimension"]) == (len(NOTES) + 1, 384)


def test_private_memories_are_told_of(invoke: Invoke, filled: Path) -> None:
    (filled / "secret.txt").write_text("The vault combination is hidden behind the portrait of Captain Ambrose.")
    invoke("add", "secret.txt", "-n", "carol", "--local-only")
    text = invoke("eval", "--make-questions", "-n", "carol", "--out", "carol.jsonl").stdout
    assert "1 of them are of memories marked local_only" in text
    assert "memory-plugin eval --questions carol.jsonl" in text
    line = json.loads((filled / "carol.jsonl").read_text().splitlines()[-1])
    assert "no model outside this machine" in line["note"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name a DIR, or --questions FILE, or --make-questions: one of the three"),
        (("questions", "--make-questions"), "one of the three"),
        (("--make-questions",), "--make-questions needs a --namespace"),
        (("--make-questions", "-n", "alice", "--count", "0"), "--count must be at least 1"),
        (("--make-questions", "-n", "alice", "--out", "nowhere/q.jsonl"), "nowhere/q.jsonl cannot be written"),
        (("--make-questions", "-n", "nobody"), "no question can be made of these memories"),
        (("--questions", "none.jsonl"), "none.jsonl cannot be read"),
        (("--questions", "notes.md"), "notes.md line 1"),
        (("questions", "--memories", "many"), "no number of things"),
        (("questions", "--price", "x"), "--price is NAME=DOLLARS"),
    ],
)
def test_what_cannot_be_asked(invoke: Invoke, filled: Path, options: tuple[str, ...], message: str) -> None:
    (filled / "notes.md").write_text("no JSON\n")
    assert message in invoke("eval", *options, status=2).stderr
    assert not (filled / "questions.jsonl").exists()


def test_the_users_store_is_never_filled_by_a_set(
    invoke: Invoke, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MEMORY_PLUGIN_STORE names the user's store: a set's corpus has no business there."""
    sets.write(filled / "questions")
    where = data(invoke("doctor", "--json"))
    monkeypatch.setenv("MEMORY_PLUGIN_STORE", where["data"])
    invoke("eval", "questions", "--reranker", "none")
    assert data(invoke("doctor", "--json"))["memories"] == where["memories"]


def test_differences_are_written_with_a_sign() -> None:
    assert report._between(-0.5, (-0.6, 0.0)) == "−0.500 [−0.600, 0.000]"
