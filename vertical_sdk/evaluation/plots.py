"""Plots for a report, as SVG text: sharp at any size, in the colours and fonts of the page, so that they follow light and dark
mode and show every script that the reader's machine supports.

Each function returns a complete `<svg>` element. Colours are CSS classes that `report.html` defines.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from markupsafe import Markup, escape

from vertical_sdk.evaluation.result import Bin, LabelChange
from vertical_sdk.types import Interval

__all__ = [
    "MOST_LABELS",
    "change_plot",
    "confusion_plot",
    "interval_plot",
    "line_plot",
    "map_plot",
    "number",
    "reliability_plot",
]

MOST_LABELS = 60
"""A confusion plot shows at most this many labels, those most often confused."""
MOST_POINTS = 300
"""A line is drawn with at most this many points, evenly selected."""
COLOURS = 6
"""The number of line colours (`l0` … in `report.html`); further lines repeat them."""


def number(value: float | None, signed: bool = False) -> str:
    """Format a number with three decimals, or fewer for large numbers; a dash for None."""
    if value is None or not math.isfinite(value):
        return "–"
    decimals = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:{'+' if signed else ''},.{decimals}f}".replace("-", "−")


def interval_plot(systems: Sequence[tuple[str, Interval, bool]]) -> Markup:
    """Plot one metric of all systems: a bar from zero to the value, and a whisker over its interval.

    systems  title, interval, whether it is the specialist
    """
    shown = [
        (title, interval, own)
        for title, interval, own in systems
        if all(map(math.isfinite, (interval.value, interval.low, interval.high)))
    ]
    if not shown:
        return Markup("")
    left, width, line = 186, 236, 30
    least, most = min(0.0, *(interval.low for _, interval, _ in shown)), max(0.0, *(interval.high for _, interval, _ in shown))
    top = 1.0 if least >= 0 and 0.5 < most <= 1 else most * 1.02 or 1.0

    def x(value: float) -> float:
        return left + width * (value - least) / (top - least)

    parts = [_line(x(0), 4, x(0), line * len(shown) + 4, "axis")]
    for i, (title, interval, own) in enumerate(shown):
        y = line * i + 8
        start, end = sorted((x(0), x(interval.value)))
        middle = y + (line - 8) / 2
        parts += [
            _text(left - 8, middle + 4, _short(title, 26), "end", "strong" if own else "", title),
            _bar(start, y, max(end - start, 0.5), line - 8, "own" if own else "baseline"),
            _line(x(interval.low), middle, x(interval.high), middle, "whisker"),
            _line(x(interval.low), middle - 4, x(interval.low), middle + 4, "whisker"),
            _line(x(interval.high), middle - 4, x(interval.high), middle + 4, "whisker"),
            _text(max(x(interval.high), end) + 8, middle + 4, number(interval.value), "start", "strong" if own else ""),
        ]
    return _svg(left + width + 62, line * len(shown) + 10, parts, "bars with intervals")


def change_plot(changes: Sequence[LabelChange], words: Callable[..., str]) -> Markup:
    """Plot the gain or loss of each label: a dot at the difference, a whisker over its interval, and both values.

    Each label takes one line, so that many labels fit on a page.

    words  key → text in the language of the report
    """
    if not changes:
        return Markup("")
    left, width, line, head = 270, 330, 20, 40
    reach = max(
        0.05, *(abs(end) for change in changes for end in (change.difference.low, change.difference.high) if math.isfinite(end))
    )
    middle = left + 60 + width / 2

    def x(value: float) -> float:
        return middle + width / 2 * value / reach

    ends = (left + 60, left + 60 + width)
    right = ends[1] + 12
    heads = (
        (left + 42, "end", words("rows")),
        (middle, "middle", words("audit.head")),
        (right + 40, "end", words("general")),
        (right + 106, "end", words("specialist")),
        (right + 164, "end", words("change")),
    )
    parts = [_text(at, 14, what, anchor, "quiet", "", 11) for at, anchor, what in heads]
    bottom = head + line * len(changes)
    for tick in _ticks(-reach, reach, 9):
        parts.append(_line(x(tick), head - 6, x(tick), bottom, "axis" if tick == 0 else "grid"))
        parts.append(
            _text(x(tick), head - 10, number(tick, signed=tick != 0).rstrip("0").rstrip(".") or "0", "middle", "quiet", "", 10)
        )
    for i, change in enumerate(changes):
        y = head + line * i + line / 2
        css = {"gained": "gained", "lost": "lost"}.get(change.verdict, "open")
        low, value, high = (
            min(max(x(v), ends[0]), ends[1]) for v in (change.difference.low, change.difference.value, change.difference.high)
        )
        span = f"{number(change.difference.low, True)} … {number(change.difference.high, True)}"
        hint = f"{change.label}: {span}, {words(f'verdict.{change.verdict}')}"
        parts += [
            _text(left, y + 4, _short(change.label, 40), "end", "", change.label, 12),
            _text(left + 42, y + 4, f"{change.n:,}", "end", "quiet", "", 11),
            _line(low, y, high, y, f"reach {css}"),
            f'<circle cx="{value:.1f}" cy="{y:.1f}" r="4" class="change {css}"><title>{escape(hint)}</title></circle>',
            _text(right + 40, y + 4, number(change.baseline), "end", "quiet", "", 11),
            _text(right + 106, y + 4, number(change.own), "end", "", "", 11),
            _text(right + 164, y + 4, number(change.difference.value, signed=True), "end", f"verdict {css}", "", 11),
        ]
    return _svg(right + 170, bottom + 6, parts, words("audit.plot"))


def line_plot(  # noqa: PLR0914  (coordinates of one drawing)
    lines: Mapping[str, Sequence[Sequence[Any]]], x_title: str = "", y_title: str = "", *, percent: bool = False
) -> Markup:
    """Plot lines over one axis, each with its name beside the plot; empty if no line has two points.

    lines    name → points (x, y), both numbers; or x is a date or another word: words are sorted and placed at even steps.
             Points that are not finite are left out
    percent  both axes are shares
    """
    words = sorted({str(point[0]) for points in lines.values() for point in points if isinstance(point[0], str)})
    place = {word: float(i) for i, word in enumerate(words)}
    drawn = {name: _points(points, place) for name, points in lines.items()}
    drawn = {name: points for name, points in drawn.items() if len(points) > 1}
    if not drawn:
        return Markup("")
    left, top, width, height = 62, 10, 520, 280
    xs, ys = ([point[axis] for points in drawn.values() for point in points] for axis in (0, 1))
    x_of, x_ticks = _axis(min(xs), max(xs), left, left + width, margin=0.0)
    y_of, y_ticks = _axis(min(ys), max(ys), top + height, top, margin=0.04)
    parts = [f'<rect x="{left}" y="{top}" width="{width}" height="{height}" class="frame" />']
    for tick in y_ticks:
        parts.append(_line(left, y_of(tick), left + width, y_of(tick), "grid"))
        parts.append(_text(left - 6, y_of(tick) + 4, _tick(tick, y_ticks, percent), "end", "quiet", "", 11))
    if words:
        some = sorted({round(k * (len(words) - 1) / 4) for k in range(5)})
        x_marks = [(float(i), words[i]) for i in some]
    else:
        x_marks = [(tick, _tick(tick, x_ticks, percent)) for tick in x_ticks]
    for at, mark in x_marks:
        parts.append(_line(x_of(at), top, x_of(at), top + height, "grid"))
        parts.append(_text(x_of(at), top + height + 16, mark, "middle", "quiet", "", 11))
    for i, (name, points) in reversed(list(enumerate(drawn.items()))):
        css, y = f"l{i % COLOURS}", top + 10 + 19 * i
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in points)
        parts += [
            f'<polyline points="{path}" class="curve {css}"><title>{escape(name)}</title></polyline>',
            _line(left + width + 14, y, left + width + 34, y, f"curve {css}"),
            _text(left + width + 40, y + 4, _short(name, 28), "start", "", name),
        ]
    turned = _text(14, top + height / 2, y_title, "middle", "quiet")
    parts += [
        _text(left + width / 2, top + height + 36, x_title, "middle", "quiet"),
        f'<g transform="rotate(-90 14 {top + height / 2})">{turned}</g>',
    ]
    return _svg(left + width + 230, max(top + height + 46, top + 19 * len(drawn) + 10), parts, f"{y_title} by {x_title}")


def map_plot(points: Sequence[Sequence[Any]], what: str = "") -> Markup:
    """Plot places as dots, larger and darker for larger values; the three largest are named.

    points  (x, y, value, name)
    what    the name of the value
    """
    shown = [(float(x), float(y), float(v), str(n)) for x, y, v, n in points if all(map(math.isfinite, (x, y, v)))]
    if len(shown) < 2:
        return Markup("")
    width, height, edge = 560, 340, 24
    xs, ys, values = [p[0] for p in shown], [p[1] for p in shown], [p[2] for p in shown]
    x_of, _ = _axis(min(xs), max(xs), edge, width - edge, margin=0.02)
    y_of, _ = _axis(min(ys), max(ys), height - edge, edge, margin=0.02)
    least, most = min(values), max(values)
    parts = [f'<rect x="0" y="0" width="{width}" height="{height}" class="frame" />']
    ordered = sorted(shown, key=lambda point: point[2])
    for x, y, value, name in ordered:
        share = (value - least) / (most - least) if most > least else 0.5
        parts.append(
            f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="{3 + 6 * share:.1f}" class="place" fill-opacity="{0.25 + 0.65 * share:.2f}">'
            f"<title>{escape(name)}: {number(value)}</title></circle>"
        )
    parts += [_text(x_of(x) + 11, y_of(y) + 4, _short(name, 20), "start", "quiet", name, 11) for x, y, _, name in ordered[-3:]]
    parts.append(
        _text(edge, height + 18, f"{what}: {number(least)} (small) to {number(most)} (large)", "start", "quiet", "", 11)
    )
    return _svg(width + 4, height + 26, parts, f"{what} by place")


def confusion_plot(confusion: Sequence[Sequence[int]], labels: Sequence[str], words: Callable[..., str]) -> Markup:
    """Plot the confusion matrix: a row for each true label, a column for each predicted one; darker is a larger share of the row.

    words  key → text in the language of the report
    """
    shown = _select_labels(confusion)
    size = len(shown)
    cell = 40 if size <= 8 else 26 if size <= 30 else 13
    font = 12 if cell >= 26 else 9
    left, head = (310 if cell >= 26 else 250), 30
    parts = [_text(left, 12, f"{words('confusion.predicted')} →", "start", "quiet")]
    for row, i in enumerate(shown):
        y = head + row * cell
        total = sum(confusion[i])
        parts += [
            _text(left - 8, y + cell / 2 + font / 3, f"{_short(labels[i], 40)} · {i + 1}", "end", "", labels[i], font),
            _text(
                left + row * cell + cell / 2,
                head - 5,
                str(i + 1),
                "middle",
                "quiet",
                labels[i],
                min(font, 11) if cell >= 26 else 7,
            ),
        ]
        for column, j in enumerate(shown):
            count = confusion[i][j]
            x = left + column * cell
            share = count / total if total else 0.0
            hint = words("confusion.hint", true=labels[i], predicted=labels[j], n=count, of=total)
            kind = "empty" if not count else "hit" if i == j else "miss"
            parts.append(_bar(x, y, cell - 1, cell - 1, kind, 0.12 + 0.88 * share if count else 1.0, hint if count else ""))
            if count and cell >= 26:
                parts.append(
                    _text(x + cell / 2 - 0.5, y + cell / 2 + 3.5, f"{count}", "middle", "over" if share > 0.55 else "", "", 10)
                )
    return _svg(left + max(size * cell + 4, 120), head + size * cell + 4, parts, words("confusion"))


def reliability_plot(before: Sequence[Bin], after: Sequence[Bin], words: Callable[..., str]) -> Markup:
    """Plot confidence against the share that is right, before and after calibration; perfect calibration is the diagonal.

    The area of a dot is the share of rows in its bin.

    words  key → text in the language of the report
    """
    left, size, low = 46, 300, 10

    def at(confidence: float, accuracy: float) -> tuple[float, float]:
        return left + size * confidence, low + size * (1 - accuracy)

    parts = [f'<rect x="{left}" y="{low}" width="{size}" height="{size}" class="frame" />']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(tick, tick)
        parts += [
            _line(left, y, left + size, y, "grid"),
            _line(x, low, x, low + size, "grid"),
            _text(left - 6, y + 4, f"{tick:g}", "end", "quiet", "", 11),
            _text(x, low + size + 15, f"{tick:g}", "middle", "quiet", "", 11),
        ]
    parts.append(_line(*at(0, 0), *at(1, 1), "diagonal"))
    for bins, name in ((before, "before"), (after, "after")):
        rows = sum(bin_.count for bin_ in bins) or 1
        points = [at(bin_.confidence, bin_.accuracy) for bin_ in bins]
        parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="curve {name}" />')
        for (x, y), bin_ in zip(points, bins, strict=True):
            facts = words("reliability.hint", n=bin_.count, confidence=f"{bin_.confidence:.2f}", right=f"{bin_.accuracy:.2f}")
            hint = f"{words(f'reliability.{name}')}: {facts}"
            radius = 2.5 + 12 * math.sqrt(bin_.count / rows)
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="dot {name}"><title>{hint}</title></circle>'
            )
    turned = _text(12, low + size / 2, words("reliability.y"), "middle", "quiet")
    parts += [
        _text(left + size / 2, low + size + 34, words("reliability.x"), "middle", "quiet"),
        f'<g transform="rotate(-90 12 {low + size / 2})">{turned}</g>',
    ]
    return _svg(left + size + 14, low + size + 42, parts, words("reliability"))


def _points(points: Sequence[Sequence[Any]], place: Mapping[str, float]) -> list[tuple[float, float]]:
    """The points that can be drawn, from left to right, words at their places; some are left out if there are many."""
    known = []
    for x, y in (point[:2] for point in points):
        at = place.get(str(x)) if place else x
        if isinstance(at, int | float) and isinstance(y, int | float) and math.isfinite(at) and math.isfinite(y):
            known.append((float(at), float(y)))
    known.sort(key=lambda point: point[0])
    if len(known) <= MOST_POINTS:
        return known
    return [known[round(k * (len(known) - 1) / (MOST_POINTS - 1))] for k in range(MOST_POINTS)]


def _axis(low: float, high: float, start: float, end: float, margin: float) -> tuple[Callable[[float], float], list[float]]:
    """The place of a value between start and end, and the values to mark."""
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    low, high = low - margin * (high - low), high + margin * (high - low)
    return lambda value: start + (end - start) * (value - low) / (high - low), _ticks(low, high, 6)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """At most this many round numbers between two, at even steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough * (1 - 1e-9))
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _tick(value: float, ticks: Sequence[float], percent: bool) -> str:
    """Format a number on an axis with as many decimals as the step needs."""
    step = min((b - a for a, b in pairwise(ticks)), default=abs(value) or 1.0) * (100 if percent else 1)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    thousands = "," if abs(value) >= 10_000 else ""  # years have no separator
    return (f"{value:.{decimals}%}" if percent else f"{value:{thousands}.{decimals}f}").replace("-", "−")


