"""Readers and cleaners of legal sources."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from vertical_sdk.catalog import cleaners, readers
from vertical_sdk.cells import is_missing, normalize_key
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.formats import SUFFIXES, Rows, read_file
from vertical_sdk.data.read import Table, read_table
from vertical_sdk.data.texts import list_texts, replace_texts
from vertical_sdk.errors import DataError, did_you_mean
from vertical_sdk.types import Example, TaskName

from .augment import CITATION, PLACE
from .scancode import scancode
from .summaries import plain_summaries

__all__ = ["citations", "cuad", "numbering", "plain_summaries", "scancode", "terms"]

Missing = Literal["drop", "refuse", "keep"]
UNFAIR = {
    "a": "Disputes must go to arbitration.",
    "ch": "The provider may change the terms or the service on its own.",
    "cr": "The provider may remove the consumer's content at will.",
    "j": "Disputes must go to the courts of a place that the provider chose.",
    "law": "The law of a place that the provider chose governs the contract.",
    "ltd": "The provider's liability is limited or excluded.",
    "pinc": "Agreeing to the terms means agreeing to the privacy policy.",
    "ter": "The provider may suspend or end the service on its own.",
    "use": "Merely using the service means agreeing to the terms.",
}
"""Category of a potentially unfair term → what such a term says (after Lippi et al., 2019)."""
FACTS = frozenset({"filename", "document name", "parties", "agreement date", "effective date", "expiration date"})
"""Columns of CUAD that hold facts of the contract, not clauses."""
ANSWER = re.compile(r"(?<!\s)\s*-\s*answer\s*$", re.IGNORECASE)


@readers.register("legal.cuad", tasks=("classification",))
def cuad(path: Path, columns: Mapping[str, str], task: TaskName, missing: Missing = "drop") -> Table:
    """CUAD's clauses: what was marked in a contract, to the kind of clause.

    path   master_clauses.csv, one line a contract and two columns a kind of clause (`X`, a list of passages; `X-Answer`); or a
           plain table with the columns text, clause and contract, or those that data.columns names

    The group is the contract. Raises DataError that names file and line.
    """
    readers.require("legal.cuad", task, "data.reader")
    if columns:
        return read_table(path, columns, task, missing=missing)
    rows = read_file(path)
    kinds = _list_kinds(rows.columns)
    if not kinds:
        usual = {"text": "text", "label": "clause", "group": "contract"}
        given = {key: name for key, name in usual.items() if key == "text" or name in rows.columns}
        return read_table(path, given or columns, task, missing=missing)
    contract = next((name for name in rows.columns if name.strip().casefold() == "filename"), None)
    if contract is None:
        raise DataError(f"{path}: has clauses and their answers, as CUAD's master_clauses.csv, but no column 'Filename'.")
    tally = Tally("read")
    examples: list[Example] = []
    read = 0
    for index, row in enumerate(rows.rows):
        for column, kind in kinds.items():
            for number, text in enumerate(_list_passages(row.get(column), rows.at(index), column), 1):
                name = f"{rows.places[index]}:{kind}:{number}"
                read += 1
                if text.strip():
                    examples.append(Example(name, text, kind, group=normalize_key(row[contract])))
                else:
                    tally.drop(name, "no text")
    if not examples:
        raise DataError(f"{path}: no contract has a passage in any of its {len(kinds)} kinds of clause.")
    summary = f"CUAD, {len(kinds)} kinds of clause in {len(rows.rows)} contracts"
    return Table(tuple(examples), summary, account=tally.close(read, len(examples)))


def _list_kinds(names: Sequence[str]) -> dict[str, str]:
    """Column → kind of clause, for each column with an answer's column beside it that is not a fact of the contract."""
    answered = {ANSWER.sub("", name).strip().casefold() for name in names if ANSWER.search(name)}
    plain = {name: " ".join(name.split()) for name in names if not ANSWER.search(name)}
    return {column: kind for column, kind in plain.items() if kind.casefold() in answered - FACTS}


def _list_passages(cell: object, where: str, column: str) -> list[str]:
    text = "" if is_missing(cell) else str(cell).strip()
    if not text:
        return []
    try:
        passages = ast.literal_eval(text)
        if isinstance(passages, list) and all(isinstance(part, str) for part in passages):
            return passages
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    raise DataError(f"{where}: column {column!r} holds no list of passages such as ['one', 'two']: {text[:60]!r}.")


