"""Wrong recipes: each is refused before any weights are loaded, and no run is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from bad_inputs.refusal import Refused, refused
from conftest import topic_recipe

__all__ = ["refused"]

ANY = Path("any-base")


def test_an_unknown_key_is_refused_with_the_key_that_was_meant(tmp_path: Path, refused: Refused) -> None:
    recipe = topic_recipe(tmp_path, ANY, evalute={"resamples": 100})

    said = refused(["train", str(recipe)], 2)

    assert said.startswith(f"{recipe}: unknown key 'evalute'. Did you mean 'evaluate'?")


def test_an_unknown_key_inside_a_section_is_refused_with_the_key_that_was_meant(tmp_path: Path, refused: Refused) -> None:
    recipe = topic_recipe(tmp_path, ANY, data__colums={"text": "text"})

    said = refused(["train", str(recipe)], 2)

    assert f"{recipe}: unknown key 'data.colums'. Did you mean 'columns'?" in said


def test_a_value_of_the_wrong_type_is_refused_with_what_it_should_be(tmp_path: Path, refused: Refused) -> None:
    recipe = topic_recipe(tmp_path, ANY, data__max_length="long")

    said = refused(["train", str(recipe)], 2)

    assert f"{recipe}: data.max_length = 'long' is wrong: it should be a valid integer" in said


@pytest.mark.parametrize(
    ("section", "key", "value", "right"),
    [
        ("train", "learning_rate", "fast", "number"),
        ("train", "num_train_epochs", "three", "number"),
        ("train", "token_budget", "much", "integer"),
        ("train", "seed", "x", "integer"),
        ("adapter", "r", "four", "integer"),
        ("adapter", "lora_alpha", [8], "integer"),
    ],
)
def test_a_value_of_the_wrong_type_that_a_library_takes_is_refused_too(
    tmp_path: Path, encoder: Path, refused: Refused, section: str, key: str, value: object, right: str
) -> None:
    recipe = topic_recipe(tmp_path, encoder, **{f"{section}__{key}": value})

    said = refused(["train", str(recipe)], 2)

    assert f"topics: {section}: {key} = {value!r} is wrong" in said
    assert right in said


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.per_device_train_batch_size=0", "train: per_device_train_batch_size = 0 is wrong: it should be 1 or more."),
        ("train.gradient_accumulation_steps=0", "train: gradient_accumulation_steps = 0 is wrong: it should be 1 or more."),
        ("train.learning_rate=-1", "train: learning_rate = -1 is wrong: it should be 0 or more."),
        ("train.dataloader_num_workers=100000", "dataloader_num_workers = 100000 is wrong: at most 256 are started."),
        ("train.seed=-1", "train: seed = -1 is wrong: it should be 0 or more."),
        ("train.report_to=mlfow", "no tracker is called 'mlfow'. Did you mean 'mlflow'?"),
        ("train.label_smoothing_factor=0.1", "set loss: {use: cross_entropy, smoothing: ...}."),
        ("train.push_to_hub=true", "train: push_to_hub is set by the SDK. Leave it out."),
        ("adapter.inference_mode=true", "adapter: inference_mode is set by the SDK. Leave it out."),
        ("adapter.init_lora_weights=pissa", "adapter: init_lora_weights = 'pissa': it changes the base's own weights"),
        ("adapter.bias=all", "adapter: bias = 'all': it changes the base's own biases"),
        ("loss={use: cross_entropy, smoothing: 5}", "smoothing = 5 is wrong: it should be less than or equal to 1"),
        ("loss={use: focal, gamma: -1}", "gamma = -1 is wrong: it should be greater than or equal to 0. It takes gamma: float"),
        ("evaluate.metrics=[{use: ece, bins: 0}]", "bins = 0 is wrong: it should be greater than or equal to 1"),
        ("data.reader={use: table, delimiter: ab}", "delimiter = 'ab' is wrong: it should have at most 1 character"),
        ("data.split={use: stratified, test: 2}", "test = 2.0 and validation = 0.1 must be shares"),
        ("labels=[skin, skin, lung, heart]", "labels: 'skin' is listed twice"),
        ("prompt.user=What is it?", "prompt.user = 'What is it?' has no {text}"),
        ("name=My Task", "name = 'My Task' is wrong: it should match pattern"),
    ],
)
def test_a_value_out_of_its_range_is_refused_before_anything_is_trained(
    tmp_path: Path, encoder: Path, refused: Refused, setting: str, said: str
) -> None:
    assert said in refused(["train", str(topic_recipe(tmp_path, encoder)), "--set", setting], 2)


def test_extends_in_a_circle_is_refused_with_the_circle(tmp_path: Path, refused: Refused) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("extends: two.yaml\nname: one\n", encoding="utf-8")
    two.write_text("extends: one.yaml\nname: two\n", encoding="utf-8")

    said = refused(["train", str(one)], 2)

    assert "extends goes in a circle" in said
    assert f"{one} → {two} → {one}" in said


def test_a_yaml_tag_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path, refused: Refused) -> None:
    recipe, ran = tmp_path / "evil.yaml", tmp_path / "ran"
    recipe.write_text(f"name: !!python/object/apply:pathlib.Path.touch [{ran}]\ntask: classification\n", encoding="utf-8")
    command = f"!!python/object/apply:os.system ['touch {ran}']"

    said = refused(["train", str(recipe)], 2)
    refused(["train", str(topic_recipe(tmp_path, ANY)), "--set", f"summary={command}"], 2)

    assert str(recipe) in said
    assert "not plain YAML" in said
    assert "python/object/apply" in said
    assert not ran.exists()


def test_a_repeated_key_is_refused_with_its_line(tmp_path: Path, refused: Refused) -> None:
    recipe = tmp_path / "twice.yaml"
    recipe.write_text("name: a\ntask: classification\nname: b\n", encoding="utf-8")

    said = refused(["train", str(recipe)], 2)

    assert f"{recipe}: " in said
    assert "'name' is repeated" in said
    assert "line 3" in said


def test_a_setting_of_an_unknown_key_is_refused_with_the_key_that_was_meant(tmp_path: Path, refused: Refused) -> None:
    recipe = topic_recipe(tmp_path, ANY)

    assert "Did you mean 'learning_rate'?" in refused(["train", str(recipe), "--set", "train.learning_rat=0.1"], 2)
    assert "unknown key 'trian'. Did you mean 'train'?" in refused(["train", str(recipe), "--set", "trian.seed=1"], 2)
    assert "Did you mean 'max_length'?" in refused(["train", str(recipe), "--set", "data.max_lenght=9"], 2)


def test_an_unknown_argument_of_a_loss_is_refused_with_those_it_takes(tmp_path: Path, refused: Refused) -> None:
    recipe = topic_recipe(tmp_path, ANY, loss={"use": "focal", "gama": 2.0})

    said = refused(["train", str(recipe)], 2)

    assert "topics: loss: focal has no argument 'gama'" in said
    assert "gamma: float = 2.0" in said
    assert "Did you mean 'gamma'?" in said


def test_an_unknown_metric_is_refused_with_the_one_that_was_meant(tmp_path: Path, refused: Refused) -> None:
    recipe = topic_recipe(tmp_path, ANY, evaluate__metrics=["macro_f1", "acuracy"])

    said = refused(["train", str(recipe)], 2)

    assert "topics: evaluate.metrics.1: no metric is called 'acuracy'. Did you mean 'accuracy'?" in said
    assert "Available: " in said


def test_an_unknown_metric_of_the_gate_is_refused_with_the_one_that_was_meant(tmp_path: Path, refused: Refused) -> None:
    recipe = topic_recipe(tmp_path, ANY, evaluate__gate={"metric": "macro_f2", "beats": ["base"]})

    said = refused(["train", str(recipe)], 2)

    assert "topics: evaluate.gate.metric: no metric is called 'macro_f2'. Did you mean 'macro_f1'?" in said


@pytest.mark.parametrize(
    ("task", "key", "name", "instead"),
    [
        ("classification", "evaluate__metrics", "rouge_l", "macro_f1"),
        ("classification", "evaluate__metrics", "mae", "macro_f1"),
        ("regression", "evaluate__metrics", "accuracy", "rmse"),
        ("generation", "evaluate__metrics", "macro_f1", "token_f1"),
        ("regression", "loss", "focal", "huber"),
        ("multilabel", "loss", "cross_entropy", "asymmetric"),
        ("classification", "loss", "huber", "cross_entropy"),
    ],
)
def test_a_metric_or_loss_for_another_task_is_refused_with_those_for_this_one(
    tmp_path: Path, refused: Refused, task: str, key: str, name: str, instead: str
) -> None:
    recipe = topic_recipe(tmp_path, ANY, task=task, evaluate={"resamples": 100}, **{key: [name] if "metrics" in key else name})

    said = refused(["train", str(recipe)], 2)

    assert said.startswith(f"topics: {'evaluate.metrics.0' if 'metrics' in key else 'loss'}: {name} supports ")
    assert f"not {task}. For {task} use one of: " in said
    assert instead in said


def test_a_gate_on_a_metric_for_another_task_is_refused(tmp_path: Path, refused: Refused) -> None:
    recipe = topic_recipe(tmp_path, ANY, evaluate__gate={"metric": "rmse", "beats": ["base"]})

    assert "topics: evaluate.gate.metric: rmse supports regression, not classification" in refused(["train", str(recipe)], 2)
