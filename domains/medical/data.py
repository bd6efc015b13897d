"""Readers of medical sources."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from vertical_sdk.catalog import readers
from vertical_sdk.data.read import Table
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example, Task

WORDS = {
    1: "infection",
    2: "tumor",
    3: "blood",
    4: "endocrine",
    5: "mental",
    6: "nervous",
    7: "eye",
    8: "ear",
    9: "circulatory",
    10: "respiratory",
    11: "digestive",
    12: "skin",
    13: "muscle",
    14: "urinary",
    15: "pregnancy",
    16: "birth",
    17: "congenital",
    18: "symptom",
    19: "injury",
    20: "external",
    21: "health",
    22: "special",
}
"""Chapter → what a causal model answers: short, and all different from the first letters on."""
RANGE = re.compile(r"\s*\([A-Z]\w\w(?:-[A-Z]\w\w)?\)\s*$")


@readers.register("medical.icd10cm")
def icd10cm(path: Path, columns: Mapping[str, str], task: Task, *, level: Literal["chapter", "category"] = "chapter") -> Table:
    """ICD-10-CM's tabular list: what a clinician writes, to the chapter (22) or the 3-character category (some 1,900).

    path   the tabular list's XML, or a folder with it inside (the files of the wheel simple-icd-10-cm)

    Each code's description is a training-only row; each inclusion term, the synonyms that a clinician would write, is an
    evaluation-only row. The group is the category, so that no category is both learned and tested. Raises DataError for an XML
    that is broken, declares a document type or entities, or has no chapters.
    """
    if columns:
        raise RecipeError("medical.icd10cm: the tabular list has no columns to choose; leave data.columns out.")
    if task != "classification":
        raise RecipeError(f"medical.icd10cm: gives labels for classification, not for {task}.")
    file = path if path.is_file() else _tabular(path)
    examples: list[Example] = []
    words: dict[str, str] = {}
    labels: dict[str, str] = {}
    for number, chapter, category in _categories(_parse(file), file):
        title = RANGE.sub("", _text(chapter, "desc", file))
        code = _text(category, "name", file)
        label = title if level == "chapter" else code
        labels[label] = title if level == "chapter" else _text(category, "desc", file)
        if level == "chapter" and number in WORDS:
            words[label] = WORDS[number]
        for diagnosis in category.iter("diag"):
            own = _text(diagnosis, "name", file)
            examples.append(Example(own, _text(diagnosis, "desc", file), label, group=code, only="train"))
            terms = [
                note.text.strip() for term in diagnosis.findall("inclusionTerm") for note in term.findall("note") if note.text
            ]
            examples += [Example(f"{own}~{n}", term, label, group=code, only="evaluate") for n, term in enumerate(terms, 1)]
    if not examples:
        raise DataError(f"{file}: has no chapters with codes; this is not ICD-10-CM's tabular list.")
    said = f"ICD-10-CM tabular list {file.name}: {sum(e.only == 'train' for e in examples)} codes, {len(labels)} {level}s"
    return Table(tuple(examples), said, descriptions=labels, words=words, labels=tuple(labels))


def _tabular(folder: Path) -> Path:
    found = sorted(folder.rglob("icd10c*tabular*.xml"))
    if not found:
        raise DataError(
            f"{folder}: has no icd10c*tabular*.xml. Take the wheel simple-icd-10-cm, or the tabular list from cdc.gov."
        )
    return found[-1]


def _parse(file: Path) -> ET.Element:
    """The document; what declares entities, which could be made to fill the memory, is refused before it is parsed."""
    content = file.read_bytes()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content[:100]:
        raise DataError(f"{file}: declares a document type, or is no UTF-8; the tabular list does neither.")
    try:
        return ET.fromstring(content)  # noqa: S314  (no document type, so no entities)
    except ET.ParseError as error:
        raise DataError(f"{file}: broken XML: {error}. Take the file anew.") from None


def _categories(root: ET.Element, file: Path) -> Iterator[tuple[int, ET.Element, ET.Element]]:
    for chapter in root.iter("chapter"):
        name = _text(chapter, "name", file)
        if not name.isdigit():
            raise DataError(f"{file}: a chapter is called {name!r}; a number is needed.")
        for section in chapter.findall("section"):
            for category in section.findall("diag"):
                yield int(name), chapter, category


def _text(element: ET.Element, tag: str, file: Path) -> str:
    text = " ".join((element.findtext(tag) or "").split())
    if not text:
        raise DataError(f"{file}: a <{element.tag}> has no <{tag}>.")
    return text
