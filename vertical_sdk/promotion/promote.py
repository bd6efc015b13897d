"""Champion against challenger: an alias moves to a version that beats the one it stands at, on the same rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertical_sdk.card import Card, Fingerprint, Verdict
from vertical_sdk.data.prepare import Prepared, read_rows
from vertical_sdk.errors import AdapterError, DataError, RegistryError
from vertical_sdk.evaluation.gate import decide
from vertical_sdk.evaluation.result import finite
from vertical_sdk.evaluation.statistics import bootstrap_interval, paired_bootstrap
from vertical_sdk.evaluation.test_set import Bench, bench_of, own_rows
from vertical_sdk.inference import VerticalModel
from vertical_sdk.metrics.measure import inputs as metric_inputs
from vertical_sdk.outputs import Outputs
from vertical_sdk.promotion.shared_rows import in_order, overlap, require_comparable, reread, same_rows
from vertical_sdk.recipe import Gate, Recipe
from vertical_sdk.registry.references import check_alias
from vertical_sdk.tasks import main_metric
from vertical_sdk.types import Example, Interval, Progress, silent

if TYPE_CHECKING:
    from vertical_sdk.registry import Registry, Version

__all__ = ["Promotion", "promote"]


@dataclass(frozen=True)
class Promotion:
    """What was compared, what was decided, and whether the alias moved.

    champion          the version that the alias stood at; None where there was no such alias
    metric            the first of the challenger's recipe (its gate's); None, as all numbers, where nothing was compared: the
                      verdict is then that of the challenger's own gate
    difference        challenger minus champion, in the metric's own unit
    margin            what the challenger's advantage had to exceed
    rows, dropped     how many were compared, and how many more were left out, as one of the two had learned from them
    notes             what to know about the comparison, a sentence each
    forced            it moved against the verdict
    """

    name: str
    alias: str
    challenger: int
    champion: int | None
    verdict: Verdict
    metric: str | None = None
    challenger_value: Interval | None = None
    champion_value: Interval | None = None
    difference: Interval | None = None
    p_value: float | None = None
    confidence: float | None = None
    margin: float = 0.0
    rows: int = 0
    dropped: int = 0
    rows_from: str = ""
    notes: tuple[str, ...] = ()
    moved: bool = False
    forced: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; a number that is not finite becomes None."""
        plain: dict[str, Any] = finite(asdict(self) | {"verdict": self.verdict.model_dump(mode="json")})
        return plain


def promote(
    registry: Registry,
    name: str,
    source: str | int,
    target: str,
    *,
    data: Path | None = None,
    margin: float = 0.0,
    force: bool = False,
    why: str = "",
    progress: Progress = silent,
) -> Promotion:
    """Point the alias `target` of a name at the version `source` means, if that beats the version that the alias stands at.

    source  an alias or a version's number: the challenger
    data    a CSV or JSONL file to compare on; the test rows of the challenger's own recipe where there is none
    margin  what the challenger's advantage must surely exceed, in the metric's unit, as in a recipe's gate
    force   move it against the verdict; the log says so for ever

    Both answer the same rows. The first metric of the challenger's recipe is compared by the paired bootstrap, over groups where
    the recipe says so. The verdict is the gate's: the lower end of the interval of the challenger's advantage lies above `margin`.
    The default of 0 asks for a version that is surely better: whatever is in production changes only for a reason, and a tie is
    none. Where newer data or a smaller model is the reason, a challenger need only be no worse: -0.01 allows it to lose up to 0.01
    (a test of non-inferiority). How much loss matters depends on the use and on the metric's unit, so that there is no default for
    it; it is chosen before one looks (Piaggio et al., CONSORT extension for non-inferiority trials, 2012).

    Rows that the champion learned from (training or validation), and with `data` those of the challenger too, are left out; see
    `shared_rows.overlap`. Where one's training rows cannot be prepared here, a note says so: such rows would flatter it. Of the champion
    that leaves a verdict for the challenger sound; of the challenger, with `data` of one's own, it does not.

    Without a champion (the alias is new, or its version was revoked or cannot be loaded), the verdict is what the challenger's
    own gate said when it was published. The alias moves only if it still stands where it stood at the beginning.

    Raises RegistryError for what does not exist, two versions that do not do the same, or an alias that somebody moved meanwhile;
    DataError for rows that cannot be scored or have changed since training; what loading the challenger raises. A challenger that
    fails is no error: `moved` is False.
    """
    check_alias(target, name)
    challenger = registry.resolve(f"{name}@{source}")
    stands = registry.list_adapters(name, limit=1)[0].aliases.get(target)
    if stands == challenger.number:
        raise RegistryError(f"{name}@{target} stands at version {stands} already; there is nothing to promote.")
    found = _decided(registry, challenger, target, stands, data, margin, progress)
    if not found.verdict.passed and not force:
        return found
    found = replace(found, moved=True, forced=not found.verdict.passed)
    registry.set_alias(
        name,
        target,
        challenger.number,
        expected=stands or 0,
        why=why,
        evidence=json.dumps(found.to_dict(), allow_nan=False),
        action="promote by force" if found.forced else "promote",
    )
    return found


