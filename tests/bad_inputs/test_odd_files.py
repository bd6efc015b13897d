# ruff: noqa: E501  (a file and what becomes of it is one line of a table)
"""Odd files: each is read as its writer meant it, or refused with one clear error, by the reader and by `vertical data check`."""

from __future__ import annotations

import codecs
import datetime
import gzip
import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_inputs.refusal import Refused, refused, run_json
from conftest import topic_recipe, topic_rows, write_workbook

from vertical_sdk.catalog import readers
from vertical_sdk.cli import main
from vertical_sdk.data.read import Table
from vertical_sdk.errors import DataError

__all__ = ["refused"]

ROWS = [("red itch on skin", "skin"), ("cough and fever", "lung"), ("slow pulse", "heart"), ("dry skin", "skin")]
TEXTS = [text for text, _ in ROWS]
COUNTS = {"skin": 2, "lung": 1, "heart": 1}
CHINESE = [
    ("这个产品质量很好，物流也很快，下次还会再来购买", "好评"),
    ("收到货以后发现包装破损，客服一直没有回复我的问题", "差评"),
    ("颜色和图片上的一样，穿起来非常舒服，推荐大家购买", "好评"),
    ("用了两天就坏了，要求退款，商家的态度也非常不好", "差评"),
]
TAIWANESE = [
    ("這個產品的品質很好，寄送的速度也很快，下次還會再來購買", "好評"),
    ("收到貨以後發現包裝破損，客服一直沒有回覆我的問題", "負評"),
    ("顏色和圖片上面的一樣，穿起來非常舒服，推薦大家購買", "好評"),
]
FRENCH = [
    ("Très bon produit, livré à l'heure et bien protégé", "content"),
    ("La qualité n'est pas à la hauteur, je suis très déçu", "déçu"),
    ("Le service après-vente a réglé le problème, ça marche", "content"),
    ("Où est passé mon colis ? Personne ne répond à mes messages", "déçu"),
]
RUSSIAN = [
    ("Очень хороший товар, доставили вовремя", "хорошо"),
    ("Качество плохое, деньги до сих пор не вернули", "плохо"),
    ("Спасибо, всё подошло, буду заказывать ещё", "хорошо"),
]
JAPANESE = [
    ("とても良い商品です。配送も早かったです。", "良い"),
    ("品質が悪いので返金してください。", "悪い"),
    ("また注文したいと思います。ありがとうございます。", "良い"),
]
KOREAN = [
    ("아주 좋은 제품이고 배송이 빨랐습니다", "좋음"),
    ("품질이 나빠서 환불을 원합니다", "나쁨"),
    ("다음에도 여기에서 주문하겠습니다 감사합니다", "좋음"),
]


def lines(rows: list[tuple[str, str]] = ROWS, delimiter: str = ",", end: str = "\n", header: str | None = None) -> str:
    head = delimiter.join(("text", "label")) if header is None else header
    quoted = [f'"{text}"' if delimiter in text else text for text, _ in rows]
    body = [f"{text}{delimiter}{label}" for text, (_, label) in zip(quoted, rows, strict=True)]
    return end.join([*([head] if head else []), *body]) + end


def sheets(**tables: list[list[Any]]) -> bytes:
    target = io.BytesIO()
    write_workbook(target, tables)
    return target.getvalue()


def sheet(*above: list[Any], rows: list[tuple[str, str]] = ROWS) -> list[list[Any]]:
    return [*above, ["text", "label"], *map(list, rows)]


def archive(**members: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/"), content)
    return target.getvalue()


def parquet(table: pa.Table) -> bytes:
    target = io.BytesIO()
    pq.write_table(table, target)
    return target.getvalue()


def objects(rows: list[tuple[str, str]] = ROWS) -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in rows]


def nested(rows: list[tuple[str, str]] = ROWS) -> list[dict[str, Any]]:
    return [{"doc": {"text": text}, "meta": {"label": label}} for text, label in rows]


