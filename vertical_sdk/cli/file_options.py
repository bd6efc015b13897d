"""Options that say how to read a file of rows, and messages that name these options instead of a recipe's keys."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vertical_sdk.errors import VerticalError

if TYPE_CHECKING:
    from vertical_sdk.recipe import Part

__all__ = [
    "Delimiter",
    "Encoding",
    "Header",
    "Label",
    "Reader",
    "Record",
    "RowsAt",
    "Sheet",
    "Text",
    "Values",
    "build_reader",
    "naming_options",
]

Text = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of the texts; default: found.")]
Label = Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of the labels; default: found.")]
Record = Annotated[
    str | None, typer.Option(metavar="all|COLUMN,...", help="A row is a record of these columns, instead of one text.")
]
Values = Annotated[str | None, typer.Option(metavar="all|COLUMN,...", help="A row is numbers, in these columns.")]
Delimiter = Annotated[
    str | None, typer.Option(metavar="CHARACTER", help="Between the fields of a CSV; also comma, tab, semicolon, bar.")
]
Encoding = Annotated[str | None, typer.Option(metavar="NAME", help="Of a text file, such as gb18030; default: recognized.")]
Header = Annotated[str | None, typer.Option(metavar="LINE|none", help="The line of the header, from 1; none if there is none.")]
Sheet = Annotated[str | None, typer.Option(metavar="NAME", help="The sheet of an Excel file.")]
RowsAt = Annotated[
    str | None,
    typer.Option("--rows", metavar="PATH", help="The list of rows inside a JSON file, such as contracts.clauses."),
]
Reader = Annotated[str | None, typer.Option(metavar="NAME", help="A reader of a vertical; default: recognized, or table.")]
CHARACTERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "bar": "|", "pipe": "|", "space": " "}
KEY = re.compile(r"data\.(?:columns|reader)\.(\w+)(?:: (?!no column)(?=[\w'\"]))?")
OPTION_KEYS = {"text", "label", "record", "values", "delimiter", "encoding", "header", "sheet", "rows"}


def build_reader(reader: str | None = None, **options: str | None) -> Part | None:
    """Build the reader of a recipe from options of the command line; None if no option was given.

    Raises BadParameter for a delimiter or a header line that cannot be.
    """
    from vertical_sdk.recipe import Part

    chosen: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    if "delimiter" in chosen:
        chosen["delimiter"] = CHARACTERS.get(chosen["delimiter"].lower(), chosen["delimiter"])
        if len(chosen["delimiter"]) != 1:
            raise typer.BadParameter(f"--delimiter is one character, or one of {', '.join(CHARACTERS)}.")
    if "header" in chosen and chosen["header"] != "none":
        if not chosen["header"].isdecimal() or int(chosen["header"]) < 1:
            raise typer.BadParameter("--header is the number of a line, from 1, or none.")
        chosen["header"] = int(chosen["header"])
    if chosen.get("record", "all") != "all":
        chosen["record"] = {name: name for name in _split_names(chosen["record"])}
    if chosen.get("values", "all") != "all":
        chosen["values"] = _split_names(chosen["values"])
    if not reader and not chosen:
        return None
    return Part.model_validate({"use": reader or "table", **chosen})


@contextlib.contextmanager
def naming_options() -> Iterator[None]:
    """Write the options of the command line into errors, in the place of a recipe's keys: --text for data.columns.text."""
    try:
        yield
    except VerticalError as error:
        message = KEY.sub(_name_option, error.message)
        if message == error.message:
            raise
        renamed = type(error).__new__(type(error))
        VerticalError.__init__(renamed, message, where=error.where)
        raise renamed from None


def _name_option(match: re.Match[str]) -> str:
    if match[1] not in OPTION_KEYS:
        return match[0] if match[1] != "use" else "--reader" + (" " if match[0].endswith(": ") else "")
    return f"--{match[1]}" + (" " if match[0].endswith(": ") else "")


def _split_names(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
