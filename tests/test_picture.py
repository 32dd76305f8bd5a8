"""The picture: every mark where its figures are, and nothing that an SVG reader chokes on."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin.picture import MOST, Axis, Mark, Named, characters, frontier, linear, ratios, svg

NAMED = Named("recall@10", "memory", "p50 of a search")
MARKS = [
    Mark("local 384", 0.95, 0.93, 0.97, 2.1e9, 14),
    Mark("local 128", 0.90, 0.87, 0.93, 1.8e9, 13),
    Mark("far <away> & large", 0.97, 0.95, 0.985, 9.1e9, 180),
]
SPACE = {"svg": "http://www.w3.org/2000/svg"}
POSITIVE = st.floats(1e-3, 1e15)
SHARES = st.floats(0, 1)


def discs(text: str) -> list[tuple[float, float]]:
    root = ET.fromstring(text)
    return [(float(one.attrib["cx"]), float(one.attrib["cy"])) for one in root.findall("svg:circle", SPACE)]


def test_marks_are_where_their_figures_are() -> None:
    found = discs(svg(MARKS, NAMED, title="a title"))
    assert len(found) == 3 * len(MARKS)  # both panels and the legend
    left, right = found[:3], found[3:6]
    for panel, key in ((left, "size"), (right, "milliseconds")):
        order = sorted(range(3), key=lambda place, key=key: getattr(MARKS[place], key))  # type: ignore[misc]
        assert [panel[place][0] for place in order] == sorted(x for x, _ in panel)
        # Quality rises upwards, by equal lengths.
        per = [
            (panel[0][1] - y) / (mark.quality - MARKS[0].quality or 1)
            for mark, (_, y) in zip(MARKS, panel, strict=True)
        ]
        assert per[1] == pytest.approx(per[2], rel=0.01)
        assert per[1] > 0


def test_labels_are_words_and_not_markup() -> None:
    text = svg(MARKS, NAMED, title="<script>alert(1)</script>")
    root = ET.fromstring(text)
    words = [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any("far <away> & large   0.970 [0.950, 0.985]" in one for one in words)
    assert "<script>" not in text
    assert root.findtext("svg:title", namespaces=SPACE) == "<script>alert(1)</script>"


def test_marks_that_would_cover_each_other_stand_side_by_side() -> None:
    same = [replace(MARKS[0], label=str(number)) for number in range(4)]
    panel = discs(svg(same, NAMED, title=""))[:4]
    gaps = [abs(one[0] - other[0]) for one, other in pairwise(panel)]
    assert min(gaps) >= 16
    inside = [x for x, _ in panel]
    assert min(inside) > 64
    assert max(inside) < 464


def test_many_long_labels_have_a_line_each() -> None:
    many = [replace(MARKS[number % 3], label=f"provider:model-with-a-long-name-{number}") for number in range(MOST)]
    root = ET.fromstring(svg(many, NAMED, title="many"))
    height = float(root.attrib["height"])
    below = [float(one.attrib["y"]) for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert max(below) < height
    assert len(discs(svg(many, NAMED, title=""))) == 3 * MOST


def test_what_no_other_beats() -> None:
    best = frontier([*MARKS, Mark("worse", 0.89, 0.8, 0.9, 5e9, 20)], lambda mark: mark.size)
    assert [mark.label for mark in best] == ["local 128", "local 384", "far <away> & large"]
    assert frontier(MARKS[:1], lambda mark: mark.size) == MARKS[:1]


@given(
    st.lists(st.builds(Mark, st.text(max_size=30), SHARES, SHARES, SHARES, POSITIVE, POSITIVE), min_size=1, max_size=9)
)
def test_any_figures_make_a_picture(marks: list[Mark]) -> None:
    marks = [replace(mark, low=min(mark.quality, mark.low), high=max(mark.quality, mark.high)) for mark in marks]
    printable = [replace(mark, label=re.sub(r"[^ -~]", "?", mark.label)) for mark in marks]
    for x, y in discs(svg(printable, NAMED, title="any")):
        assert math.isfinite(x)
        assert math.isfinite(y)
        assert 0 <= x <= 980
    for width in (60, 100):
        lines = characters(printable, NAMED, width=width).splitlines()
        assert all(len(line) <= width for line in lines[: -len(marks)])


@given(st.lists(POSITIVE, min_size=1, max_size=6))
def test_an_axis_holds_its_values(values: list[float]) -> None:
    for axis in (ratios(values), linear(values)):
        assert all(-1e-9 <= axis.place(value) <= 1 + 1e-9 for value in values)
        assert all(-1e-9 <= axis.place(tick) <= 1 + 1e-9 for tick in axis.ticks)
        assert len(axis.ticks) <= 12


def test_ticks() -> None:
    assert linear([0.9, 0.98]).ticks == pytest.approx((0.9, 0.92, 0.94, 0.96, 0.98))
    assert linear([0.5, 1.0], least=0, most=1).most == 1
    assert linear([0.5]).ticks  # a single value still has an axis
    assert ratios([10, 1000]).ticks == (10, 20, 50, 100, 200, 500, 1000)
    assert ratios([1, 1e6]).ticks == tuple(10.0**power for power in range(7))
    assert ratios([1, 1e12]).ticks == tuple(10.0**power for power in range(0, 13, 2))
    assert not ratios([10, 20]).logarithmic
    assert ratios([10, 20]).least == 0  # so that a difference looks as large as it is
    assert Axis(1, 100, (), logarithmic=True).place(10) == pytest.approx(0.5)


def test_in_characters() -> None:
    text = characters(MARKS, NAMED, width=100)
    lines = text.splitlines()
    assert "recall@10 against memory" in lines[0]
    assert "recall@10 against p50 of a search" in lines[0]
    panel = lines[1:15]
    for letter in "ABC":
        rows = [place for place, line in enumerate(panel) if letter in line]
        assert len(rows) == 1  # the same height in both panels
        assert panel[rows[0]].count(letter) == 2
    heights = {letter: next(place for place, line in enumerate(panel) if letter in line) for letter in "ABC"}
    assert heights["C"] < heights["A"] < heights["B"]
    assert lines[-3:] == [
        "A local 384   0.950 [0.930, 0.970]",
        "B local 128   0.900 [0.870, 0.930]",
        "C far <away> & large   0.970 [0.950, 0.985]",
    ]
    narrow = characters(MARKS, NAMED, width=60).splitlines()
    assert len(narrow) > len(lines)
