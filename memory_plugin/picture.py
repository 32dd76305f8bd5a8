"""Two panels in one picture: how good against how large, and against how long.  Pure; SVG, or characters.

A mark is a letter, its 95 % interval a bar through it.  A line joins those that no other beats in both ways.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

# Okabe and Ito's colours, told apart by people of every colour vision; yellow is left out: too pale on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
MOST = len(_LETTERS)

_WIDTH, _PANEL, _LEFT, _TOP, _HEIGHT, _GAP = 980, 400, 64, 66, 280, 74
_SHORT = 46
_FONT = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"
_RADIUS = 8.5


@dataclass(frozen=True, slots=True)
class Mark:
    """One configuration.

    Args:
        label: What it is called.
        quality: From 0 to 1.
        low: Lower bound of its interval.
        high: Upper bound.
        size: In bytes, positive.
        milliseconds: Positive.
    """

    label: str
    quality: float
    low: float
    high: float
    size: float
    milliseconds: float


class Named(NamedTuple):
    """What the axes show: the vertical ones, the left horizontal one, the right one."""

    quality: str
    size: str
    time: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Values to positions from 0 to 1.

    Args:
        least: At 0.
        most: At 1.
        ticks: Values to name.
        logarithmic: Whether equal ratios are equal lengths.
    """

    least: float
    most: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """From 0 to 1."""
        if self.logarithmic:
            return math.log(value / self.least) / math.log(self.most / self.least)
        return (value - self.least) / (self.most - self.least)


def linear(values: Sequence[float], *, least: float = -math.inf, most: float = math.inf) -> Axis:
    """An axis that holds the values with some room, within what can be.

    Args:
        values: At least one.
        least: No tick or end below.
        most: None above.
    """
    low, high = min(values), max(values)
    room = max((high - low) * 0.08, abs(high) * 0.02, 1e-9)
    low, high = max(low - room, least), min(high + room, most)
    power = 10.0 ** math.floor(math.log10((high - low) / 10))
    every = (_multiples(low, high, factor * power) for factor in (1, 2, 5, 10, 20, 50))
    return Axis(low, high, next(ticks for ticks in every if len(ticks) <= 7))


def _multiples(low: float, high: float, step: float) -> tuple[float, ...]:
    first = math.ceil(low / step - 1e-9)
    return tuple(number * step for number in range(first, math.floor(high / step + 1e-9) + 1))


