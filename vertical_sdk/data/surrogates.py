"""Made-up values in place of personal ones: of the same kind and look, the same for the same value within a document.

What is made up is safe to leave in a text: example.com addresses (RFC 2606), documentation IP ranges (RFC 5737, 3849), 555-01xx
telephone numbers, social security numbers that are never issued. Check digits are right, so that formats still hold.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from vertical_sdk.data.dates import shift_dates
from vertical_sdk.data.entities import Entity
from vertical_sdk.data.texts import stable_hash

__all__ = ["Surrogates", "replace_digits", "scramble"]

TRIES = 8
"""A short value may be drawn again by chance; after so many times it is masked."""


class Surrogates:
    """The made-up values of one document; another document has others."""

    def __init__(self, faker: Any, seed: int, document: str, own: Sequence[Entity] = ()) -> None:
        """`faker` is shared and seeded anew for each value, so that values do not depend on the order of documents."""
        self._faker = faker
        self._own = {kind.name: kind for kind in own}
        self._salt = (seed, document)
        self._names: dict[str, str] = {}
        self._values: dict[tuple[str, str], str] = {}
        drawn = stable_hash(seed, document, "days")
        self.days = (30 + drawn % 335) * (1 if drawn >> 63 else -1)

    def of(self, entity: str, value: str) -> str:
        """What stands for the value."""
        kind = self._own.get(entity)
        if entity == "PERSON" or (kind is not None and kind.names is not None):
            return self._person(value, kind.names if kind is not None and kind.names is not None else frozenset())
        if entity == "DATE_TIME":
            return shift_dates(value, self.days)
        key = (entity, value.casefold())
        if key not in self._values:
            rng = random.Random(stable_hash(*self._salt, *key))  # noqa: S311  (made up, not secret)
            tries = (self._make(entity, value, rng) for _ in range(TRIES))
            self._values[key] = next((made for made in tries if made.casefold() != value.casefold()), f"[{entity}]")
        return self._values[key]

    def _make(self, entity: str, value: str, rng: random.Random) -> str:
        own = self._own[entity].surrogate if entity in self._own else None
        if own is not None:
            return own(value, rng)
        self._faker.seed_instance(rng.getrandbits(64))
        if entity == "EMAIL_ADDRESS":
            return f"{self._faker.first_name()}.{self._faker.last_name()}{rng.randrange(10, 100)}@example.com".lower()
        if entity == "URL":
            scheme = re.match(r"https?://", value, re.IGNORECASE)
            return f"{scheme.group() if scheme else ''}www.example.com/{self._faker.word()}{rng.randrange(10, 100)}"
        if entity == "IP_ADDRESS":
            return f"2001:db8::{rng.randrange(1, 0xFFFF):x}" if ":" in value else f"192.0.2.{rng.randrange(1, 255)}"
        if entity == "PHONE_NUMBER":
            return _phone(value, rng)
        if entity == "US_SSN":
            return _put_digits(
                value, f"9{rng.randrange(100):02d}{rng.randrange(10):02d}{rng.randrange(1, 10_000):04d}".ljust(9, "0")
            )
        if entity == "CREDIT_CARD":
            return _put_digits(value, _luhn(value, rng))
        if entity == "IBAN_CODE":
            return _iban(value, rng)
        if entity == "LOCATION":
            return _copy_case(str(self._faker.city()), value)
        return scramble(value, rng)

    def _person(self, value: str, stay: frozenset[str]) -> str:
        """Word by word, so that "John Smith" and "Smith" stay the same person."""
        words = re.findall(r"\w[\w'’-]*", value)

        def one(match: re.Match[str]) -> str:
            word = match.group()
            possessive = word[-2:] if word.casefold().endswith(("'s", "’s")) else ""
            bare = word.removesuffix(possessive) if possessive else word
            known = bare.casefold()
            if len(bare) == 1 or known in stay:
                return word  # an initial, or a word such as "Company"
            if known not in self._names:
                self._faker.seed_instance(stable_hash(*self._salt, "PERSON", known))
                first = len(words) > 1 and match.start() == value.index(words[0])
                taken = set(self._names.values())
                made = str(self._faker.first_name() if first else self._faker.last_name())
                while made in taken or made.casefold() == known:
                    made = str(self._faker.last_name())
                self._names[known] = made
            return _copy_case(self._names[known], bare) + possessive

        return re.sub(r"\w[\w'’-]*", one, value)


def _copy_case(made: str, like: str) -> str:
    return made.upper() if like.isupper() and len(like) > 1 else made.lower() if like.islower() else made


def _put_digits(value: str, digits: str) -> str:
    """The value with its digits replaced one by one."""
    new = iter(digits)
    return re.sub(r"\d", lambda _: next(new), value)


def _phone(value: str, rng: random.Random) -> str:
    count = sum(c.isdigit() for c in value)
    lead = "".join(c for c in value if c.isdigit())
    if count == 10 or (count == 11 and lead.startswith("1")):
        return _put_digits(value, f"{lead[: count - 10]}{rng.randrange(200, 1000)}55501{rng.randrange(100):02d}")
    keep = 2 if value.lstrip().startswith("+") or lead.startswith("0") else 1
    return _put_digits(value, lead[:keep] + "".join(str(rng.randrange(10)) for _ in range(count - keep)))


def _luhn(value: str, rng: random.Random) -> str:
    """As many digits, the first one kept, the last one a Luhn check digit (ISO/IEC 7812-1)."""
    old = [int(c) for c in value if c.isdigit()]
    digits = [old[0], *(rng.randrange(10) for _ in old[1:-1])]
    doubled = sum(sum(divmod(2 * d, 10)) for d in digits[::-1][::2]) + sum(digits[::-1][1::2])
    return "".join(map(str, [*digits, -doubled % 10]))


def _iban(value: str, rng: random.Random) -> str:
    """The same country and look, with right check digits (ISO 13616: modulo 97 is 1)."""
    plain = "".join(c for c in value if c.isalnum()).upper()
    body = "".join(str(rng.randrange(10)) if c.isdigit() else rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for c in plain[4:])
    number = int("".join(str(int(c, 36)) for c in f"{body}{plain[:2]}00"))
    new = iter(f"{plain[:2]}{98 - number % 97:02d}{body}")
    return "".join(next(new) if c.isalnum() else c for c in value)


def replace_digits(value: str, rng: random.Random) -> str:
    """The value with other digits and the same letters."""
    return re.sub(r"\d", lambda _: str(rng.randrange(10)), value)


def scramble(value: str, rng: random.Random) -> str:
    """Digit for digit and letter for letter."""
    made = (
        str(rng.randrange(10)) if c.isdigit() else rng.choice("abcdefghijklmnopqrstuvwxyz") if c.isalpha() else c for c in value
    )
    return _copy_case("".join(made), value)
