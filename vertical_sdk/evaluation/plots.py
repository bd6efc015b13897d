"""Plots for a report, as SVG text: sharp at any size, in the page's own colours and fonts, so that they follow light and dark
and show every script that the reader's machine can show.

Each function returns a whole `<svg>` element. Colours are CSS classes that `report.html` defines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from vertical_sdk.evaluation.result import Bin
from vertical_sdk.types import Interval

__all__ = ["MOST_LABELS", "confusion_plot", "interval_plot", "number", "reliability_plot"]

MOST_LABELS = 60
"""So many labels a confusion plot shows; of more, those most often confused."""


def number(value: float | None, signed: bool = False) -> str:
    """Three decimals, or fewer for large numbers; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    decimals = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:{'+' if signed else ''},.{decimals}f}".replace("-", "−")


def interval_plot(systems: Sequence[tuple[str, Interval, bool]]) -> Markup:
    """One metric of all systems: a bar from zero to the value, and a whisker over its interval.

    systems  title, interval, whether it is the specialist
    """
    shown = [(title, one, own) for title, one, own in systems if all(map(math.isfinite, (one.value, one.low, one.high)))]
    if not shown:
        return Markup("")
    left, width, line = 186, 236, 30
    least, most = min(0.0, *(one.low for _, one, _ in shown)), max(0.0, *(one.high for _, one, _ in shown))
    top = 1.0 if least >= 0 and 0.5 < most <= 1 else most * 1.02 or 1.0

    def x(value: float) -> float:
        return left + width * (value - least) / (top - least)

    parts = [_line(x(0), 4, x(0), line * len(shown) + 4, "axis")]
    for i, (title, one, own) in enumerate(shown):
        y = line * i + 8
        start, end = sorted((x(0), x(one.value)))
        middle = y + (line - 8) / 2
        parts += [
            _text(left - 8, middle + 4, _short(title, 26), "end", "strong" if own else "", title),
            _bar(start, y, max(end - start, 0.5), line - 8, "own" if own else "rival"),
            _line(x(one.low), middle, x(one.high), middle, "whisker"),
            _line(x(one.low), middle - 4, x(one.low), middle + 4, "whisker"),
            _line(x(one.high), middle - 4, x(one.high), middle + 4, "whisker"),
            _text(max(x(one.high), end) + 8, middle + 4, number(one.value), "start", "strong" if own else ""),
        ]
    return _svg(left + width + 62, line * len(shown) + 10, parts, "bars with intervals")


def confusion_plot(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> Markup:
    """What is taken for what: a row a true label, a column a predicted one; the darker, the larger the share of the row."""
    kept = _kept(confusion)
    size = len(kept)
    cell = 40 if size <= 8 else 26 if size <= 30 else 13
    font = 12 if cell >= 26 else 9
    left, head = (310 if cell >= 26 else 250), 30
    parts = [_text(left, 12, "predicted →", "start", "quiet")]
    for row, i in enumerate(kept):
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
        for column, j in enumerate(kept):
            count = confusion[i][j]
            x = left + column * cell
            share = count / total if total else 0.0
            told = f"{labels[i]} → {labels[j]}: {count} of {total}"
            kind = "empty" if not count else "hit" if i == j else "miss"
            parts.append(_bar(x, y, cell - 1, cell - 1, kind, 0.12 + 0.88 * share if count else 1.0, told if count else ""))
            if count and cell >= 26:
                parts.append(
                    _text(x + cell / 2 - 0.5, y + cell / 2 + 3.5, f"{count}", "middle", "over" if share > 0.55 else "", "", 10)
                )
    return _svg(left + size * cell + 4, head + size * cell + 4, parts, "confusion of labels")


def reliability_plot(before: Sequence[Bin], after: Sequence[Bin]) -> Markup:
    """Confidence against the share that is right, before and after calibration; on the diagonal a model is honest.

    The area of a dot is the share of rows in its bin.
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
        rows = sum(one.count for one in bins) or 1
        points = [at(one.confidence, one.accuracy) for one in bins]
        parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="curve {name}" />')
        for (x, y), one in zip(points, bins, strict=True):
            told = f"{name}: {one.count} rows, confidence {one.confidence:.2f}, right {one.accuracy:.2f}"
            radius = 2.5 + 12 * math.sqrt(one.count / rows)
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="dot {name}"><title>{told}</title></circle>'
            )
    turned = _text(12, low + size / 2, "share that is right", "middle", "quiet")
    parts += [
        _text(left + size / 2, low + size + 34, "confidence", "middle", "quiet"),
        f'<g transform="rotate(-90 12 {low + size / 2})">{turned}</g>',
    ]
    return _svg(left + size + 14, low + size + 42, parts, "reliability diagram")


def _kept(confusion: Sequence[Sequence[int]]) -> list[int]:
    """The labels to show: those that occur, and of too many those in most errors, in their own order."""
    size = len(confusion)
    said = [sum(confusion[i][j] for i in range(size)) for j in range(size)]
    occur = [i for i in range(size) if sum(confusion[i]) or said[i]]
    if len(occur) <= MOST_LABELS:
        return occur
    wrong = {i: sum(confusion[i]) + said[i] - 2 * confusion[i][i] for i in occur}
    return sorted(sorted(occur, key=lambda i: -wrong[i])[:MOST_LABELS])


def _svg(width: float, height: float, parts: Iterable[str], what: str) -> Markup:
    return Markup(  # noqa: S704  (every text in it was escaped by _text or is a number)
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
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
