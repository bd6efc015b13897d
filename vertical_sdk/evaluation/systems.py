"""The systems of an evaluation: the specialist, its adapter alone, the general base and the baselines of the recipe."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from vertical_sdk.alternatives import MEMBERS
from vertical_sdk.baselines.fitted import Fitted
from vertical_sdk.baselines.frozen_base import Features, FrozenBase
from vertical_sdk.card import Card
from vertical_sdk.catalog import baselines
from vertical_sdk.data.prepare import Prepared
from vertical_sdk.errors import DataError, VerticalError
from vertical_sdk.evaluation.out_of_fold import Folds
from vertical_sdk.evaluation.test_set import Benchmark
from vertical_sdk.families.head import PROBE_HEAD
from vertical_sdk.inference import VerticalModel
from vertical_sdk.outputs import Outputs
from vertical_sdk.recipe import Part
from vertical_sdk.tasks import measured_baselines, score_outputs
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
"""The names of the specialist and of its adapter without members. The others are baselines, and MEMBERS without the adapter."""


@dataclass(frozen=True, eq=False)
class Setup:
    """What an evaluation works on.

    model       with the specialist loaded
    benchmark   the rows and metrics
    prepared    the specialist's own rows, which baselines are trained on; None if they cannot be prepared here
    unprepared  the reason, if so
    features    of the base without the adapter, as far as they are known
    progress    receives the name of each step
    folds       of a cross-fitting, whose adapters answer in place of the specialist; None if it answers itself
    """

    model: VerticalModel
    benchmark: Benchmark
    prepared: Prepared | None
    unprepared: str
    features: Features = field(default_factory=dict)
    progress: Progress = silent
    folds: Folds | None = None

    @functools.cached_property
    def general(self) -> FrozenBase:
        """The base without the adapter; it reads each row once for all systems."""
        return FrozenBase(self.model.specialist(), self.model.adapter.files, self.progress, known=self.features)

    @property
    def members(self) -> Collection[str]:
        """The names of the ensemble's members, the adapter included; empty without an ensemble."""
        return self.model.adapter.ensemble.shares if self.model.adapter.ensemble is not None else ()


@dataclass(frozen=True, eq=False)
class Answers:
    """What a system answers to the test rows.

    score  its value in the main metric on the validation rows, of which it has learned no more than its decision rule; None if unknown
    """

    outputs: Outputs
    score: float | None = None


def list_systems(setup: Setup) -> dict[str, Callable[[], Answers]]:
    """List the systems that answer the rows: name → function that returns the answers. The specialist comes first."""
    if setup.folds is not None:
        return _list_fold_systems(setup, setup.folds)
    rows, general, progress = setup.benchmark.rows, setup.general, setup.progress
    answer = functools.cache(lambda: setup.model.answer(rows, general=general, progress=progress))  # reads the rows once
    systems: dict[str, Callable[[], Answers]] = {SPECIALIST: lambda: Answers(answer().outputs)}
    if setup.model.adapter.ensemble is not None:
        systems[ALONE] = lambda: Answers(answer().alone)
        systems[MEMBERS] = lambda: Answers(answer().without_adapter)
    recipe = setup.benchmark.recipe
    for part in measured_baselines(recipe):
        arguments = baselines.check(part.use, part.arguments, f"{recipe.name}: evaluate.baselines")
        systems[part.use] = functools.partial(_run_baseline, setup, part, arguments)
    return systems


