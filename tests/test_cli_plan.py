"""The command that says what a store will take."""

from __future__ import annotations

from typing import Any

import pytest

from memory_plugin.cli.sizing import amount, duration, measured_speed, money
from memory_plugin.embedders.local import LocalEmbedder
from memory_plugin.errors import EmbeddingError
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings
from tests.command import Invoke, data
from tests.command import here as here
from tests.command import invoke as invoke


def candidates(invoke: Invoke, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = data(invoke("plan", *options, "--json"))["candidates"]
    return found


def test_ten_million(invoke: Invoke) -> None:
    found = data(invoke("plan", "--memories", "10M", "--subjects", "50k", "--json"))
    assert (found["memories"], found["subjects"], found["tokens_per_memory"]) == (10_000_000, 50_000, 100)
    names = [one["embedder"] for one in found["candidates"]]
    assert names[0] == "local"
    assert len(names) == len(set(names)) == 5
    assert {one["engine"] for one in found["candidates"]} == {"server"}
    local, small = found["candidates"][:2]
    assert local["cost_usd"] == 0
    assert local["tokens_per_second"] > 0  # measured here
    assert small["cost_usd"] == pytest.approx(20)
    assert small["disk_bytes"] > small["memory_bytes"] > 1e9
    assert small["build_seconds"] == pytest.approx(small["build_core_seconds"] / 4)


def test_every_combination(invoke: Invoke) -> None:
    found = candidates(
        invoke, "--memories", "2.5k", "--embedder", "openai:text-embedding-3-large", "--embedder", "voyage:voyage-4",
        "--dimension", "256", "--dimension", "1024", "--quantization", "turbo4", "--quantization", "binary",
        "--engine", "embedded", "--engine", "server",
    )  # fmt: skip
    kinds = {(one["embedder"], one["dimension"], one["quantization"], one["engine"]) for one in found}
    assert len(found) == len(kinds) == 16


def test_dimensions_that_a_model_cannot_have(invoke: Invoke) -> None:
    options = ("--memories", "1e3", "--embedder", "local", "--dimension", "128", "--dimension", "512")
    found = data(invoke("plan", *options, "--json"))
    assert [one["dimension"] for one in found["candidates"]] == [128]
    assert found["notes"] == [
        "local is not known to be trained for 128 dimensions: expect it to find less",
        "local has 384 dimensions, not 512: left out",
    ]
    failed = invoke("plan", "--memories", "1k", "--embedder", "local", "--dimension", "512", status=2)
    assert "no candidate is left: local has 384 dimensions" in failed.stderr


def test_what_the_user_knows_better(invoke: Invoke) -> None:
    (found,) = candidates(
        invoke, "--memories", "1M", "--embedder", "openai:text-embedding-3-small?dimension=512", "--rate", "5M",
        "--price", "openai:text-embedding-3-small=0.01", "--cores", "8", "--tokens-per-memory", "50",
    )  # fmt: skip
    assert found["dimension"] == 512
    assert found["tokens"] == 50_000_000
    assert found["cost_usd"] == pytest.approx(0.5)
    assert found["embed_seconds"] == pytest.approx(600)
    (other,) = candidates(invoke, "--memories", "1M", "--embedder", "acme:best", "--dimension", "700", "--rate", "1M")
    assert (other["dimension"], other["cost_usd"]) == (700, None)


def test_for_people(invoke: Invoke) -> None:
    text = invoke("plan", "--memories", "10k", "--embedder", "local").stdout
    heading, first = text.splitlines()[:2]
    assert heading.split("\t")[4:8] == ["memory", "disk", "write", "index build"]
    assert first.split("\t")[:4] == ["local", "384", "turbo4", "embedded"]
    assert first.split("\t")[7] == "none"
    assert "sealed token vectors" in text  # the parts of a single candidate
    assert "10,000, of 1 data subject(s)" in text
    large = invoke("plan", "--memories", "1M", "--embedder", "local", "--engine", "embedded").stdout
    assert "meant for up to 300,000" in large


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--memories", "many"), "no number of things"),
        (("--memories", "10", "--subjects", "11"), "a data subject for one memory at most"),
        (("--memories", "10", "--cores", "0"), "--cores must be at least 1"),
        (("--memories", "10", "--price", "local"), "--price is NAME=DOLLARS"),
        (("--memories", "10", "--price", "local=-1"), "--price is NAME=DOLLARS"),
        (("--memories", "10", "--embedder", "acme:best"), "give its dimension: --dimension 1024"),
    ],
)
def test_what_cannot_be_planned(invoke: Invoke, options: tuple[str, ...], message: str) -> None:
    assert message in invoke("plan", *options, status=2).stderr


def test_the_speed_of_a_model_is_measured() -> None:
    assert (measured_speed(HashEmbedder(), 50) or 0) > 10 * (measured_speed(LocalEmbedder(workers=1), 50) or 0) > 0

    class Broken(HashEmbedder):
        def embed(self, texts: Any, /, *, input_type: Any) -> Embeddings:
            raise EmbeddingError("no weights", provider="testing")

    assert measured_speed(Broken(), 50) is None


def test_units() -> None:
    assert [amount(one) for one in (0, 999, 1500, 123_456, 2.5e9, 3e13)] == [
        "0 B", "999 B", "1.5 kB", "123 kB", "2.5 GB", "30.0 TB",
    ]  # fmt: skip
    assert [duration(one) for one in (0.5, 12, 600, 7200, 1e6)] == ["0.5 s", "12 s", "10 min", "2.0 h", "11.6 days"]
    assert [money(one) for one in (None, 0, 0.001, 12.345, 1234.5)] == ["–", "$0.00", "$0.0010", "$12.35", "$1,234"]
