"""Readers of medical sources, and the cleaning of units; molecules, heart beats and pictures have files of their own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from vertical_sdk.catalog import cleaners, readers
from vertical_sdk.cells import is_missing, normalize_key
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.formats import SUFFIXES, read_file
from vertical_sdk.data.read import Missing, Table, read_table, table
from vertical_sdk.data.texts import list_texts, replace_texts
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.types import Example, TaskName

from .beats import ecg_beats
from .clinical import ccda, fhir, parse_xml
from .images import medmnist
from .molecules import canonical_smiles, fingerprints, scaffold, smiles
from .summaries import question_summaries
from .translations import translations
from .triage import mask_diseases, questions_zh

__all__ = [
    "abstracts",
    "canonical_smiles",
    "ccda",
    "ecg_beats",
    "fhir",
    "fingerprints",
    "icd10cm",
    "mask_diseases",
    "medmnist",
    "pubmedqa",
    "question_summaries",
    "questions_zh",
    "scaffold",
    "smiles",
    "translations",
    "units",
]

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
RANGE = re.compile(r"(?<!\s)\s*\([A-Z]\w\w(?:-[A-Z]\w\w)?\)\s*$")


CONDITIONS = (
    "neoplasms",
    "digestive system diseases",
    "nervous system diseases",
    "cardiovascular diseases",
    "general pathological conditions",
)
"""The meaning of the numbers 1 to 5 in the Medical Abstracts corpus (Schopf et al., 2022)."""
ANSWERS = ("no", "maybe", "yes")


@readers.register("medical.icd10cm", tasks=("classification",))
def icd10cm(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    *,
    level: Literal["chapter", "block", "category"] = "chapter",
    synonyms: Literal["evaluate", "both"] = "evaluate",
) -> Table:
    """ICD-10-CM's tabular list: what a clinician writes, to the chapter (22), the block (some 280) or the category (some 1,900).

    path      the tabular list's XML, or a folder with it inside (the files of the wheel simple-icd-10-cm)
    level     the label to predict; blocks and categories know their chapter, for hierarchical losses and metrics
    synonyms  inclusion terms, the synonyms that a clinician would write, are to "evaluate" on only, or rows for "both" sides

    Each code's description is a training-only row; each inclusion term is a row of its own. The group is the 3-character category,
    so that no category is both learned and tested; if the category itself is the label, it is the code, so that a code's
    description and its synonyms stay together. Raises DataError for an XML that is broken, declares a document type or entities, or
    has no chapters.
    """
    if columns:
        raise RecipeError("medical.icd10cm: the tabular list has no columns to choose; leave data.columns out.")
    readers.require("medical.icd10cm", task, "data.reader")
    file = path if path.is_file() else _find_tabular(path)
    only: Literal["evaluate"] | None = "evaluate" if synonyms == "evaluate" else None
    examples: list[Example] = []
    words: dict[str, str] = {}
    labels: dict[str, str] = {}
    parents: dict[str, str] = {}
    for number, chapter, section, category in _list_categories(parse_xml(file), file):
        title = RANGE.sub("", _element_text(chapter, "desc", file))
        code = _element_text(category, "name", file)
        if level == "chapter":
            label, described = title, title
        elif level == "block":
            label, described = _find_block(section, category, file), RANGE.sub("", _element_text(section, "desc", file))
        else:
            label, described = code, _element_text(category, "desc", file)
        labels[label] = described
        if level != "chapter":
            parents[label] = title
        elif number in WORDS:
            words[label] = WORDS[number]
        for diagnosis in category.iter("diag"):
            own = _element_text(diagnosis, "name", file)
            group = own if level == "category" else code
            examples.append(Example(own, _element_text(diagnosis, "desc", file), label, group=group, only="train"))
            terms = [
                note.text.strip() for term in diagnosis.findall("inclusionTerm") for note in term.findall("note") if note.text
            ]
            examples += [Example(f"{own}~{n}", term, label, group=group, only=only) for n, term in enumerate(terms, 1)]
    if not examples:
        raise DataError(f"{file}: has no chapters with codes; this is not ICD-10-CM's tabular list.")
    summary = f"ICD-10-CM tabular list {file.name}: {sum(e.only == 'train' for e in examples)} codes, {len(labels)} {level}s"
    return Table(tuple(examples), summary, descriptions=labels, words=words, parents=parents, labels=tuple(labels))


def _find_block(section: ET.Element, category: ET.Element, file: Path) -> str:
    """The block's code range (I10-I1A), which is the section's id; a block of one category has that category's code."""
    return section.get("id") or _element_text(category, "name", file)


