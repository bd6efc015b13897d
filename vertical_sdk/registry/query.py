"""What `search` is asked: conditions on what the registry noted of a version when it was published.

    domain=medical   task=classification   base=minilm-l6   language=en   license=cc-by-4.0   gate=passed
    source=<sha256>  recipe=<digest>       tag.stage=pilot  macro_f1>0.8  log_loss<=0.4
    weights=<sha256 of adapter_model.safetensors>           parent=<the same, of the adapter that it goes on from>

A fact may have several values (licences, languages, sources): one that equals is enough. A metric is the adapter's own value on
its test rows, and the specialist's as a whole where it has members.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vertical_sdk.errors import RegistryError, did_you_mean

if TYPE_CHECKING:
    from vertical_sdk.registry.store import Entry

__all__ = ["FACTS", "Condition", "meets", "parse_condition"]

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
TESTS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
SPELLED = re.compile(r"\s*([A-Za-z0-9_.@-]+)\s*(>=|<=|!=|>|<|=)\s*(.+?)\s*")


@dataclass(frozen=True, slots=True)
class Condition:
    """A fact that equals a word, or a metric that compares with a number."""

    key: str
    """A name of FACTS, "tag.KEY", or a metric."""
    test: str
    value: str | float

    @property
    def metric(self) -> bool:
        """Whether it is a number that is compared."""
        return isinstance(self.value, float)


def parse_condition(text: str) -> Condition:
    """The condition that a text spells.

    Raises RegistryError, which says how a condition is written.
    """
    spelled = SPELLED.fullmatch(text)
    if not spelled:
        raise RegistryError(f"{text!r} is not a condition: write domain=medical, tag.stage=pilot or macro_f1>0.8.")
    key, test, value = spelled.groups()
    if key in FACTS or key.startswith("tag."):
        if test != "=":
            raise RegistryError(f"{text!r}: {key} is a word and can only be equal: write {key}={value}.")
        return Condition(key, test, value)
    try:
        return Condition(key, test, float(value))
    except ValueError:
        near = did_you_mean(key, FACTS)
        raise RegistryError(
            f"{text!r}: {key!r} is no fact that can be searched, and as a metric it needs a number behind it.{near} "
            f"Facts: {', '.join(FACTS)}, tag.KEY."
        ) from None


def matches(entry: Entry, conditions: Sequence[Condition]) -> bool:
    """Whether a version meets all conditions."""
    return all(_holds(entry, condition) for condition in conditions)


def _holds(entry: Entry, condition: Condition) -> bool:
    if isinstance(condition.value, float):
        value = entry.record.get("metrics", {}).get(condition.key)
        return value is not None and TESTS[condition.test](value, condition.value)
    if condition.key == "name":
        return entry.name == condition.value
    if condition.key.startswith("tag."):
        return entry.tags.get(condition.key.removeprefix("tag.")) == condition.value
    return condition.value in entry.record.get("facts", {}).get(condition.key, ())
