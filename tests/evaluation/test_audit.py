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
from vertical_sdk.evaluation.audit import Audited, find_general_model, group_audit, group_names, label_audit
from vertical_sdk.evaluation.result import Evaluation, Gap, GroupAudit
from vertical_sdk.evaluation.statistics import Bootstrap
from vertical_sdk.metrics import bind
from vertical_sdk.outputs import Outputs
from vertical_sdk.tasks import get_task
from vertical_sdk.types import Cell, Example, LabelSpace

ABC = LabelSpace(("a", "b", "c"))
CREDIT = LabelSpace(("pays", "defaults"))


def outputs_of(positions: Sequence[int] | NDArray[np.int64], size: int) -> Outputs:
    """Outputs of a system that is certain of these labels; -1 is a missing answer."""
    return Outputs(probabilities=np.array([np.eye(size)[p] if p >= 0 else np.zeros(size) for p in positions]))


def measure(truth: Any, task: Any = "classification") -> Callable[[str, Outputs], Callable[[Any], float]]:
    def bind_metric(name: str, outputs: Outputs) -> Callable[[Any], float]:
        metric, predictions = bind(name), get_task(task).predictions(outputs)
        return lambda rows: metric(
            predictions[rows], truth[rows], None if outputs.probabilities is None else outputs.probabilities[rows]
        )

    return bind_metric


def people_rows(**fields: Sequence[Cell]) -> list[Example]:
    return [
        Example(id=str(i), record=tuple(zip(fields, cells, strict=True)))
        for i, cells in enumerate(zip(*fields.values(), strict=True))
    ]


def test_measured_probe_represents_the_general_model() -> None:
    assert find_general_model(["adapter", "base", "probe"]) == "probe"
    assert find_general_model(["adapter", "base"]) == "base"
    assert find_general_model(["adapter", "tfidf"]) is None


def test_each_label_gains_or_loses_by_its_own_f1() -> None:
    truth = np.repeat([0, 1, 2], 40)
    own = truth.copy()
    own[40:80:2] = 2  # half of b is predicted as c
    baseline = truth.copy()
    baseline[0:40:2] = 2  # half of a is predicted as c

    result = label_audit(
        Audited(outputs_of(own, 3), outputs_of(baseline, 3), truth, ABC, "classification", "probe", Bootstrap(200))
    )

    assert result.baseline == "probe"
    assert [(change.label, change.n, change.verdict) for change in result.labels] == [
        ("a", 40, "gained"),
        ("c", 40, "not sure"),
        ("b", 40, "lost"),
    ]
    f1 = dict(zip("abc", sk.f1_score(truth, own, average=None), strict=True))
    assert {change.label: change.own for change in result.labels} == pytest.approx(f1)
    assert result.labels[0].difference.value == pytest.approx(1 - 2 / 3)  # F1 of the baseline: 2 * 20 / (20 + 40)
    assert result.labels[0].difference.low > 0


def test_label_with_few_rows_gets_no_verdict() -> None:
    truth = np.array([0] * 50 + [1] * 5)

    result = label_audit(
        Audited(outputs_of(truth, 3), outputs_of([0] * 55, 3), truth, ABC, "classification", resampling=Bootstrap(200))
    )

    assert [(change.label, change.verdict) for change in result.labels] == [("a", "gained"), ("b", "not sure")]


def test_labels_of_multilabel_rows_are_audited_separately() -> None:
    truth = np.array([[1, 1, 0], [0, 1, 0]] * 20)
    baseline = Outputs(probabilities=np.array([[1.0, 0, 0], [0, 1, 0]] * 20))

    result = label_audit(
        Audited(Outputs(probabilities=truth.astype(float)), baseline, truth, ABC, "multilabel", resampling=Bootstrap(200))
    )

    assert [(change.label, change.n, change.own, round(change.baseline, 3), change.verdict) for change in result.labels] == [
        ("b", 40, 1.0, round(2 / 3, 3), "gained"),
        ("a", 20, 1.0, 1.0, "not sure"),
    ]


def test_numbers_are_grouped_by_bounds_and_unknown_values_apart() -> None:
    rows = people_rows(age=[24.0, 25.0, 44.9, 45.0, None, "old"])

    assert group_names(rows, "age", (45, 25)) == [
        "below 25",
        "25 to below 45",
        "25 to below 45",
        "45 and more",
        "unknown",
        "unknown",
    ]
    assert group_names(people_rows(sex=["f", "m", None, 1.0]), "sex") == ["f", "m", "unknown", "1"]


def test_rarest_of_many_values_form_one_group() -> None:
    names = group_names(people_rows(town=[f"t{i % 20}" for i in range(20)] + ["t19", "t19", None]), "town")

    assert names.count("t19") == 3
    assert names.count("others") == 9  # 20 towns, of which 11 are groups of their own
    assert names[-1] == "unknown"


# Two groups of 40. In f 20 of 40 default, in m 10 of 40.
SEX = ["f"] * 40 + ["m"] * 40
DEFAULTS = np.array([1] * 20 + [0] * 20 + [1] * 10 + [0] * 30)
# The specialist predicts 18 of 20 defaults in f (and 4 of 20 wrongly), 5 of 10 in m (and 3 of 30 wrongly).
OWN = np.array([1] * 18 + [0] * 2 + [1] * 4 + [0] * 16 + [1] * 5 + [0] * 5 + [1] * 3 + [0] * 27)
NO_DEFAULTS = np.zeros(80, dtype=np.int64)


def audit(own: Outputs, baseline: Outputs | None, rows: list[Example], **fields: tuple[float, ...]) -> GroupAudit:
    audited = Audited(own, baseline, DEFAULTS, CREDIT, "classification", resampling=Bootstrap(200))
    return group_audit(audited, rows, fields, "accuracy", measure(DEFAULTS))


