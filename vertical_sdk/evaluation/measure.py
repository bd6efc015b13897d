"""Measure the outputs of all systems on the same rows: metrics with intervals, paired tests, tables, audits and curves.

`outputs` are always those of all systems that answered, by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from vertical_sdk.calibration.abstention import compute_share, select_independent
from vertical_sdk.calibration.temperature import reliability, to_probabilities
from vertical_sdk.evaluation.audit import Audited, find_general_model, group_audit, label_audit
from vertical_sdk.evaluation.forecasts import forecast_curves
from vertical_sdk.evaluation.pictures import draw_evidence
from vertical_sdk.evaluation.result import Bin, Comparison, ExampleRow
from vertical_sdk.evaluation.statistics import compare_resampled, mcnemar
from vertical_sdk.evaluation.systems import SPECIALIST, system_title
from vertical_sdk.evaluation.tables import confusion_matrix, per_label_table
from vertical_sdk.evaluation.test_set import Benchmark
from vertical_sdk.metrics.abstention import abstention_curve
from vertical_sdk.metrics.measure import draw_curve
from vertical_sdk.metrics.measure import inputs as metric_inputs
from vertical_sdk.outputs import Outputs, prompt_of
from vertical_sdk.types import Interval, PairedTest, SeriesLayout

__all__ = [
    "audit_labels_and_groups",
    "check_promise",
    "compare_systems",
    "count_right",
    "draw_curves",
    "label_tables",
    "main_tests",
    "mean_errors",
    "measure_abstention",
    "measure_interval",
    "measure_metrics",
    "paired_test",
    "select_examples",
]

OUTCOMES = {
    "kept": "is kept",
    "open": "may be kept or not",
    "broken": "is broken",
    "empty": "is not tested, as it answers none of the rows",
}
"""What is said of a promise."""
SHOWN = 20
"""The number of example rows in a report."""


def measure_metrics(benchmark: Benchmark, outputs: Outputs) -> dict[str, Interval]:
    """Measure every metric that can be measured on these outputs."""
    return {
        name: measure_interval(benchmark, name, outputs)
        for name in benchmark.metrics
        if (outputs.probabilities is not None or "probabilities" not in metric_inputs(name))
        and (outputs.quantiles is not None or "quantiles" not in metric_inputs(name))
    }


def measure_interval(benchmark: Benchmark, metric: str, outputs: Outputs) -> Interval:
    """Measure one metric with its interval."""
    return benchmark.resample(metric, outputs).interval(benchmark.resampling.confidence)


def paired_test(benchmark: Benchmark, metric: str, first: Outputs, second: Outputs) -> PairedTest:
    """Compare two systems in one metric on the same resamples: first minus second."""
    return compare_resampled(
        benchmark.resample(metric, first), benchmark.resample(metric, second), benchmark.resampling.confidence
    )


def compare_systems(benchmark: Benchmark, outputs: Mapping[str, Outputs], first: str = SPECIALIST) -> list[Comparison]:
    """Compare the specialist, or another system, with each other one: first in the main metric, then in accuracy."""
    headline = benchmark.main_metric
    metrics = [headline] + [name for name in ("accuracy",) if name in benchmark.metrics and name != headline]
    own = outputs[first]
    comparisons = []
    for metric in metrics:
        for baseline, baseline_outputs in outputs.items():
            if baseline != first:
                test = paired_test(benchmark, metric, own, baseline_outputs)
                p_value = _mcnemar(benchmark, own, baseline_outputs)
                comparisons.append(Comparison(baseline, metric, test.difference, test.p_value, p_value))
    return comparisons


def main_tests(benchmark: Benchmark, comparisons: list[Comparison]) -> dict[str, PairedTest]:
    """Select the comparisons in the main metric: baseline → test, as the gate takes them."""
    return {
        comparison.baseline: PairedTest(comparison.difference, comparison.p_value, benchmark.confidence)
        for comparison in comparisons
        if comparison.metric == benchmark.main_metric
    }


def _mcnemar(benchmark: Benchmark, own: Outputs, baseline: Outputs) -> float | None:
    task, references = benchmark.task, benchmark.references
    if not task.single_label:
        return None
    return mcnemar(task.predictions(own) == references, task.predictions(baseline) == references)


def label_tables(benchmark: Benchmark, outputs: Mapping[str, Outputs]) -> dict[str, Any]:
    """Make the tables about labels, by their names in `Evaluation`; {} for a task without labels."""
    card, task, references = benchmark.card, benchmark.task, benchmark.references
    if card.labels is None:
        return {}
    own = task.predictions(outputs[SPECIALIST])
    base = task.predictions(outputs["base"]) if "base" in outputs else None
    tables: dict[str, Any] = {"per_label": per_label_table(own, base, references, card.labels.labels)}
    if not task.single_label:
        return tables
    tables["confusion"] = confusion_matrix(own, references, len(card.labels))
    after = outputs[SPECIALIST].probabilities
    assert after is not None
    before = to_probabilities(np.log(after.clip(1e-300)) * card.calibration.temperature)
    tables["reliability"] = {
        name: [Bin(*values) for values in reliability(probabilities, references)]
        for name, probabilities in (("before", before), ("after", after))
    }
    return tables


def audit_labels_and_groups(benchmark: Benchmark, outputs: Mapping[str, Outputs]) -> dict[str, Any]:
    """Audit which labels and groups gained or lost against the general model, by the audits' names in `Evaluation`."""
    card, groups = benchmark.card, benchmark.recipe.evaluate.groups
    general = find_general_model(outputs)
    audited = Audited(
        outputs[SPECIALIST],
        outputs[general] if general else None,
        benchmark.references,
        card.labels,
        card.task,
        general or "",
        benchmark.resampling,
    )
    audits: dict[str, Any] = {}
    if card.labels is not None and general is not None:
        audits["label_audit"] = label_audit(audited)
    if groups:
        audits["group_audit"] = group_audit(audited, benchmark.rows, groups, benchmark.main_metric, benchmark.measure)
    return audits


