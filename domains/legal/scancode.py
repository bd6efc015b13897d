"""The reader of ScanCode's licence rules: notices and texts of software licences, each with its licence's category."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from vertical_sdk.catalog import readers
from vertical_sdk.data.account import Tally
from vertical_sdk.data.read import Table
from vertical_sdk.data.texts import stable_hash
from vertical_sdk.errors import DataError, RecipeError, did_you_mean
from vertical_sdk.types import Example, TaskName

__all__ = ["CATEGORIES", "PARENTS", "scancode"]

CATEGORIES = {
    "Permissive": "Use, change and pass on, also in closed products, if the notice is kept.",
    "Public Domain": "The author gives up all rights, as far as the law lets them.",
    "Copyleft": "What is derived from it, the whole program, must be passed on under the same terms with its source.",
    "Copyleft Limited": "Changes to the file or library itself must be shared; a larger work around it need not be.",
    "Commercial": "A paid or negotiated agreement with the vendor is needed.",
    "Proprietary Free": "Free of charge but not open source; the vendor's terms must be agreed to.",
    "Free Restricted": "Permissive but for a limit on who may use it or for what, such as no commercial or military use.",
    "Source-available": "The source can be read, but the terms limit use, often to keep others from selling a service.",
    "Unstated License": "Something is said of a licence or of warranty, but not which licence it is.",
    "Patent License": "A grant of patent rights, or its end.",
    "CLA": "An agreement by which a contributor grants rights to a project.",
}
"""Category of ScanCode's licence data → what it asks, in our words."""
PARENTS = {
    "Permissive": "free without sharing alike",
    "Public Domain": "free without sharing alike",
    "Copyleft": "share alike",
    "Copyleft Limited": "share alike",
    "Commercial": "use is limited",
    "Proprietary Free": "use is limited",
    "Free Restricted": "use is limited",
    "Source-available": "use is limited",
}
"""Category → its family, by what a product that contains such code has to do; the other three are families of their own."""
WORDS = {
    "Permissive": "permissive",
    "Public Domain": "public",
    "Copyleft": "copyleft",
    "Copyleft Limited": "limited",
    "Commercial": "commercial",
    "Proprietary Free": "vendor",
    "Free Restricted": "restricted",
    "Source-available": "source",
    "Unstated License": "unstated",
    "Patent License": "patent",
    "CLA": "contributor",
}
"""Category → what a causal model answers: short, and all different from the first letters on."""
FIELD = re.compile(r"([A-Za-z_]\w*):(?:\s+(.*)|\s*)$")
OPERATORS = frozenset({"and", "or", "with"})
ADDRESS = re.compile(r"(?:https?://|www\.)\S+")
COUNT = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Licence:
    """A licence of the data: its category, whether it is still one, and the ways in which it is called."""

    category: str
    deprecated: bool
    names: frozenset[str]


@readers.register("legal.scancode", tasks=("classification",))
def scancode(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    *,
    min_words: COUNT = 4,
    longest: COUNT | None = None,
    per_key: COUNT | None = None,
    language: str = "en",
) -> Table:
    """ScanCode's licence rules: a notice, tag or text of a licence, to the category of that licence (11 of them).

    path       the files of the wheel scancode-toolkit, or its folder licensedcode/data with `licenses` and `rules` inside
    min_words  shorter texts are set aside: they name a licence and say nothing of it
    longest    texts of more words are set aside
    per_key    at most so many texts of one licence, chosen by their names' hash; the rest is set aside

    The group is the licence's key, so that no licence is both learned and tested. Set aside and counted are false positives,
    what is deprecated, what names several licences, and what says no more than an address or the licence's own name. Raises
    DataError, with file and line, for a file that is not one of ScanCode's.
    """
    if columns:
        raise RecipeError("legal.scancode: the rules have no columns to choose; leave data.columns out.")
    readers.require("legal.scancode", task, "data.reader")
    data = _find_folder(path)
    tally = Tally("read")
    licences: dict[str, Licence] = {}
    rules: list[tuple[str, str, dict[str, str], str]] = []
    for file, facts, text in _list_files(data / "licenses", "*.LICENSE"):
        key = _require_fields(facts, "key", file)
        licences[key] = _parse_licence(key, facts, file)
        rules.append((file.name, key, facts, text))
    for file, facts, text in _list_files(data / "rules", "*.RULE"):
        rules.append((file.name, facts.get("license_expression", ""), facts, text))
    by_licence: dict[str, list[Example]] = {}
    for name, expression, facts, text in rules:
        keys = _parse_keys(expression)
        unknown = next((key for key in keys if key not in licences), None)
        if unknown is not None:
            raise DataError(f"{name}: license_expression: no licence {unknown!r}.{did_you_mean(unknown, licences)}")
        why = _find_reason_to_drop(facts, [licences[key] for key in keys], text, min_words, longest, language)
        if why:
            tally.set_aside(name, why)
        else:
            by_licence.setdefault(keys[0], []).append(Example(name, text, licences[keys[0]].category, group=keys[0]))
    examples: list[Example] = []
    for rows in by_licence.values():
        chosen = sorted(rows, key=lambda e: (stable_hash(e.id), e.id))
        examples += chosen[:per_key]
        for example in chosen[per_key:] if per_key else ():
            tally.set_aside(example.id, f"over {per_key} of its licence")
    if not examples:
        raise DataError(f"{data}: has no licence text that can be used.")
    examples.sort(key=lambda e: e.id)
    labels = tuple(label for label in CATEGORIES if any(e.target == label for e in examples))
    summary = f"ScanCode licence rules: {len(examples)} texts of {len(by_licence)} licences in {len(labels)} categories"
    return Table(
        tuple(examples),
        summary,
        descriptions=CATEGORIES,
        words=WORDS,
        parents=PARENTS,
        labels=labels,
        account=tally.close(len(rules), len(examples)),
    )


