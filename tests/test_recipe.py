"""A recipe says what it means, or is refused with where, what, and what would be right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vertical_sdk.checking import check_recipe
from vertical_sdk.errors import RecipeError, UnknownName
from vertical_sdk.recipe import Recipe, load_recipe, parse_setting, recipe_names, recipe_schema

SMALL = """
name: my-task
task: classification
data:
  source: rows.csv
  columns: {text: words, label: kind}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(text: str, name: str = "task.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return put


def test_a_key_that_is_left_out_has_its_default(write: Write) -> None:
    recipe = load_recipe(write(SMALL))

    assert recipe.base == "minilm-l6"
    assert [part.use for part in recipe.data.clean] == ["normalize", "drop_duplicates"]
    assert recipe.evaluate.gate is None


def test_a_part_may_be_only_its_name(write: Write) -> None:
    short = load_recipe(write(SMALL + "loss: focal\n"))
    long = load_recipe(write(SMALL + "loss: {use: focal}\n"))

    assert short == long


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("bose: x", r"task\.yaml: unknown key 'bose'\. Did you mean 'base'\? Known here: name, task"),
        ("evaluate: {gate: {metrik: f1}}", r"unknown key 'evaluate\.gate\.metrik'\. Did you mean 'metric'\?"),
        ("evaluate: {gate: {}}", r"evaluate\.gate\.metric is missing"),
        ("head: {dropout: 2}", r"head\.dropout = 2 is wrong: it should be less than 1"),
        ("head: {init: zero}", r"head\.init = 'zero' is wrong: it should be 'probe' or 'random' \(Start from"),
        ("base: 7", r"base = 7 is wrong: it should be text; to mean the text, put it in quotes: '7'"),
        ("labels: [a, 1]", r"labels\.1 = 1 is wrong: it should be text; .*quotes: '1'"),
        ("labels: 4", r"labels = 4 is wrong: .*Labels in order"),
        ("loss: 3", r"loss = 3 is wrong: it should be a name, or \{use: name, argument: value\}"),
        ("loss: {gamma: 2}", r"loss\.use is missing"),
        ("evaluate: {metrics: [accuracy, 3]}", r"evaluate\.metrics\.1 = 3 is wrong: it should be a name, or"),
        ("evaluate: {baselines: [base, {}]}", r"evaluate\.baselines\.1\.use is missing"),
        ("evaluate: {metrics: accuracy}", r"evaluate\.metrics = 'accuracy' is wrong: it should be a list"),
        ("evaluate: 3", r"evaluate = 3 is wrong"),
        ("prompt: {user: {text}}", r"prompt\.user = \{'text': None\} is wrong: it should be text"),
        (
            "task: classify",
            r"task = 'classify' is wrong: it should be one of 'classification', 'multilabel', .*'\. Did you mean 'classification'\?$",
        ),
        ("extends: 3", r"extends must name one recipe, not 3"),
    ],
)
def test_a_wrong_key_or_value_says_where_and_what_would_be_right(write: Write, lines: str, says: str) -> None:
    text = SMALL.replace("task: classification\n", "") if lines.startswith("task") else SMALL

    with pytest.raises(RecipeError, match=says):
        load_recipe(write(text + lines + "\n"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("{}", r"data\.source is missing"),
        ("{source: 5}", r"data\.source = 5 is wrong: it should be text"),
        ("{source: [a.csv, b.csv]}", r"data\.source = \['a\.csv', 'b\.csv'\] is wrong: .*one for each split"),
        (
            "{source: {train: a.csv, dev: b.csv}}",
            r"unknown key 'data\.source\.dev'\. Known here: 'train', 'validation' or 'test'",
        ),
        ("{source: a.csv, columns: {txt: words}}", r"unknown key 'data\.columns\.txt'\. Known here: 'id', 'text'"),
        ("{source: a.csv, sha256: abc}", r"data\.sha256 = 'abc' is wrong"),
        ("{source: a.csv, limits: {lose: 0.1}}", r"unknown key 'data\.limits\.lose'\. Did you mean 'lost'\?"),
        ("{source: a.csv, clean: [{use: 3}]}", r"data\.clean\.0\.use = 3 is wrong"),
    ],
)
def test_wrong_data_says_where_and_what_would_be_right(write: Write, data: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load_recipe(write(f"name: my-task\ntask: classification\ndata: {data}\n"))


def test_all_wrong_keys_are_reported_together_once(write: Write) -> None:
    path = write("name: my-task\ntask: classification\nbose: x\ndata: {source: 5}\n")

    with pytest.raises(RecipeError) as caught:
        load_recipe(path)

    said = str(caught.value).replace(str(path), "task.yaml").splitlines()
    assert [line.split(" (")[0].split(" Known")[0] for line in said] == [
        "task.yaml: data.source = 5 is wrong: it should be text or be a mapping; to mean the text, put it in quotes: '5'",
        "task.yaml: unknown key 'bose'. Did you mean 'base'?",
    ]


@pytest.mark.parametrize("name", ["../up", "Medical/x", "a/b/c", "", "a b", "/etc"])
def test_a_name_with_other_characters_is_refused(write: Write, name: str) -> None:
    with pytest.raises(RecipeError, match="name = "):
        load_recipe(write(SMALL.replace("my-task", json.dumps(name))))


def test_a_number_may_be_written_with_an_exponent(write: Write) -> None:
    recipe = load_recipe(write(SMALL + "train: {learning_rate: 2e-4, weight_decay: 1E-2, lr: 2.5e+1, warmup_ratio: .1}\n"))

    assert recipe.train == {"learning_rate": 0.0002, "weight_decay": 0.01, "lr": 25.0, "warmup_ratio": 0.1}


def test_bare_words_mean_what_they_say(write: Write) -> None:
    recipe = load_recipe(write(SMALL + "labels: [no, on, 2024-01-31, '1', 012, 1:30, y]\n"))

    assert recipe.labels == ("no", "on", "2024-01-31", "1", "012", "1:30", "y")


def test_a_key_given_twice_is_refused(write: Write) -> None:
    with pytest.raises(RecipeError, match=r"the key 'base' is repeated.*line 8"):
        load_recipe(write(SMALL + "base: a\nbase: b\n"))


def test_a_tag_that_would_run_code_is_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not plain YAML"):
        load_recipe(write(SMALL + f"summary: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n"))

    assert not (tmp_path / "made").exists()


def test_a_file_that_unfolds_without_end_is_refused(write: Write) -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
    )

    with pytest.raises(RecipeError, match="expand to more than"):
        load_recipe(write(bomb))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a [*a]", "nested too deep|not plain YAML"),
        ("a: " + "[" * 5000, "nested too deep|not plain YAML"),
        ("- a\n- b", "this file contains a list"),
        ("", "this file contains nothing"),
        ("a: [", "not plain YAML"),
        ("{[1, 2]: 3}", "a key must be plain text"),
        ("a: !!binary aGVsbG8=", "not plain YAML"),
    ],
)
def test_yaml_other_than_a_plain_mapping_is_refused(write: Write, text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load_recipe(write(text))


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_bytes(b"\xff\xfe\x00name")

    with pytest.raises(RecipeError, match=r"task\.yaml: cannot be read"):
        load_recipe(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"gone\.yaml: no such file"):
        load_recipe(tmp_path / "gone.yaml")


def test_a_recipe_name_that_is_nearly_right_is_corrected() -> None:
    with pytest.raises(UnknownName, match=r"no recipe is called 'medical/icd-chaptr'\. Did you mean 'medical/icd-chapter'\?"):
        load_recipe("medical/icd-chaptr")


@pytest.mark.parametrize("name", ["../recipe", "", "medical", "medical/../medical/icd-chapter"])
def test_a_recipe_name_never_leaves_the_recipe_folders(name: str) -> None:
    with pytest.raises(UnknownName):
        load_recipe(name)


def test_a_recipe_may_change_some_keys_of_another(write: Write) -> None:
    write(SMALL + "loss: {use: focal, gamma: 3.0}\ntrain: {seed: 1, learning_rate: 2e-4}\n", "parent.yaml")
    recipe = load_recipe(write("extends: parent.yaml\nname: child\ntrain: {seed: 5}\nloss: {gamma: 1.0}\n"))

    assert recipe.name == "child"
    assert recipe.train == {"seed": 5, "learning_rate": 0.0002}
    assert recipe.loss is not None
    assert recipe.loss.arguments == {"gamma": 1.0}


def test_another_part_takes_none_of_the_arguments_of_the_one_it_replaces(write: Write) -> None:
    write(SMALL + "loss: {use: focal, gamma: 3.0}\n", "parent.yaml")
    recipe = load_recipe(write("extends: parent.yaml\nloss: {use: cross_entropy, smoothing: 0.1}\n"))

    assert recipe.loss is not None
    assert recipe.loss.arguments == {"smoothing": 0.1}


def test_arguments_alone_go_to_the_part_that_the_parent_names_in_short(write: Write) -> None:
    write(SMALL + "loss: focal\n", "parent.yaml")
    recipe = load_recipe(write("extends: parent.yaml\nloss: {gamma: 1.0}\n"))

    assert recipe.loss is not None
    assert (recipe.loss.use, recipe.loss.arguments) == ("focal", {"gamma": 1.0})


def test_extends_in_a_circle_is_refused(write: Write) -> None:
    write("extends: two.yaml\n", "one.yaml")
    write("extends: one.yaml\n", "two.yaml")

    with pytest.raises(RecipeError, match=r"extends goes in a circle: .*one\.yaml → .*two\.yaml → .*one\.yaml"):
        load_recipe(write("extends: one.yaml\n"))


def test_a_parent_that_is_not_there_is_named_with_the_file_that_wants_it(write: Write) -> None:
    with pytest.raises(RecipeError, match=r"task\.yaml: extends: .*gone\.yaml: no such file"):
        load_recipe(write("extends: gone.yaml\n"))
    with pytest.raises(UnknownName, match=r"task\.yaml: extends: no recipe is called 'medical/gone'"):
        load_recipe(write("extends: medical/gone\n"))


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train.learning_rate=1e-4", "train.learning_rate", 0.0001),
        ("base=Qwen/Qwen2.5-7B", "base", "Qwen/Qwen2.5-7B"),
        ("data.augment=[]", "data.augment", []),
        ("loss={use: focal, gamma: 1}", "loss", {"use": "focal", "gamma": 1}),
        ("prompt.user=a=b", "prompt.user", "a=b"),
        ("data.deidentify=null", "data.deidentify", None),
    ],
)
def test_a_setting_is_a_dotted_key_and_a_yaml_value(text: str, key: str, value: object) -> None:
    assert parse_setting(text) == (key, value)