@readers.register("legal.terms", tasks=("multilabel",))
def terms(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    *,
    language: str = "en",
    junk: Literal["keep", "set aside"] = "keep",
    min_words: int = 4,
) -> Table:
    """Sentences of terms of service, to the categories of unfairness that each has; a fair one has none of them.

    path       a table with the columns text (or sentence), document (or company), and either `unfair`, which lists the categories
               between ';' and is empty for a fair sentence, or a column of yes and no for each category; a folder of such
               files; or a clone of the corpus of Galassi et al. (2024), with its folders `sentences` and `tags`
    language   which one to read, if the source has several
    junk       "set aside" leaves out texts that are not sentences: addresses, dates, and fair lines of fewer than min_words words. They
               are counted either way.

    The group is the document. Splits of the source are not taken over. Raises DataError that names file and line, also for an
    unknown category.
    """
    readers.require("legal.terms", task, "data.reader")
    tally = Tally("read")
    examples: list[Example] = []
    read = 0
    files: set[str] = set()
    for where, example, tongue in _read_sentences(path, columns, language, labelled=missing != "keep"):
        read += 1
        files.add(where.rpartition(":")[0])
        kind = _is_junk(example.text, min_words) if example.target == () or missing == "keep" else None
        if kind:
            tally.note(f"lines that are {kind}")
        if tongue is not None and tongue.casefold() != language.casefold():
            tally.set_aside(example.id, f"in another language than {language}")
        elif missing != "keep" and (not example.text.strip() or example.target is None):
            what = "no text" if example.target is not None else "no label"
            if missing == "refuse":
                raise DataError(f"{where}: {what}. Here every row needs both text and label.")
            tally.drop(example.id, what)
        elif kind and junk == "set aside" and missing == "drop":
            tally.set_aside(example.id, kind)
        else:
            examples.append(example)
    if not examples:
        raise DataError(f"{path}: none of its {read} rows can be used; a text, and a column 'unfair' are needed.")
    fair = sum(e.target == () for e in examples)
    summary = f"terms of service in {len(files)} file{'s' * (len(files) != 1)}, {fair} of {len(examples)} sentences fair"
    account = tally.close(read, len(examples))
    return Table(tuple(examples), summary, descriptions=UNFAIR, labels=tuple(UNFAIR), account=account)


def _read_sentences(
    path: Path, columns: Mapping[str, str], language: str, *, labelled: bool
) -> Iterator[tuple[str, Example, str | None]]:
    """Each row: its place, the example, and its language if the source names it. Labels are read if `labelled`."""
    if path.is_file():
        yield from _read_table_form(read_file(path), columns, "", labelled=labelled)
        return
    for folder in sorted(path.rglob(f"sentences/{language}/original")):
        yield from _read_clone(folder, folder.parents[2] / "tags" / language / "original")
        return
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not files:
        raise DataError(
            f"{path}: has neither a table nor sentences/{language}/original. Set data.file, or name the file itself."
        )
    for file in files:
        yield from _read_table_form(read_file(file), columns, f"{file.stem}:" if len(files) > 1 else "", labelled=labelled)


def _read_table_form(
    rows: Rows, columns: Mapping[str, str], before: str, *, labelled: bool
) -> Iterator[tuple[str, Example, str | None]]:
    def column(key: str, *usual: str) -> str | None:
        if key in columns and columns[key] not in rows.columns and key != "label":
            raise DataError(f"{rows.path}: no column {columns[key]!r}.{did_you_mean(columns[key], rows.columns)}")
        return next((name for name in (columns.get(key), *usual) if name in rows.columns), None)

    text, label = column("text", "text", "sentence"), column("label", "unfair", "label", "labels") if labelled else None
    group, level = column("group", "document", "company"), column("", "unfairness_level")
    flags = [] if label or not labelled else [name for name in UNFAIR if name in rows.columns]
    if text is None:
        raise DataError(f"{rows.path}: no text column; the columns are {', '.join(map(repr, rows.columns))}.")
    for index, row in enumerate(rows.rows):
        where = rows.at(index)
        target = _parse_categories(row.get(label), where) if label else None
        if flags:
            target = tuple(name for name in flags if str(row.get(name)).strip().casefold() in {"1", "1.0", "true", "yes"})
            if level and str(row.get(level)).casefold().replace(" ", "_") == "clearly_fair":
                target = ()
        company = normalize_key(row.get(group)) if group else None
        words = "" if is_missing(row.get(text)) else str(row[text])
        example = Example(f"{before}{rows.places[index]}", words, target, group=company)
        yield where, example, str(row["language"]) if row.get("language") else None


def _read_clone(sentences: Path, tags: Path) -> Iterator[tuple[str, Example, None]]:
    """One sentence a line, its tags on the same line of another file: a category and how unfair it is, 2 or 3."""
    for file in sorted(sentences.glob("*.txt")):
        mates = tags / file.name
        if not mates.is_file():
            raise DataError(f"{file}: has no tags; {mates} is missing.")
        texts, marks = (part_file.read_text(encoding="utf-8").split("\n") for part_file in (file, mates))
        if abs(len(texts) - len(marks)) > 1:
            raise DataError(f"{mates}: has {len(marks)} lines for the {len(texts)} of {file}.")
        for number, text in enumerate(texts, 1):
            mark = marks[number - 1] if number <= len(marks) else ""
            if text.strip() or mark.strip():
                target = _parse_categories(";".join(tag.rstrip("123") for tag in mark.split()), f"{mates}:{number}")
                yield f"{file}:{number}", Example(f"{file.stem}:{number}", text, target, group=file.stem), None


