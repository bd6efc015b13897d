"""The reader of laws in Markdown, on small laws in the layout of LawRefBook/Laws."""

import zipfile
from pathlib import Path

import pytest

from vertical_sdk.data.laws import articles, split_articles
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import DataError
from vertical_sdk.recipe import load_recipe

LAW = """# 示范法

2020年1月1日 通过

<!-- INFO END -->

## 第一章 总则

第一条 为了示范，制定本法。

第二条\u3000本法适用于示范。

（一）第三条规定的除外；

（二）其他情形。

## 第二章 附则

本章说明不是条文。

第一百二十三条之一 本法自公布之日起施行。
"""
BRANCHES = {"民法商法": ["/民法商法/"], "程序法": ["诉讼"]}


def write_laws(folder: Path) -> Path:
    for name in ("民法商法/合同法.md", "民法商法/合同法(2020-05-28).md", "诉讼与非诉讼程序法/仲裁法.md", "行政法/其他法.md"):
        path = folder / "Laws-master" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(LAW, encoding="utf-8")
    return folder


def test_a_law_is_split_into_its_articles_without_headings_and_numbers() -> None:
    assert split_articles(LAW) == [
        ("第一条", "为了示范，制定本法。"),
        ("第二条", "本法适用于示范。（一）第三条规定的除外；（二）其他情形。"),
        ("第一百二十三条之一", "本法自公布之日起施行。"),
    ]


def test_the_path_of_a_law_decides_its_label_and_its_versions_are_one_group(tmp_path: Path) -> None:
    table = articles(write_laws(tmp_path), {}, "classification", labels=BRANCHES)

    assert [(e.target, e.group) for e in table.examples] == [("民法商法", "合同法")] * 6 + [("程序法", "仲裁法")] * 3
    assert len({e.id for e in table.examples}) == 9
    assert table.account is not None
    assert table.account.notes == {"laws that match no label": 1}


def test_a_zip_of_laws_gives_the_rows_of_the_folder(tmp_path: Path) -> None:
    folder = write_laws(tmp_path / "laws")
    with zipfile.ZipFile(tmp_path / "master.zip", "w") as archive:
        for file in folder.rglob("*.md"):
            archive.write(file, file.relative_to(folder))

    assert (
        articles(tmp_path / "master.zip", {}, "classification", labels=BRANCHES).examples
        == articles(folder, {}, "classification", labels=BRANCHES).examples
    )


def test_a_table_of_articles_has_its_own_labels(tmp_path: Path) -> None:
    path = tmp_path / "laws.csv"
    path.write_text("text,label,law\n为了示范，制定本法。,刑法,示范法\n", encoding="utf-8")

    (only,) = articles(path, {}, "classification", labels=BRANCHES).examples

    assert (only.text, only.target, only.group) == ("为了示范，制定本法。", "刑法", "示范法")


def test_rows_to_predict_need_no_label(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("text\n本法适用于示范。\n", encoding="utf-8")

    (only,) = articles(path, {}, "classification", "keep").examples

    assert (only.text, only.target) == ("本法适用于示范。", None)


def test_a_folder_without_a_known_law_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no law in Markdown whose path has a word of data\.reader\.labels"):
        articles(write_laws(tmp_path), {}, "classification", labels={"刑法": ["/刑法/"]})


def test_a_law_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = write_laws(tmp_path) / "Laws-master/诉讼与非诉讼程序法/仲裁法.md"
    path.write_bytes(LAW.encode("gb18030"))

    with pytest.raises(DataError, match=r"仲裁法\.md: is not UTF-8"):
        articles(tmp_path, {}, "classification", labels=BRANCHES)


def test_an_archive_that_is_cut_is_refused(tmp_path: Path) -> None:
    write_laws(tmp_path)
    path = tmp_path / "cut.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "Laws-master/行政法/其他法.md", "行政法/其他法.md")
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)

    with pytest.raises(DataError, match="the archive is cut or damaged"):
        articles(path, {}, "classification", labels={"行政法": ["行政法/"]})


@pytest.mark.parametrize(
    ("name", "law", "label"),
    [
        ("legal/zh-statutes", "民法商法/民法典", "民法商法"),
        ("legal/zh-statutes", "诉讼与非诉讼程序法/仲裁法", "程序法"),
        ("legal/zh-statutes", "行政法规/公路安全保护条例", None),
        ("traffic/zh-transport-rules", "行政法规/公路安全保护条例", "公路设施"),
        ("traffic/zh-transport-rules", "行政法规/防治船舶污染海洋环境管理条例", "水运"),
        ("traffic/zh-transport-rules", "地方性法规/上海/上海市轨道交通管理条例", "轨道与公交"),
        ("traffic/zh-transport-rules", "地方性法规/浙江/浙江省电动自行车管理条例", "道路交通安全"),
        ("traffic/zh-transport-rules", "民法商法/民法典", None),
    ],
)
def test_the_recipes_of_laws_give_each_law_its_label(name: str, law: str, label: str | None, tmp_path: Path) -> None:
    reader = load_recipe(name).data.reader
    assert reader is not None
    for path in (
        f"Laws-master/{law}.md",
        f"Laws-master/{'刑法/刑法' if name.startswith('legal') else '行政法规/铁路安全管理条例'}.md",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(LAW, encoding="utf-8")

    found = {e.group: e.target for e in articles(tmp_path, {}, "classification", **reader.arguments).examples}

    assert found.get(law.rpartition("/")[2]) == label


@pytest.mark.parametrize("name", ["legal/zh-statutes", "traffic/zh-transport-rules"])
def test_a_recipe_of_laws_holds_whole_laws_out(name: str, tmp_path: Path) -> None:
    path = tmp_path / "laws.csv"
    rows = [f"第{n}项规定的内容是事项{n * 7919},{'甲乙丙'[n % 3]},法{n // 4}" for n in range(240)]
    path.write_text("text,label,law\n" + "\n".join(rows) + "\n", encoding="utf-8")

    rows_of = prepare(load_recipe(name, {"data.source": str(path), "data.decontaminate": None}))

    groups = [{e.group for e in part} for part in (rows_of.train, rows_of.validation, rows_of.test)]
    assert all(groups)
    assert sum(map(len, groups)) == len(set.union(*groups))
