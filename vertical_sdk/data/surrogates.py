"""Invent values in place of personal ones: of the same kind and form, and equal for equal values of a document.

An invented value is safe to leave in a text: example.com addresses (RFC 2606), documentation IP ranges (RFC 5737, 3849), 555-01xx
telephone numbers, social security numbers that are never issued, Chinese mobiles of a prefix that no operator has. Check digits are
correct, so the format stays valid.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from vertical_sdk.data.dates import shift_dates
from vertical_sdk.data.entities import Entity
from vertical_sdk.data.scripts import fold_width, write_like
from vertical_sdk.data.texts import stable_hash

__all__ = ["Surrogates", "replace_digits", "scramble"]

TRIES = 8
"""Draws of a value. If all of them give the original value, which happens for short ones, it is masked."""

LAST_NAMES = 200
"""Draws of a last name, after which two are joined: a document may have more names than there are last names."""


class Surrogates:
    """The invented values of one document. Another document gets other values."""

    def __init__(self, faker: Any, seed: int, document: str, own: Sequence[Entity] = ()) -> None:
        """Share `faker`, and seed it again for each value, so values do not depend on the order of documents."""
        self._faker = faker
        self._own = {kind.name: kind for kind in own}
        self._salt = (seed, document)
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()
        self._values: dict[tuple[str, str], str] = {}
        drawn = stable_hash(seed, document, "days")
        self.days = (30 + drawn % 335) * (1 if drawn >> 63 else -1)

    def replace(self, entity: str, value: str) -> str:
        """Return the invented value for a value."""
        kind = self._own.get(entity)
        if entity == "PERSON" or (kind is not None and kind.names is not None):
            return self._replace_name(value, kind.names if kind is not None and kind.names is not None else frozenset())
        if entity == "DATE_TIME":
            moved = shift_dates(value, self.days)
            return moved if moved != value else f"[{entity}]"
        plain = fold_width(value)
        key = (entity, plain.casefold())
        if key not in self._values:
            rng = random.Random(stable_hash(*self._salt, *key))  # noqa: S311  (invented, not secret)
            draws = (self._invent(entity, plain, rng) for _ in range(TRIES))
            self._values[key] = next((new for new in draws if new.casefold() != plain.casefold()), f"[{entity}]")
        return write_like(self._values[key], value)

    def _invent(self, entity: str, value: str, rng: random.Random) -> str:
        own = self._own[entity].surrogate if entity in self._own else None
        if own is not None:
            return own(value, rng)
        self._faker.seed_instance(rng.getrandbits(64))
        invent = GENERAL.get(entity)
        return invent(self._faker, value, rng) if invent else scramble(value, rng)

    def _replace_name(self, value: str, stay: frozenset[str]) -> str:
        """Replace a name word by word, so "John Smith" and "Smith" stay the same person."""
        words = re.findall(r"\w[\w'’-]*", value)

        def replace_word(match: re.Match[str]) -> str:
            word = match.group()
            possessive = word[-2:] if word.casefold().endswith(("'s", "’s")) else ""
            bare = word.removesuffix(possessive) if possessive else word
            known = bare.casefold()
            if len(bare) == 1 or known in stay:
                return word  # an initial, or a word such as "Company"
            if known not in self._names:
                self._faker.seed_instance(stable_hash(*self._salt, "PERSON", known))
                first = len(words) > 1 and match.start() == value.index(words[0])
                new = str(self._faker.first_name() if first else self._faker.last_name())
                tries = 0
                while new in self._taken or new.casefold() == known:
                    tries += 1
                    new = "-".join(str(self._faker.last_name()) for _ in range(1 if tries < LAST_NAMES else 2))
                self._taken.add(new)
                self._names[known] = new
            return _copy_case(self._names[known], bare) + possessive

        return re.sub(r"\w[\w'’-]*", replace_word, value)


def _copy_case(word: str, like: str) -> str:
    return word.upper() if like.isupper() and len(like) > 1 else word.lower() if like.islower() else word


def _put_digits(value: str, digits: str) -> str:
    """Replace the digits of a value one by one."""
    new = iter(digits)
    return re.sub(r"\d", lambda _: next(new), value)


def _invent_email(faker: Any, _value: str, rng: random.Random) -> str:
    return f"{faker.first_name()}.{faker.last_name()}{rng.randrange(10, 100)}@example.com".lower()


def _invent_url(faker: Any, value: str, rng: random.Random) -> str:
    scheme = re.match(r"https?://", value, re.IGNORECASE)
    return f"{scheme.group() if scheme else ''}www.example.com/{faker.word()}{rng.randrange(10, 100)}"


def _invent_ip(_faker: Any, value: str, rng: random.Random) -> str:
    return f"2001:db8::{rng.randrange(1, 0xFFFF):x}" if ":" in value else f"192.0.2.{rng.randrange(1, 255)}"


def _invent_ssn(_faker: Any, value: str, rng: random.Random) -> str:
    return _put_digits(value, f"9{rng.randrange(100):02d}{rng.randrange(10):02d}{rng.randrange(1, 10_000):04d}".ljust(9, "0"))


def _invent_location(faker: Any, value: str, _rng: random.Random) -> str:
    return _copy_case(str(faker.city()), value)


def _invent_phone(_faker: Any, value: str, rng: random.Random) -> str:
    digits = "".join(c for c in value if c.isdigit())
    count = len(digits)
    country = 86 if re.match(r"\D*(?:\+|00)?86\D*(?:1[3-9]|[2-9]\d|10)(?:\D*\d){8}", value) and count > 11 else 0
    start = digits.index("86") + 2 if country else 0
    if re.fullmatch(r"1[3-9]\d{9}", digits[start:]) and (country or re.match(r"\d{3}(?:\d|\D\d{4}\D)", value.lstrip())):
        return _put_digits(value, f"{digits[:start]}154{rng.randrange(10**8):08d}")  # no Chinese operator has 154
    if country or re.match(r"\(?0(?:10|2\d|[3-9]\d\d)(?:[ )-]|\d{8}$)", value):
        area = start + (3 if re.match("0?(?:10|2)", digits[start:]) else 4) - (digits[start] != "0")
        local = "9" + "".join(str(rng.randrange(10)) for _ in range(count - area - 1))  # no Chinese subscriber begins with 9
        return _put_digits(value, digits[:area] + local)
    if (count == 10 and digits[0] != "0") or (count == 11 and digits.startswith("1")):
        return _put_digits(value, f"{digits[: count - 10]}{rng.randrange(200, 1000)}55501{rng.randrange(100):02d}")
    keep = 2 if value.lstrip().startswith("+") or digits.startswith("0") else 1
    return _put_digits(value, digits[:keep] + "".join(str(rng.randrange(10)) for _ in range(count - keep)))


def _invent_card(_faker: Any, value: str, rng: random.Random) -> str:
    """Draw as many digits; the first one stays, the last one is a Luhn check digit (ISO/IEC 7812-1)."""
    old = [int(c) for c in value if c.isdigit()]
    digits = [old[0], *(rng.randrange(10) for _ in old[1:-1])]
    doubled = sum(sum(divmod(2 * d, 10)) for d in digits[::-1][::2]) + sum(digits[::-1][1::2])
    return _put_digits(value, "".join(map(str, [*digits, -doubled % 10])))


def _invent_iban(_faker: Any, value: str, rng: random.Random) -> str:
    """Draw an IBAN of the same country and form, with correct check digits (ISO 13616: modulo 97 is 1)."""
    plain = "".join(c for c in value if c.isalnum()).upper()
    body = "".join(str(rng.randrange(10)) if c.isdigit() else rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for c in plain[4:])
    number = int("".join(str(int(c, 36)) for c in f"{body}{plain[:2]}00"))
    new = iter(f"{plain[:2]}{98 - number % 97:02d}{body}")
    return "".join(next(new) if c.isalnum() else c for c in value)


GENERAL: dict[str, Callable[[Any, str, random.Random], str]] = {
    "EMAIL_ADDRESS": _invent_email,
    "URL": _invent_url,
    "IP_ADDRESS": _invent_ip,
    "PHONE_NUMBER": _invent_phone,
    "US_SSN": _invent_ssn,
    "CREDIT_CARD": _invent_card,
    "IBAN_CODE": _invent_iban,
    "LOCATION": _invent_location,
}
"""Kind → function from (faker, value, rng) to an invented value. The characters of other kinds are scrambled."""


def replace_digits(value: str, rng: random.Random) -> str:
    """Draw new digits for a value; letters stay the same."""
    return re.sub(r"\d", lambda _: str(rng.randrange(10)), value)


def scramble(value: str, rng: random.Random) -> str:
    """Draw a new digit for each digit and a new letter for each letter."""
    characters = (
        str(rng.randrange(10)) if c.isdigit() else rng.choice("abcdefghijklmnopqrstuvwxyz") if c.isalpha() else c for c in value
    )
    return _copy_case("".join(characters), value)