def _decided(
    registry: Registry,
    challenger: Version,
    target: str,
    stands: int | None,
    data: Path | None,
    margin: float,
    progress: Progress,
) -> Promotion:
    """The comparison, or where there is no champion that answers, what the challenger's own gate said."""

    def by_own_gate(reason: str) -> Promotion:
        return Promotion(
            challenger.name, target, challenger.number, stands, _own_verdict(challenger), margin=margin, notes=(reason,)
        )

    if stands is None:
        return by_own_gate(f"{challenger.name}@{target} did not exist, so there was no champion to compare with.")
    champion = registry.resolve(f"{challenger.name}@{stands}", check=False)
    if champion.revoked is not None:
        return by_own_gate(f"The champion {champion} was revoked ({champion.revoked}), so nothing was compared.")
    try:
        champion = registry.resolve(str(champion))
        theirs = champion.card
    except (AdapterError, RegistryError) as error:
        return by_own_gate(f"The champion {champion} cannot be used, so nothing was compared: {error}")
    own = challenger.card
    require_comparable(own, theirs, str(champion))
    recipe = Recipe.model_validate(own.recipe)
    rows, dropped, notes = _rows(own, theirs, challenger, champion, data, progress)
    bench = bench_of(own, recipe, rows)
    model = VerticalModel.from_pretrained(challenger.path, name=str(challenger), progress=progress)
    said = model.answer(bench.rows, progress=progress).outputs
    try:
        if _same_base(own.base, theirs.base):
            model.use(model.add(champion.path, name=str(champion)))
        else:
            del model  # one backbone in memory at a time
            model = VerticalModel.from_pretrained(champion.path, name=str(champion), progress=progress)
    except AdapterError as error:
        return by_own_gate(f"The champion {champion} cannot be loaded, so nothing was compared: {error}")
    baseline = in_order(model.answer(reread(bench.rows, own, theirs), progress=progress).outputs, theirs, own)
    progress("comparing", None)
    looks_at = main_metric(Recipe.model_validate(theirs.recipe)).use
    if looks_at != bench.main_metric:
        notes.append(f"The champion's own recipe looks at {looks_at} first; {bench.main_metric} is compared.")
    if challenger.gate in {"failed", "not evaluated"}:
        notes.append(f"The challenger was published by force: its own gate {_gate_said(challenger)}.")
    compared = _compared(bench, said, baseline, str(champion), margin)
    return Promotion(
        challenger.name,
        target,
        challenger.number,
        champion.number,
        margin=margin,
        rows=len(rows),
        dropped=dropped,
        rows_from=str(data) if data else "the test rows of the challenger's recipe",
        notes=tuple(notes),
        **compared,
    )


def _rows(
    own: Card, theirs: Card, challenger: Version, champion: Version, data: Path | None, progress: Progress
) -> tuple[list[Example], int, list[str]]:
    """The rows that neither learned from, how many were left out, and what is to be said about them."""
    recipe = Recipe.model_validate(own.recipe)
    prepared, unprepared = own_rows(own, recipe, needed=data is None, progress=progress)
    if data is None:
        assert prepared is not None
        rows: Sequence[Example] = prepared.test
        sides: list[tuple[Version, Card, Prepared | None, str]] = []
    else:
        rows = read_rows(data, recipe, own.labels, require_label=True, layout=own.layout)[0]
        sides = [(challenger, own, prepared, unprepared)]
    if not same_rows(own, theirs):
        progress("preparing the champion's rows", None)
        sides.append(
            (champion, theirs, *own_rows(theirs, Recipe.model_validate(theirs.recipe), needed=False, progress=progress))
        )
    notes, out = [], set()
    for who, card, learned, why in sides:
        if learned is None:
            notes.append(f"Whether {who} learned from some of these rows could not be found out, which would flatter it: {why}")
            continue
        found = overlap(rows, own, (*learned.train, *learned.validation), card)
        out |= found
        if found:
            notes.append(f"{who} learned from {len(found)} of the {len(rows)} rows, which were left out.")
    if rows and len(out) == len(rows):
        raise DataError(
            f"{challenger} and {champion}: one of them learned from each of the {len(rows)} rows. Give new ones by --data."
        )
    return [row for place, row in enumerate(rows) if place not in out], len(out), notes


def _compared(bench: Bench, said: Outputs, baseline: Outputs, champion: str, margin: float) -> dict[str, Any]:
    """Both in the first metric, their difference, and the verdict."""
    metric = bench.main_metric
    if "quantiles" in metric_inputs(metric):
        shapes = [None if one.quantiles is None else one.quantiles.shape for one in (said, baseline)]
        if None in shapes or shapes[0] != shapes[1]:
            raise RegistryError(f"{champion} gives other quantiles than the challenger, or none; {metric} cannot compare them.")
    drawn: dict[str, Any] = {
        "resamples": bench.recipe.evaluate.resamples,
        "confidence": bench.confidence,
        "groups": bench.groups,
    }
    first, second = bench.measure(metric, said), bench.measure(metric, baseline)
    test = paired_bootstrap(first, second, len(bench.rows), **drawn)
    gate = Gate(metric=metric, beats=(champion,), margin=margin, confidence=bench.confidence)
    return {
        "metric": metric,
        "challenger_value": bootstrap_interval(first, len(bench.rows), **drawn),
        "champion_value": bootstrap_interval(second, len(bench.rows), **drawn),
        "difference": test.difference,
        "p_value": float(test.p_value),
        "confidence": bench.confidence,
        "verdict": decide(gate, {champion: test}),
    }


def _own_verdict(version: Version) -> Verdict:
    """What the version's own gate said when it was published; a recipe that states none asks for nothing."""
    gate = version.card.gate
    return Verdict(
        passed=version.gate in {"passed", "no gate"},
        reasons=(f"The challenger's own gate {_gate_said(version)}.", *(gate.reasons if gate else ())),
    )


def _gate_said(version: Version) -> str:
    return {"passed": "passed", "failed": "failed", "not evaluated": "was never asked"}.get(version.gate, "does not exist")


def _same_base(first: Fingerprint, second: Fingerprint) -> bool:
    """Whether one backbone serves both."""
    told = {"name": "", "revision": None, "license": None}
    return first.model_copy(update=told) == second.model_copy(update=told)