@pytest.mark.parametrize("text", ["train.seed", "=3", "loss=[", "a=!!python/name:os.system"])
def test_a_setting_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="--set "):
        parse_setting(text)


def test_settings_reach_sections_parts_and_places_in_lists(write: Write) -> None:
    recipe = load_recipe(
        write(SMALL + "loss: focal\n"),
        {"train.seed": 3, "loss.gamma": 1.0, "data.clean.1.near": 0.8, "data.split.test": 0.3, "data.clean.0": "other"},
    )

    assert recipe.train == {"seed": 3}
    assert recipe.loss is not None
    assert recipe.loss.arguments == {"gamma": 1.0}
    assert [(part.use, part.arguments) for part in recipe.data.clean] == [("other", {}), ("drop_duplicates", {"near": 0.8})]
    assert (recipe.data.split.use, recipe.data.split.arguments) == ("stratified", {"test": 0.3})


def test_a_setting_may_give_what_the_file_lacks(write: Write) -> None:
    recipe = load_recipe(write("name: my-task\ntask: classification\n"), {"data.source": "rows.csv"})

    assert recipe.data.source == "rows.csv"


def test_settings_on_a_file_and_on_its_recipe_are_the_same(write: Write) -> None:
    settings = {"data.clean.1.near": 0.8, "base": "other"}

    assert load_recipe(write(SMALL), settings).digest == load_recipe(write(SMALL)).replace(settings).digest


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("data.clean.7.near", r"--set data\.clean\.7\.near: '7' is not a position in a list of 2 \(the first is 0\)"),
        ("data.clean.first", r"'first' is not a position"),
        ("name.x", r"--set name\.x: .* has no keys below it"),
        ("name.x.y", r"--set name\.x\.y: .* has no keys below it"),
        ("data..x", r"--set data\.\.x: write the key as section\.key"),
        ("trian.seed", r"unknown key 'trian'\. Did you mean 'train'\?"),
        ("head.droput", r"unknown key 'head\.droput'\. Did you mean 'dropout'\?"),
    ],
)
def test_a_setting_on_a_key_that_is_none_is_refused(write: Write, key: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load_recipe(write(SMALL), {key: 1})


def test_the_digest_hangs_on_what_a_recipe_means_and_not_on_how_it_is_written(write: Write) -> None:
    written = load_recipe(write(SMALL))
    other_way = load_recipe(
        write(
            "task: classification\nbase: minilm-l6\nname: my-task\n"
            "data: {columns: {label: kind, text: words}, source: rows.csv}\n"
        )
    )
    changed = written.replace({"train.seed": 1})

    assert written.digest == other_way.digest
    assert changed.digest != written.digest


def test_a_recipe_survives_the_way_through_plain_data(write: Write) -> None:
    recipe = load_recipe(write(SMALL + "loss: {use: focal, gamma: 3.0}\nlabels: {a: first, b: second}\n"))

    again = Recipe.model_validate(json.loads(json.dumps(recipe.to_dict())))

    assert again == recipe
    assert again.digest == recipe.digest


def test_the_schema_names_every_key_and_lets_a_part_be_a_name() -> None:
    schema = recipe_schema()

    assert set(schema["properties"]) == {*Recipe.model_fields, "extends"}
    assert schema["$defs"]["Part"]["anyOf"][0]["type"] == "string"
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_is_installed_passes_its_check(name: str) -> None:
    recipe = load_recipe(name)

    check_recipe(recipe)

    assert recipe.name == name
    assert recipe.summary


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("loss: focl", r"my-task: loss: no loss is called 'focl'\. Did you mean 'focal'\?"),
        ("loss: {use: focal, gama: 2}", r"my-task: loss: focal has no argument 'gama'\. It takes gamma: float = 2\.0"),
        ("evaluate: {metrics: [acuracy]}", r"evaluate\.metrics\.0: no metric is called 'acuracy'\. Did you mean 'accuracy'\?"),
        ("evaluate: {baselines: [tfidff]}", r"evaluate\.baselines\.0: no baseline is called 'tfidff'\. Did you mean 'tfidf'\?"),
        ("evaluate: {gate: {metric: acuracy}}", r"evaluate\.gate\.metric: no metric is called 'acuracy'"),
        (
            "evaluate: {baselines: [base], gate: {metric: accuracy, beats: [tfidf]}}",
            r"evaluate\.gate\.beats: 'tfidf' is not measured",
        ),
        ("adapter: {rank: 8}", r"my-task: adapter: unknown key 'rank'"),
        ("train: {learning_rat: 1}", r"my-task: train: unknown key 'learning_rat'\. Did you mean 'learning_rate'\?"),
        ("domain: medicl", r"no vertical is called 'medicl'\. Did you mean 'medical'\?"),
    ],
)
def test_parts_and_their_arguments_are_checked_before_any_weights_load(write: Write, lines: str, says: str) -> None:
    recipe = load_recipe(write(SMALL + lines + "\n"))

    with pytest.raises(RecipeError, match=says):
        check_recipe(recipe)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"task": "forecasting"}, "forecasting reads series"),
        ({"task": "generation", "data.modality": "image"}, "generation reads text"),
        ({"data.modality": "series", "evaluate.forgetting": {"budget": 0.1}}, "is measured on prose"),
        ({"data.modality": "image", "evaluate.baselines": ["base"]}, "base and tfidf read text"),
        ({"data.modality": "series", "evaluate.baselines": ["probe"], "ensemble": ["tfidf"]}, "base and tfidf read text"),
    ],
)
def test_keys_that_do_not_fit_the_modality_are_refused(keys: dict[str, object], said: str) -> None:
    plain = Recipe.model_validate({"name": "t", "task": "classification", "data": {"source": "x"}})
    with pytest.raises(RecipeError, match=said):
        check_recipe(plain.replace(keys))