def test_rates_and_gaps_equal_those_counted_by_hand() -> None:
    result = audit(outputs_of(OWN, 2), outputs_of(NO_DEFAULTS, 2), people_rows(sex=SEX), sex=())

    f, m = result.fields[0].groups
    assert (result.metric, result.baseline, result.positive) == ("accuracy", "base", "defaults")
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
    assert result.fields[0].gaps == {
        "demographic_parity": Gap(pytest.approx(22 / 40 - 8 / 40), 0.0),
        "equal_opportunity": Gap(pytest.approx(18 / 20 - 5 / 10), 0.0),
        "predictive_equality": Gap(pytest.approx(4 / 20 - 3 / 30), 0.0),
    }


def test_auc_of_a_group_equals_scikit_learn_and_needs_two_classes() -> None:
    chance = np.random.default_rng(0).uniform(size=80).round(1)
    own = Outputs(probabilities=np.stack([1 - chance, chance], axis=1))
    only_payers = ["yes" if default else "no" for default in DEFAULTS]

    by_sex, by_outcome = audit(own, None, people_rows(sex=SEX, defaulted=only_payers), sex=(), defaulted=()).fields

    assert by_sex.groups[0].auc == pytest.approx(sk.roc_auc_score(DEFAULTS[:40], chance[:40]))
    assert by_sex.groups[1].auc == pytest.approx(sk.roc_auc_score(DEFAULTS[40:], chance[40:]))
    assert [(group.group, group.auc) for group in by_outcome.groups] == [("no", None), ("yes", None)]
    assert by_outcome.groups[0].true_positive_rate is None
    assert by_outcome.groups[1].false_positive_rate is None


def test_gaps_use_known_groups_with_enough_rows() -> None:
    few = ["d"] * 9 + [None] * 11 + SEX[20:]

    result = audit(outputs_of(OWN, 2), None, people_rows(sex=few), sex=()).fields[0]

    assert [(group.group, group.n) for group in result.groups] == [("d", 9), ("f", 20), ("m", 40), ("unknown", 11)]
    assert result.gaps["demographic_parity"] == Gap(pytest.approx(abs(4 / 20 - 8 / 40)), None)
    assert result.gaps["equal_opportunity"] == Gap(None, None)  # no row of f defaults; only m has a rate


def test_group_without_baseline_gets_no_verdict() -> None:
    row = audit(outputs_of(OWN, 2), None, people_rows(sex=SEX), sex=()).fields[0].groups[0]

    assert (row.baseline, row.difference, row.verdict) == (None, None, "not sure")


def test_lower_error_counts_as_gained() -> None:
    truth = np.zeros(40)
    own, baseline = Outputs(values=np.full(40, 0.5)), Outputs(values=np.full(40, 2.0))

    result = group_audit(
        Audited(own, baseline, truth, None, "regression", resampling=Bootstrap(200)),
        people_rows(site=["x", "y"] * 20),
        {"site": ()},
        "mae",
        measure(truth, "regression"),
    )

    assert [(group.group, group.own, group.baseline, group.verdict) for group in result.fields[0].groups] == [
        ("x", 0.5, 2.0, "gained"),
        ("y", 0.5, 2.0, "gained"),
    ]
    assert result.fields[0].gaps == {}


def test_rows_of_one_person_are_resampled_together() -> None:
    by_person = [str(i // 20) for i in range(80)]
    alone = audit(outputs_of(OWN, 2), outputs_of(NO_DEFAULTS, 2), people_rows(sex=["f"] * 80), sex=())

    together = group_audit(
        Audited(
            outputs_of(OWN, 2),
            outputs_of(NO_DEFAULTS, 2),
            DEFAULTS,
            CREDIT,
            "classification",
            resampling=Bootstrap(200, groups=by_person),
        ),
        people_rows(sex=["f"] * 80),
        {"sex": ()},
        "accuracy",
        measure(DEFAULTS),
    )

    wide, narrow = (result.fields[0].groups[0].difference for result in (together, alone))
    assert wide is not None
    assert narrow is not None
    assert wide.high - wide.low > narrow.high - narrow.low


def test_missing_answer_counts_for_no_label() -> None:
    result = audit(outputs_of([-1] * 40 + [1] * 40, 2), None, people_rows(sex=SEX), sex=()).fields[0]

    assert result.groups[0].predicted == {"pays": 0.0, "defaults": 0.0}
    assert result.groups[0].true_positive_rate == 0.0


def test_unknown_field_is_refused_with_a_suggestion() -> None:
    with pytest.raises(DataError, match="Did you mean 'sex'"):
        audit(outputs_of(OWN, 2), None, people_rows(sex=SEX), sxe=())


def test_audits_survive_json() -> None:
    labels = label_audit(
        Audited(outputs_of(OWN, 2), outputs_of(NO_DEFAULTS, 2), DEFAULTS, CREDIT, "classification", resampling=Bootstrap(100))
    )
    full = Evaluation(
        name="finance/credit",
        task="classification",
        rows=80,
        label_audit=labels,
        group_audit=audit(outputs_of(OWN, 2), outputs_of(NO_DEFAULTS, 2), people_rows(sex=SEX), sex=()),
        abstention={"adapter": [(0.5, 0.9, 0.8), (1.0, 0.8, 0.5)]},
        curves={"equity": {"title": "Equity", "x": "day", "y": "worth", "lines": {"ours": [["2020-01-02", 1.0]]}}},
    )
    alone = replace(full, group_audit=audit(outputs_of(OWN, 2), None, people_rows(sex=SEX), sex=()))

    for evaluation in (full, alone):
        assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))) == evaluation
