"""Search better settings of a recipe: the verb `vertical tune`."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vertical_sdk.bases.base import pull_base
from vertical_sdk.data.prepare import prepare
from vertical_sdk.errors import AdapterError, BaseModelError, DataError, RecipeError, RunError
from vertical_sdk.metrics.measure import higher_is_better
from vertical_sdk.paths import report_full_disk
from vertical_sdk.ranges import Scalar
from vertical_sdk.recipe import load_recipe
from vertical_sdk.tasks import main_metric
from vertical_sdk.tuning.page import write_page
from vertical_sdk.tuning.result import Repeats, Tuned, compare_repeats, describe, describe_settings
from vertical_sdk.tuning.space import choose_space, read_own_settings
from vertical_sdk.tuning.study import STOPPED, Study, describe_searched, identify, open_study, require_optuna
from vertical_sdk.tuning.trainings import OutOfTime, Pruned, Trainings, Watch
from vertical_sdk.tuning.write import check_target, write_recipe
from vertical_sdk.types import Progress, log_progress

__all__ = ["tune"]

REPEATS = 3
"""Seeds with which the own settings and the best ones are trained again at the end."""
MOST_DRAWN_AGAIN = 50
"""Settings in a row that had been measured before, after which nothing new is expected."""
STUDY, PAGE = "study.db", "page.html"


@dataclass(frozen=True)
class Limit:
    """How long a search may take, and how much.

    start, end  of this call, by `time.monotonic`
    trials      of the whole study; None: any number
    seeds       trainings of one trial
    """

    start: float
    end: float
    trials: int | None
    seeds: int


def tune(
    recipe: str | Path | Mapping[str, Any],
    *,
    budget: float,
    trials: int | None = None,
    seeds: int = 1,
    out: str | Path | None = None,
    progress: Progress = log_progress,
) -> Tuned:
    """Search settings with which a recipe does better on its validation rows. No test row is read.

    recipe  a name, the path of a YAML file, or its keys as a dict. Its key `tune` says what is searched; without it: the learning rate,
            the number of epochs, the rank and the dropout of LoRA, around the recipe's own
    budget  seconds that this call may take, preparation included. A trial that runs longer is stopped
    trials  of the whole study at most; None: as many as the time allows
    seeds   trainings of one trial, whose mean counts
    out     the recipe to write; None: `<name>-tuned.yaml` in the working folder; nothing is written for a dict

    The first trial is the recipe as it is. The study is in `runs/tune-<name>`: the same call continues it, also after Ctrl-C or kill, and
    a changed recipe, range or row begins a new one. At the end, the best settings and the recipe's own are trained again with other seeds.
    If the gain is more than chance, a recipe is written that extends the first with these settings.

    An adapter is scored alone, without the members of an ensemble.

    Raises MissingExtra without Optuna; RecipeError, DataError, SourceError and BaseModelError as `train` does; RunError if another process
    works on this study, or if `out` is a file of somebody else.
    """
    limit = Limit(time.monotonic(), time.monotonic() + budget, trials, seeds)
    _check_limits(budget, trials, seeds)
    require_optuna()
    loaded = load_recipe(recipe)
    target = check_target(recipe, out, loaded)
    plain = loaded.anchored(Path.cwd())
    space = choose_space(plain)
    plain = plain.replace({"tune": {}})
    if plain.folds:
        raise RecipeError(
            "a search compares settings on validation rows, and with evaluate.use: crossfit every row is a test row. Search with "
            "evaluate.use: split.",
            where=loaded.name,
        )
    folder = Path("runs") / f"tune-{loaded.name.replace('/', '-')}"
    with _claim(folder):
        prepared = prepare(plain, progress=progress)
        if len(prepared.validation) < 2:
            raise DataError(
                f"a search compares settings on validation rows, and there are {len(prepared.validation)}. Split off some in data.split.",
                where=loaded.name,
            )
        progress(f"loading {plain.base}", None)
        base = pull_base(plain.base, progress=progress)
        higher = higher_is_better(main_metric(plain).use)
        name = identify(plain, space, prepared, base, seeds)
        with (
            report_full_disk(folder),
            open_study(folder / STUDY, name, space, read_own_settings(plain, space), higher=higher) as study,
        ):
            search = _Search(study, Trainings(plain, prepared, base, folder, higher=higher), limit, progress)
            search.run()
            repeats = search.repeat()
            own, best = study.own, study.best
            tuned = Tuned(
                name=loaded.name,
                metric=main_metric(plain).use,
                higher_is_better=higher,
                space={key: describe_searched(searched) for key, searched in space.items()},
                trials=study.rows,
                best=best,
                repeats=repeats,
                importance=study.importance(),
                rows={"training": len(prepared.train), "validation": len(prepared.validation)},
                seconds=round(time.monotonic() - limit.start, 1),
                text=describe(main_metric(plain).use, own, best, repeats, higher=higher),
                page=folder / PAGE,
            )
        if tuned.settings and target is not None and not isinstance(recipe, Mapping):
            tuned = replace(tuned, recipe=write_recipe(target, recipe, tuned))
        write_page(tuned.page, tuned)
    return tuned


def _check_limits(budget: float, trials: int | None, seeds: int) -> None:
    if not budget > 0:
        raise RecipeError(f"the budget is {budget} seconds. Give a time above 0.")
    if trials is not None and trials < 1:
        raise RecipeError(f"{trials} trials are too few. Give 1 or more, or leave the number out.")
    if seeds < 1:
        raise RecipeError(f"{seeds} seeds are too few. Give 1 or more.")


@contextlib.contextmanager
def _claim(folder: Path) -> Iterator[None]:
    """Lock the study's folder for this process, and remove what an interrupted trial left."""
    from filelock import FileLock, Timeout

    with report_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RunError("Another search works on this study. Wait for it.", where=folder) from None
    try:
        for left in folder.glob("trial-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


class _Search:
    """The loop over trials, and the repetition at the end."""

    def __init__(self, study: Study, trainings: Trainings, limit: Limit, progress: Progress) -> None:
        self.study, self.trainings, self.limit, self.progress = study, trainings, limit, progress
        self.seed = int(trainings.recipe.train.get("seed", 0))

    def run(self) -> None:
        """Make trials until the time of the search is over, or the trials are enough."""
        self.study.recover()
        drawn_again = 0
        while self._may_continue() and drawn_again < MOST_DRAWN_AGAIN:
            trial, settings = self.study.ask()
            known = self.study.find(settings) if settings else None
            if known is not None:
                self.study.tell_repeated(trial, known)
                drawn_again += 1
                continue
            drawn_again = 0
            self._try(trial, settings)

    def _may_continue(self) -> bool:
        rows, now = self.study.rows, time.monotonic()
        if self.study.own is None:
            return now < self.limit.end
        if self.limit.trials is not None and sum(row.state != "stopped" for row in rows) >= self.limit.trials:
            return False
        shortest = min(row.seconds for row in rows if row.state == "finished")
        return not self.study.exhausted and now + shortest / 2 < self._search_end()

    def _search_end(self) -> float:
        """When the search must be over, so that the rest of the time is enough for the repetition; at the earliest after half of it."""
        own, best = self.study.own, self.study.best
        if own is None:
            return self.limit.end
        one = (own.seconds + (best or own).seconds) / self.limit.seeds
        return max(self.limit.end - REPEATS * one, (self.limit.start + self.limit.end) / 2)

    def _try(self, trial: Any, settings: Mapping[str, Scalar]) -> None:
        """Train the settings of a trial with all seeds, and record how that ended."""
        started = time.monotonic()
        title = f"trial {trial.number}: {describe_settings(settings)}"
        self.progress(title, None)

        def report(number: int, value: float) -> bool:
            trial.report(value, number)
            return bool(settings) and bool(trial.should_prune())

        values: list[float] = []
        reason, pruned = "", False
        try:
            for place in range(self.limit.seeds):
                watch = Watch(self._search_end(), self.progress, report if not place else None)
                value = self.trainings.score(settings, self.seed + place, watch)
                if value is None:
                    reason = "the metric is undefined for these answers"
                    break
                values.append(value)
        except OutOfTime:
            reason = STOPPED
        except Pruned:
            pruned = True
        except (AdapterError, BaseModelError, DataError, RecipeError) as error:
            if not settings:
                raise
            reason = str(error)
        seconds = time.monotonic() - started
        mean = None if reason or pruned else statistics.fmean(values)
        self.study.tell(trial, mean, seconds, reason=reason, pruned=pruned)
        if not settings and mean is None and reason != STOPPED:
            raise DataError(f"the recipe's own settings have no value: {reason}.", where=self.trainings.recipe.name)
        self.progress(f"{title}: {reason or ('pruned' if pruned else format(mean, '.4f'))}", None)

    def repeat(self) -> Repeats | None:
        """Train the own and the best settings with seeds that no trial had, as far as the time allows."""
        own, best = self.study.own, self.study.best
        if own is None or best is None or not self._is_better(best.value, own.value):
            return None
        seeds = [self.seed + self.limit.seeds + place for place in range(REPEATS)]
        with contextlib.suppress(OutOfTime):
            for seed in seeds:
                for settings in ({}, dict(best.settings)):
                    if seed in self.study.read_repeats(settings):
                        continue
                    self.progress(f"repeating {'the best settings' if settings else 'the own settings'} with seed {seed}", None)
                    value = self.trainings.score(settings, seed, Watch(self.limit.end, self.progress))
                    if value is None:
                        return None
                    self.study.keep_repeat(settings, seed, value)
        known: list[list[float]] = []
        for settings in ({}, dict(best.settings)):
            values = self.study.read_repeats(settings)
            known.append([values[seed] for seed in seeds if seed in values])
        pairs = min(map(len, known))
        return compare_repeats(known[0][:pairs], known[1][:pairs], higher=self.study.higher)

    def _is_better(self, value: float | None, other: float | None) -> bool:
        if value is None or other is None:
            return False
        return value > other if self.study.higher else value < other