@readers.register("medical.abstracts", tasks=("classification",))
def abstracts(path: Path, columns: Mapping[str, str], task: TaskName, missing: Missing = "drop") -> Table:
    """The Medical Abstracts corpus: an abstract to one of 5 conditions, whose numbers 1 to 5 become their names.

    path     a file, or a folder with one for each split, with the columns medical_abstract and condition_label; or text and label
    columns  other names of the two, if a copy has such
    missing  what becomes of a row without text or label

    Raises DataError that names file and line; RecipeError for another task.
    """
    readers.require("medical.abstracts", task, "data.reader")
    named = dict(columns) or _parse_published(path, {"text": "medical_abstract", "label": "condition_label"})
    rows = table(path, named, task) if path.is_dir() else read_table(path, named, task, missing=missing)
    numbers = {str(number): name for number, name in enumerate(CONDITIONS, 1)}
    examples = tuple(replace(e, target=numbers.get(str(e.target), e.target)) for e in rows.examples)
    wrong = next((e for e in examples if e.target is not None and e.target not in CONDITIONS), None)
    if wrong:
        raise DataError(
            f"{path}: row {wrong.id}: the condition {wrong.target!r} is not one of 1 to 5 or {', '.join(CONDITIONS)}."
        )
    return replace(rows, examples=examples, labels=CONDITIONS)


@readers.register("medical.pubmedqa", tasks=("ordinal", "classification"))
def pubmedqa(path: Path, columns: Mapping[str, str], task: TaskName, missing: Missing = "drop") -> Table:
    """PubMedQA: a study's question, an empty line, its abstract without the conclusion → no, maybe, yes (Jin et al., 2019).

    path     rows with question, context (a text, or the hub's {contexts: [...]}) and answer or final_decision; id or pubid, and year,
             if they exist. long_answer is never read: it is the conclusion
    missing  what to do with a row without an answer

    Raises DataError that names file and line.
    """
    if columns:
        raise RecipeError(
            "medical.pubmedqa reads a fixed layout. Leave data.columns out, or read the file with the reader 'table'."
        )
    readers.require("medical.pubmedqa", task, "data.reader")
    file = _find_only_file(path)
    rows = read_file(file)
    tally = Tally("read")
    examples = []
    for index, row in enumerate(rows.rows):
        where = rows.at(index)
        question, context = row.get("question"), _join_context(row.get("context"), where)
        if not isinstance(question, str) or not question.strip():
            raise DataError(f"{where}: has no question, but {question!r}. The columns needed are question, context and answer.")
        cell = row.get("answer") if row.get("answer") is not None else row.get("final_decision")
        answer = None if missing == "keep" or is_missing(cell) else str(cell).strip().lower()
        if answer is not None and answer not in ANSWERS:
            raise DataError(f"{where}: the answer is {cell!r}; it must be one of {', '.join(ANSWERS)}.")
        name = normalize_key(row.get("id", row.get("pubid")))
        example = Example(
            name or str(rows.places[index]),
            f"{question.strip()}\n\n{context}".strip(),
            answer,
            time=normalize_key(row.get("year")),
            record_id=name,
        )
        if answer is None and missing == "refuse":
            raise DataError(f"{where}: has no answer. Here every row needs one of {', '.join(ANSWERS)}.")
        if answer is None and missing == "drop":
            tally.drop(example.id, "no answer")
        else:
            examples.append(example)
    account = tally.close(len(rows.rows), len(examples))
    return Table(tuple(examples), f"{rows.format}, PubMedQA", labels=ANSWERS, account=account)


def _join_context(value: Any, where: str) -> str:
    """The abstract's sections, one a line."""
    sections = value.get("contexts") if isinstance(value, Mapping) else value
    if sections is None:
        return ""
    if isinstance(sections, str):
        return sections.strip()
    if isinstance(sections, Sequence) and all(isinstance(section, str) for section in sections):
        return "\n".join(section.strip() for section in sections)
    raise DataError(f"{where}: context holds a {type(value).__name__}; a text, or {{contexts: [texts]}}, is needed.")


def _parse_published(path: Path, columns: Mapping[str, str]) -> dict[str, str]:
    """These columns if the file, or a folder's first, has the first of them; none, and the usual names are found, if not."""
    first = path if path.is_file() else next(iter(_find_files(path)), None)
    if first is None:
        return {}
    there = read_file(first).columns
    return {key: name for key, name in columns.items() if name in there}


