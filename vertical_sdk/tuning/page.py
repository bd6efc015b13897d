"""The page of a study: one HTML file that fetches nothing, in the style of the reports."""

from __future__ import annotations

import functools
from pathlib import Path

from markupsafe import Markup

from vertical_sdk import evaluation
from vertical_sdk.evaluation.plots import line_plot, number
from vertical_sdk.paths import write_whole
from vertical_sdk.tuning.result import Tuned

__all__ = ["render", "write_page"]


def write_page(path: Path, tuned: Tuned) -> None:
    """Write the page of a study.

    Raises RunError if the file cannot be written.
    """
    write_whole(path, render(tuned))


def render(tuned: Tuned) -> str:
    """Render the page as HTML. All text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folders = [Path(__file__).parent, *map(Path, evaluation.__path__)]
    environment = Environment(
        loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=number, signed=functools.partial(number, signed=True))
    states = [row.state for row in tuned.trials]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    facts = {
        "metric": f"{tuned.metric}, {'higher' if tuned.higher_is_better else 'lower'} is better",
        "trials": ", ".join(counts) or "none",
        "training rows": f"{tuned.rows['training']:,}",
        "validation rows": f"{tuned.rows['validation']:,}",
    }
    return environment.get_template("page.html").render(tuned=tuned, facts=facts.items(), curve=_draw_course(tuned))


def _draw_course(tuned: Tuned) -> Markup:
    """Draw the value of each finished trial, and the best so far."""
    finished = [(row.number, row.value) for row in tuned.trials if row.value is not None]
    better = max if tuned.higher_is_better else min
    best: list[tuple[int, float]] = []
    for trial, value in finished:
        best.append((trial, better(value, best[-1][1]) if best else value))
    return line_plot({"best so far": best, "trial": finished}, "trial", tuned.metric)
