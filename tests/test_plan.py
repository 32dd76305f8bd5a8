"""What a plan says, held against stores that were made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memory_plugin.errors import InvalidInputError
from memory_plugin.plan import DIMENSIONS, Choice, Load, Plan, count, plan, quantized_bytes, sealed_bytes, vendor_rate
from memory_plugin.types import Quantization
from memory_plugin.vectors import QUANTIZATIONS
from scripts.check_sizing import build

TOLERANCE = 0.06
"""By how much a plan may be off the bytes that a store's files really take: docs/sizing.md says the same."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dimension", "quantization", "options"),
    [
        (384, "turbo4", {}),
        (1024, "turbo2", {"words": 8}),
        (200, "binary", {"fields": 2, "depth": 3, "words": 20}),
        (128, "int8", {"words": 12}),
        (768, "none", {"words": 40, "subjects": 10}),
    ],
)
def test_bytes_of_real_stores(
    disk_path: Path, dimension: int, quantization: Quantization, options: dict[str, Any]
) -> None:
    built = build(disk_path, 2000, dimension, quantization, **{"words": 12, "subjects": 2, **options})
    # An int8 store is rewritten by the engine, into files of its choice: up to 8 % less than planned was seen.
    assert built.plan.disk_bytes == pytest.approx(built.disk_bytes, rel=0.1 if quantization == "int8" else TOLERANCE)
    for part, measured in built.disk.items():
        if part in {"vectors", "quantized vectors", "term weights", "lexical index"}:
            # Files are allocated in pages, which shows where they are small.
            assert built.plan.disk[part] == pytest.approx(measured, rel=TOLERANCE, abs=40_000), part
    payload = sum(built.plan.disk[part] for part in ("sealed records", "tags"))
    assert payload == pytest.approx(built.disk["payload"], rel=0.08)
    assert ("quantized vectors" in built.plan.disk) == ("quantized vectors" in built.disk)


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [("none", (0, 0, 0)), ("turbo4", (28, 200, 776)), ("turbo2", (18, 104, 392)), ("int8", (52, 388, 1540))],
)
def test_quantized_bytes(quantization: Quantization, expected: tuple[int, ...]) -> None:
    assert tuple(quantized_bytes(size, quantization) for size in (33, 384, 1536)) == expected
    assert quantized_bytes(384, "binary") == 48
    assert quantized_bytes(33, "binary") == 16


