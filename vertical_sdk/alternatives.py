"""The systems that need no adapter: which of them a specialist is compared with, and what its adapter adds to the best of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vertical_sdk.card import Card
from vertical_sdk.metrics.measure import higher_is_better
from vertical_sdk.recipe import Gate, Recipe
from vertical_sdk.tasks import get_task, main_metric, measured_baselines
from vertical_sdk.types import Interval, PairedTest

__all__ = [
    "MEMBERS",
    "Contribution",
    "advantage",
    "choose_alternatives",
    "describe_choice",
    "name_alternatives",
    "read_scores",
    "read_tests",
    "weigh_adapter",
    "weigh_by_card",
]

MEMBERS = "members"
"""The name, among the systems, of the members of an ensemble without its adapter: the stacker is fitted again for them alone."""


def advantage(difference: Interval, metric: str) -> Interval:
    """How much better the first system of a difference is: the difference, with its sign reversed if lower is better.

    Raises UnknownName for an unknown metric.
    """
    if higher_is_better(metric):
        return difference
    return Interval(-difference.value, -difference.high, -difference.low)


def choose_alternatives(recipe: Recipe, scores: Mapping[str, float], *, members_only: bool = False) -> tuple[str, ...]:
    """Choose the systems that a specialist must beat to be worth its adapter.

    scores        system → its value in the main metric on the validation rows
    members_only  the specialist is the members without an adapter, so it is not compared with any of them

    returns  the best of the scored systems, and every system without a score: the base, which is the alternative to all training; the
             members without the adapter (MEMBERS); and what could not be measured there. The test rows have no part in the choice
    """
    names = _list_alternatives(recipe, members_only=members_only)
    best = _find_best(names, scores, main_metric(recipe).use)
    return tuple(name for name in names if name == best or name not in scores)


def name_alternatives(recipe: Recipe, gate: Gate, scores: Mapping[str, float], *, members_only: bool = False) -> Gate:
    """Return the gate with the names of what it compares with: its own, or else those of `choose_alternatives`."""
    if gate.beats is not None:
        return gate
    return gate.model_copy(update={"beats": choose_alternatives(recipe, scores, members_only=members_only)})


def describe_choice(recipe: Recipe, gate: Gate, scores: Mapping[str, float], *, members_only: bool = False) -> str:
    """Say which systems a gate that names none compares with, and why; "" for a gate that names them."""
    if gate.beats is not None:
        return ""
    names = _list_alternatives(recipe, members_only=members_only)
    best = _find_best(names, scores, gate.metric)
    others = [f"{name}{' (without the adapter)' if name == MEMBERS else ''}" for name in names if name not in scores]
    if best is None:
        return f"Compared with each system without an adapter, as none has a value on validation rows: {', '.join(others)}."
    values = ", ".join(f"{name} {scores[name]:.3f}" for name in sorted(names, key=lambda name: name != best) if name in scores)
    also = f" Also compared with {', '.join(others)}." if others else ""
    return f"Compared with {best}, the best system without an adapter on the validation rows ({gate.metric}: {values}).{also}"


@dataclass(frozen=True)
class Contribution:
    """What the adapter adds to the strongest system that does without it, on the same test rows.

    alternative       the system of `choose_alternatives` of which it is least sure that the specialist is better
    name        its title, or the titles of the members
    difference  specialist minus alternative in the metric
    weight      of the adapter in its ensemble; None without one
    """

    alternative: str
    name: str
    metric: str
    difference: Interval
    p_value: float
    confidence: float
    weight: float | None = None

    @property
    def outcome(self) -> str:
        """ "adds" if the whole interval of the advantage is above 0 and the weight is not 0, "worse" if it is below 0, else "nothing"."""
        gained = advantage(self.difference, self.metric)
        return "worse" if gained.high < 0 else "adds" if gained.low > 0 and self.weight != 0 else "nothing"

    @property
    def text(self) -> str:
        """The result as a sentence."""
        gained = advantage(self.difference, self.metric)
        facts = (
            f"{self.metric}, {100 * self.confidence:g}% interval {gained.low:+.3f} to {gained.high:+.3f}, p {self.p_value:.3f}"
        )
        if self.outcome == "adds":
            return f"The adapter adds {gained.value:.3f} to what {self.name} alone reached ({facts})."
        did = "did better" if self.outcome == "worse" else "did as well, as far as these rows show"
        weight = "; the ensemble gives the adapter the weight 0" if self.weight == 0 else ""
        name = self.name[:1].upper() + self.name[1:]
        return f"{name} alone {did}; an adapter is not worth it here (advantage of the specialist {gained.value:+.3f} in {facts}{weight})."

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the outcome and the sentence."""
        return {**asdict(self), "outcome": self.outcome, "text": self.text}


