import base64
import json
from pathlib import Path
from typing import Any

import pytest

from vertical_sdk.catalog import readers
from vertical_sdk.data.check import check_file
from vertical_sdk.data.formats import find_reader
from vertical_sdk.data.read import Table
from vertical_sdk.errors import DataError, RecipeError

Resource = dict[str, Any]
FORM = (
    '<div xmlns="http://www.w3.org/1999/xhtml"><p>Chest <b>pain</b></p><table><tr><td>BP</td><td>120/80</td></tr></table></div>'
)
CCDA = """<?xml version="1.0" encoding="utf-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <id root="1.2.3" extension="doc-7"/>
  <effectiveTime value="20260304101500+0100"/>
  <recordTarget><patientRole><id root="1.2" extension="p-9"/></patientRole></recordTarget>
  <component><structuredBody>
    <component><section>
      <code code="10164-2" codeSystem="2.16.840.1.113883.6.1"/><title>History</title>
      <text><paragraph>Coughs since
        <content>Monday</content>.</paragraph><list><item>No fever</item><item>Tired</item></list></text>
    </section></component>
    <component><section>
      <code code="11450-4" codeSystem="2.16.840.1.113883.6.1"/><title>Problems</title>
      <text><paragraph>Asthma</paragraph></text>
      <entry><act classCode="ACT" moodCode="EVN"><entryRelationship typeCode="SUBJ"><observation classCode="OBS" moodCode="EVN">
        <value xsi:type="CD" code="195967001" codeSystem="2.16.840.1.113883.6.96" displayName="Asthma"/>
      </observation></entryRelationship></act></entry>
      <entry><observation classCode="OBS" moodCode="EVN" negationInd="true">
        <value xsi:type="CD" code="38341003" displayName="Hypertension"/>
      </observation></entry>
      MORE
    </section></component>
  </structuredBody></component>
</ClinicalDocument>
"""
SECOND = """<entry><observation><value xsi:type="CD" nullFlavor="OTH">
  <translation code="J45" displayName="Asthma, mild"/></value></observation></entry>"""


def attachment(text: str, kind: str = "text/plain", charset: str = "utf-8") -> Resource:
    return {"contentType": kind, "data": base64.b64encode(text.encode(charset)).decode()}


def note(name: str, text: str | None = None, **more: Any) -> Resource:
    own = {"content": [{"attachment": attachment(text)}]} if text else {}
    return {"resourceType": "DocumentReference", "id": name, "subject": {"reference": "Patient/p1"}, **own, **more}


def condition(name: str, display: str, **more: Any) -> Resource:
    codings = [
        {"system": "http://snomed.info/sct", "code": "1", "display": display},
        {"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "A1", "display": f"{display} by ICD"},
    ]
    return {
        "resourceType": "Condition",
        "id": name,
        "subject": {"reference": "Patient/p1"},
        "code": {"coding": codings},
        **more,
    }


def bundle(path: Path, *resources: Resource) -> Path:
    entries = [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources]
    path.write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}), encoding="utf-8")
    return path


def read(path: Path, task: str = "classification", reader: str = "medical.fhir", **options: Any) -> Table:
    missing = options.pop("missing", "drop")
    table: Table = readers.get(reader)(path, {}, task, missing, **readers.check(reader, options))
    return table


def rows(table: Table) -> list[tuple[str, Any]]:
    return [(example.text, example.target) for example in table.examples]


def test_a_note_has_the_condition_of_its_encounter(tmp_path: Path) -> None:
    path = bundle(
        tmp_path / "a.json",
        note("d1", "Coughs.", context={"encounter": [{"reference": "Encounter/e1"}]}, date="2026-03-04T10:15:00+01:00"),
        note("d2", "Itches.", context={"encounter": [{"reference": "urn:uuid:e2"}]}),
        {"resourceType": "Encounter", "id": "e2"},
        condition("c1", "Asthma", encounter={"reference": "https://ehr.example.org/fhir/Encounter/e1/_history/3"}),
        condition("c2", "Eczema", encounter={"reference": "Encounter/e2"}),
    )

    table = read(path)

    assert rows(table) == [("Coughs.", "Asthma"), ("Itches.", "Eczema")]
    assert (table.examples[0].id, table.examples[0].record_id) == ("DocumentReference/d1", "d1")
    assert (table.examples[0].group, table.examples[0].time) == ("Patient/p1", "2026-03-04T09:15:00")


def test_codes_are_read_from_the_system_that_is_asked_for(tmp_path: Path) -> None:
    path = bundle(tmp_path / "a.json", note("d1", "Coughs."), condition("c1", "Asthma"))

    assert rows(read(path, system="icd-10")) == [("Coughs.", "Asthma by ICD")]
    assert rows(read(path, system="icd-10", name="code")) == [("Coughs.", "A1")]


def test_several_conditions_need_multilabel_and_refuted_ones_do_not_count(tmp_path: Path) -> None:
    refuted = {"verificationStatus": {"coding": [{"code": "refuted"}]}}
    path = bundle(
        tmp_path / "a.json",
        note("d1", "Coughs."),
        note("d2", "Other patient.", subject={"reference": "Patient/p2"}),
        condition("c1", "Asthma"),
        condition("c2", "Eczema"),
        condition("c3", "Gout", **refuted),
    )

    assert rows(read(path, "multilabel")) == [("Coughs.", ("Asthma", "Eczema")), ("Other patient.", ())]
    with pytest.raises(DataError, match="1 several labels \\(condition\\), which need the task multilabel, 1 no label"):
        read(path)