def _parse_categories(value: Any, where: str) -> tuple[str, ...]:
    parts = value if isinstance(value, list | tuple) else re.split(r"[;|,\s]+", "" if value is None else str(value))
    names = [part.strip().casefold() for part in map(str, parts) if part.strip()]
    for name in names:
        if name not in UNFAIR:
            raise DataError(f"{where}: {name!r} is not a category.{did_you_mean(name, UNFAIR)} Known are {', '.join(UNFAIR)}.")
    return tuple(name for name in UNFAIR if name in names)


ADDRESS = re.compile(r"\s*(?:https?://|www\.)\S+\s*")
DATE = re.compile(
    r"\W*(?:(?:(?:last )?(?:updated|modified|revised)|effective(?: date)?|date)\W*)?"
    r"(?:\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|(?:[a-z]{3,9}\.? \d{1,2}|\d{1,2}\.? [a-z]{3,9})\.?,? \d{4})\W*",
    re.IGNORECASE,
)


def _is_junk(text: str, min_words: int) -> str | None:
    if ADDRESS.fullmatch(text):
        return "addresses"
    if DATE.fullmatch(text):
        return "dates"
    return f"shorter than {min_words} words" if text.strip() and len(text.split()) < min_words else None


NUMBER = re.compile(
    r"\s*(?:"
    r"(?:section|article|clause|§+)\s*(?:\d+(?:\.\d+)*|[IVXLC]+\b)(?:\([a-z\d]{1,4}\))*(?:[.:)–—-]+\s+|\s+(?-i:(?=[A-Z])))"
    r"|\d{1,3}(?:\.\d{1,3})*(?:[.)](?!\d)\s*|(?=\([a-z\d]{1,4}\)))(?:\([a-z\d]{1,4}\)\s*)*(?=[^\d\s])"
    r"|\d{1,3}(?:\.\d{1,3})+\s+(?-i:(?=[A-Z\"“(]))"
    r"|\((?:[ivxlc]{1,6}|[a-z]{1,2}|\d{1,3})\)\s*"
    r"|(?:[ivxlc]{1,6}|[a-z])\)\s+"
    r"|[•●▪■◦]\s*"
    r")",
    re.IGNORECASE,
)
"""One piece of an enumeration at the beginning: `12.3(a)`, `Section 5.`, `(iv)`, `b)`, a bullet; never a bare number."""
PAGE = re.compile(
    r"^\s*(?:page\s+\d+(?:\s+of\s+\d+)?|-+\s*\d{1,4}\s*-+|\[\s*page\s+\d+\s*\])\s*$\n?", re.IGNORECASE | re.MULTILINE
)


@cleaners.register("legal.numbering", text_normalizer=True)
def numbering(examples: Sequence[Example]) -> tuple[list[Example], StepAccount]:
    """Take away the enumeration that a text begins with, and lines that only say which page this is.

    A text that is nothing else stays as it is, and so does what looks like a quantity ("30 days", "1.5 million"). Labels never
    change.
    """
    tally = Tally("legal.numbering")
    cleaned = []
    for example in examples:
        new, reasons = [], Counter[str]()
        for text in list_texts(example):
            paged = PAGE.sub("", text)
            plain = _strip_number(paged)
            if not plain.strip():
                plain = paged = text
            reasons["page marks removed"] += paged != text
            reasons["enumeration removed"] += plain != paged
            new.append(plain)
        for reason in +reasons:
            tally.change(example.id, reason)
        cleaned.append(replace_texts(example, new))
    return cleaned, tally.close(len(examples), len(cleaned))


def _strip_number(text: str) -> str:
    at = 0
    while found := NUMBER.match(text, at):
        at = found.end()
    return text[at:]


@cleaners.register("legal.citations", text_normalizer=True)
def citations(examples: Sequence[Example]) -> tuple[list[Example], StepAccount]:
    """Write [CITATION] for every reference to a case, a statute or a section of the contract. Labels never change."""
    tally = Tally("legal.citations")
    cleaned = []
    for example in examples:
        changed = [CITATION.subn(PLACE, text) for text in list_texts(example)]
        count = sum(number for _, number in changed)
        if count:
            tally.change(example.id, "citations masked")
            tally.note("citations", count)
        cleaned.append(replace_texts(example, [text for text, _ in changed]))
    return cleaned, tally.close(len(examples), len(cleaned))