def test_the_earlier_name_of_baselines_is_read(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text("name: topics\ntask: classification\ndata: {source: a.csv}\nevaluate: {against: [majority]}\n", "utf-8")

    recipes = [
        load_recipe(path),
        load_recipe(path, {"train.seed": 1}),
        Recipe.model_validate({**load_recipe(path).to_dict(), "evaluate": {"against": ["majority"]}}),
    ]

    assert [[part.use for part in recipe.evaluate.baselines] for recipe in recipes] == [["majority"]] * 3


@pytest.mark.parametrize("loss", ["pinball", {"use": "pinball"}])
def test_the_earlier_name_of_the_quantile_loss_is_read(loss: object) -> None:
    recipe = Recipe.model_validate({"name": "flow", "task": "forecasting", "data": {"source": "a.csv"}, "loss": loss})

    assert recipe.loss is not None
    assert recipe.loss.use == "quantile"


def test_both_names_of_baselines_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(
        "name: topics\ntask: classification\ndata: {source: a.csv}\nevaluate: {against: [majority], baselines: [tfidf]}\n",
        "utf-8",
    )

    with pytest.raises(RecipeError, match="against"):
        load_recipe(path)


def test_keys_of_crossfitting_are_in_a_recipe_only_if_it_uses_them() -> None:
    plain = load_recipe({"name": "x", "task": "classification", "data": {"source": "rows.csv"}})

    folded = plain.replace({"evaluate.use": "crossfit"})

    assert not {"use", "folds"} & plain.to_dict()["evaluate"].keys()
    assert (plain.folds, folded.folds, plain.replace({"evaluate.use": "crossfit", "evaluate.folds": 3}).folds) == (0, 5, 3)
    assert folded.digest != plain.digest
    assert folded.replace({"evaluate.use": "split"}).digest == plain.digest
    assert Recipe.model_validate(folded.to_dict()) == folded


def test_recipe_that_extends_another_keeps_its_other_keys_of_evaluate(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("extends: finance/news-sentiment\nevaluate: {use: crossfit, folds: 4}\n")

    recipe = load_recipe(tmp_path / "own.yaml")

    assert recipe.folds == 4
    assert recipe.evaluate.metrics == load_recipe("finance/news-sentiment").evaluate.metrics


def test_start_is_part_of_a_recipe_only_if_it_is_set(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(SMALL + "start: ../runs/first\n", encoding="utf-8")

    started = load_recipe(tmp_path / "task.yaml")
    fresh = started.replace({"start": None})

    assert started.start == str(tmp_path.parent / "runs/first")
    assert load_recipe(tmp_path / "task.yaml", {"start": "medical/language@2"}).start == "medical/language@2"
    assert "start" not in fresh.to_dict()
    assert Recipe.model_validate(started.to_dict()) == started
    with pytest.raises(RecipeError, match="start"):
        started.replace({"start": ""})
