"""Readers of clinical documents: notes of FHIR bundles with their coded conditions, and C-CDA documents with their problems.

FHIR: https://hl7.org/fhir (R4 and R5; JSON). C-CDA: https://www.hl7.org/ccdasearch. Nothing is fetched: an attachment that is only an
address is not read, and counted.
"""

from __future__ import annotations

import base64
import binascii
import re
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vertical_sdk.catalog import readers
from vertical_sdk.data.account import Tally
from vertical_sdk.data.nested import parse_json
from vertical_sdk.data.read import Missing, Table
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Example, Target, TaskName

__all__ = ["ccda", "fhir", "parse_xml"]

Resource: TypeAlias = Mapping[str, Any]
NOTES = ("DocumentReference", "DiagnosticReport", "Composition")
BLOCKS = {
    *("p", "div", "br", "li", "tr", "table", "h1", "h2", "h3", "h4", "h5", "h6", "title"),
    *("paragraph", "item", "caption", "list", "footnote"),
}
"""Elements of XHTML and of C-CDA's narrative that begin a line."""
CELLS = {"td", "th"}
HIDDEN = {"script", "style", "head"}
V3 = "{urn:hl7-org:v3}"
TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
PROBLEMS = "11450-4"
"""The LOINC code of the problem list, the section that C-CDA's labels come from."""
NOT_SO = {"entered-in-error", "refuted"}


@dataclass(frozen=True)
class Note:
    """A note: its text, or why it has none, and where its labels are looked for."""

    key: str
    text: str
    problem: str
    patient: str | None
    encounters: frozenset[str]
    time: str | None


