"""Every regular expression of the library and its verticals takes time in proportion to its text, whatever the text is."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import pkgutil
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from functools import _lru_cache_wrapper, partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import regex
import vertical_sdk.domains
from hostile.attacks import Attack, plan_attacks

import vertical_sdk
from vertical_sdk.data.entities import Entity
from vertical_sdk.data.spans import LONGEST, cut_text

ROOT = Path(__file__).parent.parent.parent
WAYS = ("match", "fullmatch", "search", "finditer", "findall", "sub", "subn", "split")
SHORT, LONG, WORST = 1_000, 100_000, 2
"""Characters of a text. The two that take longest when short are tried again when long. The patterns of the de-identifiers read parts
of LONGEST characters, and may take as much of the limit as such a part is of the text."""
SUSPECT, LIMIT = 0.0002, 1.0
"""Seconds of this process: what a short text takes at least, if the long one may take LIMIT or more (its square)."""
MOST = 5
"""Limits that a text may take on a slow or busy processor, if the time is in proportion to it."""
OUT_OF_PROPORTION = 8
"""Times as long as a quarter of the text: 4 is in proportion, 16 is what a quadratic pattern takes."""


class Pattern(NamedTuple):
    """A regular expression, its place, and how it is used."""

    where: str
    text: str
    flags: int
    ways: frozenset[str]
    engine: Any


def modules() -> list[Any]:
    found: list[Any] = []
    for package in (vertical_sdk, vertical_sdk.domains):
        names = (info.name for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))
        found += [importlib.import_module(name) for name in names if not name.endswith("__main__")]
    return sorted({module.__name__: module for module in found}.values(), key=lambda module: module.__name__)


def find_patterns() -> list[Pattern]:
    everything = modules()
    source = "\n".join(Path(module.__file__).read_text(encoding="utf-8") for module in everything)
    used: dict[str, set[str]] = {}
    for name, way in re.findall(rf"\b(\w+)\.({'|'.join(WAYS)})\(", source):
        used.setdefault(name, set()).add(way)
    found: dict[tuple[str, int, Any], Pattern] = {}

    def add(where: str, text: str, flags: int, ways: frozenset[str], engine: Any = re) -> None:
        known = found.get((text, flags, engine))
        found[text, flags, engine] = Pattern(
            known.where if known else where, text, flags, ways | (known.ways if known else ways), engine
        )

    for module in everything:
        own = Path(module.__file__).read_text(encoding="utf-8")
        for name, value in vars(module).items():
            calls = rf"\b{re.escape(name)}\.({'|'.join(WAYS)})\("
            ways = frozenset((set(re.findall(calls, own)) if f"{name}." in own else set()) or used.get(name, {"finditer"}))
            for pattern in walk(value, module):
                if isinstance(pattern, Entity):
                    add(f"{module.__name__}.{name}", pattern.hint, 0, frozenset({"search"}))
                    for text, _ in pattern.patterns:
                        add(f"{module.__name__}.{name}", text, int(regex.MULTILINE), frozenset({"finditer"}), regex)
                elif isinstance(pattern.pattern, str):
                    add(f"{module.__name__}.{name}", pattern.pattern, pattern.flags, ways)
        for where, text, flags, way in written_calls(module):
            add(where, text, flags, frozenset({way}))
    return sorted(found.values(), key=lambda pattern: (pattern.where, pattern.text))


def walk(value: Any, module: Any) -> Iterator[Any]:
    """The patterns and kinds of entities in a module's value; those of a function without arguments that keeps what it built too."""
    if isinstance(value, re.Pattern | Entity):
        yield value
    elif isinstance(value, tuple | list) and len(value) < 1000:
        for item in value:
            yield from walk(item, module)
    elif isinstance(value, dict) and len(value) < 1000:
        yield from walk(list(value.values()), module)
    elif (
        isinstance(value, _lru_cache_wrapper)
        and value.__module__ == module.__name__
        and not inspect.signature(value).parameters
        and "Pattern" in str(value.__annotations__.get("return"))
    ):
        yield from walk(value(), module)


def written_calls(module: Any) -> Iterator[tuple[str, str, int, str]]:
    """Each re.search(PATTERN, ...) whose pattern is made of literals and names of the module; one with local names is left out."""
    for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "re" and node.func.attr in WAYS):
            continue
        keywords = {k.arg: k.value for k in node.keywords}
        at = {"sub": 4, "subn": 4, "split": 3}.get(node.func.attr, 2)
        given = keywords.get("flags", node.args[at] if len(node.args) > at else None)
        try:
            text = evaluate(node.args[0], module)
            flags = int(evaluate(given, module)) if given is not None else 0
        except NameError:
            continue
        if isinstance(text, re.Pattern):
            text, flags = text.pattern, text.flags
        if isinstance(text, str):
            yield f"{module.__name__}:{node.lineno}", text, flags, node.func.attr


