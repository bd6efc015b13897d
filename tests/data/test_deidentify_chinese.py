"""Personal data beside Han, Kana, Hangul, Thai and Cyrillic letters, and the numbers of China. All values are invented."""

from __future__ import annotations

import random
import re
from datetime import date

import pytest

from vertical_sdk.data import check_file
from vertical_sdk.data.chinese import CHINESE, PLATES, is_valid_id_card
from vertical_sdk.data.deidentify import describe_search, find_pii, presidio
from vertical_sdk.data.scripts import fold_width, isolate_latin, main_script
from vertical_sdk.data.urls import is_url
from vertical_sdk.errors import RecipeError
from vertical_sdk.types import Example

pytest.importorskip("presidio_analyzer")
regex = pytest.importorskip("regex")

WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
"""The weights as GB 11643-1999 prints them."""


def all_after(texts: list[str], **options: object) -> list[str]:
    kept, account = presidio([Example(str(n), text) for n, text in enumerate(texts)], 0, names=False, **options)  # type: ignore[arg-type]
    assert account.adds_up
    return [row.text for row in kept]


def id_card(place: str, born: str, sequence: str) -> str:
    digits = f"{place}{born}{sequence}"
    return digits + "10X98765432"[sum(w * int(d) for w, d in zip(WEIGHTS, digits, strict=True)) % 11]


FOUND = {
    "身份证号11010519491231002X，请核对": "身份证号[CN_ID_CARD]，请核对",
    "客户110101199003078515要求": "客户[CN_ID_CARD]要求",
    "身份证 110101 19900307 8515": "身份证 [CN_ID_CARD]",
    "１１０１０１１９９００３０７８５１５": "[CN_ID_CARD]",
    "原身份证110101900307851。": "原身份证[CN_ID_CARD]。",
    "身份证号码为：110101199003078510": "身份证号码为：[CN_ID_CARD]",
    "手机13800138000要求": "手机[PHONE_NUMBER]要求",
    "手机号是１３８００１３８０００（全角）": "手机号是[PHONE_NUMBER]（全角）",
    "+86 138-0013-8000、008613800138000": "[PHONE_NUMBER]、[PHONE_NUMBER]",
    "(+86)13800138000或138 0013 8000": "[PHONE_NUMBER]或[PHONE_NUMBER]",
    "call 13800138000 now": "call [PHONE_NUMBER] now",
    "电话010-62785001。": "电话[PHONE_NUMBER]。",
    "(0755)83001234转801": "[PHONE_NUMBER]",
    "座机：62785001，热线400-810-8888": "座机：[PHONE_NUMBER]，热线[PHONE_NUMBER]",
    "+86 10 6278 5001": "[PHONE_NUMBER]",
    "挂失6222021234567890128": "挂失[CREDIT_CARD]",
    "卡号6222 0212 3456 7890 128已": "卡号[CREDIT_CARD]已",
    "银行卡号：6222021234567890123": "银行卡号：[CREDIT_CARD]",
    "信用卡4111111111111111被盗刷": "信用卡[CREDIT_CARD]被盗刷",
    "车牌京A12345已": "车牌[CN_VEHICLE_PLATE]已",
    "粤B·D12345和沪AD12345、京A·1234学": "[CN_VEHICLE_PLATE]和[CN_VEHICLE_PLATE]、[CN_VEHICLE_PLATE]",
    "护照E12345678，通行证H12345678": "护照[CN_PASSPORT]，通行证[CN_PASSPORT]",
    "持EA1234567入境": "持[CN_PASSPORT]入境",
    "passport no. G12345678": "passport no. [CN_PASSPORT]",
    "邮箱lina@example.com请回复": "邮箱[EMAIL_ADDRESS]请回复",
    "IP是192.168.1.20登录": "IP是[IP_ADDRESS]登录",
    "网址https://a.com/x，谢谢": "网址[URL]，谢谢",
    "见www.example.com。谢谢": "见[URL]。谢谢",
    "SSN是536-90-4399。": "SSN是[US_SSN]。",
    "账户IBAN是GB82WEST12345698765432谢谢": "账户IBAN是[IBAN_CODE]谢谢",
    "メールはjoe@mayo.orgです": "メールは[EMAIL_ADDRESS]です",
    "카드4111111111111111입니다": "카드[CREDIT_CARD]입니다",
    "ติดต่อjoe@mayo.orgครับโทร13800138000ครับ": "ติดต่อ[EMAIL_ADDRESS]ครับโทร[PHONE_NUMBER]ครับ",
    "адрес8.8.8.8в": "адрес[IP_ADDRESS]в",
    "ｊｏｅ＠ｍａｙｏ．ｏｒｇ": "[EMAIL_ADDRESS]",
    "生于1999年12月31日": "生于[DATE_TIME]",
}


