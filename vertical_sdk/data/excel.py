"""Read a sheet of an Excel file (.xlsx), with the extra `excel`. Cells keep their types: numbers, dates, times, words."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from vertical_sdk.cells import is_empty, plain_value
from vertical_sdk.data.grid import Record, build_rows
from vertical_sdk.data.rows import CELL, ROW, Budget, FileOptions, Rows
from vertical_sdk.errors import DataError, MissingExtra, did_you_mean

__all__ = ["read_excel"]

UNPACKED_LIMIT = 2 << 30
"""Bytes of the unpacked file. A small file that unpacks to more is broken, or made to fill the memory."""
WHOLE = ("xl/styles.xml", "xl/workbook.xml", "xl/_rels/", "[Content_Types].xml", "docProps/", "xl/theme/")
"""The parts of a file that are read whole, as elements of XML; of other parts, cells are read one by one."""
ELEMENT = 40
"""Bytes of memory that a byte of XML takes as an element."""
DENSEST, SMALL = 200, 4 << 20
"""How much a part with cells shrinks at most when it is packed, and the size from which it counts: nested tags shrink more."""
SHOWN = 20


def read_excel(path: Path, options: FileOptions) -> Rows:
    """Read the sheet that the options name, or the only visible one with cells.

    A cell with an error such as #N/A is empty, and so is a formula whose value was never computed. Raises DataError with the
    names of the sheets if several could be meant, and MissingExtra.
    """
    try:
        import openpyxl
    except ImportError:
        raise MissingExtra("excel", f"Reading {path.name}") from None
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    size = sum(part.file_size for part in parts)
    budget = Budget(path, options)
    budget.spend(size + sum(ELEMENT * part.file_size for part in parts if _becomes_elements(part)))
    if size > UNPACKED_LIMIT:
        raise DataError(f"the file unpacks to over {UNPACKED_LIMIT >> 30} GB. Save the sheet as CSV.", where=path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about styles and validations, which no row needs
        try:
            with path.open("rb") as file:  # not the path: openpyxl would go by the ending of the name
                book = openpyxl.load_workbook(file, read_only=True, data_only=True)
                name, records = _choose_sheet(book, options.sheet, path, budget)
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001  (openpyxl lets the errors of XML, zip and its own classes through)
            raise DataError(
                f"broken Excel file: {str(error).splitlines()[0] if str(error) else type(error).__name__}. Save it again.",
                where=path,
            ) from None
    header = options.header if isinstance(options.header, int) else None
    if header is not None:
        records = [record for record in records if record[0] >= header]
        if header < 1 or not records or records[0][0] != header:
            raise DataError(f"no header on row {header} of {name!r}. Set data.reader.header to a row of the sheet.", where=path)
    return build_rows(path, f"Excel, sheet {name!r}", _trim(records), options, unit="row", details={"sheet": name})


def _becomes_elements(part: zipfile.ZipInfo) -> bool:
    dense = part.file_size > SMALL and part.file_size > DENSEST * part.compress_size
    return part.filename.startswith(WHOLE) or (dense and part.filename.startswith("xl/worksheets/"))


def _choose_sheet(book: Any, wanted: str | None, path: Path, budget: Budget) -> tuple[str, list[Record]]:
    """Return the name and the filled lines of a sheet."""
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    if wanted is not None and wanted not in sheets:
        raise DataError(
            f"no sheet is called {wanted!r}.{did_you_mean(wanted, list(sheets))} The sheets are {_list_names(sheets)}.",
            where=path,
        )
    if wanted is not None:
        return wanted, list(_read_cells(sheets[wanted], budget))
    filled = {}
    for name, sheet in sheets.items():
        if sheet.sheet_state == "visible" and (records := list(_read_cells(sheet, budget))):
            filled[name] = records
    if len(filled) > 1:
        raise DataError(
            f"the file has several sheets: {_list_names(filled)}. Set data.reader.sheet to one of them.", where=path
        )
    if not filled:
        raise DataError("no sheet has any cells.", where=path)
    return next(iter(filled.items()))


def _list_names(names: Any) -> str:
    return ", ".join(map(repr, list(names)[:SHOWN])) + (", …" if len(names) > SHOWN else "")


def _read_cells(sheet: Any, budget: Budget) -> Iterator[Record]:
    """Yield the rows of a sheet that have a cell, with their numbers."""
    sheet.reset_dimensions()  # those that some programs write are wrong
    for number, row in enumerate(sheet.iter_rows(), 1):
        budget.spend(ROW + CELL * len(row))
        cells = [None if cell.data_type == "e" else _plain(cell.value) for cell in row]
        if any(cell is not None for cell in cells):
            yield number, cells


def _plain(value: Any) -> Any:
    """A day without a time is a date; an empty text is None."""
    if isinstance(value, str):
        return None if is_empty(value) else value
    return plain_value(value) if isinstance(value, datetime) else value


def _trim(records: list[Record]) -> list[Record]:
    """Cut or fill the rows to the same cells: from the first column with a value to the last."""
    filled = [(column for column, cell in enumerate(cells) if cell is not None) for _, cells in records]
    columns = {column for each in filled for column in each}
    if not columns:
        return records
    first, last = min(columns), max(columns)
    return [(number, [*cells, *[None] * (last + 1 - len(cells))][first : last + 1]) for number, cells in records]
