"""Read files into plain rows: CSV, TSV, JSONL, JSON, Excel, Parquet and ARFF, each row with its line number."""

from __future__ import annotations

import codecs
import functools
import json
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vertical_sdk.catalog import readers
from vertical_sdk.data.delimited import DELIMITERS, count_fields, iterate_delimited
from vertical_sdk.data.encodings import encoding_title, find_encoding
from vertical_sdk.data.excel import read_excel
from vertical_sdk.data.nested import flatten_parts, flatten_rows, iterate_json_lines, read_json
from vertical_sdk.data.parquet import iterate_parquet
from vertical_sdk.data.rows import LINE_LIMIT, FileOptions, Rows, read_lines
from vertical_sdk.errors import DataError

__all__ = [
    "BROKEN_ZIP",
    "LINE_LIMIT",
    "SUFFIXES",
    "FileOptions",
    "Rows",
    "file_format",
    "find_reader",
    "iterate_columns",
    "read_columns",
    "read_file",
]

SUFFIXES = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".tab": "TSV",
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".json": "JSON",
    ".xlsx": "Excel",
    ".xlsm": "Excel",
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".arff": "ARFF",
}
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError)
"""The errors of zipfile for an archive that is cut, damaged, encrypted or packed by an unknown method."""
HL7 = "HL7 version 2 messages, which are not read. Export the notes as CSV, as a FHIR bundle, or as C-CDA documents"
OTHERS = {
    b"\xd0\xcf\x11\xe0": "an old Excel file (.xls), or an Excel file with a password. Save it as .xlsx without a password, or as CSV",
    b"%PDF": "a PDF. Extract its text, and write one row for each document",
    b"\x1f\x8b": "compressed with gzip. Unpack it first",
    b"BZh": "compressed with bzip2. Unpack it first",
    b"\xfd7zXZ": "compressed with xz. Unpack it first",
    b"(\xb5/\xfd": "compressed with zstd. Unpack it first",
    b"7z\xbc\xaf": "a 7z archive. Unpack it first",
    b"ARROW1": "an Arrow file. Save it as Parquet",
    b"SQLite format 3": "an SQLite database. Export a table as CSV",
    b"{\\rtf": "an RTF document. Extract its text, and write one row for each document",
    b"$FL2": "an SPSS file (.sav). Export it as CSV",
    b"<stata_dta>": "a Stata file (.dta). Export it as CSV",
    b"MSH|": HL7,
    b"\x0bMSH|": HL7,
    b"FHS|": HL7,
    b"BHS|": HL7,
}
"""The first bytes of files that are not tables → what they are, and what to do."""
IN_ZIP = {
    "xl/workbook.bin": "a binary Excel file (.xlsb). Save it as .xlsx",
    "content.xml": "an OpenDocument file (.ods). Save it as .xlsx or CSV",
    "word/document.xml": "a Word document. Extract its text, and write one row for each document",
}
HEAD = 1 << 16


def read_file(path: Path, options: FileOptions | None = None) -> Rows:
    """Read all rows of a file. Nested objects stay as they are; see `read_columns`.

    Raises DataError, with file and line, for a file that cannot be read.
    """
    return next(_iterate_file(path, options or FileOptions(), None))


def read_columns(path: Path, options: FileOptions | None = None) -> Rows:
    """Read all rows of a file as a table: nested objects become columns with dotted names."""
    return flatten_rows(read_file(path, options))


def iterate_columns(path: Path, options: FileOptions | None = None, *, size: int) -> Iterator[Rows]:
    """Read the rows of a file as `read_columns` does, in parts of so many, all with the columns of the whole file.

    A CSV, JSONL or Parquet file never is in memory as a whole: it is read twice, or once if one part is all. Other formats are read
    as a whole.
    """
    parts = functools.partial(_iterate_file, path, options or FileOptions(), size)
    first = list(islice(parts(), 2))
    if len(first) == 1:
        yield flatten_rows(first[0])
    elif first[0].format.startswith(("JSONL", "Parquet")):
        yield from flatten_parts(parts, options or FileOptions())
    else:
        yield from parts()


def _iterate_file(path: Path, options: FileOptions, size: int | None) -> Iterator[Rows]:
    """Read the rows of a file in parts of so many; None, and formats that have no parts: in one part."""
    part, found = None, False
    for part in _open_parts(path, options, size):
        found = found or bool(part.rows)
        if part.rows:
            yield part
    if part is not None and not found:
        headed = part.format.startswith(("CSV", "TSV", "ARFF", "Excel")) and options.header != "none"
        raise DataError(f"the file has no rows{' below its header' if headed else ''}.", where=path)


def _open_parts(path: Path, options: FileOptions, size: int | None) -> Iterator[Rows]:
    """Recognize a file, and return what reads its parts; a part may have no rows."""
    if not path.is_file():
        raise DataError("no such file.", where=path)
    if path.stat().st_size == 0:
        raise DataError("the file is empty.", where=path)
    kind = file_format(path, options)
    if kind == "Parquet":
        return iterate_parquet(path, options, size)
    if kind == "Excel":
        return iter([read_excel(path, options)])
    encoding = find_encoding(path, options.encoding)
    if kind == "JSONL" or (kind == "JSON" and path.suffix.lower() == ".json" and _is_jsonl(path, encoding)):
        return iterate_json_lines(path, encoding, options, size)
    if kind == "JSON":
        return iter([read_json(path, encoding, options)])
    if kind == "ARFF":
        return iter([_read_arff_file(path, encoding, options)])
    return iterate_delimited(path, encoding, options, size)