def _is_fhir(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in {b"{", b"["} and re.search(rb'"resourceType"\s*:', head) is not None


def _is_ccda(head: bytes) -> bool:
    return b"ClinicalDocument" in head and b"urn:hl7-org:v3" in head


@readers.register("medical.fhir", tasks=("classification", "multilabel"), title="FHIR bundles", recognizes=_is_fhir)
def fhir(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    *,
    label: Literal["condition", "type", "category"] = "condition",
    name: Literal["display", "code"] = "display",
    system: str | None = None,
) -> Table:
    """The notes of FHIR bundles (JSON), each with the coded conditions of its encounter, or its type.

    path     a bundle, a file with one resource on each line (bulk export), or a folder of such files
    missing  what to do with a note without text or label: "drop" it, "refuse" the file, or "keep" the note
    label    condition: those of the note's encounter, or of its patient if no encounter is named; type or category: of the note
    name     what a label is called: the display text of its coding, or its code
    system   read only codings whose system contains this, such as icd-10 or snomed; None reads the first coding

    Notes are DocumentReference and DiagnosticReport (their attachments in base64, of plain text or HTML, or the conclusion) and
    Composition (the text of its sections). The group is the patient. A note with several conditions needs the task multilabel.
    Raises DataError for a file that is not FHIR or has no notes.
    """
    _refuse_columns("medical.fhir", columns, task)
    resources: dict[str, Resource] = {}
    aliases: dict[str, str] = {}
    for file in _list_files(path, (".json", ".ndjson", ".jsonl")):
        for address, resource in _read_resources(file):
            key = f"{resource.get('resourceType')}/{resource.get('id') or address or len(resources)}"
            resources[key] = resource
            if address:
                aliases[address] = key
    point = _reference_reader(aliases)
    notes = [
        _read_note(key, resource, resources, point) for key, resource in resources.items() if key.partition("/")[0] in NOTES
    ]
    if not notes:
        counts = Counter(key.partition("/")[0] for key in resources).most_common(5)
        known = ", ".join(f"{count} {kind}" for kind, count in counts) or "nothing"
        raise DataError(f"no notes: no {', '.join(NOTES)}. The file contains {known}.", where=path)
    find = _condition_finder(resources, point, name, system)
    tally = Tally("read")
    examples = []
    for note in notes:
        labels = find(note) if label == "condition" else _note_labels(resources[note.key], label, name, system)
        target, problem = _choose_target(labels, task, label)
        if _keeps(note.key, note.problem or problem, missing, tally, path):
            text = note.text if not note.problem else ""
            examples.append(
                Example(note.key, text, target, group=note.patient, time=note.time, record_id=note.key.split("/", 1)[1])
            )
    if not examples:
        raise DataError(f"none of the {len(notes)} notes can be used: {_describe(tally, len(notes))}.", where=path)
    what = {"condition": "conditions", "type": "types of notes", "category": "categories of notes"}[label]
    return Table(tuple(examples), f"FHIR, {len(notes)} notes, labels: {what}", account=tally.close(len(notes), len(examples)))


@readers.register("medical.ccda", tasks=("classification", "multilabel"), title="C-CDA documents", recognizes=_is_ccda)
def ccda(
    path: Path,
    columns: Mapping[str, str],
    task: TaskName,
    missing: Missing = "drop",
    *,
    label: Literal["problem", "section"] = "problem",
    name: Literal["display", "code"] = "display",
    sections: list[str] | None = None,
) -> Table:
    """The text of C-CDA documents (XML), each with its coded problems; or their sections, each with its title.

    path      a document, or a folder of documents
    missing   what to do with a row without text or label: "drop" it, "refuse" the file, or "keep" the row
    label     problem: a row is a document without its problem list, its labels are the problems of that list. section: a row is a
              section, its label is the section's title
    name      what a label is called: the display text of its coding, or its code
    sections  read only these sections, by LOINC code or title

    The group is the patient. A document with several problems needs the task multilabel. Raises DataError for XML that is broken,
    declares a document type or entities, or is not C-CDA.
    """
    _refuse_columns("medical.ccda", columns, task)
    tally = Tally("read")
    examples: list[Example] = []
    count = 0
    for file in _list_files(path, (".xml", ".ccda", ".cda")):
        root = parse_xml(file)
        if root.tag != f"{V3}ClinicalDocument":
            raise DataError("is not a C-CDA document: its root is not ClinicalDocument of urn:hl7-org:v3.", where=file)
        for key, text, labels in _read_document(root, file, label, name, sections):
            count += 1
            target, problem = _choose_target(labels, task, label)
            if _keeps(key, problem if text else "no text", missing, tally, file):
                examples.append(
                    Example(
                        key, text, target, group=_patient_of(root), time=_document_time(root), record_id=key.partition("~")[0]
                    )
                )
    if not examples:
        raise DataError(f"none of the {count} rows can be used: {_describe(tally, count)}.", where=path)
    what = "documents, labels: problems" if label == "problem" else "sections, labels: their titles"
    return Table(tuple(examples), f"C-CDA, {count} {what}", account=tally.close(count, len(examples)))


def parse_xml(file: Path) -> ET.Element:
    """Parse a document. A document that declares entities, which could fill the memory or read files, is refused before.

    Raises DataError.
    """
    content = file.read_bytes()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content[:100]:
        raise DataError("declares a document type, or is not UTF-8; such XML is not read.", where=file)
    try:
        return ET.fromstring(content)  # noqa: S314  (no document type, so no entities)
    except (ET.ParseError, LookupError, ValueError) as error:
        raise DataError(f"broken XML: {error}. Export the file again.", where=file) from None


def _refuse_columns(reader: str, columns: Mapping[str, str], task: TaskName) -> None:
    if columns:
        raise RecipeError(f"{reader} reads a fixed layout. Leave data.columns out.")
    readers.require(reader, task, "data.reader")


def _list_files(path: Path, endings: tuple[str, ...]) -> list[Path]:
    if not path.is_dir():
        if not path.is_file():
            raise DataError("no such file.", where=path)
        return [path]
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in endings and p.name[0] != ".")
    if not files:
        raise DataError(f"no file that ends in {', '.join(endings)}.", where=path)
    return files


def _describe(tally: Tally, rows_in: int) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in tally.close(rows_in, 0).dropped.items())


