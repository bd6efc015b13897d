"""The reader of balance sheets as 64 ratios: the Polish companies bankruptcy data (Zięba, Tomczak and Tomczak, 2016)."""

from __future__ import annotations

import csv
import io
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vertical_sdk.catalog import readers
from vertical_sdk.data.formats import BROKEN_ZIP, LINE_LIMIT, read_file
from vertical_sdk.data.read import Table
from vertical_sdk.data.records import format_record
from vertical_sdk.errors import DataError
from vertical_sdk.types import Example, TaskName

from .complete_rows import Missing, cell_text, collect_complete_rows, parse_cell_number, require_task

__all__ = ["CLASSICAL", "LABELS", "RATIOS", "polish"]

LABELS = ("sound", "bankrupt")
RATIOS = (
    "net profit / total assets",
    "total liabilities / total assets",
    "working capital / total assets",
    "current assets / short-term liabilities",
    "days that liquid means cover operating expenses",
    "retained earnings / total assets",
    "EBIT / total assets",
    "book value of equity / total liabilities",
    "sales / total assets",
    "equity / total assets",
    "(gross profit + extraordinary items + financial expenses) / total assets",
    "gross profit / short-term liabilities",
    "(gross profit + depreciation) / sales",
    "(gross profit + interest) / total assets",
    "days in which gross profit + depreciation pay total liabilities",
    "(gross profit + depreciation) / total liabilities",
    "total assets / total liabilities",
    "gross profit / total assets",
    "gross profit / sales",
    "inventory in days of sales",
    "sales / sales of the year before",
    "operating profit / total assets",
    "net profit / sales",
    "gross profit of 3 years / total assets",
    "(equity - share capital) / total assets",
    "(net profit + depreciation) / total liabilities",
    "operating profit / financial expenses",
    "working capital / fixed assets",
    "logarithm of total assets",
    "(total liabilities - cash) / sales",
    "(gross profit + interest) / sales",
    "current liabilities in days of cost of products sold",
    "operating expenses / short-term liabilities",
    "operating expenses / total liabilities",
    "profit on sales / total assets",
    "total sales / total assets",
    "(current assets - inventory) / long-term liabilities",
    "constant capital / total assets",
    "profit on sales / sales",
    "(current assets - inventory - receivables) / short-term liabilities",
    "total liabilities / monthly (operating profit + depreciation)",
    "operating profit / sales",
    "receivables + inventory in days",
    "receivables in days of sales",
    "net profit / inventory",
    "(current assets - inventory) / short-term liabilities",
    "inventory in days of cost of products sold",
    "EBITDA / total assets",
    "EBITDA / sales",
    "current assets / total liabilities",
    "short-term liabilities / total assets",
    "short-term liabilities in days of cost of products sold",
    "equity / fixed assets",
    "constant capital / fixed assets",
    "working capital",
    "(sales - cost of products sold) / sales",
    "(current assets - inventory - short-term liabilities) / (sales - gross profit - depreciation)",
    "total costs / total sales",
    "long-term liabilities / equity",
    "sales / inventory",
    "sales / receivables",
    "short-term liabilities in days of sales",
    "sales / short-term liabilities",
    "sales / fixed assets",
)
"""What X1 to X64 are, in the order of the source."""
FIELDS = tuple(f"X{position} {name}" for position, name in enumerate(RATIOS, 1))
CLASSICAL = (3, 6, 7, 8, 9, 2, 4, 46, 1, 26, 27, 23, 21, 29, 44, 40)
"""Those that half a century of studies ask for first: Altman's five (1968), then debt, liquidity, returns, cash flow to debt
(Beaver, 1966), interest cover, margin, growth, size (Ohlson, 1980), days of receivables and cash."""
LARGEST = 64 << 20
"""Bytes that one table inside an archive may have."""


