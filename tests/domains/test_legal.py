"""The legal vertical's readers, cleaners and recipes, on small files in the layouts of the public sources."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from vertical_sdk.catalog import cleaners, readers
from vertical_sdk.checking import check_recipe
from vertical_sdk.data.prepare import prepare
from vertical_sdk.data.read import Table
from vertical_sdk.domain import load_domain
from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.recipe import load_recipe
from vertical_sdk.types import Example, Message


def table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(name: str, path: Path, task: str, missing: str | None = None, **options: Any) -> Table:
    given = () if missing is None else (missing,)
    found: Table = readers.get(name)(path, {}, task, *given, **options)
    return found


def test_the_vertical_says_who_it_is() -> None:
    assert load_domain("legal").name == "legal"


def cuad(tmp_path: Path, contracts: int = 2, extra: str = "['Net 30.', 'In advance.']") -> Path:
    return table(
        tmp_path / "master_clauses.csv",
        [
            {
                "Filename": f"{n}.pdf",
                "Document Name": "['Supply Agreement']",
                "Document Name-Answer": "Supply Agreement",
                "Governing Law": f"['The laws of place number {n} govern.']",
                "Governing Law-Answer": "Ohio",
                "Audit Rights": extra.replace("place", f"place {n}") if n % 2 else "[]",
                "Audit Rights- Answer": "Yes",
            }
            for n in range(contracts)
        ],
    )


def test_each_passage_of_cuads_table_is_a_row_and_facts_of_the_contract_are_none(tmp_path: Path) -> None:
    found = read("legal.cuad", cuad(tmp_path), "classification")

    assert [(e.text, e.target, e.group) for e in found.examples] == [
        ("The laws of place number 0 govern.", "Governing Law", "0.pdf"),
        ("The laws of place number 1 govern.", "Governing Law", "1.pdf"),
        ("Net 30.", "Audit Rights", "1.pdf"),
        ("In advance.", "Audit Rights", "1.pdf"),
    ]
    assert found.account is not None
    assert found.account.rows_in == 4


def test_a_plain_table_of_clauses_is_read_too(tmp_path: Path) -> None:
    path = table(tmp_path / "c.csv", [{"contract": "c1", "text": "Ohio law.", "clause": "Governing Law"}])

    (only,) = read("legal.cuad", path, "classification").examples

    assert (only.text, only.target, only.group) == ("Ohio law.", "Governing Law", "c1")


@pytest.mark.parametrize("cell", ["Net 30.", "[1]", "['open", "__import__('os')"])
def test_a_cell_without_a_list_of_passages_is_refused_with_its_line(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match=r"master_clauses\.csv:3: column 'Audit Rights' holds no list"):
        read("legal.cuad", cuad(tmp_path, extra=cell), "classification")


TERMS = [
    {"document": "A", "text": "We may end your account at any time.", "unfair": "ter"},
    {"document": "A", "text": "Hello and welcome to our service.", "unfair": ""},
    {"document": "B", "text": "By using this you agree, and we may change it.", "unfair": "use; CH"},
    {"document": "B", "text": "https://example.com/terms", "unfair": ""},
    {"document": "B", "text": "Last updated: March 3, 2024", "unfair": ""},
    {"document": "B", "text": "Definitions", "unfair": ""},
]


def test_a_fair_sentence_is_kept_and_has_no_category(tmp_path: Path) -> None:
    found = read("legal.terms", table(tmp_path / "t.csv", TERMS), "multilabel")

    assert [e.target for e in found.examples] == [("ter",), (), ("ch", "use"), (), (), ()]
    assert [e.group for e in found.examples] == ["A", "A", "B", "B", "B", "B"]
    assert set(found.descriptions) == {"a", "ch", "cr", "j", "law", "ltd", "pinc", "ter", "use"}
    assert found.account is not None
    assert dict(found.account.notes) == {
        "lines that are addresses": 1,
        "lines that are dates": 1,
        "lines that are shorter than 4 words": 1,
    }


def test_texts_that_are_not_sentences_can_be_set_aside(tmp_path: Path) -> None:
    found = read("legal.terms", table(tmp_path / "t.csv", TERMS), "multilabel", junk="set aside")

    assert len(found.examples) == 3
    assert found.account is not None
    assert sum(found.account.set_aside.values()) == 3


def test_rows_to_predict_need_no_categories(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", [{"text": "We may end it."}, {"text": ""}])

    assert [e.target for e in read("legal.terms", path, "multilabel", "keep").examples] == [None, None]
    with pytest.raises(DataError, match=r"t\.csv:2: no label"):
        read("legal.terms", path, "multilabel", "refuse")


def test_categories_may_be_columns_of_yes_and_no_in_several_languages(tmp_path: Path) -> None:
    flags = dict.fromkeys(("a", "ch", "cr", "j", "law", "ltd", "pinc", "ter", "use"), False)
    rows = [
        {
            "language": "en",
            "company": "A",
            "sentence": "We end it.",
            "unfairness_level": "potentially_unfair",
            **flags,
            "ter": True,
        },
        {
            "language": "en",
            "company": "A",
            "sentence": "Courts at home.",
            "unfairness_level": "clearly_fair",
            **flags,
            "j": True,
        },
        {
            "language": "de",
            "company": "A",
            "sentence": "Wir enden.",
            "unfairness_level": "clearly_unfair",
            **flags,
            "ter": True,
        },
    ]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    found = read("legal.terms", folder, "multilabel")

    assert [(e.text, e.target, e.group) for e in found.examples] == [
        ("We end it.", ("ter",), "A"),
        ("Courts at home.", (), "A"),
    ]
    assert found.account is not None
    assert dict(found.account.set_aside) == {"in another language than en": 1}


def clone(tmp_path: Path, tags: str = "\nter2 ch3 \n") -> Path:
    for kind, content in (("sentences", "Welcome to us.\nWe may end or change it.\n"), ("tags", tags)):
        folder = tmp_path / "clone" / "corpus" / kind / "en" / "original"
        folder.mkdir(parents=True)
        (folder / "Shop.txt").write_text(content, encoding="utf-8")
    return tmp_path / "clone"


def test_a_clone_of_the_corpus_is_read_line_by_line(tmp_path: Path) -> None:
    found = read("legal.terms", clone(tmp_path), "multilabel")

    assert [(e.id, e.target, e.group) for e in found.examples] == [("Shop:1", (), "Shop"), ("Shop:2", ("ch", "ter"), "Shop")]


def test_broken_terms_are_refused_with_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Shop\.txt:2: 'tre' is not a category.*'ter'"):
        read("legal.terms", clone(tmp_path, "\ntre2\n"), "multilabel")
    with pytest.raises(DataError, match=r"t\.csv:2: 'x' is not a category"):
        read("legal.terms", table(tmp_path / "t.csv", [{"text": "a", "unfair": "x"}]), "multilabel")
    with pytest.raises(DataError, match="no text column"):
        read("legal.terms", table(tmp_path / "u.csv", [{"unfair": "ter"}]), "multilabel")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither a table nor sentences"):
        read("legal.terms", tmp_path / "empty", "multilabel")


def scancode(tmp_path: Path, **more: str) -> Path:
    data = tmp_path / "licensedcode" / "data"
    files = {
        "licenses/tiny.LICENSE": "---\nkey: tiny\nshort_name: Tiny License\nname: The Tiny License\ncategory: Permissive\n"
        "other_urls:\n  - https://example.com\n---\n\nDo as you like, but keep this notice.",
        "licenses/share.LICENSE": "---\nkey: share\nname: Share Alike\ncategory: Copyleft\n---\n\nPass it on under these terms.",
        "licenses/old.LICENSE": "---\nkey: old\nname: Old\ncategory: Permissive\nis_deprecated: yes\n---\nGone and never to return.",
        "rules/tiny_1.RULE": "---\nlicense_expression: tiny\nnotes: >\n    as found\n    somewhere\n---\n\nThis is {{under the tiny}} terms.",
        "rules/tiny_2.RULE": "---\nlicense_expression: tiny\n---\nThe Tiny License",
        "rules/tiny_3.RULE": "---\nlicense_expression: tiny\n---\n<https://example.com/tiny>",
        "rules/tiny_4.RULE": "---\nlicense_expression: tiny\n---\nSee tiny\n",
        "rules/both.RULE": "---\nlicense_expression: tiny\n    OR share\n---\nEither of the two is fine here.",
        "rules/not.RULE": "---\nis_false_positive: yes\n---\nA tiny thing that is no licence.",
        "rules/empty.RULE": "---\nlicense_expression: 'share'\n---\n",
        **more,
    }
    for name, content in files.items():
        path = data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return tmp_path


def test_licence_texts_get_their_licences_category_and_the_rest_is_counted(tmp_path: Path) -> None:
    found = read("legal.scancode", scancode(tmp_path), "classification")

    assert [(e.id, e.text, e.target, e.group) for e in found.examples] == [
        ("share.LICENSE", "Pass it on under these terms.", "Copyleft", "share"),
        ("tiny.LICENSE", "Do as you like, but keep this notice.", "Permissive", "tiny"),
        ("tiny_1.RULE", "This is under the tiny terms.", "Permissive", "tiny"),
    ]
    assert found.account is not None
    assert dict(found.account.set_aside) == {
        "deprecated": 1,
        "licences of several categories": 1,
        "no text": 1,
        "false positive": 1,
        "only the licence's name": 1,
        "only an address": 1,
        "fewer than 4 words": 1,
    }
    assert found.labels == ("Permissive", "Copyleft")
    assert found.parents["Copyleft"] == found.parents["Copyleft Limited"] != found.parents["Permissive"]


def test_long_texts_and_all_but_some_of_a_licence_can_be_set_aside(tmp_path: Path) -> None:
    found = read("legal.scancode", scancode(tmp_path), "classification", longest=7, per_key=1)

    assert [e.group for e in found.examples] == ["share", "tiny"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rules/x.RULE", "license_expression: tiny\n", r"x\.RULE:1: begins with"),
        ("rules/x.RULE", "---\nlicense_expression: tiny\n", "no second line '---'"),
        ("rules/x.RULE", "---\nno field here\n---\ntext", r"x\.RULE:2: 'no field here' is not a field"),
        ("rules/x.RULE", "---\nlicense_expression: tinny\n---\ntext", "no licence 'tinny'.*'tiny'"),
        ("licenses/x.LICENSE", "---\nkey: x\ncategory: Copyright\n---\ntext", "'Copyright' is not a category"),
        ("licenses/x.LICENSE", "---\ncategory: CLA\n---\ntext", "has no field 'key'"),
    ],
)
def test_a_file_that_is_not_from_scancode_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("legal.scancode", scancode(tmp_path, **{name: content}), "classification")


def test_readers_say_which_task_and_where_to_take_the_data(tmp_path: Path) -> None:
    for name, task in (("legal.cuad", "multilabel"), ("legal.terms", "classification"), ("legal.scancode", "regression")):
        with pytest.raises(RecipeError, match=f"{name} supports .*, not {task}"):
            read(name, tmp_path, task)
    with pytest.raises(DataError, match="Take the wheel scancode-toolkit"):
        read("legal.scancode", tmp_path, "classification")


def test_every_category_has_a_sentence_and_an_answer_that_begins_differently() -> None:
    from vertical_sdk.domains.legal.scancode import CATEGORIES, PARENTS, WORDS

    assert set(CATEGORIES) == set(WORDS)
    assert len(CATEGORIES) == 11
    assert len({word[:3] for word in WORDS.values()}) == 11
    assert set(PARENTS) < set(CATEGORIES)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("12.3(a) The Buyer pays.", "The Buyer pays."),
        ("12.3 (a) (iv) the Buyer pays.", "the Buyer pays."),
        ("Section 5.2. Term. It lasts.", "Term. It lasts."),
        ("ARTICLE IX: INSURANCE", "INSURANCE"),
        ("(b) each party", "each party"),
        ("• Cookies", "Cookies"),
        ("3.1 Grant of licence", "Grant of licence"),
        ("4) Fees", "Fees"),
        ("30 days after notice", "30 days after notice"),
        ("1.5 million dollars", "1.5 million dollars"),
        ("Section 5 of this Agreement applies", "Section 5 of this Agreement applies"),
        ("2024 was a year", "2024 was a year"),
        ("9.", "9."),
        ("- 12 -\nThe Seller sells.\nPage 3 of 10\nIt ends.", "The Seller sells.\nIt ends."),
        ("I agree.", "I agree."),
        ("a party", "a party"),
    ],
)
def test_enumeration_and_page_marks_go_and_quantities_stay(before: str, after: str) -> None:
    rows, account = cleaners.get("legal.numbering")([Example("1", before, "x")])

    assert rows[0].text == after
    assert sum(account.changed.values()) == (before != after)
    assert rows[0].target == "x"


def test_the_citations_cleaner_counts_what_it_masks() -> None:
    rows, account = cleaners.get("legal.citations")(
        [Example("1", "See Section 2.1 and 17 U.S.C. § 107."), Example("2", "None.")]
    )

    assert rows[0].text == "See [CITATION] and [CITATION]."
    assert dict(account.changed) == {"citations masked": 1}
    assert dict(account.notes) == {"citations": 2}


def passages(path: Path, **changes: dict[str, Any]) -> Path:
    """Twelve passages of twelve documents in the layout of the published file."""
    words = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "knoll", "lagoon", "mesa")
    whole = {
        f"legalsum{n:02}": {
            "doc": f"Terms of {word}",
            "original_text": f"by using {word} you agree to these terms.",
            "reference_summary": f"{word} has terms.",
            "uid": f"legalsum{n:02}",
        }
        for n, word in enumerate(words, 1)
    }
    path.write_text(json.dumps(whole | {name: whole[name] | change for name, change in changes.items()}), encoding="utf-8")
    return path


def test_plain_summaries_are_read_from_the_published_file_and_from_copies(tmp_path: Path) -> None:
    published = read("legal.plain_summaries", passages(tmp_path / "all_v1.json"), "generation")
    copies = [
        {"text": e.messages[0].content, "summary": e.messages[1].content, "doc": e.group or ""} for e in published.examples
    ]
    copied = read("legal.plain_summaries", table(tmp_path / "copy.csv", copies), "generation")

    assert len(published.examples) == 12
    assert published.examples[0] == Example(
        "legalsum01",
        group="Terms of amber",
        messages=(
            Message("user", "by using amber you agree to these terms."),
            Message("assistant", "amber has terms."),
        ),
    )
    assert [(e.messages, e.group) for e in copied.examples] == [(e.messages, e.group) for e in published.examples]


def test_a_passage_without_a_summary_is_dropped_refused_or_kept(tmp_path: Path) -> None:
    path = passages(tmp_path / "all_v1.json", legalsum03={"reference_summary": ""})

    found = read("legal.plain_summaries", path, "generation")

    assert len(found.examples) == 11
    assert found.account is not None
    assert found.account.dropped == {"no answer": 1}
    kept = read("legal.plain_summaries", path, "generation", "keep").examples
    assert [[turn.role for turn in e.messages] for e in kept] == [["user"]] * 12
    with pytest.raises(DataError, match=r"legalsum03: no answer\. Every passage needs both"):
        read("legal.plain_summaries", path, "generation", "refuse")


@pytest.mark.parametrize("text", ["[]", "{}", '{"a": 1}', '{"a": {"reference_summary": "x"}}', '{"a": {"original_text": [1]}}'])
def test_another_json_layout_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(DataError, match="this is not the corpus of plain summaries"):
        read("legal.plain_summaries", path, "generation")


def made_up(name: str, tmp_path: Path) -> Path:
    """A small file in the layout of the recipe's public source."""
    if name == "contract-clause":
        return cuad(tmp_path, 12, "['The books of the place may be seen.']")
    if name == "plain-summary":
        return passages(tmp_path / "all_v1.json")
    if name == "unfair-terms":
        kinds = ("ter", "", "use", "")
        words = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "knoll", "lagoon", "mesa")
        rows = [
            {"document": word, "text": f"The {word} {mark or 'fair'} sentence number {i} speaks of {word}.", "unfair": mark}
            for word in words
            for i, mark in enumerate(kinds)
        ]
        return table(tmp_path / "terms.csv", rows)
    more = {
        f"licenses/key{n}.LICENSE": f"---\nkey: key{n}\nname: K\ncategory: {'Copyleft' if n % 2 else 'Permissive'}\n---\n"
        f"Text number {n} of {'sharing' if n % 2 else 'keeping'} things of {n * n} kinds."
        for n in range(16)
    }
    return scancode(tmp_path, **more)


@pytest.mark.parametrize("name", ["contract-clause", "unfair-terms", "license-category", "plain-summary"])
def test_each_recipe_checks_and_prepares_rows(name: str, tmp_path: Path) -> None:
    check_recipe(load_recipe(f"legal/{name}"))
    changed: dict[str, Any] = {"data.source": str(made_up(name, tmp_path)), "data.sha256": None, "data.decontaminate": None}

    found = prepare(load_recipe(f"legal/{name}", changed))

    groups = [{e.group for e in part} for part in (found.train, found.validation, found.test)]
    assert all(groups)
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    if name == "plain-summary":
        return
    assert found.labels is not None
    assert sum(found.labels.counts.values()) > 0
    if name == "license-category":
        assert found.labels.parent("Copyleft") == "share alike"
    if name == "unfair-terms":
        assert any(e.target == () for e in found.test)
