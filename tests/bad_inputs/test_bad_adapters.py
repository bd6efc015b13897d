"""Adapters that were damaged, or whose base is another one; questions that cannot be answered. Nothing answers as the bare base."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bad_inputs.refusal import Opened, Refused, contents, refused, run_json
from conftest import TEMPLATE, WORDS, save_causal, save_encoder, topic_recipe, topic_rows, write_csv

from vertical_sdk.cli.app import main

__all__ = ["refused"]

ASK = ["predict", "./run", "red itch on skin"]
WEIGHTS = Path("run/adapter/adapter_model.safetensors")
CARD = Path("run/adapter/vertical.json")


def _finished(folder: Path, **settings: Any) -> Path:
    """A project's folder with a base, rows, a recipe, and the run that `vertical train` made of them."""
    recipe = topic_recipe(folder, Path("base"), **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VERTICAL_HOME", str(folder.parent / "home"))
        assert main(["train", recipe.name, "--out", "run"]) == 0
    return folder


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a classifier on an encoder, whose gate passed."""
    folder = tmp_path_factory.mktemp("classifier") / "project"
    save_encoder(folder / "base")
    return _finished(folder)


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a specialist that writes, whose gate failed: nothing is learned in so few steps."""
    folder = tmp_path_factory.mktemp("writer") / "project"
    save_causal(folder / "base")
    return _finished(
        folder,
        name="notes",
        task="generation",
        data__max_length=96,
        train__max_steps=2,
        evaluate={"baselines": ["base"], "resamples": 100, "gate": {"metric": "exact_match", "beats": ["base"]}},
    )


@pytest.fixture
def project(classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The classifier's project, copied so that it may be damaged, as the working folder; asking it must not change its run."""
    yield from _copied(classifier, tmp_path, monkeypatch)


@pytest.fixture
def writing(writer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The writer's project, in the same way."""
    yield from _copied(writer, tmp_path, monkeypatch)


def _copied(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    yield Path()
    monkeypatch.chdir(tmp_path)


# the base is another one


def test_an_adapter_for_another_kind_of_base_is_refused(project: Path, refused: Refused) -> None:
    shutil.rmtree("base")
    save_causal(Path("base"))

    said = refused(ASK, 6)

    assert "run/adapter: the adapter needs another base: a BertModel. base is a LlamaForCausalLM." in said
    assert "It was trained on base." in said


def test_a_base_at_another_revision_is_refused_with_both_digests(project: Path, refused: Refused) -> None:
    wanted = json.loads(CARD.read_text())["base"]["weights"]
    save_encoder(Path("base"), seed=1)

    said = refused(ASK, 6)

    assert "run/adapter: the adapter needs another base or revision: the weights of base are" in said
    assert f"{wanted[:12]} are needed" in said


def test_a_base_with_a_resized_vocabulary_is_refused_with_both_sizes(project: Path, refused: Refused) -> None:
    size = len(set(WORDS)) + 4
    save_encoder(Path("base"), vocabulary=[*dict.fromkeys(WORDS), "added"])

    said = refused(ASK, 6)

    assert f"the base's vocabulary was resized: {size} tokens when the adapter was trained, {size + 1} in base" in said


def test_a_changed_tokenizer_is_refused(project: Path, refused: Refused) -> None:
    path = Path("base/tokenizer.json")
    table = json.loads(path.read_text())
    words = table["model"]["vocab"]
    words["rash"], words["cough"] = words["cough"], words["rash"]
    path.write_text(json.dumps(table))

    assert "the base's tokenizer has changed since training, so the same text gives other tokens" in refused(ASK, 6)


def test_a_changed_chat_template_is_refused(writing: Path, refused: Refused) -> None:
    path = Path("base/chat_template.jinja")
    assert path.read_text() == TEMPLATE
    path.write_text(TEMPLATE.replace("<|end|>", "<|end|> "))

    assert "the base's chat template has changed since training" in refused(ASK, 6)


# the adapter was damaged


def test_a_cut_adapter_is_refused(project: Path, refused: Refused) -> None:
    whole = WEIGHTS.read_bytes()
    for kept in (0, 100, len(whole) - 1):
        WEIGHTS.write_bytes(whole[:kept])
        said = refused(ASK, 6)
        assert f"{WEIGHTS}: this file is cut or not a safetensors file" in said
        assert "ownload the adapter again" in said


def test_an_adapter_of_zeros_is_refused(project: Path, refused: Refused) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    save_file({key: torch.zeros_like(value) for key, value in load_file(WEIGHTS).items()}, WEIGHTS)

    said = refused(ASK, 6)

    assert f"{WEIGHTS}: all weights are zero, so the adapter would change nothing" in said


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "head.safetensors", "probe.safetensors"])
def test_one_flipped_byte_is_refused_with_the_file_that_has_it(project: Path, refused: Refused, name: str) -> None:
    path = Path("run/adapter") / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    assert f"{path}: this file was changed or cut after the adapter was saved" in refused(ASK, 6)


@pytest.mark.parametrize("name", ["adapter_config.json", "tokenizer.json"])
def test_a_file_beside_the_weights_that_was_edited_is_refused_with_its_name(project: Path, refused: Refused, name: str) -> None:
    path = Path("run/adapter") / name
    path.write_text(path.read_text() + "\n")

    assert f"{path}: this file was changed or cut after the adapter was saved" in refused(ASK, 6)


def test_a_pickle_in_place_of_safetensors_is_refused_unread(project: Path, refused: Refused) -> None:
    opened = Path("opened").absolute()
    evil = pickle.dumps(Opened(opened))
    WEIGHTS.write_bytes(evil)
    assert "is cut or not a safetensors file" in refused(ASK, 6)

    WEIGHTS.unlink()
    (WEIGHTS.parent / "adapter_model.bin").write_bytes(evil)
    said = refused(ASK, 6)

    assert "run/adapter: the weights are a pickle (adapter_model.bin), which can run code when it is read" in said
    assert not opened.exists()


def test_an_adapter_without_its_card_is_refused(project: Path, refused: Refused) -> None:
    CARD.unlink()

    for words in (ASK, ["evaluate", "./run"]):
        assert "run/adapter: this folder has no vertical.json" in refused(words, 6)


def test_a_card_that_was_cut_is_refused(project: Path, refused: Refused) -> None:
    whole = CARD.read_text()
    CARD.write_text(whole[: len(whole) // 2])

    said = refused(ASK, 6)

    assert "run/adapter: vertical.json: Invalid JSON" in said
    assert "The card was cut or changed. Download or train the adapter again." in said


def test_a_card_from_which_a_key_was_taken_is_refused_with_the_key(project: Path, refused: Refused) -> None:
    card = json.loads(CARD.read_text())
    del card["base"]["weights"]
    CARD.write_text(json.dumps(card))

    assert "run/adapter: vertical.json: base.weights: " in refused(ASK, 6)


def test_a_run_that_has_not_ended_is_refused_with_how_to_go_on(project: Path, refused: Refused) -> None:
    shutil.rmtree("run/adapter")

    said = refused(ASK, 6)

    assert "run: this run is not finished, so it has no adapter yet" in said
    assert "--resume" in said


def test_a_damaged_adapter_is_not_published(project: Path, refused: Refused, home: Path) -> None:
    content = bytearray(WEIGHTS.read_bytes())
    content[-1] ^= 1
    WEIGHTS.write_bytes(content)

    assert "adapter_model.safetensors has changed since its card was written" in refused(["registry", "publish", "run"], 6)
    assert not [path for path in home.rglob("*") if path.name == WEIGHTS.name]


# the rows to ask about


def test_a_label_that_was_not_in_training_is_refused_with_its_row(project: Path, refused: Refused) -> None:
    before = contents(Path("run"))
    data = write_csv(Path("new.csv"), [("red itch", "skin"), ("stone", "kidney"), ("cough", "lnug")])

    said = refused(["evaluate", "./run", "--data", str(data)], 3)

    assert said.startswith("new.csv: ")
    assert "2 labels are not among those that were trained" in said
    assert "'kidney' in 1 rows (first: 3)" in said
    assert "'lnug' in 1 rows (first: 4). Did you mean 'lung'?" in said
    assert contents(Path("run")) == before


def test_evaluating_on_rows_without_labels_is_refused(project: Path, refused: Refused) -> None:
    before = contents(Path("run"))
    data = write_csv(Path("new.csv"), [("red itch",)], ("text",))

    said = refused(["evaluate", "./run", "--data", str(data)], 3)

    assert said.startswith("new.csv: data.columns.label: no column 'label'.")
    assert "The columns are 'text'." in said
    assert contents(Path("run")) == before


def test_evaluating_on_a_row_whose_label_is_empty_is_refused_with_its_line(project: Path, refused: Refused) -> None:
    data = write_csv(Path("new.csv"), [("red itch", "skin"), ("cough", "")])

    assert "new.csv:3: no label" in refused(["evaluate", "./run", "--data", str(data)], 3)


def test_evaluating_on_rows_that_were_changed_since_training_is_refused(project: Path, refused: Refused) -> None:
    before = contents(Path("run"))
    recipe = json.loads(CARD.read_text())["recipe"]
    source = Path(recipe["data"]["source"])
    whole = source.read_bytes()
    try:
        write_csv(source, topic_rows(90, seed=3))
        said = refused(["evaluate", "./run"], 3)
    finally:
        source.write_bytes(whole)

    assert "the data of topics has changed since the adapter was trained" in said
    assert contents(Path("run")) == before


def test_a_question_that_is_not_utf_8_is_refused(project: Path, refused: Refused) -> None:
    assert "text 2 is not UTF-8" in refused(["predict", "./run", "red itch", os.fsdecode(b"fi\xe8vre")], 3)


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_question_is_refused(project: Path, refused: Refused, text: str) -> None:
    said = refused(["predict", "./run", "red itch", text], 3)

    assert "text 2" in said
    assert "empty" in said


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_question_to_a_specialist_that_writes_is_refused(writing: Path, refused: Refused, text: str) -> None:
    assert "empty" in refused(["predict", "./run", text], 3)


def test_a_specialist_that_writes_is_asked_by_the_same_verb_and_answers_in_words(
    writing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run_json(ASK, capsys)

    assert isinstance(found, dict)
    assert isinstance(found["answer"], str)
    assert found["label"] is None
    assert found["probabilities"] == {}


# the registry


def test_a_reference_that_does_not_exist_is_refused_with_those_near_it(project: Path, refused: Refused) -> None:
    main(["registry", "publish", "run", "--name", "medical/topics"])

    said = refused(["predict", "medical/topcs@1", "itch"], 7)

    assert "no adapter is called 'medical/topcs'" in said
    assert "Did you mean 'medical/topics'?" in said
    assert "Published: medical/topics." in said
    assert "medical/topics has version 1." in refused(["predict", "medical/topics@2", "itch"], 7)


def test_an_alias_that_does_not_exist_is_refused_with_those_there_are(project: Path, refused: Refused) -> None:
    main(["registry", "publish", "run", "--alias", "staging"])

    said = refused(["predict", "topics@production", "itch"], 7)

    assert "topics@production: there is no such alias. Aliases: staging (version 1)." in said


@pytest.mark.parametrize("alias", ["latest", "../x", ""])
def test_a_wrong_alias_is_refused_before_anything_is_published(project: Path, refused: Refused, home: Path, alias: str) -> None:
    assert "alias" in refused(["registry", "publish", "run", "--alias", alias], 7)
    assert not (home / "registry").exists()


def test_a_registry_in_the_place_of_a_file_is_refused(project: Path, refused: Refused) -> None:
    Path("file").touch()

    for words in (["list"], ["publish", "run"]):
        said = refused(["registry", *words, "--registry", "file/registry"], 7)
        assert (
            said
            == "file/registry: this path is a file, or is below one, so it cannot be the registry's folder. Choose another folder."
        )


@pytest.mark.parametrize("name", ["../evil", "medical/../../evil", "/tmp/evil", "..", "a/b/c", "Evil", "a\\b"])
def test_a_name_that_leads_out_of_the_registry_is_refused(project: Path, refused: Refused, home: Path, name: str) -> None:
    before = contents(Path.cwd().parent)

    said = refused(["registry", "publish", "run", "--name", name], 7)

    assert f"{name!r} is not a valid adapter name" in said
    assert "such as medical/icd-chapter" in said
    assert contents(Path.cwd().parent) == before
    assert refused(["registry", "show", name], 7)


def test_a_gate_that_failed_refuses_publishing_and_force_is_recorded(
    writing: Path, refused: Refused, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(["registry", "publish", "run"], 8)
    assert "notes did not pass its gate: Fails: the specialist is 0.000 better than base in exact_match" in said
    assert "by force, which is recorded" in said
    assert not (home / "registry").exists()

    run_json(["registry", "publish", "run", "--force", "--reason", "a trial"], capsys)

    shown: Any = run_json(["registry", "show", "notes"], capsys)
    events: Any = run_json(["registry", "history", "notes"], capsys)
    assert (shown["forced"], shown["gate"], shown["reason"]) == (True, "failed", "a trial")
    assert [(event["action"], event["why"]) for event in events] == [("publish by force", "a trial")]