def measure_abstention(benchmark: Benchmark, outputs: Mapping[str, Outputs]) -> dict[str, list[tuple[float, float, float]]]:
    """Measure how many answers are right if only the surest rows are answered; {} for other than one label a row."""
    if not benchmark.task.single_label:
        return {}
    return {
        name: abstention_curve(system.probabilities, benchmark.references)
        for name, system in outputs.items()
        if system.probabilities is not None
    }


def check_promise(benchmark: Benchmark, outputs: Outputs) -> dict[str, Any] | None:
    """Check the promise of `evaluate.abstention` on rows that it was not fitted on; None for a specialist without one.

    outputs  of the specialist
    returns  alpha; rows, answered and wrong: how many of the rows (one row of each group) are answered, and how many answers are wrong;
             coverage and errors: their shares, with exact intervals; outcome: "kept" if no more than alpha of the answers are wrong,
             "broken" if the interval is above alpha, else "open", "empty" without answers; and text: all of this in a sentence
    """
    promise = benchmark.card.calibration.promise
    if promise is None or outputs.answered is None:
        return None
    at = select_independent([row.group for row in benchmark.rows])
    answered = outputs.answered[at].astype(bool)
    right = np.asarray(benchmark.task.predictions(outputs) == benchmark.references)[at]
    count, wrong = int(answered.sum()), int((answered & ~right).sum())
    coverage, errors = (compute_share(*counts, benchmark.confidence) for counts in ((count, len(at)), (wrong, count)))
    outcome = (
        "empty"
        if not count
        else "kept"
        if errors.value <= promise.alpha
        else "broken"
        if errors.low > promise.alpha
        else "open"
    )
    found = f"The promise of at most {promise.alpha:.1%} wrong answers {OUTCOMES[outcome]}"
    if count:
        found += f": it answers {_show_share(coverage)} of {len(at)} rows, and {_show_share(errors)} of these answers are wrong"
    return {
        "alpha": promise.alpha,
        "rows": len(at),
        "answered": count,
        "wrong": wrong,
        "coverage": asdict(coverage),
        "errors": asdict(errors),
        "outcome": outcome,
        "text": f"{found}.",
    }


