"""The general reader of laws: Chinese statutes in Markdown, one article a row."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vertical_sdk.catalog import readers
from vertical_sdk.data.account import Tally
from vertical_sdk.data.formats import BROKEN_ZIP
from vertical_sdk.data.read import Missing, Table, read_table
from vertical_sdk.errors import DataError
from vertical_sdk.types import Example, TaskName

__all__ = ["articles", "split_articles"]

ARTICLE = re.compile(r"(第[〇零一二三四五六七八九十百千两\d]+条(?:之[一二三四五六七八九十]+)?)[\s\u3000]+")
"""The number of an article at the beginning of a line, such as 第十二条."""
DATED = re.compile(r"[(（]\d{4}-\d\d-\d\d[)）]$")
"""The date of a version at the end of a file's name."""
LARGEST = 16 << 20
"""Bytes of the largest law that is read."""


@readers.register("articles", tasks=("classification",))
def articles(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    *,
    labels: dict[str, list[str]] | None = None,
) -> Table:
    """Articles of Chinese laws, each with the label of its law. The group is the law.

    path    a folder or a zip of laws in Markdown, whose articles begin with 第...条, such as the repository LawRefBook/Laws; or a
            table with the columns text, label and law, or those that data.columns names
    labels  label → words. A law gets the first label of which a word is in its path (FOLDER/NAME.md); other laws are not read.
            A table has its own labels

    Versions of a law, such as NAME(2020-05-28).md, are one group. Raises DataError for an archive that is damaged, a file that is
    not UTF-8, and if no article is found.
    """
    readers.require("articles", task, "data.reader")
    if path.is_file() and not zipfile.is_zipfile(path):
        return read_table(path, columns or _choose_columns, task, missing=missing)
    tally = Tally("read")
    examples: list[Example] = []
    laws: set[str] = set()
    for name, content in _read_laws(path):
        label = next((label for label, words in (labels or {}).items() if any(word in name for word in words)), None)
        if label is None:
            tally.note("laws that match no label")
            continue
        law = DATED.sub("", name.rpartition("/")[2].removesuffix(".md")).rstrip()
        laws.add(law)
        for number, text in split_articles(_decode(content, f"{path}/{name}")):
            examples.append(Example(f"{name}:{number}:{len(examples)}", text, label, group=law))
    if not examples:
        raise DataError(
            "has no law in Markdown whose path has a word of data.reader.labels and whose articles begin with 第...条.",
            where=path,
        )
    detected = f"{len(examples)} articles of {len(laws)} laws in Markdown"
    return Table(tuple(examples), detected, account=tally.close(len(examples), len(examples)))


def _choose_columns(there: Sequence[str]) -> dict[str, str]:
    usual = {"text": "text", "label": "label", "group": "law"}
    return {key: name for key, name in usual.items() if name in there}


def split_articles(text: str) -> list[tuple[str, str]]:
    """Split a law into its articles: the number of each, and its text without the number, in one paragraph.

    Headings, comments, and what precedes the first article are left out.
    """
    found: list[tuple[str, list[str]]] = []
    inside = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith(("#", "<!--")):
            inside = False
        elif start := ARTICLE.match(line):
            found.append((start[1], [line[start.end() :]]))
            inside = True
        elif inside and line:
            found[-1][1].append(line)
    return [(number, "".join(lines)) for number, lines in found if any(lines)]


def _read_laws(path: Path) -> Iterator[tuple[str, bytes]]:
    """Read each Markdown file: its path inside the folder or archive, and its bytes."""
    if path.is_dir():
        for file in sorted(path.rglob("*.md")):
            yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
                if not entry.filename.endswith(".md"):
                    continue
                if entry.file_size > LARGEST:
                    raise DataError(f"{entry.filename} is over {LARGEST >> 20} MB, far more than a law has.", where=path)
                yield entry.filename, archive.read(entry)
    except BROKEN_ZIP as error:
        raise DataError(f"the archive is cut or damaged ({error}). Download it again.", where=path) from None


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("is not UTF-8. Save the file as UTF-8.", where=where) from None
