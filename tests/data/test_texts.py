from vertical_sdk.data.clean import drop_duplicates
from vertical_sdk.data.texts import fold_text
from vertical_sdk.types import Example


def test_case_matters_in_a_molecule_but_not_in_a_sentence() -> None:
    rows = [
        Example("1", "C1CCCCC1", "no"),
        Example("2", "c1ccccc1", "yes"),
        Example("3", "A cat", "no"),
        Example("4", "a  CAT", "no"),
    ]

    kept, account = drop_duplicates(rows)

    assert [e.id for e in kept] == ["1", "2", "3"]
    assert account.dropped == {"duplicate": 1}
    assert fold_text(" Word ") == "word"