def weigh_adapter(
    recipe: Recipe,
    tests: Mapping[str, PairedTest],
    scores: Mapping[str, float],
    titles: Mapping[str, str],
    weight: float | None,
) -> Contribution | None:
    """Compare the specialist with the systems of `choose_alternatives`, and return the comparison that is least in its favor.

    tests   system → the specialist minus the system in the main metric
    scores  as for `choose_alternatives`
    titles  of the systems
    weight  of the adapter in its ensemble; None without one. If it is 0, the comparison is the one with MEMBERS

    returns  None if none of these systems has a defined difference
    """
    metric = main_metric(recipe).use
    lowest = {
        name: advantage(tests[name].difference, metric).low for name in choose_alternatives(recipe, scores) if name in tests
    }
    known = {name: low for name, low in lowest.items() if math.isfinite(low)}
    if not known:
        return None
    alternative = MEMBERS if weight == 0 and MEMBERS in known else min(known, key=known.__getitem__)
    title = titles.get(alternative, alternative)
    name = title.partition(" (")[2].removesuffix(")") or title if alternative == MEMBERS else title
    test = tests[alternative]
    return Contribution(alternative, name, metric, test.difference, test.p_value, test.confidence, weight)


def weigh_by_card(card: Card, recipe: Recipe) -> Contribution | None:
    """Weigh the adapter again, by the comparisons in its card."""
    metric = main_metric(recipe).use
    titles = {name: str(system.get("title", name)) for name, system in (card.metrics.get("systems") or {}).items()}
    weight = (card.training.get("ensemble") or {}).get("adapter")
    return weigh_adapter(recipe, read_tests(card, metric), read_scores(card), titles, weight)


def read_tests(card: Card, metric: str) -> dict[str, PairedTest]:
    """The comparisons of a card in a metric: system → specialist minus system."""
    confidence = card.metrics.get("confidence", 0.95)
    return {
        test["baseline"]: PairedTest(_read_interval(test["difference"]), _read_number(test.get("p_value")), confidence)
        for test in card.metrics.get("tests") or ()
        if test["metric"] == metric
    }


def read_scores(card: Card) -> dict[str, float]:
    """The values on the validation rows in a card, by system; {} if it has none, as those of earlier versions."""
    return dict(card.metrics.get("validation") or {})


def _list_alternatives(recipe: Recipe, *, members_only: bool = False) -> tuple[str, ...]:
    """The systems that need no adapter: baselines, members, and MEMBERS; the base only if it can do the task untrained."""
    untrained = get_task(recipe.task).untrained
    names = [part.use for part in measured_baselines(recipe) if part.use != "base" or untrained]
    if members_only:
        return tuple(name for name in names if name not in {part.use for part in recipe.ensemble})
    return (*names, *((MEMBERS,) if recipe.ensemble else ()))


def _find_best(names: tuple[str, ...], scores: Mapping[str, float], metric: str) -> str | None:
    """The system with the best score, the first among equals; None without scores."""
    sign = 1 if higher_is_better(metric) else -1
    return max((name for name in names if name in scores), key=lambda name: sign * scores[name], default=None)


def _read_interval(plain: Mapping[str, Any]) -> Interval:
    return Interval(*(_read_number(plain.get(part)) for part in ("value", "low", "high")))


def _read_number(number: float | None) -> float:
    """A number of a card, in which an undefined one is null."""
    return math.nan if number is None else number