CONTRACTS = {
    "version": 1,
    "contracts": [
        {"id": "c1", "clauses": [{"text": text, "label": label} for text, label in ROWS[:2]]},
        {"id": "c2", "clauses": [{"text": text, "label": label} for text, label in ROWS[2:]]},
    ],
}
NESTED = {"text": "doc.text", "label": "meta.label"}
FIRST_TWO = {"text": "column_1", "label": "column_2"}
Odd = tuple[str, str, "str | bytes", dict[str, str], dict[str, Any]]
READ: list[tuple[str, str, str | bytes, dict[str, str], dict[str, Any], list[tuple[str, str]]]] = [
    # name of the case, name of the file, content, columns, options of the reader, rows
    ("plain", "a.csv", lines(), {}, {}, ROWS),
    ("bom", "a.csv", codecs.BOM_UTF8 + lines().encode(), {}, {}, ROWS),
    ("crlf", "a.csv", lines(end="\r\n"), {}, {}, ROWS),
    ("cr alone", "a.csv", lines(end="\r"), {}, {}, ROWS),
    ("no line end at the end", "a.csv", lines().rstrip("\n"), {}, {}, ROWS),
    ("empty lines", "a.csv", "\n\n" + lines().replace("\n", "\n\n"), {}, {}, ROWS),
    ("semicolon", "a.csv", lines(delimiter=";"), {}, {}, ROWS),
    ("bar", "a.csv", lines(delimiter="|"), {}, {}, ROWS),
    ("tab in a csv", "a.csv", lines(delimiter="\t"), {}, {}, ROWS),
    ("comma in a tsv", "a.tsv", lines(), {}, {}, ROWS),
    ("a text file", "a.txt", lines(delimiter="|"), {}, {}, ROWS),
    ("delimiter declared", "a.csv", lines(delimiter="#"), {}, {"delimiter": "#"}, ROWS),
    ("excel names the delimiter", "a.csv", "sep=;\n" + lines(delimiter=";"), {}, {}, ROWS),
    ("comma inside a quoted name", "a.csv", lines(delimiter=";", header='"text, full";label'), {"text": "text, full"}, {}, ROWS),
    ("spaces before quotes", "a.csv", 'text, label\n"red itch", "skin"\n"dry, old", "lung"\n', {}, {}, [("red itch", "skin"), ("dry, old", "lung")]),
    ("quotes inside a field", "a.csv", 'text,label\n"she said ""no""",skin\n', {}, {}, [('she said "no"', "skin")]),
    ("a space and a quote in a text", "a.csv", 'text;label\n "Hi" she said;skin\n', {}, {}, [(' "Hi" she said', "skin")]),
    ("lines inside a field", "a.csv", 'text,label\n"one\ntwo",skin\n', {}, {}, [("one\ntwo", "skin")]),
    ("commas after the last column", "a.csv", "text,label,,\n" + "".join(f"{t},{la},,\n" for t, la in ROWS), {}, {}, ROWS),
    ("no header", "a.csv", lines(header=""), FIRST_TWO, {"header": "none"}, ROWS),
    ("header below a title", "a.csv", "Report of 2024\n\n" + lines(), {}, {"header": 3}, ROWS),
    ("utf-16 with a mark", "a.csv", lines(CHINESE).encode("utf-16"), {}, {}, CHINESE),
    ("utf-16 declared", "a.csv", lines(CHINESE).encode("utf-16-le"), {}, {"encoding": "utf-16-le"}, CHINESE),
    ("gb18030", "a.csv", lines(CHINESE).encode("gb18030"), {}, {}, CHINESE),
    ("gbk declared", "a.csv", lines(CHINESE[:1]).encode("gbk"), {}, {"encoding": "gbk"}, CHINESE[:1]),
    ("big5", "a.csv", lines(TAIWANESE).encode("big5"), {}, {}, TAIWANESE),
    ("latin-1", "a.csv", lines(FRENCH).encode("latin-1"), {}, {}, FRENCH),
    ("latin-1 declared", "a.csv", "text,label\ncaf\xe9,skin\n".encode("latin-1"), {}, {"encoding": "latin-1"}, [("café", "skin")]),
    ("windows-1251", "a.csv", lines(RUSSIAN).encode("cp1251"), {}, {}, RUSSIAN),
    ("shift jis", "a.csv", lines(JAPANESE).encode("shift_jis"), {}, {}, JAPANESE),
    ("euc-jp", "a.csv", lines(JAPANESE).encode("euc_jp"), {}, {}, JAPANESE),
    ("euc-kr", "a.csv", lines(KOREAN).encode("euc_kr"), {}, {}, KOREAN),
    ("gb18030 in json lines", "a.jsonl", "\n".join(json.dumps(o, ensure_ascii=False) for o in objects(CHINESE)).encode("gb18030"), {}, {}, CHINESE),
    ("a declared encoding and a mark", "a.csv", codecs.BOM_UTF8 + lines(CHINESE).encode(), {}, {"encoding": "gb18030"}, CHINESE),
    ("chinese names", "a.csv", lines(CHINESE, header="文本,标签"), {}, {}, CHINESE),
    ("german names", "a.csv", lines(header="Text,Klasse"), {}, {}, ROWS),
    ("spanish names", "a.csv", lines(header="Texto,Etiqueta"), {}, {}, ROWS),
    ("excel", "a.xlsx", sheets(Data=sheet()), {}, {}, ROWS),
    ("excel with an empty sheet", "a.xlsx", sheets(Empty=[], Data=sheet()), {}, {}, ROWS),
    ("excel sheet named", "a.xlsx", sheets(Old=[["x"]], Data=sheet()), {}, {"sheet": "Data"}, ROWS),
    ("excel header below a title", "a.xlsx", sheets(Data=sheet(["Report"], [])), {}, {"header": 3}, ROWS),
    ("excel without a header", "a.xlsx", sheets(Data=[list(row) for row in ROWS]), FIRST_TWO, {"header": "none"}, ROWS),
    ("excel from column C on", "a.xlsx", sheets(Data=[[None, None, *row] for row in sheet()]), {}, {}, ROWS),
    ("excel with whole numbers as labels", "a.xlsx", sheets(Data=[["text", "label"], ["a b", 1], ["c d", 2.0]]), {}, {}, [("a b", "1"), ("c d", "2")]),
    ("excel with a misleading name", "a.csv", sheets(Data=sheet()), {}, {}, ROWS),
    ("excel days are dates", "a.xlsx", sheets(Data=[["day", "text"], [datetime.datetime(2024, 3, 1), "x y"]]), {"text": "text", "label": "day"}, {}, [("x y", "2024-03-01")]),
    ("json", "a.json", json.dumps(objects()), {}, {}, ROWS),
    ("json with one list", "a.json", json.dumps({"version": 3, "names": ["x"], "data": objects()}), {}, {}, ROWS),
    ("json with several lists", "a.json", json.dumps({"old": objects(ROWS[:1]), "new": objects()}), {}, {"rows": "new"}, ROWS),
    ("json rows deep down", "a.json", json.dumps(CONTRACTS), {}, {"rows": "contracts.clauses"}, ROWS),
    ("json of nested objects", "a.json", json.dumps(nested()), NESTED, {}, ROWS),
    ("json lines of nested objects", "a.jsonl", "\n".join(map(json.dumps, nested())), NESTED, {}, ROWS),
    ("json lines with a mark", "a.jsonl", codecs.BOM_UTF8 + "\n".join(map(json.dumps, objects())).encode(), {}, {}, ROWS),
    ("a list of parties", "a.json", json.dumps([{"contract": {"parties": [{"name": "A B"}, {"name": "C D"}]}, "label": "x"}]), {"text": "contract.parties.1.name"}, {}, [("C D", "x")]),
    ("parquet of nested objects", "a.parquet", parquet(pa.Table.from_pylist(nested())), NESTED, {}, ROWS),
]  # fmt: skip
REFUSED: list[tuple[str, str, str | bytes, dict[str, Any], str]] = [
    # name of the case, name of the file, content, options of the reader, words of the message
    ("title", "a.csv", "Report of 2024\n\nid,text,label\n1,x y,skin\n2,z,lung\n", {}, r"a\.csv:1: this line has 1 field.*lines from 3 on have 3.*header: 3"),
    ("title of one filled cell", "a.csv", "Report,,\n,,\nid,text,label\n1,x y,skin\n", {}, r"a\.csv:1: .*header: 3"),
    ("numbers without a header", "a.csv", "3,5,4\n4,4,6\n5,3,3\n", {}, r"a\.csv:1: this line has only numbers.*header: none"),
    ("fractions without a header", "a.csv", "0.5,0.25\n0.75,0.5\n", {}, r"a\.csv:1: this line has only numbers.*header: none"),
    ("header beyond the end", "a.csv", lines(), {"header": 30}, "no header on line 30"),
    ("no header and another width", "a.csv", "a,b\nc,d,e\n", {"header": "none"}, r"a\.csv:2: 3 fields, but the first line has 2"),
    ("quote not closed", "a.csv", 'text,label\n"x,skin\n', {}, "A quote inside a quoted field is written twice"),
    ("quote not written twice", "a.csv", 'text,label\n"a "b" c",skin\n', {}, "A quote inside a quoted field is written twice"),
    ("cr among lf", "a.csv", "text,label\nx y,skin\rz,lung\n", {}, "a line ends with CR alone"),
    ("name twice", "a.csv", "text,label,label\nx,skin,lung\n", {}, "names 'label' twice"),
    ("one letter of latin-1", "a.csv", "text,label\ncaf\xe9,skin\n".encode("latin-1"), {}, r"a\.csv:2: byte 0xe9 at offset 14 .*data\.reader\.encoding"),
    ("damaged utf-8", "a.csv", lines(CHINESE).encode()[:-8] + b"\xff\n", {}, r"a\.csv:5: .*cannot be recognized for certain"),
    ("wrong encoding declared", "a.csv", lines(CHINESE).encode(), {"encoding": "ascii"}, r"a\.csv:2: byte 0xe8 .*the declared encoding"),
    ("unknown encoding", "a.csv", lines(), {"encoding": "gb18031"}, "no encoding is called 'gb18031'. Did you mean 'gb18030'"),
    ("an encoding of bytes", "a.csv", lines(), {"encoding": "base64"}, "no encoding is called 'base64'"),
    ("utf-16 without a mark", "a.csv", lines().encode("utf-16-le"), {}, "encoding: utf-16-le"),
    ("several sheets", "a.xlsx", sheets(Old=sheet(), New=sheet()), {}, "several sheets: 'Old', 'New'. Set data.reader.sheet"),
    ("no such sheet", "a.xlsx", sheets(Data=sheet()), {"sheet": "data"}, "no sheet is called 'data'. Did you mean 'Data'"),
    ("empty workbook", "a.xlsx", sheets(Data=[]), {}, "no sheet has any cells"),
    ("only a header in a sheet", "a.xlsx", sheets(Data=sheet(rows=[])), {}, "no rows below its header"),
    ("title in a sheet", "a.xlsx", sheets(Data=sheet(["Report of 2024", None, None], [])), {}, "header: 3"),
    ("cut workbook", "a.xlsx", sheets(Data=sheet())[:900], {}, "broken zip archive or Excel file"),
    ("text called xlsx", "a.xlsx", lines(), {}, "the name says Excel, but the first bytes do not"),
    ("old excel", "a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), {}, r"old Excel file \(\.xls\).*Save it as \.xlsx"),
    ("opendocument", "a.ods", archive(mimetype="application/vnd.oasis.opendocument.spreadsheet", content__xml="").replace(b"content/xml", b"content.xml"), {}, r"OpenDocument file \(\.ods\)"),
    ("word", "a.docx", archive(**{"word__document.xml": ""}), {}, "a Word document"),
    ("zip", "a.zip", archive(**{"a.csv": lines()}), {}, "a zip archive. Unpack it"),
    ("gzip", "a.csv", gzip.compress(lines().encode()), {}, "compressed with gzip"),
    ("pdf", "a.csv", b"%PDF-1.7\n", {}, "a PDF"),
    ("html called csv", "a.csv", "<html><body><table><tr><td>x</td></tr></table></body></html>", {}, "the file is HTML"),
    ("xml", "a.xml", "<?xml version='1.0'?><rows><row/></rows>", {}, "the file is XML"),
    ("hl7", "a.hl7", "MSH|^~\\&|LAB|A|B|C|20240101||ORU^R01|1|P|2.5\rPID|1||7\r", {}, "HL7 version 2 messages, which are not read"),
    ("key twice", "a.jsonl", '{"text": "x", "label": "a"}\n{"text": "x", "text": "y", "label": "b"}\n', {}, r"a\.jsonl:2: an object has the key 'text' twice"),
    ("column twice in parquet", "a.parquet", parquet(pa.table([["x"], ["a"], ["b"]], names=["text", "label", "label"])), {}, "has the column 'label' twice"),
    ("several lists", "a.json", json.dumps({"old": objects(), "new": objects()}), {}, "the lists 'old', 'new' could all be the rows. Set data.reader.rows"),
    ("wrong place of the rows", "a.json", json.dumps(CONTRACTS), {"rows": "contracts.clause"}, "no rows at 'contracts.clause'. Did you mean 'contracts.clauses'"),
    ("rows inside a result", "a.json", json.dumps({"result": {"items": objects()}}), {}, "seem to be in 'result.items'"),
    ("column by column", "a.json", json.dumps({"text": {"0": "x", "1": "y"}, "label": {"0": "a", "1": "b"}}), {}, "column by column.*orient='records'"),
    ("two values for a name", "a.jsonl", '{"a": {"b": 1}, "a.b": 2, "text": "x", "label": "y"}\n', {}, "two values for the column 'a.b'"),
    ("a list of objects as text", "a.json", json.dumps([{"text": ["x", "y"], "label": "a"}]), {}, "column 'text' contains a list"),
]  # fmt: skip


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, columns: dict[str, str] | None = None, **options: Any) -> Table:
    table: Table = readers.get("table")(path, columns or {}, "classification", **readers.check("table", options))
    return table


