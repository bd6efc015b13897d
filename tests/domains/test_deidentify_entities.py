"""The kinds of personal data that verticals add. All values are made up, or are examples that their issuers print."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from vertical_sdk.catalog import deidentifiers
from vertical_sdk.errors import RecipeError
from vertical_sdk.types import Example, Message

presidio = pytest.importorskip("presidio_analyzer.predefined_recognizers")

PARTS = ["medical.identifiers", "finance.identifiers", "legal.identifiers"]


def after(part: str, text: str, seed: int = 0, **options: Any) -> str:
    kept, account = deidentifiers.get(part)([Example("1", text, "label")], seed, **options)
    assert account.adds_up
    return str(kept[0].text)


def masked(part: str, text: str, **options: Any) -> str:
    return after(part, text, on_hit="mask", **options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MRN: 00456123, seen today", "MRN: [MEDICAL_RECORD_NUMBER], seen today"),
        ("medical record number is AB-12345", "medical record number is [MEDICAL_RECORD_NUMBER]"),
        ("Hospital No. H123456", "Hospital No. [MEDICAL_RECORD_NUMBER]"),
        ("chart #88-12-34", "chart #[MEDICAL_RECORD_NUMBER]"),
        ("member ID W2345678901", "member ID [HEALTH_INSURANCE_NUMBER]"),
        ("insurance number: XYZ-1234567", "insurance number: [HEALTH_INSURANCE_NUMBER]"),
        ("card says 1EG4-TE5-MK73", "card says [HEALTH_INSURANCE_NUMBER]"),
        ("NHS number 943 476 5919", "NHS number [UK_NHS]"),
        ("his NHS no is 9434765919", "his NHS no is [UK_NHS]"),
        ("lies in bed 12 of Ward 7B, room 312-A", "lies in bed [BED_OR_WARD] of Ward [BED_OR_WARD], room [BED_OR_WARD]"),
        ("mail a@mayo.org on 3/4/2021", "mail [EMAIL_ADDRESS] on [DATE_TIME]"),
    ],
)
def test_names_and_numbers_of_a_patient_are_found(text: str, expected: str) -> None:
    assert masked("medical.identifiers", text) == expected


CHINESE = {
    "患者病历号：MR20230001，住院号 0045612": "患者病历号：[MEDICAL_RECORD_NUMBER]，住院号 [MEDICAL_RECORD_NUMBER]",
    "医保卡号１２３４５６７８９，12床、床号：3": "医保卡号[HEALTH_INSURANCE_NUMBER]，[BED_OR_WARD]床、床号：[BED_OR_WARD]",
    "病人MRN: 00456123请核对": "病人MRN: [MEDICAL_RECORD_NUMBER]请核对",
    "本院300床位，住院3天，门诊2024年": "本院300床位，住院3天，门诊2024年",
}


@pytest.mark.parametrize("text", CHINESE)
def test_numbers_of_a_patient_in_chinese_are_found_by_their_label(text: str) -> None:
    assert masked("medical.identifiers", text) == CHINESE[text]


def test_numbers_of_a_case_and_of_an_account_in_chinese_are_found() -> None:
    legal = masked("legal.identifiers", "（2023）京01民终1234号判决，执业证号11101201510123456")
    finance = masked("finance.identifiers", "转入账号1234567890123，共1234567890123元")

    assert legal == "[CASE_NUMBER]判决，执业证号[BAR_NUMBER]"
    assert finance == "转入账号[BANK_ACCOUNT]，共1234567890123元"
    assert re.fullmatch(r"（\d{4}）京\d\d民终\d{4}号", after("legal.identifiers", "（2023）京01民终1234号"))


@pytest.mark.parametrize(
    "text",
    [
        "bed rest for 3 days; put to bed 3 days ago; bed 3x a day",
        "SpO2 98% on room air, ward round at 9, embedded 4",
        "MRN not known. A 45 year old patient, record of 12 visits, chart reviewed",
        "a group of 1200 patients; policy of 2019",
        "BP 120/80, HbA1c 7.2%, K 4.1, Na 1380",
    ],
)
def test_counts_of_a_clinician_stay(text: str) -> None:
    assert masked("medical.identifiers", text) == text


def test_an_nhs_number_with_a_wrong_check_digit_is_none() -> None:
    assert "[UK_NHS]" not in masked("medical.identifiers", "NHS number 943 476 5918")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("account number 12345678", "account number [BANK_ACCOUNT]"),
        ("Acct. 00-123-4567 is closed", "Acct. [BANK_ACCOUNT] is closed"),
        ("from her account, to 9876543210987", "from her account, to [BANK_ACCOUNT]"),
        ("routing number 021000021", "routing number [ABA_ROUTING_NUMBER]"),
        ("ABA: 0210-0002-1", "ABA: [ABA_ROUTING_NUMBER]"),
        ("SWIFT code DEUTDEFF500", "SWIFT code [BIC]"),
        ("BIC/SWIFT: CHASUS33", "BIC/SWIFT: [BIC]"),
        ("IBAN GB82 WEST 1234 5698 7654 32", "IBAN [IBAN_CODE]"),
        ("card 4111 1111 1111 1111", "card [CREDIT_CARD]"),
        ("mail a@bank.com or call (617) 867-5309", "mail [EMAIL_ADDRESS] or call [PHONE_NUMBER]"),
    ],
)
def test_numbers_of_an_account_are_found(text: str, expected: str) -> None:
    assert masked("finance.identifiers", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "$AAPL and MSFT up, NYSE: IBM down, BRK.B flat",
        "EARNINGS BEAT: REVENUES and DIVIDEND up in FY2021",
        "net income of 12,345,678 and 98765432 shares",
        "an account of 12345678 dollars",
        "the quarter to March 31, 2021 and a bond due 3/4/2031",
        "card 4111 1111 1111 1112",
        "DEUTDEFF rallied",
    ],
)
def test_market_terms_stay(text: str) -> None:
    assert masked("finance.identifiers", text) == text


def test_a_routing_number_with_a_wrong_check_digit_or_district_is_none() -> None:
    for number in ("021000022", "500000005"):
        assert masked("finance.identifiers", f"routing number {number}", entities=("ABA_ROUTING_NUMBER",)).endswith(number)


def test_dates_are_moved_in_finance_only_where_they_are_asked_for() -> None:
    assert masked("finance.identifiers", "on 3/4/2021", entities=("DATE_TIME",)) == "on [DATE_TIME]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Smith v. Jones, No. 21-cv-01234", "[PARTY] v. [PARTY], No. [CASE_NUMBER]"),
        ("Case C-311/18 and 1:21-cv-00077-ABC", "Case [CASE_NUMBER] and [CASE_NUMBER]"),
        ("Docket No. 2019-CA-5512; Application no. 12345/06.", "Docket No. [CASE_NUMBER]; Application no. [CASE_NUMBER]."),
        ("No. 19-1392", "No. [CASE_NUMBER]"),
        ("(SBN 245678), Cal. Bar No. 123456", "(SBN [BAR_NUMBER]), Cal. Bar No. [BAR_NUMBER]"),
        ("In Marbury v. Madison the Court held", "In [PARTY] v. [PARTY] the Court held"),
        ("See Mary Brown v. Acme Widgets, Inc., 410 U.S. 113", "See [PARTY] v. [PARTY], 410 U.S. 113"),
        ("Brown v. Board of Education of Topeka, 347", "[PARTY] v. [PARTY], 347"),
        ("R v Dudley and Stephens", "[PARTY] v [PARTY]"),
        ("W. T. Grant Co. v. O'Neil; Roe vs. Wade", "[PARTY] v. [PARTY]; [PARTY] vs. [PARTY]"),
        ("Ford Motor Co. et al. v. Green", "[PARTY] et al. v. [PARTY]"),
        ("Ford Motor Co. of Canada, Ltd. v. Green", "[PARTY] v. [PARTY]"),
    ],
)
def test_numbers_of_a_case_are_found(text: str, expected: str) -> None:
    assert masked("legal.identifiers", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The Board met. Section 4 v. 5, version v. 2, see id. at 12",
        "Party A shall pay Party B under clause 12.3 (No. 4)",
        "the state bar and a bar of 10 metres; 410 U.S. 113 (1973)",
    ],
)
def test_counts_of_a_contract_stay(text: str) -> None:
    assert masked("legal.identifiers", text) == text


def test_a_party_is_found_again_by_any_word_of_its_name() -> None:
    text = "Mary Smith v. Acme Widgets, Inc. Smith says that Acme lied. The company, Inc. or not, denies it."

    assert masked("legal.identifiers", text) == (
        "[PARTY] v. [PARTY] [PARTY] says that [PARTY] lied. The company, Inc. or not, denies it."
    )


def test_a_party_has_one_made_up_name_throughout_and_keeps_what_kind_of_party_it_is() -> None:
    turns = (Message("user", "Who won in Mary Smith v. Acme Foundry, Inc.?"), Message("assistant", "Smith won; Acme lost."))

    kept, _ = deidentifiers.get("legal.identifiers")([Example("1", messages=turns)], 0)

    asked, told = (turn.content for turn in kept[0].messages)
    match = re.fullmatch(r"Who won in (\w+) (\w+) v\. (\w+) (\w+), Inc\.\?", asked)
    assert match, asked
    assert told == f"{match[2]} won; {match[3]} lost."
    assert not {"Mary", "Smith", "Acme", "Foundry"} & set(match.groups())
    assert after("legal.identifiers", "United States v. Nixon").startswith("United States v. ")


@pytest.mark.parametrize("seed", range(20))
def test_surrogates_keep_the_format_and_valid_check_digits(seed: int) -> None:
    nhs = after("medical.identifiers", "NHS number 943 476 5919", seed)
    aba = after("finance.identifiers", "routing number 021000021", seed)
    bic = after("finance.identifiers", "SWIFT DEUTDEFF500", seed)
    case = after("legal.identifiers", "No. 21-cv-01234", seed)
    bed = after("medical.identifiers", "Ward 7B", seed)

    assert re.fullmatch(r"NHS number 999 \d{3} \d{4}", nhs)
    assert presidio.NhsRecognizer().validate_result(nhs.removeprefix("NHS number "))
    assert re.fullmatch(r"routing number 5\d{8}", aba)
    assert presidio.AbaRoutingRecognizer().validate_result(aba.removeprefix("routing number "))
    assert re.fullmatch(r"SWIFT [A-Z]{4}DE[A-Z]{2}\d{3}", bic)
    assert re.fullmatch(r"No\. \d\d-cv-\d{5}", case)
    assert re.fullmatch(r"Ward \dB", bed)
    assert bed != "Ward 7B"


def test_the_same_value_is_made_up_alike_within_a_document_and_not_beyond() -> None:
    text = "MRN 00456123, again MRN: 00456123"

    first, second = re.findall(r"\d{8}", after("medical.identifiers", text))

    assert first == second != "00456123"
    assert after("medical.identifiers", text, seed=1) != after("medical.identifiers", text)


@pytest.mark.parametrize("part", PARTS)
def test_the_options_are_those_of_the_general_one(part: str) -> None:
    plain, own = deidentifiers.options("presidio"), deidentifiers.options(part)

    assert {n: p.annotation for n, p in own.items()} == {n: p.annotation for n, p in plain.items()}
    assert own["names"].default is False
    with pytest.raises(RecipeError, match=rf"{part}: no entity is called 'IBAN'\. .*Known: .*IBAN_CODE"):
        deidentifiers.get(part)([], 0, entities=("IBAN",))


@pytest.mark.parametrize("part", PARTS)
def test_rows_can_be_dropped_and_kinds_chosen(part: str) -> None:
    text = "a@mayo.org, MRN 0045612, routing number 021000021, No. 21-cv-01234"

    kept, account = deidentifiers.get(part)([Example("1", text), Example("2", "fine")], 0, on_hit="drop")

    assert [e.id for e in kept] == ["2"]
    assert sum(account.dropped.values()) == 1
    assert masked(part, text, entities=("EMAIL_ADDRESS",)) == text.replace("a@mayo.org", "[EMAIL_ADDRESS]")


def _capitals() -> str:
    return "THIS AGREEMENT IS MADE BETWEEN INC INC CO. LTD. " * 500 + " Smith v. Jones"


@pytest.mark.parametrize(
    "make", [_capitals, lambda: "A. B. " * 4000 + "v. Smith", lambda: "MRN " * 5000 + "1", lambda: "1 " * 9000]
)
@pytest.mark.parametrize("part", PARTS)
def test_no_text_takes_long(part: str, make: Callable[[], str]) -> None:
    text = make()
    masked(part, "warm up")
    began = time.perf_counter()

    masked(part, text)

    assert time.perf_counter() - began < 10
