"""Write texts that make a regular expression slow: the parts of its own parse tree, repeated, with an end that does not match."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

try:
    from re import _constants as codes  # type: ignore[attr-defined]
    from re import _parser as parser  # type: ignore[attr-defined]
except ImportError:  # Python 3.10
    import sre_constants as codes
    import sre_parse as parser

ENDS = ("", "\x00")
"""What follows the repeated text: one of these makes nearly every pattern fail at its last step."""
CLASSES = {
    "CATEGORY_DIGIT": "7",
    "CATEGORY_SPACE": " ",
    "CATEGORY_WORD": "a",
    "CATEGORY_NOT_DIGIT": "x",
    "CATEGORY_NOT_SPACE": "x",
    "CATEGORY_NOT_WORD": " ",
}
SPARE = " aA7.,-\n/'\"é中"


class Attack(NamedTuple):
    """A text: what comes first, what is repeated, and the end."""

    before: str
    turn: str
    end: str

    def write(self, size: int) -> str:
        return self.before + self.turn * (size // len(self.turn)) + self.end


def plan_attacks(pattern: str, flags: int) -> list[Attack]:
    """Every repetition of the pattern, pumped: alone, after what comes before it, and together with it."""
    tree = list(parser.parse(pattern, flags))
    pumps = {pump for pump in _find_pumps(tree, "") if any(pump)}
    pumps |= {("", before + turn) for before, turn in pumps}
    whole = "".join(_write(tree))
    pumps |= {("", turn) for turn in (whole, whole[:-1], whole[:1])}
    return sorted({Attack(before, turn, end) for before, turn in pumps if turn for end in ENDS})


def _find_pumps(items: list[Any], before: str) -> Iterator[tuple[str, str]]:
    """Yield (what comes before, one turn) of each repetition."""
    for op, value in items:
        name = str(op)
        if name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
            least, most, body = value
            if most > 3:
                for letter in _letters(list(body)):
                    yield before, letter
                    yield before[-1:], letter
                yield before, "".join(_write(list(body)))
            yield from _find_pumps(list(body), before)
            before += "".join(_write(list(body))) * max(1, min(least, 4))
        elif name == "SUBPATTERN":
            yield from _find_pumps(list(value[3]), before)
            before += "".join(_write(list(value[3])))
        elif name == "ATOMIC_GROUP":
            yield from _find_pumps(list(value), before)
            before += "".join(_write(list(value)))
        elif name == "BRANCH":
            for branch in value[1]:
                yield from _find_pumps(list(branch), before)
            before += "".join(_write(list(value[1][0])))
        elif name in {"ASSERT", "ASSERT_NOT"}:
            yield from _find_pumps(list(value[1]), before)
        else:
            before += "".join(_write([(op, value)]))


def _letters(items: list[Any]) -> set[str]:
    """The letters that one turn of a repetition may begin with, a few of each class."""
    found: set[str] = set()
    for op, value in items[:2]:
        name = str(op)
        if name == "IN":
            found |= set(_choose(value))
        elif name == "SUBPATTERN":
            found |= _letters(list(value[3]))
        elif name == "BRANCH":
            for branch in value[1]:
                found |= _letters(list(branch)[:1])
        else:
            found.add("".join(_write([(op, value)])))
    return found - {""}


def _choose(members: list[Any]) -> list[str]:
    """At most four letters of a class, of different kinds."""
    negated = any(op is codes.NEGATE for op, _ in members)
    named = [CLASSES.get(str(value), "x") for op, value in members if op is codes.CATEGORY]
    given = [chr(value) for op, value in members if op is codes.LITERAL]
    given += [chr(value[0]) for op, value in members if op is codes.RANGE]
    if not negated:
        return [*named, *given][:6] if len(given) < 6 else [*named, given[0], given[len(given) // 2], given[-1]]
    test = {
        chr(n) for op, value in members if op is codes.RANGE for n in range(value[0], min(value[1], value[0] + 0x300) + 1)
    } | set(given)
    kept = []
    for letter in SPARE:
        out = letter in test or any(_is_in(letter, str(value)) for op, value in members if op is codes.CATEGORY)
        if not out:
            kept.append(letter)
    return kept[:4] or ["\u0101"]


def _is_in(letter: str, category: str) -> bool:
    kind = category.rpartition("_")[2]
    inside = {"DIGIT": letter.isdigit(), "SPACE": letter.isspace(), "WORD": letter.isalnum() or letter == "_"}[kind]
    return inside != ("_NOT_" in category)


def _write(items: list[Any]) -> Iterator[str]:
    """A text that the items match, as well as can be."""
    for op, value in items:
        name = str(op)
        if name == "LITERAL":
            yield chr(value)
        elif name == "NOT_LITERAL":
            yield "b" if chr(value) == "a" else "a"
        elif name == "ANY":
            yield "a"
        elif name == "IN":
            yield _choose(value)[0]
        elif name == "BRANCH":
            yield from _write(list(value[1][0]))
        elif name == "SUBPATTERN":
            yield from _write(list(value[3]))
        elif name == "ATOMIC_GROUP":
            yield from _write(list(value))
        elif name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
            least, most, body = value
            yield "".join(_write(list(body))) * min(max(least, 1 if most else 0), 12)