def _keeps(key: str, problem: str, missing: Missing, tally: Tally, path: Path) -> bool:
    """Whether a row is used; one that is not is counted, or refused."""
    if problem and missing == "refuse":
        raise DataError(f"{key}: {problem}. Every row needs both text and label here.", where=path)
    if problem and missing == "drop":
        tally.drop(key, problem)
        return False
    return True


def _choose_target(labels: list[str], task: TaskName, label: str) -> tuple[Target, str]:
    """Choose the target of a row, and say why it has none."""
    if not get_task(task).single_label:
        return tuple(labels), ""
    if len(labels) == 1:
        return labels[0], ""
    return None, f"several labels ({label}), which need the task multilabel" if labels else f"no label ({label})"


def _read_resources(file: Path) -> Iterator[tuple[str, Resource]]:
    """Yield the resources of a file, each with its full address, or "" if it has none."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"the byte at offset {error.start} is not UTF-8, which FHIR requires.", where=file) from None
    try:
        documents = [parse_json(text, str(file))]
    except DataError:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        documents = [parse_json(line, f"{file}:{number}") for number, line in lines]
    for document in documents:
        for item in document if isinstance(document, list) else [document]:
            if not isinstance(item, Mapping) or not isinstance(item.get("resourceType"), str):
                raise DataError("is not FHIR: an object has no resourceType.", where=file)
            if item["resourceType"] != "Bundle":
                yield "", item
                continue
            for entry in item.get("entry") or ():
                resource = entry.get("resource") if isinstance(entry, Mapping) else None
                if isinstance(resource, Mapping) and isinstance(resource.get("resourceType"), str):
                    yield str(entry.get("fullUrl") or ""), resource


def _reference_reader(aliases: Mapping[str, str]) -> Callable[[Any], str | None]:
    """Return a function from a reference to "Type/id", whether the reference is relative, absolute or a URN."""

    def point(reference: Any) -> str | None:
        value = reference.get("reference") if isinstance(reference, Mapping) else None
        if not isinstance(value, str) or not value:
            return None
        if value in aliases:
            return aliases[value]
        parts = value.split("/_history/", 1)[0].split("/")
        return "/".join(parts[-2:])

    return point


def _read_note(key: str, resource: Resource, resources: Mapping[str, Resource], point: Callable[[Any], str | None]) -> Note:
    kind = key.partition("/")[0]
    context = resource.get("context")
    encounters = [
        *_as_list(resource.get("encounter")),
        *_as_list(context.get("encounter") if isinstance(context, Mapping) else context),
    ]
    text, problem = _read_text(kind, resource, resources, point)
    moment = resource.get("date") or resource.get("effectiveDateTime") or resource.get("issued")
    return Note(
        key,
        text,
        problem,
        point(resource.get("subject")),
        frozenset(found for found in map(point, encounters) if found),
        _parse_moment(moment, key) if moment else None,
    )


def _read_text(
    kind: str, resource: Resource, resources: Mapping[str, Resource], point: Callable[[Any], str | None]
) -> tuple[str, str]:
    """Read the text of a note, or say why it has none."""
    if kind == "Composition":
        parts = list(_section_texts(resource.get("section")))
        return ("\n\n".join(parts), "") if parts else ("", "no text")
    attachments = [
        *(content.get("attachment") for content in _as_list(resource.get("content")) if isinstance(content, Mapping)),
        *_as_list(resource.get("presentedForm")),
    ]
    attachments = [attachment for attachment in attachments if isinstance(attachment, Mapping)]
    attachments.sort(key=lambda a: "html" in str(a.get("contentType")))  # a note may come in two forms: plain text first
    problem = "no text"
    for attachment in attachments:
        kind_of, data = str(attachment.get("contentType") or "text/plain").lower(), attachment.get("data")
        binary = resources.get(point({"reference": attachment.get("url")}) or "") if not data else None
        data = data or (binary or {}).get("data")
        if not kind_of.startswith(("text/plain", "text/html", "application/xhtml", "text/markdown")):
            problem = f"an attachment of {kind_of.split(';')[0]}, which is not read"
        elif not data:
            problem = "an attachment outside the bundle" if attachment.get("url") else problem
        elif text := _decode(data, kind_of, f"{resource.get('resourceType')}/{resource.get('id')}"):
            return text, ""
    spoken = resource.get("conclusion")
    if isinstance(spoken, str) and spoken.strip():
        return spoken.strip(), ""
    narrative = resource.get("text")
    if not attachments and isinstance(narrative, Mapping) and (text := _plain(str(narrative.get("div") or ""))):
        return text, ""
    return "", problem


def _section_texts(sections: Any) -> Iterator[str]:
    for section in _as_list(sections):
        if isinstance(section, Mapping):
            narrative = section.get("text")
            text = _plain(str(narrative.get("div") or "")) if isinstance(narrative, Mapping) else ""
            if text:
                yield f"{section['title']}\n{text}" if section.get("title") else text
            yield from _section_texts(section.get("section"))


def _decode(data: Any, kind: str, where: str) -> str:
    """Decode an attachment: base64, in the character set that its type names."""
    charset = re.search(r"charset=\"?([\w-]+)", kind)
    try:
        content = base64.b64decode("".join(str(data).split()), validate=True)
        text = content.decode(charset[1] if charset else "utf-8-sig")
    except (binascii.Error, UnicodeDecodeError, LookupError, ValueError) as error:
        raise DataError(f"an attachment cannot be decoded: {error}. Export the bundle again.", where=where) from None
    return _plain(text) if "html" in kind else text.strip()


def _condition_finder(
    resources: Mapping[str, Resource], point: Callable[[Any], str | None], name: str, system: str | None
) -> Callable[[Note], list[str]]:
    """Return a function from a note to the conditions of its encounter, or of its patient if no encounter is named."""
    by_encounter: dict[str, list[str]] = defaultdict(list)
    by_patient: dict[str, list[str]] = defaultdict(list)
    for key, resource in resources.items():
        status = {coding.get("code") for coding in _codings(resource.get("verificationStatus"))}
        if not key.startswith("Condition/") or status & NOT_SO:
            continue
        label = _name_code(resource.get("code"), name, system)
        patient, encounter = point(resource.get("subject")), point(resource.get("encounter"))
        if label and encounter:
            by_encounter[encounter].append(label)
        if label and patient:
            by_patient[patient].append(label)

    def find(note: Note) -> list[str]:
        if note.encounters and by_encounter:
            found = [label for encounter in sorted(note.encounters) for label in by_encounter.get(encounter, ())]
        else:
            found = by_patient.get(note.patient or "", [])
        return list(dict.fromkeys(found))

    return find


def _note_labels(resource: Resource, label: str, name: str, system: str | None) -> list[str]:
    concepts = [resource.get("type") or resource.get("code")] if label == "type" else _as_list(resource.get("category"))
    return list(dict.fromkeys(found for concept in concepts if (found := _name_code(concept, name, system))))


def _codings(concept: Any) -> list[Mapping[str, Any]]:
    codings = concept.get("coding") if isinstance(concept, Mapping) else None
    return [coding for coding in _as_list(codings) if isinstance(coding, Mapping)]


def _name_code(concept: Any, name: str, system: str | None) -> str | None:
    """Return the label of a coded concept; None if it has no coding of the system."""
    codings = [c for c in _codings(concept) if not system or system.lower() in str(c.get("system", "")).lower()]
    first: Mapping[str, Any] = codings[0] if codings else {}
    spoken = concept.get("text") if isinstance(concept, Mapping) and not system else None
    label = first.get("code") if name == "code" else first.get("display") or spoken or first.get("code")
    return " ".join(str(label).split()) or None if label is not None else None


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _parse_moment(value: Any, where: str) -> str | None:
    """Read a FHIR date or instant as text that sorts: a date as it is, an instant in UTC."""
    text = str(value)
    if re.fullmatch(r"\d{4}(-\d\d){0,2}", text):
        return text
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise DataError(f"the time {text!r} is not one of FHIR.", where=where) from None
    return (moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment).isoformat()


class _TextOf(HTMLParser):
    """Collects the text of XHTML or of a narrative block: a line for each block, cells with two spaces between them."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a line or a cell."""
        del attrs
        local = tag.rpartition(":")[2]
        self._hidden += local in HIDDEN
        self.parts.append("\n" if local in BLOCKS else "  " if local in CELLS else "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a line after <br/>."""
        del attrs
        self.parts.append("\n" if tag.rpartition(":")[2] in BLOCKS else "")

    def handle_endtag(self, tag: str) -> None:
        """End a line."""
        local = tag.rpartition(":")[2]
        self._hidden = max(0, self._hidden - (local in HIDDEN))
        self.parts.append("\n" if local in BLOCKS else "")

    def handle_data(self, data: str) -> None:
        """Collect a text; line ends inside it mean nothing."""
        if not self._hidden:
            self.parts.append(re.sub(r"\s+", " ", data))


def _plain(markup: str) -> str:
    """Return the text of markup, without empty lines."""
    reader = _TextOf()
    reader.feed(markup)
    reader.close()
    lines = (line.strip() for line in "".join(reader.parts).split("\n"))
    return "\n".join(line for line in lines if line)


def _read_document(
    root: ET.Element, file: Path, label: str, name: str, sections: list[str] | None
) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the rows of a document: key, text, labels."""
    identity = root.find(f"{V3}id")
    own = identity.get("extension") or identity.get("root") if identity is not None else None
    key = own or file.stem
    wanted = {item.casefold() for item in sections or ()}
    texts: list[str] = []
    labels: list[str] = []
    for number, section in enumerate(root.iter(f"{V3}section"), 1):
        code = section.find(f"{V3}code")
        loinc = code.get("code", "") if code is not None else ""
        heading = section.find(f"{V3}title")
        title = " ".join("".join(heading.itertext()).split()) if heading is not None else ""
        title = title or (code.get("displayName", "") if code is not None else "")
        if label == "problem" and loinc == PROBLEMS:
            labels += _list_problems(section, name)
            continue
        if wanted and not wanted & {loinc.casefold(), title.casefold()}:
            continue
        narrative = section.find(f"{V3}text")
        text = _plain(ET.tostring(narrative, encoding="unicode")) if narrative is not None else ""
        if label == "section":
            yield f"{key}~{number}", text, [loinc if name == "code" else title] if title or loinc else []
        elif text:
            texts.append(f"{title}\n{text}" if title else text)
    if label == "problem":
        yield key, "\n\n".join(texts), list(dict.fromkeys(labels))


def _list_problems(section: ET.Element, name: str) -> Iterable[str]:
    """List the coded problems of a section: values of observations that are not negated."""
    for observation in section.iter(f"{V3}observation"):
        value = observation.find(f"{V3}value")
        if (
            value is None
            or observation.get("negationInd") == "true"
            or value.get(TYPE, "CD").rpartition(":")[2] not in {"CD", "CE"}
        ):
            continue
        coded = value if value.get("code") else value.find(f"{V3}translation")
        if coded is not None and coded.get("code"):
            yield " ".join(str(coded.get("code") if name == "code" else coded.get("displayName") or coded.get("code")).split())


def _patient_of(root: ET.Element) -> str | None:
    identity = root.find(f"{V3}recordTarget/{V3}patientRole/{V3}id")
    return None if identity is None else identity.get("extension") or identity.get("root")


def _document_time(root: ET.Element) -> str | None:
    """Read the document's time (20260304101500+0100) as text that sorts, in UTC if it has a zone."""
    element = root.find(f"{V3}effectiveTime")
    match = re.fullmatch(r"(\d{8})(\d{2,6})?(?:\.\d+)?([+-]\d{4})?", element.get("value", "") if element is not None else "")
    if not match:
        return None
    day, clock, zone = match[1], (match[2] or "").ljust(6, "0"), match[3]
    if not match[2]:
        return f"{day[:4]}-{day[4:6]}-{day[6:]}"
    moment = datetime.strptime(f"{day}{clock}{zone or '+0000'}", "%Y%m%d%H%M%S%z")
    return moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat()
