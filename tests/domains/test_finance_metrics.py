import inspect
import math
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef, roc_auc_score, roc_curve

from vertical_sdk.errors import DataError, RecipeError
from vertical_sdk.metrics.measure import bind, draw_curve, higher_is_better
from vertical_sdk.types import Example

RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 2, 200)
BAD = (0.3 * TRUTH + RNG.random(200)).clip(0, 1.3) / 1.3
BOTH = np.stack([1 - BAD, BAD], axis=1)


def m(name: str, *given: object, **options: object) -> float:
    """Measure with the metric's own parameters, in their order; rows are prepared."""
    measure = bind(f"finance.{name}", arguments=options)
    parameters = ["rows" if key == "facts" else key for key in inspect.signature(measure.part.function).parameters]
    values = {"predictions": None, "references": None, **dict(zip(parameters, given, strict=False))}
    return measure(**values)


def test_an_applicant_is_refused_from_a_sixth_on() -> None:
    bad = np.array([0.10, 0.16, 0.17, 0.90])
    truth = np.array([0, 1, 0, 1])

    found = m("cost", np.stack([1 - bad, bad], axis=1), truth)

    assert found == (0 + 5 + 1 + 0) / 4


def test_costs_of_three_labels_choose_the_cheapest_decision() -> None:
    costs = ((0, 1, 9), (1, 0, 1), (9, 1, 0))
    torn = np.array([[0.5, 0.0, 0.5]])

    assert [m("cost", torn, np.array([k]), costs=costs) for k in range(3)] == [1, 0, 1]
    with pytest.raises(RecipeError, match="3 rows of 3 are needed"):
        m("cost", torn, np.array([0]))


def test_separation_is_what_scikit_learn_finds() -> None:
    false, true, _ = roc_curve(TRUTH, BAD)

    assert m("ks", BOTH, TRUTH) == pytest.approx(float((true - false).max()))
    assert m("gini", BOTH, TRUTH) == pytest.approx(2 * roc_auc_score(TRUTH, BAD) - 1)
    assert np.isnan(m("ks", BOTH[:3], np.zeros(3, int)))


def test_alarms_find_the_most_likely_first() -> None:
    bad = np.array([0.9, 0.8, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    truth = np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 0])
    both = np.stack([1 - bad, bad], axis=1)

    assert m("recall_at_alarms", both, truth, share=0.1) == pytest.approx(1 / 3)
    assert m("recall_at_alarms", both, truth, share=0.3) == pytest.approx(2 / 3)
    assert m("recall_at_alarms", both, truth, share=1.0) == 1
    assert np.isnan(m("recall_at_alarms", both, np.zeros(10, int)))


def test_alarms_among_equals_find_their_share() -> None:
    both = np.full((40, 2), 0.5)

    assert m("recall_at_alarms", both, np.arange(40) % 2, share=0.25) == pytest.approx(0.25)


def people(*facts: tuple[object, object]) -> list[Example]:
    return [Example(str(n), record=(("sex", sex), ("age", age))) for n, (sex, age) in enumerate(facts)]  # type: ignore[arg-type]


ROWS = people(("f", 20.0), ("f", 30.0), ("f", 70.0), ("m", 29.0), ("m", 45.0), ("m", None), (None, 50.0))
SAID = np.array([0, 1, 1, 0, 0, 1, 0])
MEANT = np.array([0, 0, 1, 0, 1, 0, 0])
ANY = np.zeros((7, 2))


def test_gaps_between_words_of_a_field() -> None:
    parity = m("parity_gap", SAID, ANY, ROWS, field="sex", least=1)
    opportunity = m("opportunity_gap", SAID, MEANT, ANY, ROWS, field="sex", least=1)

    assert parity == pytest.approx(2 / 3 - 1 / 3)
    assert opportunity == pytest.approx(0)