def test_sealed_bytes_are_those_of_the_envelope() -> None:
    """On average over lengths nearby, as a real subject's key seals."""
    from memory_plugin.crypto import envelope

    for middle in (200, 700, 5_000, 60_000):
        lengths = range(middle - 64, middle + 64)
        real = sum(4 * -(-(envelope.OVERHEAD + len(envelope.pad(bytes(one)))) // 3) for one in lengths) / len(lengths)
        assert sealed_bytes(middle) == pytest.approx(real, rel=0.03)


def test_everything_grows_with_what_is_kept() -> None:
    choice = Choice("local", 384)
    small, large = plan(Load(10_000), choice), plan(Load(1_000_000), choice)
    assert 90 < large.disk_bytes / small.disk_bytes < 105
    assert large.tokens == 100 * small.tokens == 100_000_000
    more = plan(Load(10_000, 100, tokens=200, metadata=500, fields=3, depth=3), choice)
    for part in small.disk:
        assert more.disk[part] >= small.disk[part], part
    assert more.memory_bytes > small.memory_bytes


def sizes(choice: Choice, load: Load = Load(100_000)) -> Plan:  # noqa: B008 - it is a value
    return plan(load, choice)


def test_what_a_choice_changes() -> None:
    full, short = sizes(Choice("local", 384)), sizes(Choice("local", 128))
    assert full.disk["vectors"] == 3 * short.disk["vectors"]
    assert full.memory["quantized vectors"] == pytest.approx(3 * short.memory["quantized vectors"], rel=0.1)
    by_form = {one: sizes(Choice("local", 384, one)) for one in QUANTIZATIONS}
    assert by_form["none"].memory["vectors"] == by_form["none"].disk["vectors"]
    order = sorted(QUANTIZATIONS, key=lambda one: -by_form[one].memory.get("quantized vectors", 10**12))
    assert order == ["none", "int8", "turbo4", "turbo2", "binary"]
    without = sizes(Choice("local", 384, late=False))
    assert full.disk["sealed token vectors"] == full.disk_bytes - without.disk_bytes > 100_000 * 50 * 100
    sealed = sizes(Choice("local", 384, vectors="sealed"))
    assert "vectors" not in sealed.disk
    assert sealed.disk["sealed vectors"] > 100_000 * 2 * 384
    assert sealed.memory["opened vectors"] == 100_000 * 4 * 384
    assert "rotations" not in sealed.memory


def test_only_a_server_builds_an_index() -> None:
    embedded, served = sizes(Choice("local", 384)), sizes(Choice("local", 384, engine="server"))
    assert embedded.build_seconds == 0
    assert "graph" not in embedded.disk
    assert served.build_seconds > 0
    assert 60 < served.disk["graph"] / 100_001 < 130
    larger = sizes(Choice("local", 384, engine="server"), Load(1_000_000))
    assert larger.build_seconds > 10 * served.build_seconds
    assert sizes(Choice("local", 384, "none", "server")).build_seconds > served.build_seconds
    assert sizes(Choice("local", 384, engine="server", vectors="sealed")).build_seconds == 0


def test_cost_and_time() -> None:
    load = Load(1_000_000)  # of 100 tokens
    small = plan(load, Choice("openai:text-embedding-3-small", 512))
    assert small.cost == pytest.approx(2.0)
    assert small.embed_seconds == pytest.approx(6000)  # a million tokens a minute
    own = plan(
        load,
        Choice("openai:text-embedding-3-small?dimension=512", 512),
        rate=1e6,
        prices={"openai:text-embedding-3-small": 0.01},
    )
    assert own.cost == pytest.approx(1.0)
    assert own.embed_seconds == pytest.approx(100)
    unknown = plan(load, Choice("acme:model", 512))
    assert (unknown.cost, unknown.embed_seconds, unknown.rate) == (None, None, None)
    assert plan(load, Choice("local", 384)).cost == 0
    as_json = small.to_json()
    assert as_json["cost_usd"] == small.cost
    assert as_json["disk_bytes"] == sum(size for name, size in small.disk.items() if name != "log")


def test_rates_are_of_models_whose_dimension_is_known() -> None:
    assert all(vendor_rate(name, 100) is None or vendor_rate(f"{name}?dimension=256", 100) for name in DIMENSIONS)
    assert vendor_rate("local", 100) is None
    assert vendor_rate("cohere:embed-v4.0", 100) == pytest.approx(2 * (vendor_rate("cohere:embed-v4.0", 50) or 0))
    assert vendor_rate("openai:text-embedding-3-small", 100) == vendor_rate("openai:text-embedding-3-small", 50)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("10M", 10_000_000), ("2.5k", 2500), ("1e6", 1_000_000), ("300_000", 300_000), ("1,000", 1000),
     (" 3 b ", 3_000_000_000), ("1.5E3", 1500), ("0.1k", 100)],
)  # fmt: skip
def test_numbers_as_people_write_them(text: str, number: int) -> None:
    assert count(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "ten", "1.5", "2.0001k", "1e13", "1e999", "nan", "inf", "10 MB", "M", "1e-3"]
)
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"write 300000, 2\.5k, 10M or 1e6"):
        count(text)


@pytest.mark.parametrize("change", [{"subjects": 0}, {"subjects": 11}, {"tokens": 0}, {"metadata": -1}, {"depth": 0}])
def test_what_cannot_be_kept(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        replace(Load(10), **change)
