"""Evaluate an adapter: compare it with its general base and the recipe's baselines on the same rows."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertical_sdk.adapters.folder import open_adapter
from vertical_sdk.alternatives import MEMBERS, Contribution, describe_choice, name_alternatives, weigh_adapter
from vertical_sdk.baselines.frozen_base import Features, InMemory
from vertical_sdk.baselines.kept_features import load_features, save_features
from vertical_sdk.card import Verdict
from vertical_sdk.data.prepare import Prepared, read_rows
from vertical_sdk.errors import AdapterError, VerticalError
from vertical_sdk.evaluation import measure
from vertical_sdk.evaluation.forgetting import Forgot, measure_forgetting, read_general, with_forgetting
from vertical_sdk.evaluation.learned_rows import KnownRows, Party, count_repeated, leave_out_learned
from vertical_sdk.evaluation.out_of_fold import load_folds, require_same_folds
from vertical_sdk.evaluation.record import describe_provenance, record_evaluation
from vertical_sdk.evaluation.red_lines import describe_gaps, describe_power, describe_undefined, find_faults
from vertical_sdk.evaluation.result import Comparison, Evaluation, System
from vertical_sdk.evaluation.systems import ALONE, SPECIALIST, Setup, classical_baseline, run_systems, system_title
from vertical_sdk.evaluation.test_set import Benchmark, create_benchmark, prepare_own_rows
from vertical_sdk.evaluation_record import find_run
from vertical_sdk.gate import decide
from vertical_sdk.inference import VerticalModel
from vertical_sdk.metrics.measure import higher_is_better
from vertical_sdk.outputs import Outputs
from vertical_sdk.sources.permission import for_card
from vertical_sdk.tasks import get_gate
from vertical_sdk.types import Progress, log_progress

if TYPE_CHECKING:
    from vertical_sdk.registry import Registry

__all__ = ["evaluate"]


def evaluate(
    adapter: str | Path,
    *,
    data: str | Path | None = None,
    registry: Registry | None = None,
    base: str | None = None,
    allow_revoked: Collection[str] = (),
    allow_sources: Collection[str] = (),
    memory: InMemory | None = None,
    progress: Progress = log_progress,
) -> Evaluation:
    """Compare an adapter with its general base and the recipe's baselines, all on the same rows.

    adapter        a registry reference, or the folder of a run or an adapter: a Path, or a text that starts with "./", "../", "/", "~" or
                   "runs/"
    data           a CSV or JSONL file with the recipe's columns. Its rows are scored without those that the specialist was
                   trained on, which are counted (`Evaluation.left_out`); None: the recipe's own test rows. The evaluation of a run
                   on its own test rows is written into the run, as evaluation.json and report.html; publishing copies it into the
                   card. The evaluation of a run on a file is written as report-FILE.html. If the run cannot be written, the
                   evaluation is returned with the reason (`Evaluation.unwritten`)
    base           another place of the same base model
    allow_revoked  versions ("medical/icd-chapter@3") that may be evaluated although they were revoked
    allow_sources  sources to fetch although only the card of the adapter names them: files and folders of this machine, and
                   addresses that are not public. The adapter in a run's folder is the user's own and needs none
    memory         `Run.memory` of a training in this process: rows are not prepared and read by the base again. Ignored if it is
                   of another recipe

    Raises what loading an adapter raises, and DataError for rows that cannot be scored, or test rows that have changed since
    training.
    """
    data = None if data is None else Path(data)
    found = open_adapter(adapter, registry, allow_revoked=allow_revoked)
    if found.card.members_only:
        raise AdapterError(
            "it has no adapter, so there is nothing to compare with its members. Evaluate the run that it was published from.",
            where=str(adapter),
        )
    progress("loading the specialist", None)
    model = VerticalModel.from_adapter(found, base=base, progress=progress)
    own_run = found.version is None and find_run(found.folder) is not None
    with contextlib.nullcontext() if own_run else for_card(model.card, allowed=allow_sources):
        setup, known = _prepare(model, data, memory, progress)
        evaluation = _evaluate(setup, data, known)
        if own_run and setup.prepared is not None:
            save_features(model.specialist(), model.base.fingerprint, setup.prepared, setup.general.known)
    return record_evaluation(found.folder, evaluation, model.base.hub_id, data, model.adapter.recipe.report)


def _prepare(model: VerticalModel, data: Path | None, memory: InMemory | None, progress: Progress) -> tuple[Setup, KnownRows]:
    """Read the rows that the specialist was not trained on, and bind the metrics of the recipe."""
    card, recipe = model.card, model.adapter.recipe
    own = Party(card.name, card)
    prepared: Prepared | None
    features: Features = {}
    if memory is not None and memory.recipe_digest == card.recipe_digest:
        prepared, unprepared, features = memory.prepared, "", memory.features
    else:
        prepared, unprepared = prepare_own_rows(card, recipe, needed=data is None, progress=progress)
        if prepared is not None:
            features = load_features(model.specialist(), model.base.fingerprint, prepared)
    if data is not None:
        given = read_rows(data, recipe, card.contract, require_label=True)[0]
        rows, known = leave_out_learned(given, own, model.adapter.folder, prepared, unprepared, data)
    else:
        assert prepared is not None
        rows, known = list(prepared.judged), count_repeated(prepared, own)
    setup = Setup(model, create_benchmark(card, recipe, rows), prepared, unprepared, features, progress)
    if data is None and prepared is not None and prepared.folds:
        folds = load_folds(model.engine, model.adapter.folder.parent, recipe, prepared, setup.general)
        require_same_folds(folds, card)
        setup = replace(setup, folds=folds)
    return setup, known


def _evaluate(setup: Setup, data: Path | None, known: KnownRows) -> Evaluation:
    """Run and measure all systems."""
    benchmark, specialist = setup.benchmark, setup.model.specialist()
    card = benchmark.card
    outputs, systems, scores = _run_and_measure(setup)
    tests = measure.compare_systems(benchmark, outputs)
    faults = find_faults(benchmark, outputs[SPECIALIST])
    verdict, contribution = _judge(benchmark, tests, systems, scores, faults)
    forgot = _measure_forgetting(setup)
    budget = benchmark.recipe.evaluate.forgetting.budget if benchmark.recipe.evaluate.forgetting else 0.0
    setup.progress("auditing labels and groups", None)
    return Evaluation(
        name=card.name,
        task=card.task,
        rows=len(benchmark.rows),
        labels=list(card.labels.labels) if card.labels else [],
        systems=systems,
        confidence=benchmark.confidence,
        tests=tests,
        baseline=classical_baseline(systems),
        warnings=[*describe_gaps(benchmark), *faults, *describe_undefined(systems[SPECIALIST].metrics)],
        lower_is_better=[name for name in benchmark.metrics if not higher_is_better(name)],
        calibration=card.calibration,
        examples=measure.select_examples(benchmark, outputs, specialist),
        gate=with_forgetting(verdict, forgot, budget) if forgot else verdict,
        validation=scores,
        contribution=contribution.to_dict() if contribution else None,
        members=_judge_members(benchmark, outputs, scores) if MEMBERS in outputs else None,
        forgetting=forgot.to_dict(budget) if forgot else None,
        abstention=measure.measure_abstention(benchmark, outputs),
        promise=measure.check_promise(benchmark, outputs[SPECIALIST]),
        curves=measure.draw_curves(benchmark, outputs, getattr(specialist, "layout", None)),
        right=measure.count_right(benchmark, outputs),
        errors=measure.mean_errors(benchmark, outputs),
        folds=len(setup.folds.names) if setup.folds else 0,
        left_out=known.left_out,
        tuned=known.tuned,
        repeated=known.repeated,
        unknown=known.unknown,
        account=card.account,
        provenance=describe_provenance(card, data, specialist, benchmark.rows),
        **measure.label_tables(benchmark, outputs),
        **measure.audit_labels_and_groups(benchmark, outputs),
    )


def _judge(
    benchmark: Benchmark,
    tests: list[Comparison],
    systems: Mapping[str, System],
    scores: Mapping[str, float],
    faults: Sequence[str],
) -> tuple[Verdict | None, Contribution | None]:
    """Decide the gate, and what the adapter adds to the best system that does without it."""
    recipe, main = benchmark.recipe, measure.main_tests(benchmark, tests)
    titles = {name: system.title for name, system in systems.items()}
    weight = (benchmark.card.training.get("ensemble") or {}).get("adapter")
    return _decide(benchmark, tests, scores, faults), weigh_adapter(recipe, main, scores, titles, weight)


def _decide(
    benchmark: Benchmark,
    tests: list[Comparison],
    scores: Mapping[str, float],
    faults: Sequence[str],
    *,
    members_only: bool = False,
) -> Verdict | None:
    """Decide the gate of the recipe; None if it has none."""
    recipe, gate = benchmark.recipe, get_gate(benchmark.recipe)
    if gate is None:
        return None
    notes = [describe_choice(recipe, gate, scores, members_only=members_only), describe_power(benchmark)]
    named = name_alternatives(recipe, gate, scores, members_only=members_only)
    return decide(named, measure.main_tests(benchmark, tests), faults, list(filter(None, notes)))


def _judge_members(benchmark: Benchmark, outputs: Mapping[str, Outputs], scores: Mapping[str, float]) -> dict[str, Any]:
    """Judge the members without the adapter as a specialist of their own, for a version that has no adapter."""
    own = {name: system for name, system in outputs.items() if name not in {SPECIALIST, ALONE}}
    tests = measure.compare_systems(benchmark, own, MEMBERS)
    faults = find_faults(benchmark, outputs[MEMBERS])
    verdict = _decide(benchmark, tests, scores, faults, members_only=True)
    return {
        "tests": [asdict(test) for test in tests],
        "gate": verdict.model_dump(mode="json") if verdict is not None else None,
        "warnings": [*describe_gaps(benchmark), *faults],
    }


def _run_and_measure(setup: Setup) -> tuple[dict[str, Outputs], dict[str, System], dict[str, float]]:
    """The outputs of every system that answered, the metrics or the error of every system, and the scores on validation rows."""
    outputs, systems, scores = {}, {}, {}
    for name, result, seconds in run_systems(setup):
        title = system_title(name, setup.members)
        if isinstance(result, VerticalError):
            systems[name] = System(title, error=str(result), seconds=seconds)
            continue
        outputs[name] = result.outputs
        if result.score is not None:
            scores[name] = result.score
        setup.progress(f"measuring {title}", None)
        metrics = measure.measure_metrics(setup.benchmark, result.outputs)
        systems[name] = System(title, metrics, result.outputs.unparsed, round(seconds, 2))
    return outputs, systems, scores


def _measure_forgetting(setup: Setup) -> Forgot | None:
    """Measure the adapter's cost in general ability, if the recipe sets a budget for it."""
    settings = setup.benchmark.recipe.evaluate.forgetting
    if settings is None:
        return None
    paragraphs = read_general(settings, setup.progress)
    return measure_forgetting(setup.model.specialist(), paragraphs, base=setup.model.base.fingerprint, progress=setup.progress)
