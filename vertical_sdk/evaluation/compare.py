"""The comparison: adapter, general base and baselines on the same rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vertical_sdk.baselines.fitted import Fitted
from vertical_sdk.baselines.frozen_base import FrozenBase
from vertical_sdk.baselines.stacking import Ensemble
from vertical_sdk.calibration.temperature import reliability, to_probabilities
from vertical_sdk.card import Card, Verdict
from vertical_sdk.catalog import baselines
from vertical_sdk.data.prepare import Prepared, read_rows
from vertical_sdk.errors import DataError, VerticalError
from vertical_sdk.evaluation.audit import general_model, group_audit, label_audit
from vertical_sdk.evaluation.forecasts import forecast_curves
from vertical_sdk.evaluation.forgetting import measure as measure_forgetting
from vertical_sdk.evaluation.forgetting import read_general, with_forgetting
from vertical_sdk.evaluation.gate import decide
from vertical_sdk.evaluation.pictures import drawn
from vertical_sdk.evaluation.report import write_report
from vertical_sdk.evaluation.result import Bin, Comparison, Evaluation, ExampleRow, System
from vertical_sdk.evaluation.statistics import PairedTest, bootstrap_interval, mcnemar, paired_bootstrap
from vertical_sdk.evaluation.tables import confusion_matrix, per_label_table
from vertical_sdk.evaluation.test_set import Bench, bench_of, own_rows
from vertical_sdk.evaluation_record import find_run, write_evaluation
from vertical_sdk.families.head import PROBE_HEAD
from vertical_sdk.inference import VerticalModel, find_adapter
from vertical_sdk.metrics.abstention import abstention_curve
from vertical_sdk.metrics.measure import draw_curve, higher_is_better
from vertical_sdk.metrics.measure import inputs as metric_inputs
from vertical_sdk.outputs import Outputs, prompt_of
from vertical_sdk.recipe import Forgetting, Part, Recipe
from vertical_sdk.tasks import get_task
from vertical_sdk.tasks.task import Tuning
from vertical_sdk.types import Example, Progress, SeriesLayout, silent

if TYPE_CHECKING:
    from vertical_sdk.registry import Registry

__all__ = ["evaluate"]

SHOWN = 20


def evaluate(
    adapter: str | Path,
    *,
    data: Path | None = None,
    registry: Registry | None = None,
    base: str | None = None,
    allow_revoked: Collection[str] = (),
    progress: Progress = silent,
) -> Evaluation:
    """Compare an adapter with its general base and the recipe's baselines, all on the same rows.

    adapter        a run's folder, an adapter's folder, or a registry reference
    data           a CSV or JSONL file with the recipe's columns, all rows of which are scored; the recipe's own test rows where
                   there is none. The evaluation of a run on its own test rows is written into the run: evaluation.json and
                   report.html; publishing copies it into the card
    base           another place of the same base model
    allow_revoked  versions ("medical/icd-chapter@3") that may be measured although they were revoked

    Raises what loading an adapter raises, and DataError for rows that cannot be scored, or test rows that have changed since
    training.
    """
    folder = find_adapter(adapter, registry, allow_revoked=allow_revoked)
    progress("loading the specialist", None)
    model = VerticalModel.from_pretrained(folder, base=base, progress=progress)
    card, recipe = model.card, Recipe.model_validate(model.card.recipe)
    prepared, unprepared = own_rows(card, recipe, needed=data is None, progress=progress)
    if data is not None:
        rows: Sequence[Example] = read_rows(
            data, recipe, card.labels, require_label=True, layout=card.layout if card.layout else None
        )[0]
    else:
        assert prepared is not None
        rows = prepared.test
    bench = bench_of(card, recipe, rows)
    said: dict[str, Outputs] = {}
    systems: dict[str, System] = {}
    general = FrozenBase(model.specialist(), folder, progress)
    specialist = _Specialist(model, rows, general, progress)
    askers: dict[str, Callable[[], Outputs]] = {"adapter": specialist.whole}
    members: Collection[str] = ()
    if model.ensemble is not None:
        askers["alone"] = specialist.alone
        members = model.ensemble.shares
    for part in recipe.evaluate.baselines:
        askers[part.use] = _asker(part, model.ensemble, prepared, unprepared, rows, card, recipe, general, folder)
    for name, ask in askers.items():
        progress(f"asking {_title(name, members)}", None)
        started = time.monotonic()
        try:
            said[name] = ask()
        except VerticalError as error:
            if name == "adapter":
                raise
            systems[name] = System(_title(name, members), error=str(error), seconds=time.monotonic() - started)
            continue
        seconds = time.monotonic() - started
        progress(f"measuring {_title(name, members)}", None)
        systems[name] = System(_title(name, members), _intervals(bench, said[name]), said[name].unparsed, round(seconds, 2))
    tests, main = _tests(bench, said)
    gate = _verdict(recipe, main, len(rows))
    forgot = None
    if recipe.evaluate.forgetting is not None:
        forgot, gate = _forgetting(recipe.evaluate.forgetting, model, gate, progress)
    progress("auditing labels and groups", None)
    evaluation = Evaluation(
        name=card.name,
        task=card.task,
        rows=len(rows),
        labels=list(card.labels.labels) if card.labels else [],
        systems=systems,
        confidence=bench.confidence,
        tests=tests,
        baseline=_classical_baseline(systems),
        lower_is_better=[name for name in bench.metrics if not higher_is_better(name)],
        gate=gate,
        calibration=card.calibration,
        examples=_examples(bench, said, model.specialist()),
        account=card.account,
        provenance=_provenance(card, data),
        forgetting=forgot,
        **_label_tables(bench, said, card),
        **_audits(bench, said, card, getattr(model.specialist(), "layout", None)),
    )
    if data is None:
        _record(folder, evaluation, model.base.hub_id)
    return evaluation


def _title(system: str, members: Collection[str] = ()) -> str:
    """What reports call a system. `members` are those of the specialist's ensemble."""
    if system == "adapter":
        return f"specialist ({' + '.join(map(_member_title, members)) or 'adapter'})"
    return "its adapter alone" if system == "alone" else baselines.part(system).title