def test_values_beside_letters_of_any_script_are_found() -> None:
    assert dict(zip(FOUND, all_after(list(FOUND), on_hit="mask"), strict=True)) == FOUND


def test_ordinary_numbers_in_chinese_texts_stay() -> None:
    texts = [
        "客户110101199003078510要求",  # a wrong check digit, and no word for a card
        "订单6222021234567890123",  # Luhn fails
        "编号a13800138000与A-13800138000、1380013800012",
        "快递SF1234567890123，价格12345.67元，共20000000件",
        "MR20230001、第12条第3款、2023年",
        "京A1、京东12345、新款12345",
        "统一社会信用代码91110108MA01ABCDE5",
        "990101199003078515，110101199013078515",  # not a province, not a month
        "ISBN 9787111544937",
        "投入为3428.51万元，调整后为278584218.9元，40万元、3113万元、1681万元",
    ]

    assert all_after(texts, on_hit="mask") == texts


def test_the_same_patterns_are_counted_for_a_check() -> None:
    assert find_pii(["身份证11010519491231002X，手机13800138000", "邮箱a@mayo.org"]) == {
        "CN_ID_CARD": 1,
        "EMAIL_ADDRESS": 1,
        "PHONE_NUMBER": 1,
    }


def test_identity_cards_check_as_the_standard_says() -> None:
    assert is_valid_id_card(id_card("110105", "19491231", "002"))
    assert id_card("110105", "19491231", "002") == "11010519491231002X"
    rng = random.Random(0)
    cards = [id_card("440301", f"{rng.randrange(1950, 2010)}0228", f"{rng.randrange(1000):03d}") for _ in range(50)]
    assert all(map(is_valid_id_card, cards))
    assert not any(is_valid_id_card(card[:-1] + ("0" if card[-1] != "0" else "1")) for card in cards)


def test_invented_numbers_are_valid_and_belong_to_no_one() -> None:
    texts = [
        "身份证11010519491231002X，又11010519491231002X",
        "手机13800138000，+86 138-0013-8000",
        "电话010-62785001",
        "卡6222021234567890128",
        "京A12345，粤B·D12345",
        "护照E12345678",
        "手机１３８００１３８０００",
        "旧证110101900307851",
    ]

    card, mobile, landline, bank, plate, passport, wide, old = all_after(texts)

    first, second = re.findall(r"\d{17}[\dX]", card)
    assert first == second != "11010519491231002X"
    assert id_card(first[:6], first[6:14], first[14:17]) == first
    assert first[2:6] == "0099"  # no district has this number
    assert int(first[16]) % 2 == 0  # the sex stays
    assert abs((date(int(first[6:10]), int(first[10:12]), int(first[12:14])) - date(1949, 12, 31)).days) < 365
    assert re.fullmatch(r"手机154\d{8}，\+86 154-\d{4}-\d{4}", mobile)
    assert re.fullmatch(r"电话010-9\d{7}", landline)
    digits = [int(c) for c in re.findall(r"卡(\d{19})", bank)[0]][::-1]
    assert sum(d if n % 2 == 0 else sum(divmod(2 * d, 10)) for n, d in enumerate(digits)) % 10 == 0
    assert re.fullmatch(rf"[{PLATES}][A-Z]\d{{5}}，[{PLATES}][A-Z]·[A-Z]\d{{5}}", plate)
    assert re.fullmatch(r"护照E\d{8}", passport)
    assert re.fullmatch("手机１５４[０-９]{8}", wide)
    assert re.fullmatch(r"旧证\d{15}", old)
    assert old != texts[7]
    assert not re.search("12345|62785001|6222021|90030785", f"{landline}{bank}{plate}{passport}{old}")


def test_rows_with_a_chinese_number_can_be_dropped() -> None:
    kept, account = presidio([Example("1", "手机13800138000"), Example("2", "好")], 0, names=False, on_hit="drop")

    assert [row.id for row in kept] == ["2"]
    assert account.dropped == {"contains PHONE_NUMBER": 1}


