"""The output of a command: documents and tables on stdout, progress and messages on stderr.

What a command prints often has texts of others: names, reasons, tags, metrics, file names. `escape` writes the characters that would
control a terminal as text, and every function here that prints calls it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.table import Table

    from vertical_sdk.types import Progress

__all__ = ["documents_only", "emit", "escape", "say", "show", "showing", "size", "table", "to_json"]

EVERY = 15.0
"""Seconds between two progress lines about the same work, if stderr is not a terminal."""
WIDE = 200
"""Columns of output if stdout is not a terminal, for example a file."""
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\U000e0000-\U000e007f]")
"""The characters that control a terminal or the direction of text, that end a line, or that no encoding can write."""
SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_documents: list[TextIO] = []
"""The real stdout while it is reserved for documents; empty otherwise."""


def escape(text: str, *, lines: bool = False) -> str:
    """Write control characters as text (ESC as \\x1b), so that a terminal shows them and does not obey them.

    lines  keep line breaks, and indent what follows one, so that it cannot pass for a message of its own
    """
    if lines:
        return "\n  ".join(escape(line) for line in text.split("\n"))
    return CONTROL.sub(lambda match: SHORT.get(match[0]) or _number(match[0]), text)


def _number(character: str) -> str:
    """The number of a character as Python writes it in a text."""
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


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
    text = json.dumps(to_json(document), indent=indent, ensure_ascii=ascii_only, allow_nan=False)
    lines = (CONTROL.sub(lambda match: json.dumps(match[0])[1:-1], line) for line in text.split("\n"))
    out.write("\n".join(lines).replace("\x7f", "\\u007f") + "\n")
    out.flush()


def say(text: str) -> None:
    """Write a message for the user to stderr."""
    print(escape(text), file=sys.stderr, flush=True)  # noqa: T201


def show(content: Table | str, *, lines: bool = False) -> None:
    """Write a table or a text to stdout. Square brackets in a text are not markup.

    lines  the text is a document of several lines
    """
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=isinstance(content, str), width=width)
    for part in [content] if not isinstance(content, str) else content.split("\n") if lines else [content]:
        console.print(escape(part) if isinstance(part, str) else part)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None, wrap: bool = True) -> Table:
    """Build a table of plain texts; numbers are right-aligned. If no column has a name, the table has no header.

    rows  of texts, numbers, None, and lists of texts, which are written one on each line of a cell
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    named = any(columns)
    result = Table(
        title=None if title is None else escape(title),
        title_justify="left",
        box=box.SIMPLE_HEAD if named else None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        show_header=named,
    )
    for place, name in enumerate(columns):
        number = bool(rows) and all(isinstance(row[place], int | float) for row in rows)
        result.add_column(
            escape(name), justify="right" if number else "left", no_wrap=not wrap, overflow="fold" if wrap else "ellipsis"
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
            what = escape(what)
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
    if isinstance(value, list):
        return "\n".join(escape(str(line)) for line in value)
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))


def to_json(value: Any) -> Any:
    """Convert a value to what JSON can represent: no NaN, no paths, no tuples as keys."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