def _member_title(member: str) -> str:
    """What reports call a member of the ensemble."""
    own = {"adapter": "adapter", "probe": "linear probe of the base", "base": "general base"}
    return own.get(member) or baselines.part(member).title


def _classical_baseline(systems: Collection[str]) -> str | None:
    """The classical baseline that the headline compares with: of those measured, the first by rank; None if there is none."""
    ranks = {name: baselines.part(name).classical for name in systems if name not in {"adapter", "alone"}}
    ranked = {name: rank for name, rank in ranks.items() if rank is not None}
    return min(ranked, key=ranked.__getitem__, default=None)


class _Specialist:
    """The specialist, alone and as a whole; the adapter reads the rows once."""

    def __init__(self, model: VerticalModel, rows: Sequence[Example], general: FrozenBase, progress: Progress) -> None:
        self.model, self.rows, self.general, self.progress = model, rows, general, progress
        self._own: Any = None

    def alone(self) -> Outputs:
        """The adapter as it is: temperature and offsets were fitted for the whole."""
        return get_task(self.model.card.task).decode(self._read(), rows=self.rows)

    def whole(self) -> Outputs:
        """What `predict` answers, and `generate`."""
        card = self.model.card
        if get_task(card.task).written:
            return Outputs(texts=self.model.generate([row.messages[:-1] for row in self.rows], progress=self.progress))
        raw = self._read()
        if self.model.ensemble is not None:
            raw = self.model.ensemble.combine(raw, self.rows, self.general)
        return get_task(card.task).decode(raw, card.calibration, self.rows)

    def _read(self) -> Any:
        if self._own is None:
            self._own = self.model.outputs(self.rows, fused=False, progress=self.progress)
        return self._own


