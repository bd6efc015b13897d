from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from vertical_sdk.errors import DataError
from vertical_sdk.evaluation.audit import general_model, group_audit, group_names, label_audit
from vertical_sdk.evaluation.result import Evaluation, Gap, GroupAudit
from vertical_sdk.metrics import bind
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Cell, Example, LabelSpace

ABC = LabelSpace(("a", "b", "c"))
CREDIT = LabelSpace(("pays", "defaults"))


def said(positions: Sequence[int] | NDArray[np.int64], size: int) -> Outputs:
    """A system that is sure of these labels; -1 is no answer."""
    return Outputs(probabilities=np.array([np.eye(size)[p] if p >= 0 else np.zeros(size) for p in positions]))


def measure(truth: Any, task: Any = "classification") -> Callable[[str, Outputs], Callable[[Any], float]]:
    def of(name: str, outputs: Outputs) -> Callable[[Any], float]:
        metric, predictions = bind(name), get_task(task).predictions(outputs)
        return lambda rows: metric(
            predictions[rows], truth[rows], None if outputs.probabilities is None else outputs.probabilities[rows]
        )

    return of


def people(**fields: Sequence[Cell]) -> list[Example]:
    return [
        Example(id=str(i), record=tuple(zip(fields, cells, strict=True)))
        for i, cells in enumerate(zip(*fields.values(), strict=True))
    ]


def test_the_probe_stands_for_the_general_model_where_it_was_measured() -> None:
    assert general_model(["adapter", "base", "probe"]) == "probe"
    assert general_model(["adapter", "base"]) == "base"
    assert general_model(["adapter", "tfidf"]) is None


def test_each_label_is_gained_or_lost_by_its_own_f1() -> None:
    truth = np.repeat([0, 1, 2], 40)
    own = truth.copy()
    own[40:80:2] = 2  # half of b is taken for c
    baseline = truth.copy()
    baseline[0:40:2] = 2  # half of a is taken for c

    found = label_audit(said(own, 3), said(baseline, 3), truth, ABC, "classification", baseline_name="probe", resamples=200)

    assert found.baseline == "probe"
    assert [(one.label, one.n, one.verdict) for one in found.labels] == [
        ("a", 40, "gained"),
        ("c", 40, "not sure"),
        ("b", 40, "lost"),
    ]
    f1 = dict(zip("abc", sk.f1_score(truth, own, average=None), strict=True))
    assert {one.label: one.own for one in found.labels} == pytest.approx(f1)
    assert found.labels[0].difference.value == pytest.approx(1 - 2 / 3)  # F1 of the baseline: 2 * 20 / (20 + 40)
    assert found.labels[0].difference.low > 0


def test_nothing_is_said_for_sure_of_a_label_with_few_rows() -> None:
    truth = np.array([0] * 50 + [1] * 5)

    found = label_audit(said(truth, 3), said([0] * 55, 3), truth, ABC, "classification", baseline_name="base", resamples=200)

    assert [(one.label, one.verdict) for one in found.labels] == [("a", "gained"), ("b", "not sure")]


def test_labels_of_multilabel_rows_are_audited_one_by_one() -> None:
    truth = np.array([[1, 1, 0], [0, 1, 0]] * 20)
    baseline = Outputs(probabilities=np.array([[1.0, 0, 0], [0, 1, 0]] * 20))

    found = label_audit(
        Outputs(probabilities=truth.astype(float)), baseline, truth, ABC, "multilabel", baseline_name="base", resamples=200
    )

    assert [(one.label, one.n, one.own, round(one.baseline, 3), one.verdict) for one in found.labels] == [
        ("b", 40, 1.0, round(2 / 3, 3), "gained"),
        ("a", 20, 1.0, 1.0, "not sure"),
    ]