def as_options(columns: dict[str, str], options: dict[str, Any]) -> list[str]:
    """The options of the command line for the columns and the options of a reader."""
    return [word for key, value in {**columns, **options}.items() for word in (f"--{key}", str(value))]


@pytest.fixture(autouse=True)
def _no_search_for_personal_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests are about personal data, and looking for it takes most of a check's time."""
    monkeypatch.setattr("vertical_sdk.data.check.find_pii", lambda texts: {})


def test_the_table_has_enough_files() -> None:
    names = [case[0] for case in READ] + [case[0] for case in REFUSED]

    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize(("name", "content", "columns", "options", "rows"), [c[1:] for c in READ], ids=[c[0] for c in READ])
def test_an_odd_file_is_read_as_its_writer_meant_it(
    tmp_path: Path,
    name: str,
    content: str | bytes,
    columns: dict[str, str],
    options: dict[str, Any],
    rows: list[tuple[str, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write(tmp_path, name, content)

    table = read(path, columns, **options)

    assert [(example.text, example.target) for example in table.examples] == rows
    report = run_json(["data", "check", str(path), *as_options(columns, options)], capsys)
    assert isinstance(report, dict)
    assert report["rows"] == report["usable"] == len(rows)
    assert report["labels"] == dict(Counter(label for _, label in rows))


@pytest.mark.parametrize(("name", "content", "options", "message"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_a_file_that_cannot_be_read_is_refused_with_what_to_do(
    tmp_path: Path, name: str, content: str | bytes, options: dict[str, Any], message: str, refused: Refused
) -> None:
    path = write(tmp_path, name, content)

    with pytest.raises(DataError, match=message):
        read(path, {}, **options)

    said = refused(["data", "check", str(path), *as_options({}, options)], 3)
    assert "data.reader" not in said
    assert "data.columns" not in said


def test_chinese_text_is_never_read_in_another_encoding_unasked() -> None:
    from vertical_sdk.data.encodings import find_encoding

    for number in range(1, 25):
        path = write(Path(), "a.csv", lines([(text[:number], label) for text, label in CHINESE]).encode("gb18030"))
        try:
            encoding = find_encoding(path)
        except DataError:
            continue
        assert encoding == "gb18030"


def test_the_check_shows_what_it_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "\n".join(f"{n};{text};2024-01-0{n};{n}.5;{label}" for n, (text, label) in enumerate(CHINESE, 1))
    path = write(tmp_path, "a.csv", f"评论表\n编号;评论;日期;分数;类别\n{rows}\n".encode("gb18030"))

    report = run_json(["data", "check", str(path), "--header", "2", "--delimiter", "semicolon"], capsys)

    assert isinstance(report, dict)
    assert report["format"] == "CSV (semicolon), GB18030"
    assert (report["encoding"], report["delimiter"], report["header"]) == ("GB18030", "semicolon", "line 2")
    assert report["types"] == {
        "编号": "whole numbers",
        "评论": "text",
        "日期": "words",
        "分数": "numbers, written to three digits",
        "类别": "label",
    }
    assert report["labels"] == {"好评": 2, "差评": 2}


def guess(rows: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def test_columns_with_unknown_names_are_found_by_their_contents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"nr": n, "when": f"2024-01-{n % 28 + 1:02}", "narrative": f"{text} number {n}", "product": label}
        for n, (text, label) in enumerate(topic_rows(30))
    ]

    report = run_json(["data", "check", str(write(tmp_path, "a.jsonl", guess(rows)))], capsys)

    assert isinstance(report, dict)
    assert report["detected"] == "JSONL, text from 'narrative', label from 'product'"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"story": "also quite a long text that says something"}, "'narrative' and 'story' could all be the text. Set --text."),
        ({"region": "north"}, "'product' and 'region' could all be the label. Set --label."),
    ],
)
def test_two_candidates_are_an_error_that_names_the_option(
    tmp_path: Path, more: dict[str, str], message: str, refused: Refused
) -> None:
    rows = [
        {"narrative": f"{text} number {n} in this list", "product": label, **{k: v + " ab"[n % 2 :] for k, v in more.items()}}
        for n, (text, label) in enumerate(topic_rows(30))
    ]
    path = write(tmp_path, "a.jsonl", guess(rows))

    assert message in refused(["data", "check", str(path)], 3)
    assert message in refused(["recipe", "new", "mine", "--data", str(path)], 3)
    assert not Path("mine.yaml").exists()