def test_gaps_between_numbers_by_bounds() -> None:
    """Under 30: 2 of 2; 30 to 45: 0 of 1; from 45: 2 of 3."""
    assert m("parity_gap", SAID, ANY, ROWS, field="age", bounds=(30, 45), least=1) == pytest.approx(1)
    assert m("parity_gap", SAID, ANY, ROWS, field="age", bounds=(30, 45), least=2) == pytest.approx(1 / 3)
    assert np.isnan(m("parity_gap", SAID, ANY, ROWS, field="age", bounds=(30, 45), least=4))


def test_gaps_of_decisions_by_cost() -> None:
    bad = np.array([0.1, 0.1, 0.3, 0.3, 0.3, 0.3, 0.3])

    found = m("parity_gap", SAID, np.stack([1 - bad, bad], 1), ROWS, field="sex", least=1, costs=((0, 1), (5, 0)))

    assert found == pytest.approx(2 / 3)


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match=r"row 0: its record has no field 'race'\. It has sex, age"):
        m("parity_gap", SAID, ANY, ROWS, field="race")
    with pytest.raises(RecipeError, match="has bounds, but a row contains 'f'"):
        m("parity_gap", SAID, ANY, ROWS, field="sex", bounds=(1,))


def test_direction_leaves_out_returns_that_have_none() -> None:
    said, true = np.array([0.1, -0.2, 0.0, 0.3, 5.0]), np.array([0.02, 0.01, -0.03, 0.0, -0.01])

    assert m("direction_accuracy", said, true) == 0.5
    assert m("direction_accuracy", said, true, least=0.015) == 1
    assert np.isnan(m("direction_accuracy", said, np.zeros(5)))


def test_direction_correlation_is_what_scikit_learn_finds() -> None:
    said, true = RNG.normal(size=300), RNG.normal(size=300)
    said = said + true

    assert m("direction_mcc", said, true) == pytest.approx(matthews_corrcoef(true > 0, said > 0))
    assert m("direction_mcc", np.ones(300), true) == 0


def shares(*held: tuple[str, int]) -> list[Example]:
    return [Example(f"{t}{d}", record=(("ticker", t), ("date", f"2024-01-{d:02d}"))) for t, d in held]


HELD = shares(("A", 2), ("B", 2), ("A", 3), ("B", 3), ("A", 4))
CHANGES = np.array([0.02, -0.04, 0.01, 0.03, -0.02])
BETS = np.array([0.5, -0.1, 0.5, 0.2, -7.0])
# Days: +0.5 * 0.02 + 0.5 * 0.04 = 0.03; 0.5 * 0.01 + 0.5 * 0.03 = 0.02; 1 * 0.02 = 0.02.
GROSS = (0.03, 0.02, 0.02)
# Traded: 0.5 + 0.5; A stays, B from -0.5 to +0.5; A from 0.5 to -1, B from 0.5 to 0.
TRADED = (1.0, 1.0, 2.0)


def net(costs_bp: float) -> list[float]:
    return [gross - costs_bp / 10_000 * traded for gross, traded in zip(GROSS, TRADED, strict=True)]


def a_year(days: Sequence[float]) -> float:
    return math.exp(252 * sum(math.log1p(day) for day in days) / len(days)) - 1


@pytest.mark.parametrize("costs_bp", [0.0, 10.0, 100.0])
def test_the_back_test_matches_a_calculation_by_hand(costs_bp: float) -> None:
    days = net(costs_bp)
    mean = sum(days) / 3
    spread = math.sqrt(sum((day - mean) ** 2 for day in days) / 3)

    assert m("backtest_return", BETS, CHANGES, HELD, costs_bp=costs_bp) == pytest.approx(a_year(days))
    assert m("backtest_sharpe", BETS, CHANGES, HELD, costs_bp=costs_bp) == pytest.approx(mean / spread * math.sqrt(252))


