"""What a command says: documents and tables on stdout, progress and messages on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from vertical_sdk.types import Progress

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["documents_only", "emit", "say", "show", "showing", "size", "table"]

EVERY = 15.0
"""Seconds between two lines about the same work, where stderr is no terminal."""
WIDE = 200
"""Columns where stdout is no terminal, such as a file that someone searches."""
_documents: list[TextIO] = []
"""The real stdout while it is kept for documents; empty otherwise."""


@contextlib.contextmanager
def documents_only() -> Iterator[None]:
    """Let nothing but `emit` reach stdout; whatever else prints goes to stderr."""
    _documents.append(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _documents.pop()


def emit(document: Any, *, indent: int | None = 1) -> None:
    """Write a JSON document to stdout; `indent=None` puts it on one line."""
    out = _documents[-1] if _documents else sys.stdout
    plain_text = (getattr(out, "encoding", None) or "utf-8").lower().replace("-", "") != "utf8"
    out.write(json.dumps(_plain(document), indent=indent, ensure_ascii=plain_text, allow_nan=False) + "\n")
    out.flush()


def say(text: str) -> None:
    """A message for the person at the terminal, on stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def show(what: Table | str) -> None:
    """A table or a text on stdout; square brackets in a text are only that."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE
    Console(highlight=False, markup=False, soft_wrap=isinstance(what, str), width=width).print(what)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None, wrap: bool = True) -> Table:
    """A table of plain texts; numbers stand on the right. Columns without names have no line of names above them."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    named = any(columns)
    made = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD if named else None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        show_header=named,
    )
    for place, name in enumerate(columns):
        number = bool(rows) and all(isinstance(row[place], int | float) for row in rows)
        made.add_column(name, justify="right" if number else "left", no_wrap=not wrap, overflow="fold" if wrap else "ellipsis")
    for row in rows:
        made.add_row(*(Text(_cell(value)) for value in row))
    return made


def size(count: float) -> str:
    """Bytes for people: 1.5 GB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


@contextlib.contextmanager
def showing() -> Iterator[Progress]:
    """A Progress that shows itself on stderr: a bar on a terminal, a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    columns = (TextColumn("{task.description}", markup=False), BarColumn(30), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True, highlight=False)
    with Bar(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        work = bar.add_task("", total=None)
        shown, begun = "", time.monotonic()

        def tell(what: str, share: float | None = None) -> None:
            nonlocal shown, begun
            if what != shown:
                if shown:
                    bar.console.print(Text(f"   {shown}  {time.monotonic() - begun:.1f} s", style="dim"))
                shown, begun = what, time.monotonic()
                bar.reset(work, description=what, total=None)
            bar.update(work, description=what, total=None if share is None else 1.0, completed=share or 0.0)

        yield tell


def _lines() -> Callable[[str, float | None], None]:
    """A Progress that writes a line for each new work, and for the same work one now and then."""
    shown, at = "", 0.0

    def tell(what: str, share: float | None = None) -> None:
        nonlocal shown, at
        if what != shown or time.monotonic() - at >= EVERY:
            shown, at = what, time.monotonic()
            say(f"   {what}" if share is None else f"   {what} ({share:.0%})")

    return tell


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """What JSON can hold: no NaN, no paths, no tuples as keys."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