def _asker(
    part: Part,
    ensemble: Ensemble | None,
    prepared: Prepared | None,
    unprepared: str,
    rows: Sequence[Example],
    card: Card,
    recipe: Recipe,
    general: FrozenBase,
    folder: Path,
) -> Callable[[], Outputs]:
    """How to ask a baseline. The adapter's own member of that name saw more than a baseline would be shown, the validation rows too."""
    arguments = baselines.check(part.use, part.arguments, f"{recipe.name}: evaluate.baselines")

    def ask() -> Outputs:
        member = ensemble.predict_member(part, rows, general) if ensemble is not None else None
        if member is not None:
            return member
        there = part.use == "base" or (part.use == "probe" and (folder / PROBE_HEAD).is_file())
        if prepared is None and not there:
            raise DataError(f"{part.use} could not be trained: {unprepared}")
        train = prepared.originals if prepared else ()
        seed = int(recipe.train.get("seed", 0))
        fitted: Fitted = baselines.get(part.use)(train, card.labels, card.task, seed, general, **arguments)
        said = fitted.predict(rows, general)
        if part.use == "base" or prepared is None or not prepared.validation:
            return said
        task, settings = get_task(card.task), Tuning(recipe, card.layout)
        return task.tune(said, lambda some: fitted.predict(some, general), prepared.validation, card.labels, settings)

    return ask


def _intervals(bench: Bench, outputs: Outputs) -> dict[str, Any]:
    return {
        name: bootstrap_interval(
            bench.measure(name, outputs),
            len(bench.rows),
            resamples=bench.recipe.evaluate.resamples,
            confidence=bench.confidence,
            groups=bench.groups,
        )
        for name in bench.metrics
        if (outputs.probabilities is not None or "probabilities" not in metric_inputs(name))
        and (outputs.quantiles is not None or "quantiles" not in metric_inputs(name))
    }


def _tests(bench: Bench, said: dict[str, Outputs]) -> tuple[list[Comparison], dict[str, PairedTest]]:
    """Paired tests of the adapter against each baseline: the gate's metric (or the first) for all of them, then accuracy."""
    headline = bench.main_metric
    wanted = [headline] + [name for name in ("accuracy",) if name in bench.metrics and name != headline]
    tests, main = [], {}
    for metric in wanted:
        for baseline, outputs in said.items():
            if baseline == "adapter":
                continue
            test = paired_bootstrap(
                bench.measure(metric, said["adapter"]),
                bench.measure(metric, outputs),
                len(bench.rows),
                resamples=bench.recipe.evaluate.resamples,
                confidence=bench.confidence,
                groups=bench.groups,
            )
            if metric == headline:
                main[baseline] = test
            tests.append(Comparison(baseline, metric, test.difference, test.p_value, _mcnemar(bench, said["adapter"], outputs)))
    return tests, main


def _mcnemar(bench: Bench, adapter: Outputs, baseline: Outputs) -> float | None:
    task = get_task(bench.card.task)
    if not task.single_label:
        return None
    return mcnemar(
        get_task(bench.card.task).predictions(adapter) == bench.truth,
        get_task(bench.card.task).predictions(baseline) == bench.truth,
    )


def _verdict(recipe: Recipe, tests: dict[str, PairedTest], rows: int) -> Verdict | None:
    gate = recipe.evaluate.gate
    return decide(gate, tests) if gate and rows else None


def _label_tables(bench: Bench, said: dict[str, Outputs], card: Card) -> dict[str, Any]:
    if card.labels is None:
        return {}
    own = get_task(card.task).predictions(said["adapter"])
    baseline = get_task(card.task).predictions(said["base"]) if "base" in said else None
    tables: dict[str, Any] = {"per_label": per_label_table(own, baseline, bench.truth, card.labels.labels)}
    if not get_task(card.task).single_label:
        return tables
    tables["confusion"] = confusion_matrix(own, bench.truth, len(card.labels))
    after = said["adapter"].probabilities
    assert after is not None
    before = to_probabilities(np.log(after.clip(1e-300)) * card.calibration.temperature)
    tables["reliability"] = {
        name: [Bin(*one) for one in reliability(shares, bench.truth)] for name, shares in (("before", before), ("after", after))
    }
    return tables


