"""train embedder on the command line."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tests.command import Invoke, data
from tests.command import here as here
from tests.command import invoke as invoke
from tests.train import toy

SHOP = [
    ("when do you open", "The shop is open from nine to five."),
    ("can I pay by card", "We take all cards, and cash."),
    ("do you repair bikes", "Our workshop mends bicycles while you wait."),
    ("where can I park", "There is room for cars behind the house."),
]


@pytest.fixture
def shop(here: Path) -> Path:
    return toy.write(here / "shop.jsonl", SHOP)


def test_a_dry_run_says_what_there_is_to_learn(invoke: Invoke, shop: Path) -> None:
    made = data(invoke("train", "embedder", "shop.jsonl", "--dry-run", "--json"))
    assert (made["train"], made["stop"], made["test"], made["near"]) == (2, 0, 2, 0)
    shown = invoke("train", "embedder", "shop.jsonl", "--dry-run", "--hold-out", "0.25").stdout
    assert "questions to learn from\t3" in shown
    assert "questions that judge\t1" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say with --out where the new model is to be, or try --dry-run first"),
        (("--matryoshka", "128;64", "--dry-run"), "--matryoshka is numbers with commas between them, not '128;64'"),
        (("--matryoshka", "1024", "--dry-run"), "the model has 384 dimensions: it cannot be cut to (1024,)"),
        (("--hold-out", "1", "--dry-run"), "hold_out is a share"),
        (("--epochs", "0", "--dry-run"), "epochs must be at least 1"),
        (("--group-by", "doc", "--dry-run"), "in a file of pairs write a group"),
        (("--base", "nowhere", "--dry-run"), "nowhere holds no sentence-transformers model"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(
    invoke: Invoke, shop: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = invoke("train", "embedder", "shop.jsonl", *arguments, status=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_without_the_extra_it_says_which(
    invoke: Invoke, shop: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    result = invoke("train", "embedder", "shop.jsonl", "--out", "model", "--json", status=2)
    error = json.loads(result.stdout)["error"]
    assert error["type"] == "MissingExtraError"
    assert error["message"].endswith("pip install 'memory-plugin[train]'")
    assert not (here / "model").exists()


def test_train_alone_shows_what_it_can_make(invoke: Invoke) -> None:
    assert "embedder" in invoke("train", "--help").stdout
