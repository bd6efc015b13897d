"""The systems of an evaluation: the specialist, its adapter alone, the general base and the baselines of the recipe."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from vertical_sdk.baselines.fitted import Fitted
from vertical_sdk.baselines.frozen_base import Features, FrozenBase
from vertical_sdk.card import Card
from vertical_sdk.catalog import baselines
from vertical_sdk.data.prepare import Prepared
from vertical_sdk.errors import DataError, VerticalError
from vertical_sdk.evaluation.test_set import Benchmark
from vertical_sdk.families.head import PROBE_HEAD
from vertical_sdk.inference import VerticalModel
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Part
from vertical_sdk.tasks import measured_baselines
from vertical_sdk.tasks.task import Tuning
from vertical_sdk.types import Progress, silent

__all__ = [
    "ALONE",
    "SPECIALIST",
    "Setup",
    "classical_baseline",
    "list_systems",
    "run_systems",
    "system_title",
]

SPECIALIST, ALONE = "adapter", "alone"
"""The names of the specialist and of its adapter without members among the systems. The other names are baselines."""


@dataclass(frozen=True, eq=False)
class Setup:
    """What an evaluation works on.

    model       with the specialist loaded
    benchmark   the rows and metrics
    prepared    the specialist's own rows, which baselines are trained on; None if they cannot be prepared here
    unprepared  the reason, if so
    features    of the base without the adapter, as far as they are known
    progress    receives the name of each step
    """

    model: VerticalModel
    benchmark: Benchmark
    prepared: Prepared | None
    unprepared: str
    features: Features = field(default_factory=dict)
    progress: Progress = silent

    @functools.cached_property
    def general(self) -> FrozenBase:
        """The base without the adapter; it reads each row once for all systems."""
        return FrozenBase(self.model.specialist(), self.model.adapter.files, self.progress, known=self.features)

    @property
    def members(self) -> Collection[str]:
        """The names of the ensemble's members, the adapter included; empty without an ensemble."""
        return self.model.adapter.ensemble.shares if self.model.adapter.ensemble is not None else ()


def list_systems(setup: Setup) -> dict[str, Callable[[], Outputs]]:
    """List the systems that answer the rows: name → function that returns the answers. The specialist comes first."""
    rows, general, progress = setup.benchmark.rows, setup.general, setup.progress
    answer = functools.cache(lambda: setup.model.answer(rows, general=general, progress=progress))  # reads the rows once
    systems: dict[str, Callable[[], Outputs]] = {SPECIALIST: lambda: answer().outputs}
    if setup.model.adapter.ensemble is not None:
        systems[ALONE] = lambda: answer().alone
    recipe = setup.benchmark.recipe
    for part in measured_baselines(recipe):
        arguments = baselines.check(part.use, part.arguments, f"{recipe.name}: evaluate.baselines")
        systems[part.use] = functools.partial(_run_baseline, setup, part, arguments)
    return systems


def run_systems(setup: Setup) -> Iterator[tuple[str, Outputs | VerticalError, float]]:
    """Run each system on the rows: its name, its answers or its error, and the seconds it took, including training.

    Raises the specialist's error.
    """
    for name, run in list_systems(setup).items():
        setup.progress(f"running {system_title(name, setup.members)}", None)
        started = time.monotonic()
        result: Outputs | VerticalError
        try:
            result = run()
        except VerticalError as error:
            if name == SPECIALIST:
                raise
            result = error
        yield name, result, time.monotonic() - started


def system_title(system: str, members: Collection[str] = ()) -> str:
    """Return a system's title in reports.

    members  of the specialist's ensemble
    """
    if system == SPECIALIST:
        return f"specialist ({' + '.join(map(_member_title, members)) or 'adapter'})"
    return "its adapter alone" if system == ALONE else baselines.part(system).title


def classical_baseline(systems: Collection[str]) -> str | None:
    """Name the classical baseline that the headline compares with: the measured one of the first rank; None without one."""
    ranks = {name: baselines.part(name).classical for name in systems if name not in {SPECIALIST, ALONE}}
    ranked = {name: rank for name, rank in ranks.items() if rank is not None}
    return min(ranked, key=ranked.__getitem__, default=None)


def _member_title(member: str) -> str:
    """Return the title of a member of the ensemble in reports."""
    titles = {"adapter": "adapter", "probe": "linear probe of the base", "base": "general base"}
    return titles.get(member) or baselines.part(member).title


def _run_baseline(setup: Setup, part: Part, arguments: dict[str, Any]) -> Outputs:
    """Fit a baseline on the training rows, tune it on the validation rows, and answer the test rows.

    If the ensemble has a member of the same name and options, that member answers: it is the stronger one, because it was fitted on
    the validation rows too.

    Raises DataError if the baseline needs training rows and there are none.
    """
    benchmark, prepared, general = setup.benchmark, setup.prepared, setup.general
    card: Card = benchmark.card
    ensemble = setup.model.adapter.ensemble
    member = ensemble.predict_member(part, benchmark.rows, general) if ensemble is not None else None
    if member is not None:
        return member
    trained = part.use == "base" or (part.use == "probe" and PROBE_HEAD in setup.model.adapter.files)
    if prepared is None and not trained:
        raise DataError(f"{part.use} could not be trained: {setup.unprepared}")
    train = prepared.originals if prepared else ()
    seed = int(benchmark.recipe.train.get("seed", 0))
    fitted: Fitted = baselines.get(part.use)(train, card.labels, card.task, seed, general, **arguments)
    outputs = fitted.predict(benchmark.rows, general)
    if part.use == "base" or prepared is None or not prepared.validation:
        return outputs
    tuning = Tuning(benchmark.recipe, card.layout)
    return benchmark.task.tune(outputs, lambda rows: fitted.predict(rows, general), prepared.validation, card.labels, tuning)