def test_a_row_that_was_taken_for_the_header_is_noticed(tmp_path: Path, refused: Refused) -> None:
    path = write(tmp_path, "a.csv", lines(topic_rows(30), header=""))

    said = refused(["data", "check", str(path)], 3)

    assert "the header seems to be a row. Set --header none, or --header 1 if it is the header" in said


def test_an_extra_is_named_if_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    path = write(tmp_path, "a.xlsx", sheets(Data=sheet()))
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)

    assert "needs the extra 'excel'" in refused(["data", "check", str(path)], 10)


def test_a_folder_may_have_a_file_for_each_split_in_any_format(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, "train.xlsx", sheets(Data=sheet()))
    write(folder, "test.csv", lines(CHINESE).encode("gb18030"))

    table = read(folder)

    assert [example.split for example in table.examples] == ["train"] * 4 + ["test"] * 4 or [
        example.split for example in table.examples
    ] == ["test"] * 4 + ["train"] * 4
    assert {example.text for example in table.examples} == {*TEXTS, *(text for text, _ in CHINESE)}


def test_a_recipe_says_how_a_file_is_read_and_reads_it_again(
    tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = topic_rows(40)
    path = write(tmp_path, "counts.csv", "\n".join(f"{n},{n * n},{n % 7},{label}" for n, (text, label) in enumerate(rows)))
    words = ["recipe", "new", "mine", "--data", str(path), "--header", "none", "--label", "column_4", "--base", str(encoder)]

    run_json([*words, "--record", "column_2,column_3"], capsys)

    import yaml

    data = yaml.safe_load(Path("mine.yaml").read_text(encoding="utf-8"))["data"]
    assert data["reader"] == {"use": "table", "header": "none", "record": {"column_2": "column_2", "column_3": "column_3"}}
    assert data["columns"] == {"label": "column_4"}
    shown = run_json(["data", "show", "mine.yaml", "--rows", "40"], capsys)
    assert isinstance(shown, dict)
    texts = {row["text"] for part in shown["rows"].values() for row in part["first"]}
    assert texts >= {f"column_2: {n * n}; column_3: {n % 7}" for n in range(31)}


def with_remarks(rows: list[tuple[str, str]]) -> str:
    """The rows as CSV, with Chinese remarks in a third column."""
    return "text,label,备注\n" + "".join(f"{text},{label},{CHINESE[n % 4][0]}\n" for n, (text, label) in enumerate(rows))


FORMATS: dict[str, Callable[[list[tuple[str, str]]], tuple[str, str | bytes]]] = {
    "gb18030 csv": lambda rows: ("a.csv", with_remarks(rows).encode("gb18030")),
    "excel": lambda rows: ("a.xlsx", sheets(Data=sheet(rows=rows))),
    "utf-16 tsv": lambda rows: ("a.tsv", lines(rows, delimiter="\t").encode("utf-16")),
    "json lines": lambda rows: ("a.jsonl", "\n".join(map(json.dumps, objects(rows)))),
    "cr alone": lambda rows: ("a.csv", lines(rows, end="\r")),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A run that was trained on a sheet of an Excel file, below a title."""
    folder = tmp_path_factory.mktemp("odd")
    data = write(folder, "topics.xlsx", sheets(Cover=[["Topics"]], Data=sheet(["Topics of 2024"], [], rows=topic_rows(60))))
    recipe = topic_recipe(
        folder,
        encoder,
        data__source=str(data),
        data__reader={"use": "table", "sheet": "Data", "header": 3},
        train__max_steps=4,
        evaluate__baselines=["majority"],
        evaluate__gate=None,
    )
    assert main(["train", str(recipe), "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_training_reads_the_sheet_below_its_title(trained: Path) -> None:
    card = json.loads((trained / "adapter" / "vertical.json").read_text(encoding="utf-8"))

    assert card["recipe"]["data"]["reader"] == {"use": "table", "sheet": "Data", "header": 3}
    read_step = card["account"]["steps"][0]
    assert (read_step["step"], read_step["rows_in"], read_step["rows_out"]) == ("read", 60, 60)


@pytest.mark.parametrize("form", FORMATS)
def test_a_specialist_reads_a_file_of_another_format_for_predictions(
    trained: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe's header is on line 3 of a sheet, so the file has two lines above it."""
    rows = topic_rows(12, seed=5)
    name, content = FORMATS[form](rows)
    if form == "excel":
        content = sheets(Data=sheet(["Topics"], [], rows=rows))
    path = write(tmp_path, name, content)
    if name.endswith((".csv", ".tsv")):
        encoding = "gb18030" if form.startswith("gb") else "utf-16" if form.startswith("utf") else "utf-8"
        end = "\r" if form.startswith("cr") else "\n"
        path.write_bytes((f"Topics{end}{end}" + path.read_bytes().decode(encoding)).encode(encoding))

    assert main(["predict", str(trained), "--data", str(path), "--json"]) == 0

    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["text"] for answer in answers] == [text for text, _ in rows]


def test_a_specialist_is_evaluated_on_a_file_of_another_format(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = topic_rows(30, seed=5)
    path = write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, objects(rows))))

    document = run_json(["evaluate", str(trained), "--data", str(path)], capsys)

    assert "30" in json.dumps(document)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", sheets(Old=sheet()), "no sheet is called 'Data'. The sheets are 'Old'"),
        ("a.csv", "text,label\n", "no header on line 3"),
        ("a.csv", b"\xd0\xcf\x11\xe0" + bytes(99), "old Excel file"),
        ("a.jsonl", '{"text": "x", "text": "y"}', "has the key 'text' twice"),
    ],
)
def test_predict_and_evaluate_refuse_a_file_that_cannot_be_read(
    trained: Path, tmp_path: Path, name: str, content: str | bytes, message: str, refused: Refused
) -> None:
    path = write(tmp_path, name, content)

    assert message in refused(["predict", str(trained), "--data", str(path)], 3)
    assert message in refused(["evaluate", str(trained), "--data", str(path)], 3)
