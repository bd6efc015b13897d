"""What others may read of a card."""

from __future__ import annotations

from vertical_sdk.card import Card, Fingerprint, Parent, SourceRecord, hide_paths
from vertical_sdk.model_card import render_readme
from vertical_sdk.registry.checks import build_record

PRIVATE = "/srv/ward 7/ada"


def make_card() -> Card:
    base = Fingerprint(name=f"{PRIVATE}/bert", architecture="BertModel", weights="0" * 64, tokenizer="1" * 64, vocab_size=10)
    data = {"source": {"train": f"{PRIVATE}/train.csv", "test": f"file://{PRIVATE}/test.csv"}, "columns": {"text": "a/b"}}
    return Card(
        name="medical/triage",
        task="classification",
        family="encoder",
        base=base,
        recipe={
            "name": "triage",
            "base": f"{PRIVATE}/bert",
            "data": data,
            "prompt": {"user": "/no/{text}"},
            "start": "~/runs/x",
        },
        recipe_digest="2" * 64,
        sources=(
            SourceRecord(source=f"{PRIVATE}/train.csv", sha256="3" * 64),
            SourceRecord(source="hf:owner/name:train", sha256="4" * 64),
        ),
        parent=Parent(reference=f"{PRIVATE}/runs/old", weights="5" * 64),
        metrics={"provenance": {"rows_from": f"{PRIVATE}/rows.csv"}},
    )


def test_readers_of_a_card_see_the_names_of_files_and_no_folders() -> None:
    card = make_card()

    shown = hide_paths(card)

    assert shown.recipe["data"]["source"] == {"train": "train.csv", "test": "test.csv"}
    assert shown.recipe["data"]["columns"] == {"text": "a/b"}
    assert (shown.recipe["base"], shown.base.name, shown.recipe["start"]) == ("bert", "bert", "x")
    assert shown.recipe["prompt"] == {"user": "/no/{text}"}
    assert [source.source for source in shown.sources] == ["train.csv", "hf:owner/name:train"]
    assert shown.parent is not None
    assert shown.parent.reference == "old"
    assert "ward 7" not in shown.model_dump_json()
    assert card.recipe["data"]["source"]["train"] == f"{PRIVATE}/train.csv"


def test_a_readme_and_the_record_of_a_version_name_no_folder() -> None:
    card = make_card()

    readme = render_readme(card, None)

    assert "train.csv" in readme
    assert "ward 7" not in readme
    assert "ward 7" not in str(build_record(card, gate="passed", forced=False, reason=""))
