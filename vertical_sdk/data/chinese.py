"""Personal numbers of China, found by pattern and check digit in texts of any language. Names and addresses are not looked for."""

from __future__ import annotations

import random
import re
from datetime import date, timedelta

from vertical_sdk.data.entities import Entity

__all__ = ["CHINESE", "ID_CARD", "PASSPORT", "PLATE", "is_valid_id_card", "match_after_word", "passes_luhn"]

ID_CARD, PASSPORT, PLATE = "CN_ID_CARD", "CN_PASSPORT", "CN_VEHICLE_PLATE"
PROVINCES = frozenset(
    (*range(11, 16), *range(21, 24), *range(31, 38), *range(41, 47), *range(50, 55), *range(61, 66), 71, 81, 82, 83)
)
"""The first two digits of an identity card (GB/T 2260)."""
CHECKS = "10X98765432"
"""The check character by the weighted sum modulo 11 (GB 11643-1999)."""
PLATES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
BEFORE = r"(?<![A-Za-z0-9_@+])(?<![A-Za-z0-9]-)(?<!\d\.)"
AFTER = r"(?![A-Za-z0-9_@]|[-.]\d)"
HAN = "[\u4e00-\u9fff]"


def match_after_word(words: str, value: str) -> str:
    """Build a pattern for a value after a Chinese word and at most a few signs: "手机号：138...", "手机号是 138..."."""
    return (
        rf"(?<=(?:{words})(?:号码|号|證號)?\s{{0,8}}[是为為:：()（）\s「“\"]{{0,4}})(?<![A-Za-z0-9])(?:{value})(?![A-Za-z0-9])"
    )


def alone(value: str) -> str:
    """Build a pattern for a value with no Latin letter or digit beside it; Han characters may be."""
    return rf"{BEFORE}(?:{value}){AFTER}"


def is_valid_id_card(value: str) -> bool:
    """Whether an identity card has a province, a day of birth, and (18 digits) the right check character."""
    value = value.replace(" ", "").upper()
    born = value[6:14] if len(value) == 18 else f"19{value[6:12]}"
    try:
        day = date(int(born[:4]), int(born[4:6]), int(born[6:8]))
    except ValueError:
        return False
    if int(value[:2]) not in PROVINCES or not 1880 <= day.year <= 2100:
        return False
    return len(value) == 15 or value[17] == _check_character(value)