def _select_labels(confusion: Sequence[Sequence[int]]) -> list[int]:
    """The labels to show: those that occur, or if they are too many those with most errors, in their own order."""
    size = len(confusion)
    predicted = [sum(confusion[i][j] for i in range(size)) for j in range(size)]
    occur = [i for i in range(size) if sum(confusion[i]) or predicted[i]]
    if len(occur) <= MOST_LABELS:
        return occur
    wrong = {i: sum(confusion[i]) + predicted[i] - 2 * confusion[i][i] for i in occur}
    return sorted(sorted(occur, key=lambda i: -wrong[i])[:MOST_LABELS])


def _svg(width: float, height: float, parts: Iterable[str], what: str) -> Markup:
    return Markup(  # noqa: S704  (every text was escaped by _text or is a number)
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="max-width:{width:.0f}px" role="img" aria-label="{escape(what)}">'
        f"{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str, css: str = "", title: str = "", size: float = 12) -> str:
    hint = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:g}" class="{css}">{hint}{escape(text)}</text>'
    )


def _bar(x: float, y: float, width: float, height: float, css: str, opacity: float = 1.0, title: str = "") -> str:
    hint = f"<title>{escape(title)}</title>" if title else ""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} class="{css}" fill-opacity="{opacity:.2f}">{hint}</rect>'


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}" />'


def _short(text: str, most: int) -> str:
    """Cut a text to a width; a Chinese, Japanese or Korean character is as wide as two others."""
    widths = [2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text]
    if sum(widths) <= most:
        return text
    fits = sum(1 for end in accumulate(widths) if end <= most - 1)
    return text[:fits].rstrip() + "…"