def _find_folder(path: Path) -> Path:
    for folder in (path / "licensedcode" / "data", path, path / "data"):
        if (folder / "licenses").is_dir() and (folder / "rules").is_dir():
            return folder
    raise DataError(f"{path}: has no licensedcode/data with licenses and rules. Take the wheel scancode-toolkit.")


def _list_files(folder: Path, pattern: str) -> Iterator[tuple[Path, dict[str, str], str]]:
    """Each file, in the order of names: its fields, and its text without the marks of required phrases."""
    for file in sorted(folder.glob(pattern)):
        try:
            content = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: not UTF-8 (byte {error.start}).") from None
        facts, text = _choose_splits(content, file)
        yield file, facts, text.replace("{{", "").replace("}}", "").strip()


def _choose_splits(content: str, file: Path) -> tuple[dict[str, str], str]:
    """The fields between the two lines of `---`, as far as they are plain, and the text after them."""
    if not content.startswith("---\n"):
        raise DataError(f"{file}:1: begins with {content[:20]!r}; ScanCode's files begin with a line '---'.")
    head, end, text = f"{content}\n".partition("\n---\n")
    if not end:
        raise DataError(f"{file}: has no second line '---' after its fields.")
    facts: dict[str, str] = {}
    field = ""
    for number, line in enumerate(head.split("\n")[1:], 2):
        if found := FIELD.match(line):
            field = found[1]
            facts[field] = (found[2] or "").strip()
        elif line.strip() and line[0] not in " \t-#":
            raise DataError(f"{file}:{number}: {line[:40]!r} is not a field. Write a name, ':' and a value.")
        elif field:
            facts[field] = f"{facts[field]} {line.strip()}".strip()
    return {name: value.strip("'\"") for name, value in facts.items()}, text


def _require_fields(facts: Mapping[str, str], field: str, file: Path) -> str:
    if not facts.get(field):
        raise DataError(f"{file}: has no field {field!r}.")
    return facts[field]


def _parse_licence(key: str, facts: Mapping[str, str], file: Path) -> Licence:
    category = _require_fields(facts, "category", file)
    if category not in CATEGORIES:
        raise DataError(
            f"{file}: {category!r} is not a category.{did_you_mean(category, CATEGORIES)} Known are {', '.join(CATEGORIES)}."
        )
    called = (key, *(facts.get(name, "") for name in ("short_name", "name", "spdx_license_key")))
    return Licence(category, _parse_flag(facts, "is_deprecated"), frozenset(_count_letters(name) for name in called if name))


def _parse_keys(expression: str) -> list[str]:
    words = re.findall(r"[\w.+-]+", expression.casefold())
    return list(dict.fromkeys(word for word in words if word not in OPERATORS))


def _parse_flag(facts: Mapping[str, str], field: str) -> bool:
    return facts.get(field, "").casefold() in {"yes", "true", "on"}


def _count_letters(text: str) -> str:
    """Letters and digits only; "the", "license" and "licensed under" say nothing of which licence it is."""
    return re.sub(r"[\W_]+|\b(?:the|licen[cs]ed?|under|terms of)\b", "", text.casefold())


def _find_reason_to_drop(
    facts: Mapping[str, str], licences: list[Licence], text: str, min_words: int, longest: int | None, language: str
) -> str | None:
    """Find why a text is not used for training and evaluation; None if it is used."""
    return _find_reason_in_facts(facts, licences, language) or _find_reason_in_text(text, licences[0], min_words, longest)


def _find_reason_in_facts(facts: Mapping[str, str], licences: list[Licence], language: str) -> str | None:
    if _parse_flag(facts, "is_false_positive") or not licences:
        return "false positive"
    if _parse_flag(facts, "is_deprecated") or any(licence.deprecated for licence in licences):
        return "deprecated"
    if len({licence.category for licence in licences}) > 1:
        return "licences of several categories"
    if len(licences) > 1:
        return "several licences of one category"
    if facts.get("language", language) != language:
        return f"in another language than {language}"
    return None


def _find_reason_in_text(text: str, licence: Licence, min_words: int, longest: int | None) -> str | None:
    if not text:
        return "no text"
    if not ADDRESS.sub("", text).strip(" \n\t.:<>()"):
        return "only an address"
    if _count_letters(text) in licence.names:
        return "only the licence's name"
    words = len(text.split())
    if words < min_words:
        return f"fewer than {min_words} words"
    return f"more than {longest} words" if longest and words > longest else None
