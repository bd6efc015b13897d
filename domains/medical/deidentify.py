"""Identifiers of patients and of where they lie, besides the general kinds of personal data."""

from __future__ import annotations

import random

from vertical_sdk.catalog import deidentifiers
from vertical_sdk.data.chinese import match_after_word
from vertical_sdk.data.deidentify import make_deidentifier
from vertical_sdk.data.entities import Entity, match_after_label
from vertical_sdk.data.surrogates import replace_digits

NUMBER = r"(?:\s*(?i:numbers?|nos?|nr|ids?|identifiers?|#))"
CODE = r"(?=(?:[A-Z/-]*\d){4})[A-Z0-9](?:[A-Z0-9/-]{2,17})[A-Z0-9]"
"""Letters, digits and dashes with four digits at least."""
CHINESE_CODE = r"(?=(?:[A-Za-z/-]*\d){4})[A-Za-z0-9][A-Za-z0-9/-]{2,18}[A-Za-z0-9]"
RECORD = (
    rf"(?i:mrn|m\.r\.n|urn|medical\s+record|health\s+record){NUMBER}?|(?i:hospital|patient|chart|record|unit|accession){NUMBER}"
)
INSURED = (
    r"(?i:(?:health|medical|social)\s+insurance|insurance|member(?:ship)?|subscriber|insured|policy|group|medicare|medicaid"
    rf"|beneficiary){NUMBER}|(?i:mbi|hicn)"
)
LETTER = "[AC-HJKMNP-RT-Y]"
MBI = rf"\b[1-9]{LETTER}(?:\d|{LETTER})\d-?{LETTER}(?:\d|{LETTER})\d-?{LETTER}{LETTER}\d\d\b"
"""The Medicare Beneficiary Identifier, as the Centers for Medicare & Medicaid Services describe its eleven places."""
UNITS = r"(?:days?|weeks?|months?|years?|hours?|hrs?|h|minutes?|mins?|times|x|am|pm|a\.m|p\.m|mg|ml|%)"


def is_valid_nhs(value: str) -> bool:
    """Whether the tenth digit checks the nine before it (NHS Data Dictionary, "NHS number": modulo 11)."""
    digits = [int(c) for c in value if c.isdigit()]
    return len(digits) == 10 and sum(digit * (10 - place) for place, digit in enumerate(digits)) % 11 == 0


def make_nhs(value: str, rng: random.Random) -> str:
    """One of the same look that begins with 999, which are set aside for tests, with a right check digit."""
    check = 10
    while check == 10:
        digits = [9, 9, 9, *(rng.randrange(10) for _ in range(6))]
        check = -sum(digit * (10 - place) for place, digit in enumerate(digits)) % 11
    new = iter([*digits, check])
    return "".join(str(next(new)) if c.isdigit() else c for c in value)


OWN = (
    Entity("MEDICAL_RECORD_NUMBER", ((match_after_label(RECORD, CODE), 0.85),)),
    Entity("HEALTH_INSURANCE_NUMBER", ((match_after_label(INSURED, CODE), 0.85), (MBI, 0.5))),
    Entity(
        "MEDICAL_RECORD_NUMBER",
        ((match_after_word("病历|病案|住院|门诊|就诊|诊疗卡|患者编|登记|影像|标本|检查", CHINESE_CODE), 0.85),),
        hint="[号编码]",
    ),
    Entity(
        "HEALTH_INSURANCE_NUMBER",
        ((match_after_word("医保卡|医保|社保卡|社保|保单", CHINESE_CODE), 0.85),),
        hint="[医社]保|保单",
    ),
    Entity(
        "UK_NHS",
        (
            (match_after_label(rf"(?i:nhs|national\s+health(?:\s+service)?){NUMBER}?", r"\d{3}[ -]?\d{3}[ -]?\d{4}"), 0.9),
            (r"\b\d{3}[ -]\d{3}[ -]\d{4}\b", 0.4),
            (r"\b\d{10}\b", 0.1),
        ),
        context=("nhs", "national health"),
        valid=is_valid_nhs,
        hint=r"\d{3}[ -]?\d{3}[ -]?\d{4}",
        surrogate=make_nhs,
    ),
    Entity(
        "BED_OR_WARD",
        (
            (
                r"(?=[A-Z\d])(?<=(?<![A-Za-z-])(?i:bed|ward|room|bay|cot|cubicle)(?i:\s+(?:no\.?|number)\s*|\s*#\s*|:\s*|\s+))"
                rf"(?<![\w-])(?:[A-Z]{{1,2}}-?)?\d{{1,4}}[A-Z]?(?:[-/][A-Z]?\d{{0,3}}[A-Z]?)?(?![\w.]*\d)(?!\w)(?!\s*(?i:{UNITS})(?!\w))",
                0.6,
            ),
        ),
        hint=r"(?i)bed|ward|room|bay|cot|cubicle",
        surrogate=replace_digits,
    ),
    Entity(
        "BED_OR_WARD",
        (
            (r"(?<![A-Za-z0-9.])\+?\d{1,2}(?=\s?号?床(?!位))", 0.6),
            (match_after_word("病床|床|病房|病室", r"[A-Za-z]?\d{1,4}"), 0.6),
        ),
        hint="床|病[房室]",
        surrogate=replace_digits,
    ),
)


ABOUT = """Medical record numbers, insurance and NHS numbers, beds and wards, and all general kinds; see the general `presidio`.

entities  which kinds, the general ones among them; all where None
names     find people and places too, with a spaCy model that is fetched once

Numbers are known by the English or Chinese label before them ("MRN", "member ID", "住院号"), NHS numbers by their check digit,
Medicare's by their form. Raises what `presidio` raises.
"""

identifiers = deidentifiers.register("medical.identifiers", extra="deidentify")(
    make_deidentifier("medical.identifiers", OWN, ABOUT)
)