def find_reader(path: Path) -> str | None:
    """Return the name of a vertical's reader that recognizes the first bytes of a file, such as a FHIR bundle."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(HEAD)
    return readers.recognize(head)


def file_format(path: Path, options: FileOptions | None = None) -> str:
    """Recognize CSV, TSV, JSONL, JSON, Excel, Parquet or ARFF by the first bytes, else by the ending of the name.

    Raises DataError for any other file.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PAR1"):
        return "Parquet"
    if head.startswith(b"PK\x03\x04"):
        return _look_into_zip(path)
    for first, what in OTHERS.items():
        if head.startswith(first):
            raise DataError(f"the file is {what}.", where=path)
    text = _decode_head(path, head, options)
    named = SUFFIXES.get(path.suffix.lower())
    if named in {"Parquet", "Excel"}:
        raise DataError(
            f"the name says {named}, but the first bytes do not. The file may be cut: download it again.", where=path
        )
    start = text.lstrip()
    if start.startswith("<"):
        _refuse_markup(path, start)
    if named in {"JSON", "JSONL"} or (named is None and start[:1] in {"{", "["}):
        return "JSON" if named == "JSON" or start.startswith("[") else "JSONL"
    return named or _format_by_text(path, start, options)


def _format_by_text(path: Path, start: str, options: FileOptions | None) -> str:
    """Recognize a file whose name says nothing. Raises DataError for a text without delimiters."""
    if start[:9].lower() == "@relation":
        return "ARFF"
    first = start.splitlines()[0] if start else ""
    declared = options is not None and (options.delimiter or options.header)
    if declared or any(count_fields(first, delimiter) > 1 for delimiter in DELIMITERS):
        return "CSV"
    raise DataError(f"the format of the file is unknown. {_list_suffixes()}", where=path)


def _decode_head(path: Path, head: bytes, options: FileOptions | None) -> str:
    """Decode the first bytes as far as the format needs it: letters beyond ASCII may be wrong.

    Raises DataError for a file with zero bytes, which no text has.
    """
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return head.decode("utf-16", errors="replace")
    if b"\0" in head:
        if options and options.encoding and options.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
            return head.decode(options.encoding, errors="replace")
        odd = head[1::2].count(0), head[::2].count(0)
        if max(odd) > 0.3 * len(head) / 2 > 5 * min(odd):
            guess = "utf-16-le" if odd[0] > odd[1] else "utf-16-be"
            raise DataError(
                f"the file seems to be UTF-16 without a byte order mark. Set data.reader.encoding: {guess}, or save it as UTF-8.",
                where=path,
            )
        raise DataError(f"the file is not text, it contains zero bytes. {_list_suffixes()}", where=path)
    return head.removeprefix(codecs.BOM_UTF8).decode("latin-1")


def _look_into_zip(path: Path) -> str:
    """Tell an Excel file from other files that are zip archives."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except BROKEN_ZIP:
        raise DataError("the file is a broken zip archive or Excel file. Download it again.", where=path) from None
    if "xl/workbook.xml" in names:
        return "Excel"
    what = next((what for name, what in IN_ZIP.items() if name in names), "a zip archive. Unpack it first")
    raise DataError(f"the file is {what}.", where=path)


def _refuse_markup(path: Path, start: str) -> None:
    """Raise DataError for XML and HTML, with the reader that reads it, if a vertical has one."""
    reader = find_reader(path)
    if reader:
        raise DataError(f"{readers.part(reader).title} need their own reader. Set data.reader.use: {reader}.", where=path)
    kind = "HTML" if "<html" in start[:2000].lower() or "<table" in start[:2000].lower() else "XML"
    known = start[:5].lower() in {"<?xml", "<html", "<!doc"} or path.suffix.lower() in {".xml", ".html", ".htm", ".xls"}
    if known:
        raise DataError(f"the file is {kind}, not a table. Save its rows as CSV, Excel or JSON.", where=path)


def _list_suffixes() -> str:
    return f"Supported endings are {', '.join(SUFFIXES)}."


def _is_jsonl(path: Path, encoding: str) -> bool:
    """Whether a file called .json has one object on each line."""
    lines = read_lines(path, encoding)
    try:
        first = json.loads(next(lines)[1])
        return isinstance(first, dict) and any(line.strip() for _, line in lines)
    except (ValueError, RecursionError, StopIteration):
        return False


def _read_arff_file(path: Path, encoding: str, options: FileOptions) -> Rows:
    from vertical_sdk.data.arff import read_arff

    arff = read_arff(path, read_lines(path, encoding), options)
    title = encoding_title(encoding)
    return Rows(
        path,
        "ARFF" if title == "UTF-8" else f"ARFF, {title}",
        arff.columns,
        arff.rows,
        arff.places,
        names=arff.names,
        details={"encoding": title},
    )