def evaluate(node: ast.expr, module: Any) -> Any:
    return eval(compile(ast.Expression(node), module.__file__, "eval"), dict(vars(module)))


def took(work: Callable[[], object], limit: float) -> float:
    """Seconds of this process's time, or infinity if it was stopped at the limit."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before, started = signal.signal(signal.SIGVTALRM, stop), time.process_time()
    signal.setitimer(signal.ITIMER_VIRTUAL, limit)
    try:
        work()
    except TimeoutError:
        return float("inf")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return time.process_time() - started


def use(compiled: Any, way: str, text: str) -> None:
    if way in {"sub", "subn"}:
        compiled.sub("", text)
    elif way == "finditer":
        for _ in compiled.finditer(text):
            pass
    else:
        getattr(compiled, way)(text)


def slow_texts(pattern: Pattern) -> list[str]:
    """Descriptions of the texts that take more than the limit."""
    compiled = pattern.engine.compile(pattern.text, pattern.flags)
    found = []
    try:
        attacks = plan_attacks(pattern.text, pattern.flags)
    except re.error:  # it looks back by no fixed width, which the module regex reads
        attacks = plan_attacks(re.sub(r"\(\?<[=!](?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)", "", pattern.text), pattern.flags)
    long = LONGEST if pattern.engine is regex else LONG
    for way in sorted(pattern.ways):
        times = []
        for attack in attacks:
            short = attack.write(SHORT)
            times.append((took(partial(use, compiled, way, short), LIMIT), attack))
        for seconds, attack in sorted(times, reverse=True)[:WORST]:
            if seconds <= SUSPECT:
                continue
            work = partial(use, compiled, way)
            if all(out_of_proportion(work, attack, long) for _ in range(2)):  # once may be another process
                found.append(f"{way}: {attack}")
    return found


def out_of_proportion(work: Callable[[str], None], attack: Attack, long: int) -> bool:
    """Whether a long text takes more than the limit, and far more than a quarter of the text."""
    limit = LIMIT * long / LONG
    whole = took(partial(work, attack.write(long)), MOST * limit)
    quarter = took(partial(work, attack.write(long // 4)), limit) if limit < whole < math.inf else 0.0
    return whole > limit and whole > OUT_OF_PROPORTION * quarter


def test_every_pattern_takes_time_in_proportion_to_its_text() -> None:
    patterns = find_patterns()

    slow = {pattern.where: texts for pattern in patterns if (texts := slow_texts(pattern))}

    assert len(patterns) > 200
    assert slow == {}


TEXTS = (
    "7 " * 2_000,
    "1/2/2021 " * 1_000,
    "身份证" + " " * 20_000,
    "A. " * 7_000,
    "a@" * 10_000,
    "copyright (c) " * 1_500,
    "Acme Company, " * 1_400,
    "".join(f"Mr Name{chr(97 + n % 26)}{chr(97 + n // 26)} v. B. " for n in range(600)),
)


CLEANERS = ("normalize", "finance.urls", "legal.numbering", "legal.citations", "medical.units")
AUGMENTATIONS = (
    "typos",
    "shuffle_sentences",
    "finance.swap_tickers",
    "finance.swap_amounts",
    "legal.rename_parties",
    "legal.mask_citations",
    "legal.ocr_noise",
    "legal.mask_holders",
    "medical.abbreviations",
    "medical.synonyms",
    "medical.drop_sentences",
    "medical.drop_turns",
)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_whole_parts_take_time_in_proportion_to_a_text(text: str) -> None:
    from vertical_sdk.catalog import augmentations, cleaners, deidentifiers
    from vertical_sdk.data.dates import shift_dates
    from vertical_sdk.types import Example

    example = Example("1", text, "x")

    def run() -> None:
        shift_dates(text, 40)
        for name in CLEANERS:
            cleaners.get(name)([example])
        for name in AUGMENTATIONS:
            augmentations.get(name)(example, random.Random(0))
        for name in ("legal.identifiers", "finance.identifiers"):
            deidentifiers.get(name)([example], 0, on_hit="mask")

    assert took(run, 120) < 60  # the first of them imports Presidio too


def test_a_long_text_is_read_in_parts_and_nothing_is_missed() -> None:
    from vertical_sdk.data.deidentify import find_pii

    line = "Call 212-555-0142 or write to jane.doe@example.org about card 4111 1111 1111 1111 on 2021-03-04, 身份证号 110101199003077715. "

    assert find_pii([line * 100]) == {kind: 100 * count for kind, count in find_pii([line]).items()}


def test_the_parts_of_a_text_cover_it_once() -> None:
    text = "word " * 3000 + "x" * 9000 + " end"
    cores = [core for _, _, core in cut_text(text)]

    assert [start for start, _ in cores] == [0, *(end for _, end in cores[:-1])]
    assert cores[-1][1] == len(text)
    assert all(end - start <= LONGEST and start <= core[0] and core[1] <= end for start, end, core in cut_text(text))