def _find_only_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = _find_files(path)
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:10]) or "none"
        raise DataError(f"{path}: one file is needed, and there are: {names}. Set data.file.")
    return files[0]


def _find_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


MICRO = ("mcg", "ug", "\u00b5g", "\u03bcg")
"""Ways to write a microgram; "mcg" is the safe one, as a hand-written Greek letter is read as "mg" (ISMP's list)."""
UNITS = {
    **dict.fromkeys(MICRO, "mcg"),
    **dict.fromkeys(("mg", "MG"), "mg"),
    **dict.fromkeys(("kg", "KG", "Kg"), "kg"),
    "ng": "ng",
    "pg": "pg",
    "g": "g",
    **dict.fromkeys(("ml", "mL", "ML"), "mL"),
    **dict.fromkeys(("dl", "dL"), "dL"),
    **dict.fromkeys(("l", "L"), "L"),
    **dict.fromkeys(("mmol", "mMol"), "mmol"),
    **dict.fromkeys(("meq", "mEq", "MEQ"), "mEq"),
    **dict.fromkeys(("mmhg", "mmHg", "mm Hg", "mm hg", "mmHG", "mm HG"), "mmHg"),
    "cm": "cm",
    "mm": "mm",
}
"""As it may be written, after a number → as it is written here. What is not listed is left alone: "Mg" may be magnesium."""
BELOW = ("dl", "dL", "l", "L", "ml", "mL", "ML", "kg", "KG", "Kg", "g")
"""Units that appear after a slash."""


def _build_units() -> re.Pattern[str]:
    above = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
    below = "|".join(re.escape(unit) for unit in sorted({*BELOW}, key=len, reverse=True))
    # after a number, with or without a unit below it; or a pair of units that no word could be, without a number
    return re.compile(
        rf"(?<![\w.,])(?P<number>\d+(?:[.,]\d+)*)[ \t\u00a0\u202f]*(?P<above>{above})(?:/(?P<below>{below}))?(?![\w/])"
        rf"|(?<![\w/])(?P<lone>{'|'.join((*MICRO, 'mg', 'ng', 'mmol'))})/(?P<lone_below>dl|dL|ml|mL|kg)(?![\w/])"
    )


UNIT = _build_units()


@cleaners.register("medical.units", text_normalizer=True)
def units(examples: Sequence[Example]) -> tuple[list[Example], StepAccount]:
    """Write units alike: mg/dL for mg/dl, mcg for ug and µg, mL for ml, mmHg for mm Hg, one space between number and unit.

    Only listed units, and only after a number or as a pair such as mg/dl. Numbers, decimal commas among them, stay
    unchanged, and no value is converted. Rows whose text changes are counted; labels never change.
    """
    tally = Tally("medical.units")
    done = []
    for example in examples:
        changed = replace_texts(example, [UNIT.sub(_expand_unit, text) for text in list_texts(example)])
        if changed is not example:
            tally.change(example.id, "units written alike")
        done.append(changed)
    return done, tally.close(len(examples), len(done))


def _expand_unit(match: re.Match[str]) -> str:
    if match["lone"]:
        return f"{UNITS[match['lone']]}/{UNITS[match['lone_below']]}"
    below = f"/{UNITS[match['below']]}" if match["below"] else ""
    return f"{match['number']} {UNITS[match['above']]}{below}"


def _find_tabular(folder: Path) -> Path:
    found = sorted(folder.rglob("icd10c*tabular*.xml"))
    if not found:
        raise DataError(
            f"{folder}: has no icd10c*tabular*.xml. Take the wheel simple-icd-10-cm, or the tabular list from cdc.gov."
        )
    return found[-1]


def _list_categories(root: ET.Element, file: Path) -> Iterator[tuple[int, ET.Element, ET.Element, ET.Element]]:
    """Each category with its chapter's number, its chapter and its block."""
    for chapter in root.iter("chapter"):
        name = _element_text(chapter, "name", file)
        if not name.isdigit():
            raise DataError(f"{file}: a chapter is called {name!r}; a number is needed.")
        for section in chapter.findall("section"):
            for category in section.findall("diag"):
                yield int(name), chapter, section, category


def _element_text(element: ET.Element, tag: str, file: Path) -> str:
    text = " ".join((element.findtext(tag) or "").split())
    if not text:
        raise DataError(f"{file}: a <{element.tag}> has no <{tag}>.")
    return text
