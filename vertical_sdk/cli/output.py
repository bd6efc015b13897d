"""The output of a command: documents and tables on stdout, progress and messages on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.table import Table

    from vertical_sdk.types import Progress

__all__ = ["documents_only", "emit", "say", "show", "showing", "size", "table", "to_json"]

EVERY = 15.0
"""Seconds between two progress lines about the same work, if stderr is not a terminal."""
WIDE = 200
"""Columns of output if stdout is not a terminal, for example a file."""
_documents: list[TextIO] = []
"""The real stdout while it is reserved for documents; empty otherwise."""


@contextlib.contextmanager
def documents_only() -> Iterator[None]:
    """Reserve stdout for `emit`; all other prints go to stderr."""
    _documents.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _documents.pop()


def emit(document: Any, *, indent: int | None = 1) -> None:
    """Write a JSON document to stdout; `indent=None` writes it on one line."""
    out = _documents[-1] if _documents else sys.stdout
    ascii_only = (getattr(out, "encoding", None) or "utf-8").lower().replace("-", "") != "utf8"
    out.write(json.dumps(to_json(document), indent=indent, ensure_ascii=ascii_only, allow_nan=False) + "\n")
    out.flush()


def say(text: str) -> None:
    """Write a message for the user to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def show(content: Table | str) -> None:
    """Write a table or a text to stdout. Square brackets in a text are not markup."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE
    Console(highlight=False, markup=False, soft_wrap=isinstance(content, str), width=width).print(content)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None, wrap: bool = True) -> Table:
    """Build a table of plain texts; numbers are right-aligned. If no column has a name, the table has no header."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    named = any(columns)
    result = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD if named else None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        show_header=named,
    )
    for place, name in enumerate(columns):
        number = bool(rows) and all(isinstance(row[place], int | float) for row in rows)
        result.add_column(
            name, justify="right" if number else "left", no_wrap=not wrap, overflow="fold" if wrap else "ellipsis"
        )
    for row in rows:
        result.add_row(*(Text(_cell(value)) for value in row))
    return result


def size(count: float) -> str:
    """Format bytes: 1.5 GB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


@contextlib.contextmanager
def showing() -> Iterator[Progress]:
    """Show progress on stderr: a bar on a terminal, otherwise a line from time to time."""
    if not sys.stderr.isatty():
        yield _print_lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    columns = (TextColumn("{task.description}", markup=False), BarColumn(30), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True, highlight=False)
    with Bar(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        work = bar.add_task("", total=None)
        shown, start = "", time.monotonic()

        def update(what: str, share: float | None = None) -> None:
            nonlocal shown, start
            if what != shown:
                if shown:
                    bar.console.print(Text(f"   {shown}  {time.monotonic() - start:.1f} s", style="dim"))
                shown, start = what, time.monotonic()
                bar.reset(work, description=what, total=None)
            bar.update(work, description=what, total=None if share is None else 1.0, completed=share or 0.0)

        yield update


def _print_lines() -> Callable[[str, float | None], None]:
    """A Progress that writes a line for each new piece of work, and repeats it from time to time."""
    shown, at = "", 0.0

    def update(what: str, share: float | None = None) -> None:
        nonlocal shown, at
        if what != shown or time.monotonic() - at >= EVERY:
            shown, at = what, time.monotonic()
            say(f"   {what}" if share is None else f"   {what} ({share:.0%})")

    return update


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def to_json(value: Any) -> Any:
    """Convert a value to what JSON can represent: no NaN, no paths, no tuples as keys."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