def _show_share(share: Interval) -> str:
    return f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]"


def count_right(benchmark: Benchmark, outputs: Mapping[str, Outputs]) -> dict[str, int]:
    """Count the rows whose answer is right, all labels of a row together; {} for a task without labels."""
    if benchmark.card.labels is None or not benchmark.task.labelled:
        return {}
    counts = {}
    for name, system in outputs.items():
        same = np.asarray(benchmark.task.predictions(system)) == np.asarray(benchmark.references)
        counts[name] = int(same.reshape(len(same), -1).all(axis=1).sum())
    return counts


def mean_errors(benchmark: Benchmark, outputs: Mapping[str, Outputs]) -> dict[str, float]:
    """The mean absolute error of each system over the known values; {} for a task without numbers."""
    if not benchmark.task.numeric and benchmark.task.verb != "forecast":
        return {}
    errors = {}
    for name, system in outputs.items():
        size = np.abs(np.asarray(benchmark.task.predictions(system), float) - np.asarray(benchmark.references, float))
        errors[name] = float(size[np.isfinite(size)].mean()) if np.isfinite(size).any() else float("nan")
    return errors


def draw_curves(benchmark: Benchmark, outputs: Mapping[str, Outputs], layout: SeriesLayout | None) -> dict[str, dict[str, Any]]:
    """Draw the curves of the metrics that have one, with a line for each system, and those of forecasts.

    layout  of the specialist's series; None for other specialists
    """
    curves: dict[str, dict[str, Any]] = {}
    for part in benchmark.recipe.evaluate.metrics:
        for name, system in outputs.items():
            predictions = benchmark.task.predictions(system)
            curve = draw_curve(
                part.use, predictions, benchmark.references, benchmark.rows, part.arguments, system.probabilities
            )
            if curve is not None:
                shared = curves.setdefault(part.use, {**curve, "lines": {}})
                shared["lines"] |= {line or system_title(name): points for line, points in curve["lines"].items()}
    return curves | forecast_curves(benchmark.rows, benchmark.references, outputs, benchmark.card.task, layout)


def select_examples(benchmark: Benchmark, outputs: Mapping[str, Outputs], specialist: Any) -> list[ExampleRow]:
    """Select some rows for a reader, half of them wrong if there are that many; the same ones each time. None for series."""
    modality = benchmark.recipe.data.modality
    if modality == "series":
        return []
    task, labels, rows = benchmark.task, benchmark.card.labels, benchmark.rows
    texts = {name: task.format(task.predictions(outputs[name]), labels) for name in (SPECIALIST, "base") if name in outputs}
    references = task.format(benchmark.references, labels)
    order = np.random.default_rng(0).permutation(len(rows)).tolist()
    wrong = [i for i in order if texts[SPECIALIST][i] != references[i]][: SHOWN // 2]
    right = [i for i in order if texts[SPECIALIST][i] == references[i]][: SHOWN - len(wrong)]
    probabilities = outputs[SPECIALIST].probabilities if task.single_label else None
    examples = []
    for i in (*right, *wrong):
        pictures: tuple[str, ...] = ()
        if modality == "image":
            predicted = 0 if probabilities is None else int(probabilities[i].argmax())
            pictures = draw_evidence(rows[i].values, specialist, predicted)
        base = texts["base"][i] if "base" in texts else None
        probability = float(probabilities[i].max()) if probabilities is not None else None
        examples.append(ExampleRow(prompt_of(rows[i]), references[i], texts[SPECIALIST][i], base, probability, *pictures))
    return examples
