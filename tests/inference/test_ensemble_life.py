"""A specialist of records with members: trained, judged, published, loaded and asked as one."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import write_csv

from vertical_sdk import VerticalModel, evaluate, train
from vertical_sdk.adapters.folder import read_adapter
from vertical_sdk.baselines.stacking import ENSEMBLE
from vertical_sdk.calibration.temperature import to_probabilities
from vertical_sdk.card import read_card, write_card
from vertical_sdk.checking import check_recipe
from vertical_sdk.cli import main
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import CorruptAdapter, DataError, GateFailed, RecipeError
from vertical_sdk.recipe import Recipe, load_recipe
from vertical_sdk.registry import Registry
from vertical_sdk.types import Example


def applicants(n: int, seed: int) -> list[tuple[str, ...]]:
    """Debt decides, age a little; the occupation says nothing."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        debt, age = rng.gauss(5, 2), rng.randint(18, 80)
        bad = debt + (1.5 if age < 30 else 0) + rng.gauss(0, 0.7) > 5.5
        rows.append((f"{debt:.2f}", str(age), rng.choice(["nurse", "clerk"]), "bad" if bad else "good"))
    return rows


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("records")
    data = write_csv(folder / "applicants.csv", applicants(400, 0), ("debt", "age", "job", "risk"))
    recipe = {
        "name": "risk",
        "task": "classification",
        "base": str(encoder),
        "labels": ["good", "bad"],
        "data": {
            "source": str(data),
            "columns": {"label": "risk"},
            "reader": {"use": "table", "record": {"debt": "debt", "age": "age", "job": "occupation"}},
            "clean": [{"use": "normalize"}],
            "decontaminate": None,
            "augment": [{"use": "shuffle_fields", "p": 1.0}],
            "max_length": 48,
            "limits": {"unknown": 1.0},
        },
        "ensemble": [{"use": "boosted_trees", "n_estimators": 60}, {"use": "probe"}],
        "adapter": {"r": 4},
        "train": {"max_steps": 10, "per_device_train_batch_size": 16, "learning_rate": 0.01, "bf16": False},
        "evaluate": {
            "metrics": ["auc", "accuracy"],
            "baselines": ["probe", {"use": "boosted_trees", "n_estimators": 60}, "majority"],
            "groups": {"occupation": [], "age": [30, 60]},
            "forgetting": {"budget": 1.0},
            "resamples": 100,
            "gate": {"metric": "auc", "beats": ["majority"]},
        },
    }
    (folder / "risk.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return train(folder / "risk.yaml", out=folder / "run").path


ASKED = [{"debt": 9.0, "age": 25, "occupation": "nurse"}, {"debt": 1.0, "age": 50, "occupation": "clerk"}]


def test_the_whole_is_published_loaded_and_asked_as_one(run: Path, tmp_path: Path) -> None:
    evaluate(run)
    registry = Registry(tmp_path / "registry")
    registry.publish(run)
    shutil.move(run / "adapter", tmp_path / "elsewhere")  # only what was published is left

    try:
        bad, good = VerticalModel.from_registry("risk@1", registry).predict(ASKED)
    finally:
        shutil.move(tmp_path / "elsewhere", run / "adapter")

    assert (bad.label, good.label) == ("bad", "good")
    assert bad.probabilities["bad"] > 0.8
    assert good.probabilities["bad"] < 0.2


def test_the_members_decide_where_the_adapter_knows_nothing(run: Path) -> None:
    model = VerticalModel.from_pretrained(run)
    rows = [Example("1", "debt: 9; age: 25; occupation: nurse", record=tuple(ASKED[0].items()))]

    fused, alone = model.outputs(rows), model.outputs(rows, fused=False)

    kept = read_adapter(run / "adapter").ensemble
    assert kept is not None
    trees = kept.members[0].predict(rows, None).probabilities
    assert trees is not None
    assert kept.weights[1] > kept.weights[0]
    assert to_probabilities(fused)[0, 1] > to_probabilities(alone)[0, 1]
    assert set(kept.shares) == {"adapter", "boosted_trees", "probe"}


def test_the_evaluation_shows_the_whole_its_adapter_and_each_member(run: Path) -> None:
    found = evaluate(run)
    published = Registry(run.parent / "registry").publish(run, force=True, reason="a test")

    assert {"adapter", "alone", "members", "probe", "boosted_trees", "majority"} == set(found.systems)
    assert found.systems["adapter"].title == "specialist (adapter + boosted trees + linear probe of the base)"
    assert found.systems["adapter"].metrics["auc"].value > 0.9
    assert found.group_audit is not None
    assert [table.name for table in found.group_audit.fields] == ["occupation", "age"]
    assert found.forgetting is not None
    assert found.gate is not None
    assert any("recall@1" in reason for reason in found.gate.reasons)
    readme = (published.path / "README.md").read_text(encoding="utf-8")
    assert "| specialist (adapter + boosted trees + linear probe of the base) |" in readme
    assert "together with its members" in readme
    assert 'model.predict([{"debt": ..., "age": ..., "occupation": ...}])' in readme
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "What was forgotten" in page
    assert "occupation" in page


def test_the_members_are_measured_without_the_adapter(run: Path) -> None:
    from sklearn.metrics import roc_auc_score

    found = evaluate(run)

    ensemble = read_adapter(run / "adapter").ensemble
    assert ensemble is not None
    assert ensemble.without is not None
    model = VerticalModel.from_pretrained(run)
    rows = prepare(model.adapter.recipe).test
    logs = [np.log(member.predict(rows, model.engine.general("risk")).probabilities) for member in ensemble.members]  # type: ignore[arg-type]
    pooled = sum(weight * log for weight, log in zip(ensemble.without.weights, logs, strict=True)) + ensemble.without.bias
    truth = [row.target == "bad" for row in rows]
    assert found.systems["members"].title == "its members alone (boosted trees + linear probe of the base)"
    assert found.systems["members"].metrics["auc"].value == pytest.approx(roc_auc_score(truth, pooled[:, 1] - pooled[:, 0]))
    test = next(test for test in found.tests if (test.baseline, test.metric) == ("members", "auc"))
    assert test.difference.value == pytest.approx(
        found.systems["adapter"].metrics["auc"].value - found.systems["members"].metrics["auc"].value
    )
    assert found.contribution is not None
    assert found.contribution["alternative"] in {"members", "boosted_trees"}


def test_a_default_gate_fails_a_specialist_that_only_ties_with_its_members(run: Path, tmp_path: Path) -> None:
    """The gate of the fixture names the majority, and passes; the same run under the default gate is compared with the best."""
    shutil.copytree(run, tmp_path / "run")
    card = read_card(tmp_path / "run" / "adapter")
    recipe = Recipe.model_validate({**card.recipe, "evaluate": {**card.recipe["evaluate"], "gate": None}})
    write_card(
        tmp_path / "run" / "adapter",
        card.model_copy(update={"recipe": recipe.to_dict(), "recipe_digest": recipe.digest}),
    )

    named, default = evaluate(run), evaluate(tmp_path / "run")

    assert named.gate is not None
    assert default.gate is not None
    assert default.contribution is not None
    assert set(default.validation) == {"probe", "boosted_trees", "majority"}
    assert max(default.validation, key=default.validation.__getitem__) == "boosted_trees"
    assert named.gate.passed
    assert not default.gate.passed
    assert default.gate.reasons[0].startswith(
        "Compared with boosted_trees, the best system without an adapter on the validation rows"
    )
    assert default.contribution["outcome"] != "adds"
    with pytest.raises(GateFailed, match=r"alone did (as well|better).*; an adapter is not worth it here"):
        Registry(tmp_path / "registry").publish(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "an adapter is not worth it here" in page


def test_terminal_card_and_publish_say_that_an_adapter_is_not_worth_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(run)
    assert found.contribution is not None
    assert found.contribution["outcome"] != "adds"

    assert main(["evaluate", str(run)]) == 0
    shown = capsys.readouterr().out
    assert main(["registry", "publish", str(run), "--registry", str(tmp_path / "registry")]) == 0
    told = capsys.readouterr().err

    said = found.contribution["text"]
    assert "an adapter is not worth it here" in said
    assert said in " ".join(shown.split())
    assert said in " ".join(told.split())
    readme = (Registry(tmp_path / "registry").resolve("risk@1").path / "README.md").read_text(encoding="utf-8")
    assert "an adapter is not worth it here" in readme


def test_the_card_says_which_fields_are_read(run: Path) -> None:
    fields = read_card(run / "adapter").fields

    assert [(field.name, field.in_text, field.words) for field in fields] == [
        ("debt", True, False),
        ("age", True, False),
        ("occupation", True, True),
    ]


def test_a_file_is_answered_as_its_records_are(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_csv(tmp_path / "new.csv", [("odd", "25.0", "9.004"), ("", "NA", "1")], ("risk", "age", "debt"))
    records = [{"debt": 9.004, "age": 25}, {"debt": 1.0, "age": None, "occupation": float("nan")}]

    assert main(["predict", str(run), "--data", str(data), "--json"]) == 0

    told = capsys.readouterr()
    answers = [json.loads(line) for line in told.out.splitlines()]
    expected = VerticalModel.from_pretrained(run).predict(records)
    assert [answer["probabilities"] for answer in answers] == [prediction.probabilities for prediction in expected]
    assert [answer["text"] for answer in answers] == [
        "debt: 9; age: 25; occupation: unknown",
        "debt: 1; age: unknown; occupation: unknown",
    ]
    assert "rows without the columns job, which count as unknown: 2" in told.err


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("debt: 9", "reads records.*debt, age, occupation"),
        ({"dept": 9}, "unknown field 'dept'"),
        ({"debt": "much"}, "should be a number"),
        ({}, "no field has a value"),
    ],
    ids=str,
)
def test_an_input_that_is_not_a_record_is_refused(run: Path, asked: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        VerticalModel.from_pretrained(run).predict([asked])  # type: ignore[list-item]


def test_a_changed_byte_in_the_members_is_found(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "adapter", tmp_path / "adapter")
    path = tmp_path / "adapter" / ENSEMBLE
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))

    with pytest.raises(CorruptAdapter, match=ENSEMBLE):
        VerticalModel.from_pretrained(tmp_path / "adapter")


def test_the_command_line_asks_with_json_and_with_a_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_csv(tmp_path / "new.csv", [("9", "25", "nurse"), ("1", "50", "clerk")], ("debt", "age", "job"))

    assert main(["predict", str(run), *map(json.dumps, ASKED), "--json"]) == 0
    typed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(["predict", str(run), "--data", str(rows), "--json"]) == 0
    read = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [row["label"] for row in typed] == [row["label"] for row in read] == ["bad", "good"]
    assert np.allclose([row["probabilities"]["bad"] for row in typed], [row["probabilities"]["bad"] for row in read], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ensemble": ["boosted_tree"]}, "boosted_tree"),
        ({"ensemble": [{"use": "tfidf", "c": 1}]}, "no argument 'c'"),
        ({"task": "generation", "ensemble": ["tfidf"]}, "cannot be pooled"),
    ],
    ids=str,
)
def test_a_wrong_member_is_refused_before_anything_loads(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"name": "own", "task": "classification", "data": {"source": "x.csv"}}), encoding="utf-8")

    with pytest.raises(RecipeError, match=said):
        check_recipe(load_recipe(path, settings))