def _list_fold_systems(setup: Setup, folds: Folds) -> dict[str, Callable[[], Answers]]:
    """List the systems of a cross-fitting: every one is trained for each fold on the other folds.

    No system has a score, as there are no validation rows: a gate that names none compares with each of them.
    """
    recipe, task = setup.benchmark.recipe, setup.benchmark.task
    raw = functools.cache(lambda: folds.answer(setup.progress))
    kept: dict[str, Outputs] = {}

    def predict(part: Part) -> Outputs:
        key = part.model_dump_json()
        if key not in kept:
            kept[key] = folds.predict(part)
        return kept[key]

    def measure(part: Part) -> Answers:
        outputs = predict(part)
        return Answers(outputs if part.use == "base" else folds.tune(outputs))

    def gather() -> list[Any]:
        return [task.evidence(predict(part)) for part in recipe.ensemble]

    systems: dict[str, Callable[[], Answers]] = {SPECIALIST: lambda: Answers(folds.calibrate(raw()))}
    if recipe.ensemble:
        systems[SPECIALIST] = lambda: Answers(folds.pool([task.raw_evidence(raw()), *gather()], raw()))
        systems[ALONE] = lambda: Answers(task.decode(raw()))
        systems[MEMBERS] = lambda: Answers(folds.pool(gather(), None))
    return systems | {part.use: functools.partial(measure, part) for part in measured_baselines(recipe)}


def run_systems(setup: Setup) -> Iterator[tuple[str, Answers | VerticalError, float]]:
    """Run each system on the rows: its name, its answers or its error, and the seconds it took, including training.

    Raises the specialist's error.
    """
    for name, run in list_systems(setup).items():
        setup.progress(f"running {system_title(name, setup.members)}", None)
        started = time.monotonic()
        result: Answers | VerticalError
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
    if system == MEMBERS:
        return f"its members alone ({' + '.join(_member_title(member) for member in members if member != SPECIALIST)})"
    return "its adapter alone" if system == ALONE else baselines.part(system).title


def classical_baseline(systems: Collection[str]) -> str | None:
    """Name the classical baseline that the headline compares with: the measured one of the first rank; None without one."""
    ranks = {name: baselines.part(name).classical for name in systems if name not in {SPECIALIST, ALONE, MEMBERS}}
    ranked = {name: rank for name, rank in ranks.items() if rank is not None}
    return min(ranked, key=ranked.__getitem__, default=None)


def _member_title(member: str) -> str:
    """Return the title of a member of the ensemble in reports."""
    titles = {"adapter": "adapter", "probe": "linear probe of the base", "base": "general base"}
    return titles.get(member) or baselines.part(member).title


def _run_baseline(setup: Setup, part: Part, arguments: dict[str, Any]) -> Answers:
    """Fit a baseline on the training rows, tune it on the validation rows, and answer the test rows.

    If the ensemble has a member of the same name and options, that member answers: it is the stronger one, because it was fitted on
    the validation rows too. Its score is that of its predictions out of fold.

    Raises DataError if the baseline needs training rows and there are none.
    """
    benchmark, prepared, general = setup.benchmark, setup.prepared, setup.general
    card: Card = benchmark.card
    ensemble = setup.model.adapter.ensemble
    member = ensemble.predict_member(part, benchmark.rows, general) if ensemble is not None else None
    if ensemble is not None and member is not None:
        return Answers(member, ensemble.score_member(part))
    trained = part.use == "base" or (part.use == "probe" and PROBE_HEAD in setup.model.adapter.files)
    if prepared is None and not trained:
        raise DataError(f"{part.use} could not be trained: {setup.unprepared}")
    train = prepared.originals if prepared else ()
    seed = int(benchmark.recipe.train.get("seed", 0))
    fitted: Fitted = baselines.get(part.use)(train, card.labels, card.task, seed, general, **arguments)
    outputs = fitted.predict(benchmark.rows, general)
    if part.use == "base" or prepared is None or not prepared.validation:
        return Answers(outputs)
    task, recipe, validation = benchmark.task, benchmark.recipe, prepared.validation
    known = fitted.predict(validation, general)
    rule = task.fit_rule(known, validation, card.labels, recipe, card.layout)
    return Answers(task.apply_rule(outputs, rule), score_outputs(recipe, task.apply_rule(known, rule), validation, card.labels))