def ratios(values: Sequence[float]) -> Axis:
    """An axis for positive values: from zero, or logarithmic where they differ by more than a factor of three.

    Args:
        values: At least one.
    """
    low, high = min(values), max(values)
    if high / low <= 3:
        return linear([0.0, high], least=0.0)
    room = (high / low) ** 0.08
    low, high = low / room, high * room
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    inside = [tick for tick in every if low <= tick <= high]
    sparse = [tick for tick in inside if round(tick / 10 ** math.floor(math.log10(tick) + 1e-9)) == 1]
    ticks = sparse if len(inside) > 7 else inside
    return Axis(low, high, tuple(ticks[:: -(-len(ticks) // 8)]), logarithmic=True)


def _vertical(marks: Sequence[Mark]) -> Axis:
    """Of all intervals; never so narrow that noise looks like a difference."""
    low, high = min(mark.low for mark in marks), max(mark.high for mark in marks)
    return linear([max(0.0, low - 0.01), min(1.0, high + 0.01)], least=0.0, most=1.0)


def frontier(marks: Sequence[Mark], cost: Callable[[Mark], float]) -> list[Mark]:
    """The marks that no other beats in quality and cost together, cheapest first."""
    best: list[Mark] = []
    for mark in sorted(marks, key=lambda one: (cost(one), -one.quality)):
        if not best or mark.quality > best[-1].quality:
            best.append(mark)
    return best


# ── SVG ───────────────────────────────────────────────────────────────────────────────────────────


def svg(marks: Sequence[Mark], named: Named, *, title: str) -> str:
    """The picture as an SVG file's text.

    Args:
        marks: At least one, at most 52.
        named: What the axes show.
        title: Above both panels.
    """
    beside = all(len(_legend(mark)) <= _SHORT for mark in marks)
    rows = -(-len(marks) // 2) if beside else len(marks)
    height = _TOP + _HEIGHT + 74 + 22 * rows
    vertical = _vertical(marks)
    shape = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {shape} font-family="{_FONT}" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(_LEFT, 28, title, size=16, weight=600),
    ]
    second = _LEFT + _PANEL + _GAP
    body += _panel(marks, lambda mark: mark.size, _bytes, _LEFT, vertical, named.quality, named.size)
    body += _panel(marks, lambda mark: mark.milliseconds, _milliseconds, second, vertical, named.quality, named.time)
    for place, mark in enumerate(marks):
        left = _LEFT if place < rows else second
        base = _TOP + _HEIGHT + 78 + 22 * (place % rows)
        body += [_disc(place, left + 9, base - 4), _text(left + 26, base, _legend(mark))]
    return "\n".join([*body, "</svg>", ""])


def _legend(mark: Mark) -> str:
    return f"{mark.label}   {mark.quality:.3f} [{mark.low:.3f}, {mark.high:.3f}]"


def _panel(
    marks: Sequence[Mark],
    cost: Callable[[Mark], float],
    named: Callable[[float], str],
    left: float,
    vertical: Axis,
    quality: str,
    heading: str,
) -> Iterator[str]:
    """Axes, the frontier, and the marks with their intervals."""
    axis = ratios([cost(mark) for mark in marks])
    bottom = _TOP + _HEIGHT

    def x(value: float) -> float:
        return left + _PANEL * axis.place(value)

    def y(value: float) -> float:
        return bottom - _HEIGHT * vertical.place(value)

    for tick in vertical.ticks:
        yield f'<path d="M{left} {y(tick):.1f}h{_PANEL}" stroke="#e6e6e6"/>'
        yield _text(left - 8, y(tick) + 4, _decimal(tick, vertical), anchor="end", colour="#555555")
    for tick in axis.ticks:
        yield f'<path d="M{x(tick):.1f} {_TOP}v{_HEIGHT}" stroke="#f0f0f0"/>'
        yield _text(x(tick), bottom + 18, named(tick), anchor="middle", colour="#555555")
    yield f'<path d="M{left} {_TOP}v{_HEIGHT}h{_PANEL}" fill="none" stroke="#888888"/>'
    yield _text(left, _TOP - 12, quality, colour="#555555")
    yield _text(left + _PANEL, bottom + 40, heading + " →", anchor="end", colour="#555555")
    placed = _apart([x(cost(mark)) for mark in marks], [y(mark.quality) for mark in marks])
    best = [next(place for place, one in enumerate(marks) if one is mark) for mark in frontier(marks, cost)]
    line = " ".join(f"{placed[place]:.1f},{y(marks[place].quality):.1f}" for place in best)
    yield f'<polyline points="{line}" fill="none" stroke="#b0b0b0" stroke-dasharray="4 4"/>'
    for place, (mark, across) in enumerate(zip(marks, placed, strict=True)):
        colour = _COLOURS[place % len(_COLOURS)]
        yield (
            f'<path d="M{across:.1f} {y(mark.low):.1f}V{y(mark.high):.1f}" stroke="{colour}" stroke-width="1.6" '
            'opacity="0.55"/>'
        )
    for place, (mark, across) in enumerate(zip(marks, placed, strict=True)):
        yield _disc(place, across, y(mark.quality))


def _apart(across: Sequence[float], down: Sequence[float]) -> list[float]:
    """Where marks go that would cover each other: side by side, around where they belong."""
    found = list(across)
    groups: list[list[int]] = []
    for place in sorted(range(len(found)), key=lambda one: (across[one], down[one])):
        if groups and any(_covers(across[place] - across[one], down[place] - down[one]) for one in groups[-1]):
            groups[-1].append(place)
        else:
            groups.append([place])
    for group in groups:
        middle = sum(across[place] for place in group) / len(group)
        for order, place in enumerate(group):
            found[place] = middle + 2 * _RADIUS * (order - (len(group) - 1) / 2) if len(group) > 1 else across[place]
    return found


def _covers(across: float, down: float) -> bool:
    """Whether two marks, or the bars through them, lie on each other."""
    return abs(across) < 3 or math.hypot(across, down) < 2 * _RADIUS - 1


def _disc(place: int, x: float, y: float) -> str:
    colour = _COLOURS[place % len(_COLOURS)]
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}" fill="{colour}"/>' + _text(
        x, y + 4, _LETTERS[place], anchor="middle", colour="#ffffff", size=11, weight=700
    )


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#222222", size: int = 13, weight: int = 400
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}" '
        f'font-weight="{weight}" xml:space="preserve">{escape(text)}</text>'
    )