def _audits(bench: Bench, said: dict[str, Outputs], card: Card, layout: SeriesLayout | None) -> dict[str, Any]:
    """Which labels and groups gained and lost against the general model, and what abstaining would buy."""
    recipe, own = bench.recipe, said["adapter"]
    name = general_model(said)
    drawn: dict[str, Any] = {
        "resamples": recipe.evaluate.resamples,
        "confidence": bench.confidence,
        "groups": bench.groups,
    }
    found: dict[str, Any] = {}
    if card.labels is not None and name is not None:
        found["label_audit"] = label_audit(own, said[name], bench.truth, card.labels, card.task, baseline_name=name, **drawn)
    if recipe.evaluate.groups:
        found["group_audit"] = group_audit(
            own,
            said[name] if name else None,
            bench.truth,
            bench.rows,
            recipe.evaluate.groups,
            labels=card.labels,
            task=card.task,
            metric=bench.main_metric,
            measure=bench.measure,
            baseline_name=name or "",
            **drawn,
        )
    if curves := _curves(bench, said) | forecast_curves(bench.rows, bench.truth, said, card.task, layout):
        found["curves"] = curves
    if get_task(card.task).single_label:
        shares = {key: outputs.probabilities for key, outputs in said.items() if outputs.probabilities is not None}
        found["abstention"] = {key: abstention_curve(one, bench.truth) for key, one in shares.items()}
    return found


def _curves(bench: Bench, said: dict[str, Outputs]) -> dict[str, Any]:
    """Curves of the metrics that have one: a line for each system."""
    drawn: dict[str, Any] = {}
    for part in bench.recipe.evaluate.metrics:
        for system, outputs in said.items():
            values = get_task(bench.card.task).predictions(outputs)
            curve = draw_curve(part.use, values, bench.truth, bench.rows, part.arguments, outputs.probabilities)
            if curve is None:
                continue
            kept = drawn.setdefault(part.use, {**curve, "lines": {}})
            kept["lines"] |= {name or _title(system): points for name, points in curve["lines"].items()}
    return drawn


def _forgetting(
    spec: Forgetting, model: VerticalModel, gate: Verdict | None, progress: Progress
) -> tuple[dict[str, Any], Verdict | None]:
    """What the adapter costs in general ability, and the verdict with that in it."""
    forgot = measure_forgetting(model.specialist(), read_general(spec, progress), progress=progress)
    return forgot.to_dict(spec.budget), with_forgetting(gate, forgot, spec.budget)


def _examples(bench: Bench, said: dict[str, Outputs], specialist: Any) -> list[ExampleRow]:
    """Some rows for a reader, half of them wrong where there are so many; the same ones each time. Numbers are drawn instead."""
    if bench.recipe.data.modality == "series":
        return []
    texts = {name: _readable(bench.card, outputs) for name, outputs in said.items() if name in {"adapter", "base"}}
    truth = _readable(bench.card, None, bench.truth)
    order = np.random.default_rng(0).permutation(len(bench.rows)).tolist()
    wrong = [i for i in order if texts["adapter"][i] != truth[i]][: SHOWN // 2]
    right = [i for i in order if texts["adapter"][i] == truth[i]][: SHOWN - len(wrong)]
    scores = said["adapter"].probabilities if get_task(bench.card.task).single_label else None
    images = bench.recipe.data.modality == "image"
    return [
        ExampleRow(
            prompt_of(bench.rows[i]),
            truth[i],
            texts["adapter"][i],
            texts["base"][i] if "base" in texts else None,
            float(scores[i].max()) if scores is not None else None,
            *(drawn(bench.rows[i].values, specialist, 0 if scores is None else int(scores[i].argmax())) if images else ()),
        )
        for i in (*right, *wrong)
    ]


def _readable(card: Card, outputs: Outputs | None, truth: Any = None) -> list[str]:
    task = get_task(card.task)
    return task.format(task.predictions(outputs) if outputs else truth, card.labels)


def _provenance(card: Card, data: Path | None) -> dict[str, Any]:
    return {
        "base": card.base.model_dump(mode="json"),
        "recipe": card.recipe["name"],
        "recipe_digest": card.recipe_digest,
        "sources": [source.model_dump(mode="json") for source in card.sources],
        "rows_from": str(data) if data else "the recipe's own test rows",
        "versions": card.versions,
        "training": card.training,
        "seed": card.training.get("seed"),
        "seconds": card.training.get("seconds"),
        "created": card.created,
    }


def _record(folder: Path, evaluation: Evaluation, hub_id: str | None) -> None:
    """Write the evaluation and its report into the adapter's run. Without a run, as for a published adapter, write nothing."""
    run = find_run(folder)
    if run is None:
        return
    results = evaluation.to_dict()
    write_evaluation(run, results, hub_id)
    write_report(run / "report.html", results)
