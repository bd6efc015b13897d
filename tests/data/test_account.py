import pytest

from vertical_sdk.data.account import Account, StepAccount, Tally
from vertical_sdk.errors import DataError
from vertical_sdk.recipe import Limits


def test_every_row_is_somewhere() -> None:
    tally = Tally("clean")
    tally.drop("1", "empty")
    tally.set_aside("2", "over the cap")
    tally.add("3+1", "copy")
    tally.change("3", "white space")

    account = tally.close(rows_in=4, rows_out=3)

    assert account.adds_up
    assert (account.dropped, account.set_aside, account.added, account.changed) == (
        {"empty": 1},
        {"over the cap": 1},
        {"copy": 1},
        {"white space": 1},
    )


def test_a_step_that_loses_a_row_without_a_word_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="does not add up"):
        Tally("clean").close(rows_in=2, rows_out=1)


def test_only_a_few_rows_of_a_reason_are_written_out() -> None:
    tally = Tally("clean")
    for number in range(9):
        tally.drop(str(number), "empty")

    account = tally.close(9, 0)

    assert len(account.rows["empty"]) == 9
    assert account.to_dict()["examples"] == {"empty": ["0", "1", "2", "3", "4"]}


def test_rows_set_aside_are_not_lost() -> None:
    steps = (
        StepAccount("read", 10, 9, dropped={"no label": 1}, rows={"no label": ("7",)}),
        StepAccount("split", 9, 4, set_aside={"training-only": 5}),
        StepAccount("decontaminate", 4, 3, dropped={"repeats": 1}, rows={"repeats": ("2",)}),
    )

    assert Account(steps).lost == pytest.approx(0.2)


def test_more_loss_than_allowed_says_what_and_how_much() -> None:
    account = Account((StepAccount("read", 10, 7, dropped={"no label": 3}, rows={"no label": ("1", "4", "7")}),))

    account.check(Limits(lost=0.3))
    with pytest.raises(DataError, match=r"30\.0% of the 10 rows .* read: 3 no label \(rows 1, 4, 7\)"):
        account.check(Limits(lost=0.2))


def test_a_step_that_has_something_to_say_about_itself_keeps_it() -> None:
    tally = Tally("deidentify")
    tally.about = "Names are not looked for."

    assert tally.close(1, 1).to_dict()["about"] == "Names are not looked for."
    assert "about" not in Tally("clean").close(1, 1).to_dict()