def test_numbers_fall_between_bounds_and_what_is_not_known_stands_apart() -> None:
    rows = people(age=[24.0, 25.0, 44.9, 45.0, None, "old"])

    assert group_names(rows, "age", (45, 25)) == [
        "below 25",
        "25 to below 45",
        "25 to below 45",
        "45 and more",
        "unknown",
        "unknown",
    ]
    assert group_names(people(sex=["f", "m", None, 1.0]), "sex") == ["f", "m", "unknown", "1"]


def test_of_many_values_the_rarest_stand_together() -> None:
    names = group_names(people(town=[f"t{i % 20}" for i in range(20)] + ["t19", "t19", None]), "town")

    assert names.count("t19") == 3
    assert names.count("others") == 9  # 20 towns, of which 11 are kept
    assert names[-1] == "unknown"


# Two groups of 40. In f 20 of 40 default, in m 10 of 40.
SEX = ["f"] * 40 + ["m"] * 40
DEFAULTS = np.array([1] * 20 + [0] * 20 + [1] * 10 + [0] * 30)
# The specialist finds 18 of 20 in f (4 of 20 wrongly), 5 of 10 in m (3 of 30 wrongly).
OWN = np.array([1] * 18 + [0] * 2 + [1] * 4 + [0] * 16 + [1] * 5 + [0] * 5 + [1] * 3 + [0] * 27)
NOBODY = np.zeros(80, dtype=np.int64)


def audit(own: Outputs, baseline: Outputs | None, rows: list[Example], **fields: tuple[float, ...]) -> GroupAudit:
    return group_audit(
        own,
        baseline,
        DEFAULTS,
        rows,
        fields,
        labels=CREDIT,
        task="classification",
        metric="accuracy",
        measure=measure(DEFAULTS),
        resamples=200,
    )


def test_rates_and_gaps_of_two_groups_are_those_counted_by_hand() -> None:
    found = audit(said(OWN, 2), said(NOBODY, 2), people(sex=SEX), sex=())

    f, m = found.fields[0].groups
    assert (found.metric, found.baseline, found.positive) == ("accuracy", "base", "defaults")
    assert (f.group, f.n, f.truth, f.predicted) == (
        "f",
        40,
        {"pays": 0.5, "defaults": 0.5},
        {"pays": pytest.approx(18 / 40), "defaults": pytest.approx(22 / 40)},
    )
    assert (f.true_positive_rate, f.false_positive_rate) == (pytest.approx(18 / 20), pytest.approx(4 / 20))
    assert (m.true_positive_rate, m.false_positive_rate) == (pytest.approx(5 / 10), pytest.approx(3 / 30))
    assert (f.own, f.baseline, f.verdict) == (pytest.approx(34 / 40), 0.5, "gained")
    assert (m.own, m.baseline, m.verdict) == (pytest.approx(32 / 40), 0.75, "not sure")
    assert f.difference is not None
    assert f.difference.value == pytest.approx(14 / 40)
    assert found.fields[0].gaps == {
        "demographic_parity": Gap(pytest.approx(22 / 40 - 8 / 40), 0.0),
        "equal_opportunity": Gap(pytest.approx(18 / 20 - 5 / 10), 0.0),
        "predictive_equality": Gap(pytest.approx(4 / 20 - 3 / 30), 0.0),
    }


def test_the_auc_of_a_group_is_that_of_scikit_learn_and_none_for_one_class() -> None:
    chance = np.random.default_rng(0).uniform(size=80).round(1)
    own = Outputs(probabilities=np.stack([1 - chance, chance], axis=1))
    only_payers = ["yes" if default else "no" for default in DEFAULTS]

    by_sex, by_outcome = audit(own, None, people(sex=SEX, defaulted=only_payers), sex=(), defaulted=()).fields

    assert by_sex.groups[0].auc == pytest.approx(sk.roc_auc_score(DEFAULTS[:40], chance[:40]))
    assert by_sex.groups[1].auc == pytest.approx(sk.roc_auc_score(DEFAULTS[40:], chance[40:]))
    assert [(one.group, one.auc) for one in by_outcome.groups] == [("no", None), ("yes", None)]
    assert by_outcome.groups[0].true_positive_rate is None
    assert by_outcome.groups[1].false_positive_rate is None