def test_rows_in_another_script_than_the_names_are_refused() -> None:
    rows = [Example("1", "客户张伟要求挂失"), Example("2", "请联系李娜女士"), Example("3", "John Smith called")]

    with pytest.raises(
        RecipeError, match=r"2 of 3 rows are mostly in Han.*finds names in English only.*set language: zh, names: false"
    ):
        presidio(rows, 0)
    with pytest.raises(RecipeError, match=r"mostly in Cyrillic.*set names: false"):
        presidio([Example("1", "Иван Петров звонил")], 0)


def test_the_account_says_what_was_not_looked_for() -> None:
    _, account = presidio([Example("1", "客户张伟要求挂失"), Example("2", "John Smith called")], 0, names=False)

    assert account.to_dict()["about"] == (
        "Looked for: patterns of English and Chinese texts (numbers, dates, addresses of the internet). "
        "Names and postal addresses are not looked for; 1 rows are mostly in Han."
    )
    assert "English names of people and places. Names in other languages, Chinese among them" in describe_search(names=True)


@pytest.mark.parametrize("language", ["zh", "ja", "ko", "th", "de"])
def test_patterns_are_found_in_every_language(language: str) -> None:
    kept, _ = presidio([Example("1", "x 13800138000")], 0, names=False, language=language, on_hit="mask")

    assert kept[0].text == "x [PHONE_NUMBER]"


def test_a_check_of_chinese_texts_says_what_was_looked_for(tmp_path: object) -> None:
    path = tmp_path / "a.csv"  # type: ignore[operator]
    path.write_text("text,label\n我要办理贷款,x\n请问如何还款,y\n", encoding="utf-8")

    report = check_file(path)

    assert report["personal_data"] == {}
    assert "Names and postal addresses are not looked for" in report["personal_data_search"]
    assert any("no personal data found, but the texts are mostly in Han" in p["problem"] for p in report["problems"])


def test_copies_of_a_text_keep_its_length() -> None:
    text = "张伟 １２３ ｊｏｅ＠ｍａｙｏ．ｏｒｇ。 café naïve ครับ дом 한국 カナ ٣٤"

    assert len(fold_width(text)) == len(isolate_latin(text)) == len(text)
    assert fold_width(text).startswith("张伟 123 joe@mayo.org")
    assert isolate_latin(text).split() == ["123", "joe@mayo.org", "café", "naïve", "34"]


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Plain English", "Latin"),
        ("我要办理VIP贷款", "Han"),
        ("日本語のテキストです", "Kana"),
        ("한국어 텍스트입니다", "Hangul"),
        ("Привет", "Cyrillic"),
        ("สวัสดีครับ", "Thai"),
        ("12", None),
    ],
)
def test_the_main_script_is_that_of_most_letters(text: str, script: str | None) -> None:
    assert main_script([text]) == script


PROSE = (
    "condition.surgery fever.chills pain.no seen.pt home.care today.she bad.Th progress.Se and.need.to etc.in p.m.in resolved.pl.x"
    " end.In 5.cc mg.kg and.he/she dose.day/week co.uk file.py a.it look.so pain.it/they"
)
HOSTS = (
    "example.com mayo.org nhs.uk bbc.co.uk www.flo.health flo.health/privacy-policy bit.ly/Ab1 https://localhost:8000/x t-online.de"
    " comune.roma.it https://example.surgery/x 163.com Booking.com youtu.be/dQw4"
)


def test_two_words_without_a_space_are_not_an_address() -> None:
    texts = f"{PROSE} {HOSTS}".split()
    masked = dict(zip(texts, all_after([f"the {text} of" for text in texts], on_hit="mask", entities=("URL",)), strict=True))

    assert [text for text in PROSE.split() if masked[text] != f"the {text} of"] == []
    assert [text for text in HOSTS.split() if masked[text] != "the [URL] of"] == []


def test_an_address_ends_before_the_next_sentence() -> None:
    assert all_after(["see mayo.org.The rest, https://mayo.org/a.b."], on_hit="mask") == ["see [URL].The rest, [URL]."]
    assert not is_url("condition.surgery")


def test_every_chinese_kind_has_a_hint_for_its_patterns() -> None:
    for kind in CHINESE:
        for text in map(fold_width, FOUND):
            matches = any(regex.search(pattern, text) for pattern, _ in kind.patterns)
            assert not matches or re.search(kind.hint, text), (kind.name, text)