def passes_luhn(value: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1)."""
    digits = [int(c) for c in value if c.isdigit()][::-1]
    return sum(digits[::2] + [sum(divmod(2 * d, 10)) for d in digits[1::2]]) % 10 == 0


def _check_character(digits: str) -> str:
    return CHECKS[sum(int(d) * 2 ** (17 - place) for place, d in enumerate(digits[:17])) % 11]


def _make_id_card(value: str, rng: random.Random) -> str:
    """A card of a district that does not exist, with another day of birth near the old one, the same sex and a right check."""
    plain = value.replace(" ", "")
    old = plain[6:14] if len(plain) >= 17 else f"19{plain[6:12]}"
    try:
        day = date(int(old[:4]), int(old[4:6]), int(old[6:8]))
    except ValueError:
        day = date(1970, 1, 1)
    day += timedelta(days=rng.choice((-1, 1)) * rng.randrange(30, 365))
    born = f"{day:%Y%m%d}"
    sequence = f"{rng.randrange(100):02d}{2 * rng.randrange(5) + int(plain[-1 if len(plain) == 15 else 16]) % 2}"
    place = f"{rng.choice(sorted(PROVINCES))}0099"
    if len(plain) == 15:
        return f"{place}{born[2:]}{sequence}"
    digits = f"{place}{born}{sequence}"
    new = iter(digits + _check_character(digits).translate({ord("X"): plain[-1] if plain[-1] in "xX" else "X"}))
    return "".join(next(new) if c != " " else c for c in value)


def _make_passport(value: str, rng: random.Random) -> str:
    return re.sub(r"\d", lambda _: str(rng.randrange(10)), value)


def _make_plate(value: str, rng: random.Random) -> str:
    """A plate of another province, with new letters and digits in the same places."""
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    new = [str(rng.randrange(10)) if c.isdigit() else rng.choice(letters) if c.isascii() and c.isalpha() else c for c in value]
    return "".join(rng.choice(PLATES) if c in PLATES else c for c in new)


_BORN = r"(?:18|19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_OLD_BORN = r"\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_MOBILE = r"1[3-9]\d(?:\d{8}|[ -]\d{4}[ -]\d{4}|\d[ -]\d{3}[ -]\d{4}|[ -]\d{3}[ -]\d{5})"
_AREA = r"0(?:10|2\d|[3-9]\d{2})"
_LOCAL = r"[2-9]\d{2,3}[ -]?\d{4}"
_CARD = r"\d{4}(?:[ -]?\d{4}){3}(?:[ -]?\d{1,3})?|\d{6}[ -]?\d{10,13}"

CHINESE = (
    Entity(
        ID_CARD,
        (
            (alone(rf"[1-8]\d{{5}} ?{_BORN} ?\d{{3}}[\dXx]"), 1.0),
            (alone(rf"[1-8]\d{{5}}{_OLD_BORN}\d{{3}}"), 0.6),
        ),
        valid=is_valid_id_card,
        hint=r"\d{6} ?\d{8}",
        surrogate=_make_id_card,
    ),
    Entity(
        ID_CARD,
        ((match_after_word("身份证|身份證|公民身份|证件|居民证", r"\d{6} ?\d{8} ?\d{3}[\dXx]|\d{15}"), 1.0),),
        hint="[证證]|身份",
        surrogate=_make_id_card,
    ),
    Entity(
        "PHONE_NUMBER",
        (
            (rf"{BEFORE}(?:\(?(?:\+|00)?86\)?[ -]?)?{_MOBILE}{AFTER}", 0.75),
            (
                rf"{BEFORE}(?:\(?(?:\+|00)86\)?[ -]?)?(?:{_AREA}[ -]|\({_AREA}\) ?|{_AREA}(?=\d{{8}}(?!\d))){_LOCAL}"
                rf"(?:(?:[ -]|转|轉)\d{{1,5}})?{AFTER}",
                0.7,
            ),
            (rf"{BEFORE}(?:\+|00)86[ -]?{_AREA[1:]}[ -]?{_LOCAL}{AFTER}", 0.75),
            (
                match_after_word(
                    "电话|電話|座机|固话|传真|傳真|联系方式|热线", rf"(?:{_AREA}[ -]?)?{_LOCAL}|[48]00[ -]?\d{{3}}[ -]?\d{{4}}"
                ),
                0.7,
            ),
        ),
        hint=r"\d(?:[ ()-]{0,2}\d){6}",
    ),
    Entity(
        "CREDIT_CARD",
        ((alone(r"(?:62|9558|60|35)\d{14,17}|62\d{2}(?:[ -]\d{4}){3}(?:[ -]\d{1,3})?"), 0.8),),
        valid=passes_luhn,
        hint=r"(?:\d[ -]?){16}",
    ),
    Entity(
        "CREDIT_CARD",
        (
            (
                match_after_word(
                    "银行卡|信用卡|储蓄卡|借记卡|卡号|卡號|銀行卡|账号|帐号|账户|帐户|工行|建行|农行|中行|招行|尾号", _CARD
                ),
                0.85,
            ),
        ),
        hint=r"[卡账帐行]",
    ),
    Entity(
        PASSPORT,
        (
            (match_after_word("护照|護照|通行证|通行證", r"[A-Za-z]{1,2}\d{6,9}"), 0.9),
            (
                r"(?<=(?i:passport)(?i: (?:no|number|#))?\.?[\s:#]{0,3})(?<![A-Za-z0-9])(?:[A-Z]{1,2}\d{7,8})(?![A-Za-z0-9])",
                0.85,
            ),
            (alone(r"[EGP]\d{8}|E[A-HJ-NP-Z]\d{7}"), 0.4),
        ),
        hint=rf"(?:{HAN}|(?i:passport))",
        surrogate=_make_passport,
    ),
    Entity(
        PLATE,
        (
            (
                rf"[{PLATES}] ?[A-HJ-NP-Za-hj-np-z] ?[·•・.\s-]? ?"
                r"(?=(?:[A-Za-z]?\d){2}|[A-Za-z]{2}\d{2})(?:[A-HJ-NP-Za-hj-np-z0-9]{5,6}|[A-HJ-NP-Za-hj-np-z0-9]{4}[挂学警港澳超])(?![A-Za-z0-9]|[-.]\d)",
                0.85,
            ),
            (r"(?<![A-Za-z0-9])(?:使\d{6}|\d{6}使|WJ[" + PLATES + r"]\d{4}[0-9A-Z])(?![A-Za-z0-9])", 0.6),
        ),
        hint=f"[{PLATES}使][ ]?[A-Za-z0-9]|WJ",
        surrogate=_make_plate,
    ),
)
"""The kinds by pattern. A telephone number and a card are of the general kinds."""