def test_gaps_are_taken_over_known_groups_with_enough_rows() -> None:
    few = ["d"] * 9 + [None] * 11 + SEX[20:]

    found = audit(said(OWN, 2), None, people(sex=few), sex=()).fields[0]

    assert [(one.group, one.n) for one in found.groups] == [("d", 9), ("f", 20), ("m", 40), ("unknown", 11)]
    assert found.gaps["demographic_parity"] == Gap(pytest.approx(abs(4 / 20 - 8 / 40)), None)
    assert found.gaps["equal_opportunity"] == Gap(None, None)  # of f none default now; m is alone


def test_a_group_without_a_baseline_is_neither_gained_nor_lost() -> None:
    row = audit(said(OWN, 2), None, people(sex=SEX), sex=()).fields[0].groups[0]

    assert (row.baseline, row.difference, row.verdict) == (None, None, "not sure")


def test_of_an_error_less_is_gained() -> None:
    truth = np.zeros(40)
    own, baseline = Outputs(values=np.full(40, 0.5)), Outputs(values=np.full(40, 2.0))

    found = group_audit(
        own,
        baseline,
        truth,
        people(site=["x", "y"] * 20),
        {"site": ()},
        labels=None,
        task="regression",
        metric="mae",
        measure=measure(truth, "regression"),
        resamples=200,
    )

    assert [(one.group, one.own, one.baseline, one.verdict) for one in found.fields[0].groups] == [
        ("x", 0.5, 2.0, "gained"),
        ("y", 0.5, 2.0, "gained"),
    ]
    assert found.fields[0].gaps == {}


def test_rows_of_one_person_are_drawn_together() -> None:
    by_person = [str(i // 20) for i in range(80)]
    alone = audit(said(OWN, 2), said(NOBODY, 2), people(sex=["f"] * 80), sex=())

    together = group_audit(
        said(OWN, 2),
        said(NOBODY, 2),
        DEFAULTS,
        people(sex=["f"] * 80),
        {"sex": ()},
        labels=CREDIT,
        task="classification",
        metric="accuracy",
        measure=measure(DEFAULTS),
        resamples=200,
        groups=by_person,
    )

    wide, narrow = (found.fields[0].groups[0].difference for found in (together, alone))
    assert wide is not None
    assert narrow is not None
    assert wide.high - wide.low > narrow.high - narrow.low


def test_a_missing_answer_is_no_label() -> None:
    found = audit(said([-1] * 40 + [1] * 40, 2), None, people(sex=SEX), sex=()).fields[0]

    assert found.groups[0].predicted == {"pays": 0.0, "defaults": 0.0}
    assert found.groups[0].true_positive_rate == 0.0


def test_a_field_that_no_row_has_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match="Did you mean 'sex'"):
        audit(said(OWN, 2), None, people(sex=SEX), sxe=())


def test_audits_survive_json() -> None:
    labels = label_audit(said(OWN, 2), said(NOBODY, 2), DEFAULTS, CREDIT, "classification", baseline_name="base", resamples=100)
    full = Evaluation(
        name="finance/credit",
        task="classification",
        rows=80,
        label_audit=labels,
        group_audit=audit(said(OWN, 2), said(NOBODY, 2), people(sex=SEX), sex=()),
        abstention={"adapter": [(0.5, 0.9, 0.8), (1.0, 0.8, 0.5)]},
        curves={"equity": {"title": "Equity", "x": "day", "y": "worth", "lines": {"ours": [["2020-01-02", 1.0]]}}},
    )
    alone = replace(full, group_audit=audit(said(OWN, 2), None, people(sex=SEX), sex=()))

    for one in (full, alone):
        assert Evaluation.from_dict(json.loads(json.dumps(one.to_dict(), allow_nan=False))) == one
