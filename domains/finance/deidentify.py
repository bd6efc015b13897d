"""Numbers of accounts and banks, besides the general kinds of personal data. Tickers and companies' names stay."""

from __future__ import annotations

import random

from vertical_sdk.catalog import deidentifiers
from vertical_sdk.data.chinese import match_after_word
from vertical_sdk.data.deidentify import ENTITIES, make_deidentifier
from vertical_sdk.data.entities import Entity, match_after_label
from vertical_sdk.data.surrogates import scramble

NUMBER = r"(?:\s*(?i:numbers?|nos?|nr|ids?|code|#))"
WEIGHTS = (3, 7, 1) * 3
DISTRICTS = (*range(1, 13), *range(21, 33), *range(61, 73), 80)
"""What the first two digits of a routing number may be: Federal Reserve districts, thrifts, electronic transfers, cheques of travellers."""
BIC = r"[A-Z]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?"

AMOUNT = "dollars|euros|pounds|yen|yuan|usd|eur|gbp|jpy|cny|shares|units|contracts|thousand|million|billion"
"""A number before one of these counts something."""


def is_valid_aba(value: str) -> bool:
    """Whether the nine digits of a routing number check (American Bankers Association: 3, 7, 1 in turn, modulo 10)."""
    digits = [int(c) for c in value if c.isdigit()]
    right = len(digits) == 9 and sum(w * d for w, d in zip(WEIGHTS, digits, strict=True)) % 10 == 0
    return right and 10 * digits[0] + digits[1] in DISTRICTS


def make_aba(value: str, rng: random.Random) -> str:
    """One of the same look whose digits check, with a first pair that no bank has."""
    digits = [5, rng.randrange(10), *(rng.randrange(10) for _ in range(6))]
    new = iter([*digits, -sum(w * d for w, d in zip(WEIGHTS, digits, strict=False)) % 10])
    return "".join(str(next(new)) if c.isdigit() else c for c in value)


def make_bic(value: str, rng: random.Random) -> str:
    """Another bank of the same country (ISO 9362: four letters, country, place, branch)."""
    return scramble(value[:4], rng) + value[4:6] + scramble(value[6:8], rng) + (value[8:] and scramble(value[8:], rng))


OWN = (
    Entity(
        "BANK_ACCOUNT",
        (
            (
                match_after_label(rf"(?i:(?:bank\s+)?account|acct|a/c){NUMBER}?", r"(?:[A-Z]{1,3}[ -]?)?\d(?:[ -]?\d){5,17}"),
                0.85,
            ),
            (rf"(?<![\w.,$€£-])\d{{8,17}}(?![\w%]|[.,]\d)(?!\s+(?i:{AMOUNT})\b)", 0.05),
        ),
        context=("acct", "account"),
        hint=r"\d(?:[ -]?\d){5}",
    ),
    Entity(
        "BANK_ACCOUNT",
        ((match_after_word("账号|帐号|账户|帐户|賬號|帳號|户号", r"\d(?:[ -]?\d){5,24}"), 0.85),),
        hint="[账帐户賬帳]",
    ),
    Entity(
        "BIC",
        (
            (match_after_label(rf"(?i:bic|swift)(?:\s*/\s*(?i:bic|swift))?{NUMBER}?", BIC), 0.9),
            (r"\b(?=[A-Z]*\d)[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?\b", 0.1),
        ),
        context=("bic", "swift", "iban"),
        hint=r"[A-Z]{6}[A-Z0-9]{2}",
        surrogate=make_bic,
    ),
    Entity(
        "ABA_ROUTING_NUMBER",
        ((match_after_label(rf"(?i:aba|rtn|routing(?:\s+transit)?){NUMBER}?", r"\d{4}-?\d{4}-?\d"), 0.9), (r"\b\d{9}\b", 0.1)),
        context=("aba", "routing", "rtn"),
        valid=is_valid_aba,
        hint=r"\d{4}-?\d{4}-?\d",
        surrogate=make_aba,
    ),
)


ABOUT = """Account, card, routing numbers, IBANs and BICs, and the general kinds but dates; see the general `presidio`.

entities  which kinds, the general ones among them; all but DATE_TIME where None, since a quarter's end or a maturity is what a
          financial text is about
names     find people and places too, with a spaCy model that is fetched once

Cards, IBANs and routing numbers must have right check digits. Raises what `presidio` raises.
"""

identifiers = deidentifiers.register("finance.identifiers", extra="deidentify")(
    make_deidentifier("finance.identifiers", OWN, ABOUT, usual=[entity for entity in ENTITIES if entity != "DATE_TIME"])
)
