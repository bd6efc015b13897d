"""A baseline that is registered outside the library works as a comparison system and as a stored member of an ensemble."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import write_csv

from vertical_sdk import VerticalModel, catalog, evaluate, train
from vertical_sdk.adapters.folder import read_adapter
from vertical_sdk.baselines.fitted import Arrays, save_arrays
from vertical_sdk.checking import check_recipe
from vertical_sdk.errors import RecipeError
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Part, load_recipe
from vertical_sdk.types import Example, LabelSpace, TaskName


@dataclass(frozen=True, eq=False)
class DebtRule:
    """Predicts the second label by how much a debt is above a limit."""

    limit: float
    steepness: float

    def predict(self, rows: Sequence[Example], base: Any) -> Outputs:
        debts = np.array([float(dict(row.record)["debt"] or 0) for row in rows])
        bad = 1 / (1 + np.exp(-self.steepness * (debts - self.limit)))
        return Outputs(probabilities=np.stack([1 - bad, bad], axis=1))

    def to_arrays(self) -> Arrays:
        return {"rule": np.array([self.limit, self.steepness])}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> DebtRule:
        return cls(*map(float, arrays["rule"]))


def fit_debt_rule(
    train: Sequence[Example], labels: LabelSpace | None, task: TaskName, seed: int, base: Any, *, steepness: float = 2.0
) -> DebtRule:
    """Put the limit half-way between the mean debts of the two labels."""
    means = [np.mean([float(dict(r.record)["debt"] or 0) for r in train if r.target == label]) for label in ("good", "bad")]
    return DebtRule(float(np.mean(means)), steepness)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """Register the rule, with all that the library needs to know about it in one place."""
    catalog.baselines.register("debt_rule", tasks=("classification",), title="rule of debt", saves_as=DebtRule, classical=0)(
        fit_debt_rule
    )
    catalog.baselines.register("unstored_rule", tasks=("classification",), title="rule that is not stored")(fit_debt_rule)
    yield
    for name in ("debt_rule", "unstored_rule"):
        catalog.baselines._parts.pop(name)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    rng = random.Random(0)
    debts = [rng.gauss(5, 2) for _ in range(240)]
    rows = [(f"{debt:.2f}", "bad" if debt + rng.gauss(0, 0.7) > 5 else "good") for debt in debts]
    recipe = {
        "name": "risk",
        "task": "classification",
        "base": str(encoder),
        "labels": ["good", "bad"],
        "data": {
            "source": str(write_csv(folder / "applicants.csv", rows, ("debt", "risk"))),
            "columns": {"label": "risk"},
            "reader": {"use": "table", "record": {"debt": "debt"}},
            "decontaminate": None,
            "max_length": 32,
            "limits": {"unknown": 1.0},  # the tiny base knows no numbers
        },
        "ensemble": [{"use": "debt_rule", "steepness": 3.0}],
        "adapter": {"r": 4},
        "train": {"max_steps": 2, "per_device_train_batch_size": 16, "bf16": False},
        "evaluate": {"metrics": ["accuracy"], "baselines": ["majority", "debt_rule"], "resamples": 100},
    }
    (folder / "risk.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return train(folder / "risk.yaml", out=folder / "run").path


def test_an_outside_baseline_is_measured_under_its_title(run: Path) -> None:
    evaluation = evaluate(run)

    assert evaluation.systems["debt_rule"].title == "rule of debt"
    assert evaluation.systems["debt_rule"].metrics["accuracy"].value > 0.8
    assert evaluation.systems["adapter"].title == "specialist (adapter + rule of debt)"
    assert evaluation.baseline == "debt_rule"  # its rank is lower than that of majority


def test_an_outside_member_predicts_the_same_after_loading(run: Path) -> None:
    rows = [Example(str(debt), f"debt: {debt}", record=(("debt", float(debt)),)) for debt in range(10)]

    ensemble = read_adapter(run / "adapter").ensemble
    answers = VerticalModel.from_pretrained(run).predict([{"debt": 9.0}, {"debt": 1.0}])

    assert ensemble is not None
    assert ensemble.parts == (Part(use="debt_rule", steepness=3.0),)
    (member,) = ensemble.members
    assert isinstance(member, DebtRule)
    assert member.steepness == 3.0
    expected = 1 / (1 + np.exp(-3.0 * (np.arange(10) - member.limit)))
    assert member.predict(rows, None).probabilities[:, 1] == pytest.approx(expected)
    assert [answer.label for answer in answers] == ["bad", "good"]


def test_options_of_an_outside_baseline_are_checked(run: Path) -> None:
    with pytest.raises(RecipeError, match=r"evaluate\.baselines\.0: debt_rule has no argument 'stepness'\. It takes steepness"):
        check_recipe(load_recipe(run.parent / "risk.yaml", {"evaluate.baselines": [{"use": "debt_rule", "stepness": 1}]}))


def test_a_baseline_without_saves_as_cannot_be_a_member() -> None:
    with pytest.raises(
        RecipeError, match=r"^ensemble\.0: unstored_rule cannot be stored, so it cannot be a member of an ensemble\."
    ):
        save_arrays("unstored_rule", DebtRule(0.0, 1.0), "ensemble.0")