def _decimal(tick: float, axis: Axis) -> str:
    step = axis.ticks[1] - axis.ticks[0] if len(axis.ticks) > 1 else 1.0
    return f"{tick:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms" if value < 999.5 else f"{value / 1000:.3g} s"


# ── characters ────────────────────────────────────────────────────────────────────────────────────


def characters(marks: Sequence[Mark], named: Named, *, width: int = 100, height: int = 14) -> str:
    """The picture as lines of text, panels side by side where there is room.

    Args:
        marks: At least one, at most 52.
        named: What the axes show.
        width: Columns.
        height: Lines of a panel.
    """
    vertical = _vertical(marks)
    beside = width >= 90
    inner = (width - 3) // 2 if beside else width
    heads = [f"{named.quality} against {one}" for one in (named.size, named.time)]
    left = _drawn(marks, lambda mark: mark.size, _bytes, vertical, heads[0], inner, height)
    right = _drawn(marks, lambda mark: mark.milliseconds, _milliseconds, vertical, heads[1], inner, height)
    panels = [f"{one:<{inner}}   {other}" for one, other in zip(left, right, strict=True)] if beside else left + right
    legend = [f"{_LETTERS[place]} {_legend(mark)}" for place, mark in enumerate(marks)]
    return "\n".join(line.rstrip() for line in [*panels, "", *legend])


def _drawn(
    marks: Sequence[Mark],
    cost: Callable[[Mark], float],
    named: Callable[[float], str],
    vertical: Axis,
    heading: str,
    width: int,
    height: int,
) -> list[str]:
    """A panel's lines: heading, plot with named ticks, axis, names of its ticks."""
    axis = ratios([cost(mark) for mark in marks])
    margin = 6
    columns = width - margin - 2
    grid = [[" "] * columns for _ in range(height)]

    def row(value: float) -> int:
        return height - 1 - round(vertical.place(value) * (height - 1))

    taken: set[tuple[int, int]] = set()
    letters = []
    for place, mark in enumerate(marks):
        column = round(axis.place(cost(mark)) * (columns - 1))
        while (row(mark.quality), column) in taken and column < columns - 1:
            column += 1
        taken.add((row(mark.quality), column))
        letters.append((row(mark.quality), column, _LETTERS[place]))
        for line in range(row(mark.high), row(mark.low) + 1):
            grid[line][column] = "│"
    for line, column, letter in letters:
        grid[line][column] = letter
    names = {row(tick): _decimal(tick, vertical) for tick in vertical.ticks}
    plot = [f"{names.get(line, ''):>{margin}} ┤" if line in names else " " * margin + " │" for line in range(height)]
    return [
        heading[:width],
        *("".join([edge, *cells]) for edge, cells in zip(plot, grid, strict=True)),
        " " * margin + " └" + "─" * columns,
        _below(axis, named, margin + 2, columns, width),
    ]


def _below(axis: Axis, named: Callable[[float], str], left: int, columns: int, width: int) -> str:
    """The names of an axis' ticks in a line, of as many as have room."""
    line = ""
    for stride in range(1, len(axis.ticks) + 1):
        line = ""
        fits = True
        for tick in axis.ticks[::stride]:
            text = named(tick)
            start = min(left + round(axis.place(tick) * (columns - 1)) - len(text) // 2, width - len(text))
            fits = fits and (not line or start > len(line))
            line = f"{line:<{max(start, 0)}}{text}"
        if fits:
            break
    return line[:width]
