import re
import socket
from datetime import date
from typing import Any

import pytest

from vertical_sdk.catalog import deidentifiers
from vertical_sdk.data.deidentify import find_pii, presidio
from vertical_sdk.data.surrogates import Surrogates
from vertical_sdk.errors import MissingExtra, RecipeError
from vertical_sdk.types import Example, Message

pytest.importorskip("presidio_analyzer")

NOTE = (
    "Call (617) 867-5309 or jsmith@mayo.org, SSN 536-90-4399, card 4111 1111 1111 1111, IBAN GB82 WEST 1234 5698 7654 32, "
    "from 8.8.8.8, see https://mayo.org/x/y on 3/4/2021 and 3/14/2021. Again: jsmith@mayo.org."
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def deidentified(text: str, seed: int = 0, row: str = "1", **options: Any) -> str:
    kept, _ = presidio([Example(row, text, "label")], seed, names=False, **options)
    return kept[0].text


def luhn(number: str) -> bool:
    digits = [int(c) for c in number if c.isdigit()][::-1]
    return sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits)) % 10 == 0


def test_every_pattern_is_found_and_counted() -> None:
    kept, account = presidio(
        [Example("1", NOTE, "label"), Example("2", "nothing here", "label")], 0, names=False, on_hit="mask"
    )

    assert kept[0].text == (
        "Call [PHONE_NUMBER] or [EMAIL_ADDRESS], SSN [US_SSN], card [CREDIT_CARD], IBAN [IBAN_CODE], "
        "from [IP_ADDRESS], see [URL] on [DATE_TIME] and [DATE_TIME]. Again: [EMAIL_ADDRESS]."
    )
    assert kept[1].text == "nothing here"
    assert account.notes == {
        "PHONE_NUMBER": 1,
        "EMAIL_ADDRESS": 2,
        "US_SSN": 1,
        "CREDIT_CARD": 1,
        "IBAN_CODE": 1,
        "IP_ADDRESS": 1,
        "URL": 1,
        "DATE_TIME": 2,
    }
    assert account.adds_up


def test_an_invented_value_has_the_form_of_the_original() -> None:
    text = deidentified(NOTE)

    match = re.fullmatch(
        r"Call (\(\d{3}\) 555-01\d\d) or (\S+@example\.com), SSN (9\d\d-\d\d-\d{4}), card (4\d{3} \d{4} \d{4} \d{4}), "
        r"IBAN (GB\d\d [A-Z]{4} \d{4} \d{4} \d{4} \d\d), from (192\.0\.2\.\d+), see (https://www\.example\.com/\w+) "
        r"on (\d+/\d+/\d{4}) and (\d+/\d+/\d{4})\. Again: (\S+)\.",
        text,
    )
    assert match, text
    assert luhn(match[4])
    iban = match[5].replace(" ", "")
    assert int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 == 1
    assert match[2] == match[10]
    assert not re.search(r"smith|mayo|867|4399|1111 1111|5698", text)


def test_dates_of_a_document_move_together() -> None:
    first, second = re.findall(r"(\d+)/(\d+)/(\d+)", deidentified("from 3/4/2021 to 3/14/2021"))

    days = [date(int(y), int(m), int(d)) for m, d, y in (first, second)]
    assert (days[1] - days[0]).days == 10
    assert 30 <= abs((days[0] - date(2021, 3, 4)).days) <= 365


def test_another_seed_or_document_gives_other_values() -> None:
    text = "mail jsmith@mayo.org"

    made = {deidentified(text, seed, row) for seed in (0, 1) for row in ("1", "2")}

    assert len(made) == 4
    assert deidentified(text) == deidentified(text)


def test_a_conversation_has_one_value_for_one_value() -> None:
    turns = (Message("user", "I am jsmith@mayo.org"), Message("assistant", "Noted: jsmith@mayo.org"))

    kept, account = presidio([Example("1", messages=turns)], 0, names=False)

    first, second = (turn.content.split()[-1] for turn in kept[0].messages)
    assert first == second != "jsmith@mayo.org"
    assert account.changed == {"EMAIL_ADDRESS invented": 1}


def test_rows_can_be_dropped_instead() -> None:
    kept, account = presidio([Example("1", "at a@mayo.org"), Example("2", "fine")], 0, names=False, on_hit="drop")

    assert [e.id for e in kept] == ["2"]
    assert account.dropped == {"contains EMAIL_ADDRESS": 1}


def test_only_the_kinds_asked_for_are_touched() -> None:
    text = deidentified("at a@mayo.org on 3/4/2021", entities=("EMAIL_ADDRESS",), on_hit="mask")

    assert text == "at [EMAIL_ADDRESS] on 3/4/2021"


def test_a_word_before_a_number_makes_it_surer() -> None:
    assert "[US_SSN]" in deidentified("social security number 536904399", on_hit="mask")
    assert deidentified("lot 536904399 of saline", on_hit="mask") == "lot 536904399 of saline"


@pytest.mark.parametrize(
    "text",
    [
        "Fracture of left femur, initial encounter",
        "BP 120/80, 5 mg b.i.d., HbA1c 7.2%",
        "Type 2 diabetes mellitus",
        "Dr. e.g. i.e.",
    ],
)
def test_clinical_text_without_personal_data_stays(text: str) -> None:
    assert deidentified(text) == text


def test_wrong_options_say_what_would_be_right() -> None:
    with pytest.raises(RecipeError, match=r"no entity is called 'EMAIL_ADRESS'\. Did you mean 'EMAIL_ADDRESS'"):
        presidio([], 0, entities=("EMAIL_ADRESS",))
    with pytest.raises(RecipeError, match="names are found in English only"):
        presidio([], 0, language="de")
    with pytest.raises(RecipeError, match="PERSON cannot be found by patterns"):
        presidio([], 0, names=False, entities=("PERSON",))
    assert deidentifiers.check("presidio", {"entities": ["URL"], "on_hit": "mask"}) == {"entities": ("URL",), "on_hit": "mask"}


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "presidio_analyzer", None)

    with pytest.raises(MissingExtra, match=r"needs the extra 'deidentify': pip install .*\[deidentify\]"):
        find_pii(["a@b.org"])


def test_patterns_are_counted_for_a_check() -> None:
    assert find_pii(["a@mayo.org", "b@mayo.org and 8.8.8.8", "x"]) == {"EMAIL_ADDRESS": 2, "IP_ADDRESS": 1}


def test_a_name_is_the_same_person_throughout() -> None:
    from faker import Faker

    surrogates = Surrogates(Faker("en_US"), 0, "1")

    full = surrogates.replace("PERSON", "John Q. Smith").split()
    assert surrogates.replace("PERSON", "Smith") == full[2]
    assert surrogates.replace("PERSON", "JOHN") == full[0].upper()
    assert surrogates.replace("PERSON", "Smith's") == f"{full[2]}'s"
    assert full[1] == "Q."
    assert not {"John", "Smith"} & set(full)


@pytest.mark.network
def test_names_and_places_are_found_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    text = "John Smith was seen in Boston. His wife says that Smith sleeps badly."

    kept, account = presidio([Example("1", text)], 0, on_hit="mask")

    assert kept[0].text == "[PERSON] was seen in [LOCATION]. His wife says that [PERSON] sleeps badly."
    assert account.notes == {"PERSON": 2, "LOCATION": 1}