@readers.register("finance.polish", tasks=("classification", "ordinal"))
def polish(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    *,
    most: Annotated[int, Field(ge=1, le=64)] | None = 16,
    member: str = "5year.arff",
) -> Table:
    """Companies by 64 financial ratios: did they go bankrupt within the forecasting period?

    path    a CSV or ARFF file whose first 64 columns are the ratios, whatever the header calls them, and whose last one is 1 for
            bankrupt and 0 for sound; or UCI's zip of five such files
    most    how many ratios the text tells, the classical ones first: 64 of them do not fit into a small model. The record has
            all 64, for models that read tables. None: all
    member  the file to read in the zip: 1year.arff has ratios of five years before the outcome, 5year.arff of one year

    Columns are taken by position, because copies of this table have headers that were cut at blanks and name several columns
    alike. Raises DataError for another number of columns, or a cell that is not a number, with file and line.
    """
    require_task("finance.polish", columns, task)
    order = [*CLASSICAL, *(n for n in range(1, 65) if n not in CLASSICAL)][: most or 64]
    lines = _extract_arff(path, member) if zipfile.is_zipfile(path) else _read_table(path, path)
    in_text = [position - 1 for position in sorted(order)]

    def read_examples() -> Iterator[tuple[str, Example]]:
        for where, name, cells in lines:
            if len(cells) not in ({64, 65} if missing == "keep" else {65}):
                raise DataError(f"{where}: {len(cells)} fields; 64 ratios are needed, then 0 (sound) or 1 (bankrupt).")
            values = [parse_cell_number(cell, where, FIELDS[i]) for i, cell in enumerate(cells[:64])]
            record = tuple(zip(FIELDS, values, strict=True))
            target = _parse_target(cells[64], where) if len(cells) == 65 and missing != "keep" else None
            yield where, replace(Example(name, target=target, record=record), text=format_record([record[i] for i in in_text]))

    examples, account = collect_complete_rows(read_examples(), path, missing)
    return Table(examples, f"{len(examples)} companies by 64 ratios, {len(in_text)} in_text", labels=LABELS, account=account)


def _read_table(path: Path, shown: Path | str) -> list[tuple[str, str, Sequence[Any]]]:
    """Each row's place, id and cells by position."""
    if path.suffix.lower() not in {".arff", ".parquet", ".pq", ".jsonl", ".json"}:
        return _read_csv(path)
    rows = read_file(path)
    at = f"{shown}:" if rows.unit == "line" else f"{shown}: row "
    return [(f"{at}{place}", str(place), list(row.values())) for place, row in zip(rows.places, rows.rows, strict=True)]


def _read_csv(path: Path) -> list[tuple[str, str, Sequence[Any]]]:
    """A CSV whose header may name columns twice, which the general reader refuses."""
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path}: is over {LARGEST >> 20} MB, far more than these tables have.")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte at offset {error.start} is not UTF-8. Save the file as UTF-8.") from None
    limit = csv.field_size_limit(LINE_LIMIT)
    rows: list[tuple[str, str, Sequence[Any]]] = []
    try:
        lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        next(lines, None)
        rows += [(f"{path}:{lines.line_num}", str(lines.line_num), cells) for cells in lines if cells]
    except csv.Error as error:
        raise DataError(f"{path}:{lines.line_num}: broken CSV: {error}.") from None
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise DataError(f"{path}: has no rows below its header.")
    return rows


def _extract_arff(path: Path, member: str) -> list[tuple[str, str, Sequence[Any]]]:
    """One table of an archive, read from a copy that is gone afterwards."""
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            inside = [entry for entry in archive.infolist() if entry.filename.rpartition("/")[2] == member]
            if not inside:
                raise DataError(f"{path}: has no {member!r}; it has {', '.join(archive.namelist()[:10])}.")
            if inside[0].file_size > LARGEST:
                raise DataError(f"{path}: {member} is over {LARGEST >> 20} MB, far more than these tables have.")
            copy = Path(folder) / f"table{Path(member).suffix}"
            copy.write_bytes(archive.read(inside[0]))
            return _read_table(copy, f"{path}: {member}")
    except BROKEN_ZIP as error:
        raise DataError(f"{path}: the archive is cut or damaged ({error}). Download it again.") from None


def _parse_target(cell: object, where: str) -> str | None:
    text = cell_text(cell).lower()
    if text in {"", "?", "nan"}:
        return None
    if text in LABELS:
        return text
    if text not in {"0", "1"}:
        raise DataError(f"{where}: the last column holds {text[:40]!r}; 0 (sound) or 1 (bankrupt) is needed.")
    return LABELS[int(text)]