def test_the_excess_is_over_holding_everything() -> None:
    """Held long: -0.01, 0.02, -0.02; traded 1, nothing, then A from 0.5 to 1 and B from 0.5 to none."""
    hold = [-0.01 - 0.001, 0.02, -0.02 - 0.001]

    assert m("excess_return", BETS, CHANGES, HELD) == pytest.approx(a_year(net(10)) - a_year(hold))
    assert m("excess_return", np.ones(5), CHANGES, HELD) == 0


def test_a_drawdown_is_from_peak_to_trough() -> None:
    rows = shares(*(("A", day) for day in range(2, 7)))

    found = m("backtest_drawdown", np.ones(5), np.array([0.1, -0.2, -0.1, 0.5, -0.1]), rows, costs_bp=0)

    assert found == pytest.approx(1 - 0.8 * 0.9)
    assert m("backtest_drawdown", np.ones(2), np.array([0.1, 0.1]), rows[:2], costs_bp=0) == 0


def test_the_order_of_rows_does_not_matter() -> None:
    order = np.array([3, 0, 4, 2, 1])
    rows = [HELD[i] for i in order]

    for name in ("backtest_return", "backtest_sharpe", "backtest_drawdown", "excess_return"):
        assert m(name, BETS[order], CHANGES[order], rows) == pytest.approx(m(name, BETS, CHANGES, HELD))


def test_a_day_that_was_drawn_twice_counts_twice_and_its_portfolio_once() -> None:
    twice = np.array([0, 1, 0, 1, 2, 3, 4])
    days = net(10)

    found = m("backtest_return", BETS[twice], CHANGES[twice], [HELD[i] for i in twice])

    assert found == pytest.approx(a_year([days[0], *days]))


def test_all_rows_drawn_twice_change_nothing() -> None:
    twice = np.repeat(np.arange(5), 2)

    for name in ("backtest_return", "backtest_sharpe", "backtest_drawdown", "excess_return"):
        assert m(name, BETS[twice], CHANGES[twice], [HELD[i] for i in twice]) == pytest.approx(m(name, BETS, CHANGES, HELD))


def test_a_portfolio_without_positions_earns_nothing() -> None:
    for name in ("backtest_return", "backtest_drawdown"):
        assert m(name, np.zeros(5), CHANGES, HELD) == 0
    assert np.isnan(m("backtest_sharpe", np.zeros(5), CHANGES, HELD))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Example("7", record=(("ticker", "A"),)), "row 7 has no date"),
        (Example("8", time="2024-01-02"), "row 8 has no ticker"),
    ],
)
def test_rows_without_their_facts_are_refused(row: Example, message: str) -> None:
    with pytest.raises(DataError, match=message):
        m("backtest_return", BETS[:1], CHANGES[:1], [row])


def test_costs_gaps_and_drawdowns_are_better_when_lower() -> None:
    less = {"cost", "parity_gap", "opportunity_gap", "backtest_drawdown"}
    more = {"ks", "gini", "recall_at_alarms", "direction_accuracy", "direction_mcc", "backtest_return", "backtest_sharpe"}

    assert {name for name in less | more if not higher_is_better(f"finance.{name}")} == less


def test_the_back_test_draws_the_value_of_one_invested() -> None:
    rows = [
        Example(f"{day}{ticker}", "t", record=(("ticker", ticker), ("date", f"2014-01-0{day}")))
        for day in (2, 3)
        for ticker in ("A", "B")
    ]
    returns = np.array([0.1, -0.1, 0.2, 0.0])

    drawn = draw_curve("finance.backtest_return", np.array([1.0, -1.0, 1.0, 1.0]), returns, rows, {"costs_bp": 0.0})

    assert drawn is not None
    assert drawn["lines"][""] == [("2014-01-02", 1.1), ("2014-01-03", 1.21)]  # both signs right; then half of .2 and half of 0
    assert drawn["lines"]["buy and hold"] == [("2014-01-02", 1.0), ("2014-01-03", 1.1)]