def test_texts_come_from_every_kind_of_note(tmp_path: Path) -> None:
    binary = {"resourceType": "Binary", "id": "b1", "data": attachment("From afar.")["data"]}
    resources = [
        note("d1", content=[{"attachment": attachment(FORM, "text/html")}]),
        note("d2", content=[{"attachment": attachment("Müde", "text/plain; charset=iso-8859-1", "latin-1")}]),
        note("d3", content=[{"attachment": {"contentType": "text/plain", "url": "Binary/b1"}}]),
        {"resourceType": "DiagnosticReport", "id": "r1", "conclusion": "No fracture.", "subject": {"reference": "Patient/p1"}},
        {"resourceType": "Composition", "id": "k1", "section": [{"title": "Plan", "text": {"div": "<div>Rest.</div>"}}]},
        binary,
    ]

    table = read(bundle(tmp_path / "a.json", *resources), missing="keep")

    texts = {example.id: example.text for example in table.examples}
    assert texts == {
        "DocumentReference/d1": "Chest pain\nBP  120/80",
        "DocumentReference/d2": "Müde",
        "DocumentReference/d3": "From afar.",
        "DiagnosticReport/r1": "No fracture.",
        "Composition/k1": "Plan\nRest.",
    }


def test_notes_without_a_readable_text_are_counted_by_reason(tmp_path: Path) -> None:
    pdf = {"contentType": "application/pdf", "data": base64.b64encode(b"%PDF").decode()}
    path = bundle(
        tmp_path / "a.json",
        note("d1", "Coughs."),
        note("d2", content=[{"attachment": pdf}]),
        note("d3", content=[{"attachment": {"contentType": "text/plain", "url": "https://elsewhere.example.org/Binary/9"}}]),
        condition("c1", "Asthma"),
    )

    table = read(path)

    assert table.account is not None
    assert dict(table.account.dropped) == {
        "an attachment of application/pdf, which is not read": 1,
        "an attachment outside the bundle": 1,
    }


def test_a_bulk_export_and_a_folder_read_as_the_bundle_does(tmp_path: Path) -> None:
    resources = [note("d1", "Coughs."), note("d2", "Sneezes."), condition("c1", "Asthma")]
    lines = tmp_path / "export.ndjson"
    lines.write_text("\n".join(map(json.dumps, resources)), encoding="utf-8")
    folder = tmp_path / "folder"
    folder.mkdir()
    for resource in resources:
        (folder / f"{resource['id']}.json").write_text(json.dumps(resource), encoding="utf-8")

    expected = [("Coughs.", "Asthma"), ("Sneezes.", "Asthma")]
    assert rows(read(lines)) == expected
    assert sorted(rows(read(folder))) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient", "id": "1"}}]}', "no notes.*1 Patient"),
        ('{"text": "x"}', "is not FHIR: an object has no resourceType"),
        ('{"resourceType": "Bundle", "entry": [', "not JSON"),
        (
            json.dumps(note("d1", content=[{"attachment": {"data": "***"}}])),
            "DocumentReference/d1: an attachment cannot be decoded",
        ),
        (json.dumps(note("d1", "x", date="yesterday")), "the time 'yesterday'"),
    ],
)
def test_a_file_other_than_fhir_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(DataError, match=message):
        read(path)


def test_a_document_has_the_text_of_its_sections_and_the_problems_of_its_list(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(CCDA, encoding="utf-8")

    table = read(path, reader="medical.ccda")

    assert rows(table) == [("History\nCoughs since Monday.\nNo fever\nTired", "Asthma")]
    example = table.examples[0]
    assert (example.id, example.group, example.time) == ("doc-7", "p-9", "2026-03-04T09:15:00")


def test_several_problems_are_labels_and_sections_can_be_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(CCDA.replace("MORE", SECOND), encoding="utf-8")

    assert rows(read(path, "multilabel", "medical.ccda"))[0][1] == ("Asthma", "Asthma, mild")
    assert rows(read(path, "multilabel", "medical.ccda", name="code"))[0][1] == ("195967001", "J45")
    assert rows(read(path, reader="medical.ccda", label="section")) == [
        ("Coughs since Monday.\nNo fever\nTired", "History"),
        ("Asthma", "Problems"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>', "declares a document type"),
        (CCDA[:500], "broken XML"),
        ("<ClinicalDocument/>", "is not a C-CDA document"),
    ],
)
def test_a_document_other_than_ccda_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(DataError, match=message):
        read(path, reader="medical.ccda")


def test_the_readers_are_recognized_by_the_first_bytes(tmp_path: Path) -> None:
    fhir = bundle(tmp_path / "a.json", note("d1", "Coughs."), note("d2", "Sneezes."), condition("c1", "Asthma"))
    ccda = tmp_path / "a.xml"
    ccda.write_text(CCDA, encoding="utf-8")
    other = tmp_path / "b.json"
    other.write_text('[{"text": "x", "label": "y"}]', encoding="utf-8")

    assert (find_reader(fhir), find_reader(ccda), find_reader(other)) == ("medical.fhir", "medical.ccda", None)
    report = check_file(fhir)
    assert (report["reader"], report["rows"], report["labels"]) == ("medical.fhir", 2, {"Asthma": 2})
    with pytest.raises(DataError, match=r"C-CDA documents need their own reader\. Set data\.reader\.use: medical\.ccda"):
        readers.get("table")(ccda, {}, "classification")


def test_columns_are_refused_as_the_layout_is_fixed(tmp_path: Path) -> None:
    path = bundle(tmp_path / "a.json", note("d1", "Coughs."))

    with pytest.raises(RecipeError, match=r"Leave data\.columns out"):
        readers.get("medical.fhir")(path, {"text": "x"}, "classification")
