"""The study of a search, kept in a SQLite file by Optuna: it survives Ctrl-C and kill, and the same search continues it."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vertical_sdk.bases.base import Base
from vertical_sdk.data.prepare import Prepared
from vertical_sdk.errors import MissingExtra
from vertical_sdk.ranges import Choices, Range, Scalar, SearchSpace
from vertical_sdk.recipe import Recipe
from vertical_sdk.training.start_record import rows_digest
from vertical_sdk.tuning.result import State, TrialRow
from vertical_sdk.tuning.space import suggest

__all__ = ["STOPPED", "Study", "describe_searched", "identify", "open_study", "require_optuna"]

OWN, SETTINGS, SECONDS, REASON, REPEATED = "own", "settings", "seconds", "reason", "repeated"
"""Names of what is kept with a trial: whether it is the recipe as it is, its settings, its time, why it failed, and whether its settings
had been measured before."""
STOPPED = "the time was over"
FIRST = 5
"""Trials with random settings before those that learn from the others; trials before one is compared with their median."""
FEWEST = 8
"""Finished trials from which the importance of the keys is computed."""


def require_optuna() -> Any:
    """Import Optuna. Raises MissingExtra."""
    try:
        import optuna
    except ImportError:
        raise MissingExtra("tune", "A search of settings") from None
    optuna.logging.set_verbosity(logging.ERROR)
    return optuna


def identify(recipe: Recipe, space: SearchSpace, prepared: Prepared, base: Base, seeds: int) -> str:
    """Name a study by all that decides its values: recipe, ranges, training and validation rows, weights of the base, seeds.

    recipe  without ranges
    """
    ranges = {key: searched.model_dump() if isinstance(searched, Range) else searched for key, searched in space.items()}
    rows = [rows_digest(prepared.train), rows_digest(prepared.validation)]
    parts = [recipe.digest, ranges, rows, base.fingerprint.weights, seeds]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def open_study(
    path: Path, name: str, space: SearchSpace, own_settings: Mapping[str, Scalar], *, higher: bool
) -> Iterator[Study]:
    """Open the study of this name in a SQLite file, or create it. No other process may work on the file.

    higher  a higher value is better
    """
    optuna = require_optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Optuna calls experimental, and of SQLAlchemy's own deprecations
        storage = optuna.storages.RDBStorage(f"sqlite:///{path.absolute()}")
        try:
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize" if higher else "minimize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST),
            )
            yield Study(study, space, own_settings, higher=higher)
        finally:
            storage.remove_session()
            storage.engine.dispose()


class Study:
    """The trials of one search.

    own_settings  the recipe's own; {} if the search cannot set them
    """

    def __init__(self, study: Any, space: SearchSpace, own_settings: Mapping[str, Scalar], *, higher: bool) -> None:
        self.optuna, self.study, self.higher = require_optuna(), study, higher
        self.space, self.own_settings = space, dict(own_settings)

    def recover(self) -> None:
        """Try again what was interrupted, and the recipe's own settings first if they have no value yet."""
        states = self.optuna.trial.TrialState
        waiting = self.study.get_trials(deepcopy=False, states=(states.WAITING,))
        for trial in self.study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            self.study.tell(trial.number, state=states.FAIL)
            if not trial.user_attrs.get(OWN) and trial.params.keys() == self.space.keys():
                self.study.enqueue_trial(trial.params)
        if self.own is None and not any(trial.user_attrs.get(OWN) for trial in waiting):
            self.study.enqueue_trial(self.own_settings, user_attrs={OWN: True})

    def ask(self) -> tuple[Any, dict[str, Scalar]]:
        """Return the next trial and its settings; {} for the recipe as it is."""
        # another seed each time: a search that continues must not draw the numbers of its beginning again
        self.study.sampler = self.optuna.samplers.TPESampler(
            n_startup_trials=FIRST, seed=len(self.study.get_trials(deepcopy=False))
        )
        trial = self.study.ask()
        own = bool(trial.user_attrs.get(OWN))
        suggested = suggest(trial, self.space) if self.own_settings or not own else {}
        settings = {} if own else suggested
        trial.set_user_attr(SETTINGS, settings)
        return trial, settings

    def find(self, settings: Mapping[str, Scalar]) -> TrialRow | None:
        """Find the trial that has ended with these settings; None if they are new."""
        for row in self.rows:
            if row.state != "stopped" and dict(row.settings or self.own_settings) == dict(settings):
                return row
        return None

    def tell(self, trial: Any, value: float | None, seconds: float, *, reason: str = "", pruned: bool = False) -> None:
        """Record how a trial ended.

        value  None if it has none: it was pruned, or it failed for a reason
        """
        states = self.optuna.trial.TrialState
        trial.set_user_attr(SECONDS, round(seconds, 2))
        if reason:
            trial.set_user_attr(REASON, reason)
        state = states.PRUNED if pruned else states.COMPLETE if value is not None else states.FAIL
        self.study.tell(trial, value if state == states.COMPLETE else None, state=state)

    def tell_repeated(self, trial: Any, row: TrialRow) -> None:
        """Record that the settings of a trial were measured before: its value is the one of then."""
        trial.set_user_attr(REPEATED, row.number)
        self.tell(trial, row.value, 0.0, reason=row.reason, pruned=row.state == "pruned")

    @property
    def rows(self) -> tuple[TrialRow, ...]:
        """The trials that have ended, without those that repeat others, and those during which the process ended: they have no time."""
        rows = []
        for trial in self.study.get_trials(deepcopy=False):
            notes = trial.user_attrs
            if not trial.state.is_finished() or REPEATED in notes or SECONDS not in notes:
                continue
            reason = notes.get(REASON, "")
            names: dict[str, State] = {"COMPLETE": "finished", "PRUNED": "pruned"}
            state: State = names.get(trial.state.name, "stopped" if reason == STOPPED else "failed")
            value = trial.value if state == "finished" else None
            rows.append(TrialRow(trial.number, notes[SETTINGS], value, state, notes[SECONDS], reason))
        return tuple(rows)

    @property
    def own(self) -> TrialRow | None:
        """The finished trial of the recipe as it is."""
        return next((row for row in self.rows if not row.settings and row.value is not None), None)

    @property
    def best(self) -> TrialRow | None:
        """The best finished trial with other settings; the first among equals."""
        rows = [row for row in self.rows if row.settings and row.value is not None]
        sign = 1 if self.higher else -1
        return max(rows, key=lambda row: sign * (row.value or 0.0), default=None)

    @property
    def exhausted(self) -> bool:
        """Whether all combinations of a finite space have ended."""
        if any(isinstance(searched, Range) for searched in self.space.values()):
            return False
        sizes = [len(set(map(repr, searched))) for searched in self.space.values() if not isinstance(searched, Range)]
        return sum(bool(row.settings) and row.state != "stopped" for row in self.rows) >= math.prod(sizes)

    def importance(self) -> dict[str, float]:
        """Compute which share of the variance of the metric each key explains (fANOVA, Hutter et al., 2014); {} after few trials."""
        complete = [
            t
            for t in self.study.get_trials(deepcopy=False)
            if t.state.name == "COMPLETE" and t.params.keys() == self.space.keys()
        ]
        if len(complete) < FEWEST or len({trial.value for trial in complete}) < 2 or len(self.space) < 2:
            return {}
        evaluator = self.optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = self.optuna.importance.get_param_importances(self.study, evaluator=evaluator, params=list(self.space))
        return {key: float(share) for key, share in found.items()}

    def read_repeats(self, settings: Mapping[str, Scalar]) -> dict[int, float]:
        """Read the values of settings that were trained again: seed → value."""
        kept = self.study.user_attrs.get(_repeats_key(settings), {})
        return {int(seed): float(value) for seed, value in kept.items()}

    def keep_repeat(self, settings: Mapping[str, Scalar], seed: int, value: float) -> None:
        """Keep the value of settings with one more seed."""
        self.study.set_user_attr(_repeats_key(settings), {**self.read_repeats(settings), seed: value})


def _repeats_key(settings: Mapping[str, Scalar]) -> str:
    return "repeats " + hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def describe_searched(searched: Range | Choices) -> str:
    """Write what is searched of a key, for people."""
    if not isinstance(searched, Range):
        return ", ".join(map(str, searched))
    return f"{searched.low:g} to {searched.high:g}{', by factors' if searched.log else ''}"
