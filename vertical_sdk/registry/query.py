"""Search conditions on the metadata of a version, which the registry stores when it is published.

    domain=medical   task=classification   base=minilm-l6   language=en   license=cc-by-4.0   gate=passed
    source=<sha256>  recipe=<digest>       tag.stage=pilot  macro_f1>0.8  log_loss<=0.4
    weights=<sha256 of adapter_model.safetensors>           parent=<the same digest of its warm start>

A fact may have several values (licences, languages, sources): one equal value is enough. A metric is the value of the specialist,
members included, on its test rows.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vertical_sdk.errors import RegistryError, did_you_mean
from vertical_sdk.registry.references import check_text

__all__ = ["FACTS", "LONGEST", "MOST", "Condition", "parse_condition"]

FACTS = (
    "base",
    "base_license",
    "domain",
    "forced",
    "gate",
    "language",
    "license",
    "name",
    "parent",
    "recipe",
    "source",
    "task",
    "weights",
)
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
SYNTAX = re.compile(r"([A-Za-z0-9_.@-]+)\s*(>=|<=|!=|>|<|=)\s*(\S.*)")
LONGEST = 1100
"""Characters of a condition: a tag has at most 1000."""
MOST = 20
"""Conditions of one search."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A fact that must equal a word, or a metric that is compared with a number."""

    key: str
    """A name of FACTS, "tag.KEY", or a metric."""
    test: str
    value: str | float

    @property
    def metric(self) -> bool:
        """Whether the condition is about a metric."""
        return isinstance(self.value, float)

    def accepts(self, value: float) -> bool:
        """Whether the value of the metric meets the condition."""
        return bool(OPERATORS[self.test](value, self.value))


def parse_condition(text: str) -> Condition:
    """Parse a condition.

    Raises RegistryError with the syntax of a condition.
    """
    if len(text) > LONGEST:
        raise RegistryError(f"a condition has {len(text)} characters, and at most {LONGEST} are read: {text[:40]!r}…")
    check_text(text, "a condition")
    match = SYNTAX.fullmatch(text.strip())
    if not match:
        raise RegistryError(f"{text!r} is not a condition. Write domain=medical, tag.stage=pilot or macro_f1>0.8.")
    key, test, value = match.groups()
    if key in FACTS or key.startswith("tag."):
        if test != "=":
            raise RegistryError(f"{text!r}: {key} is a word and can only be compared with '='. Write {key}={value}.")
        return Condition(key, test, value)
    try:
        return Condition(key, test, float(value))
    except ValueError:
        near = did_you_mean(key, FACTS)
        raise RegistryError(
            f"{text!r}: {key!r} is not a searchable fact, and a metric needs a number after {test!r}.{near} "
            f"Facts: {', '.join(FACTS)}, tag.KEY."
        ) from None
