"""The results of a search, as plain data."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from vertical_sdk.ranges import Scalar

__all__ = ["CONFIDENCE", "Repeats", "TrialRow", "Tuned", "compare_repeats", "describe", "describe_settings"]

CONFIDENCE = 0.95
"""Of the one-sided test that a gain is more than what another seed changes."""
State: TypeAlias = Literal["finished", "pruned", "failed", "stopped"]


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    number    in the order of the study; 0 is the recipe as it is
    settings  key → value; {} for the recipe as it is
    value     of the metric on the validation rows, the mean over the seeds; None unless it finished
    state     "pruned": it was worse than the median of the others at the same evaluation; "stopped": the time was over
    seconds   how long it took
    reason    why it failed
    """

    number: int
    settings: Mapping[str, Scalar]
    value: float | None
    state: State
    seconds: float
    reason: str = ""


def describe_settings(settings: Mapping[str, Scalar]) -> str:
    """Write the settings of a trial for people."""
    return ", ".join(f"{key} {value}" for key, value in settings.items()) or "the recipe as it is"


@dataclass(frozen=True)
class Repeats:
    """The own settings and the best ones, trained again with seeds that no trial had.

    own, best  the values of the metric, one for each seed
    gain       the difference of the means, above 0 if the best settings are better
    noise      the gain that seeds alone exceed in 5% of all cases (Student's test of two samples of equal variance)
    """

    own: tuple[float, ...]
    best: tuple[float, ...]
    gain: float
    noise: float

    @property
    def shown(self) -> bool:
        """Whether the gain is more than the noise."""
        return self.gain > self.noise


def compare_repeats(own: Sequence[float], best: Sequence[float], *, higher: bool) -> Repeats | None:
    """Compare two settings over seeds; None if one of them has fewer than two values.

    higher  a higher value of the metric is better
    """
    if min(len(own), len(best)) < 2:
        return None
    from scipy.stats import t

    free = len(own) + len(best) - 2
    variance = ((len(own) - 1) * statistics.variance(own) + (len(best) - 1) * statistics.variance(best)) / free
    error = math.sqrt(variance * (1 / len(own) + 1 / len(best)))
    gain = (statistics.fmean(best) - statistics.fmean(own)) * (1 if higher else -1)
    return Repeats(tuple(own), tuple(best), gain, float(t.ppf(CONFIDENCE, free)) * error)


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    name        of the recipe
    metric      its name, and whether higher is better
    space       key → what was searched, as text
    trials      in their order; a setting that was drawn again is listed once
    best        the best trial but the first; None if no other finished
    repeats     None if they were not made
    importance  key → share of the variance of the metric that it explains; {} after few trials
    rows        training and validation rows
    seconds     of this call
    text        the result as a sentence or more
    recipe      the file that was written; None if nothing is shown to be better
    page        the page of the study
    """

    name: str
    metric: str
    higher_is_better: bool
    space: Mapping[str, str]
    trials: tuple[TrialRow, ...]
    best: TrialRow | None
    repeats: Repeats | None
    importance: Mapping[str, float]
    rows: Mapping[str, int]
    seconds: float
    text: str
    page: Path
    recipe: Path | None = field(default=None)

    @property
    def settings(self) -> dict[str, Scalar]:
        """The settings that are shown to be better than the recipe's own; {} if there are none."""
        return dict(self.best.settings) if self.best is not None and self.repeats is not None and self.repeats.shown else {}

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        plain = asdict(self)
        return {**plain, "page": str(self.page), "recipe": self.recipe and str(self.recipe), "settings": self.settings}


def describe(metric: str, own: TrialRow | None, best: TrialRow | None, repeats: Repeats | None, *, higher: bool) -> str:
    """Say what the search found, and what it is worth."""
    if own is None or own.value is None:
        return "The time was over before the recipe's own settings were trained once. Give a longer time; the same command continues."
    if best is None or best.value is None:
        return "No trial but the recipe's own settings finished. Give a longer time; the same command continues."
    if not (best.value > own.value if higher else best.value < own.value):
        return (
            f"No trial is better than the recipe's own settings: {metric} {own.value:.4f} on the validation rows, the best other trial "
            f"{best.value:.4f}. Keep the recipe as it is."
        )
    found = (
        f"Trial {best.number} has {metric} {best.value:.4f} on the validation rows, the recipe's own settings {own.value:.4f}."
    )
    if repeats is None:
        return (
            f"{found} The time was over before both were repeated with other seeds, so this may be chance. Give a longer time; the "
            "same command continues."
        )
    again = (
        f"Repeated with {len(repeats.own)} other seeds, the mean is {statistics.fmean(repeats.best):.4f} and "
        f"{statistics.fmean(repeats.own):.4f}: a difference of {repeats.gain:+.4f}, where seeds alone reach {repeats.noise:.4f}."
    )
    verdict = "The gain is more than chance." if repeats.shown else "That is no more than chance. Keep the recipe as it is."
    return f"{found} {again} {verdict}"
