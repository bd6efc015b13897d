"""Champion and challenger: an alias moves to a version that beats its current version on the same rows."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertical_sdk.card import Fingerprint, Verdict
from vertical_sdk.data.prepare import Prepared, read_rows
from vertical_sdk.errors import AdapterError, DataError, RegistryError
from vertical_sdk.evaluation.learned_rows import Party, explain_unknown_parent, find_overlap, list_learned
from vertical_sdk.evaluation.measure import measure_interval, paired_test
from vertical_sdk.evaluation.red_lines import find_faults
from vertical_sdk.evaluation.result import finite
from vertical_sdk.evaluation.test_set import Benchmark, create_benchmark, prepare_own_rows
from vertical_sdk.gate import decide
from vertical_sdk.inference import VerticalModel
from vertical_sdk.metrics.measure import inputs as metric_inputs
from vertical_sdk.outputs import Outputs
from vertical_sdk.promotion.shared_rows import (
    have_same_rows,
    reorder_labels,
    require_comparable,
    rewrite_rows,
)
from vertical_sdk.recipe import Gate
from vertical_sdk.registry.checks import require_reason
from vertical_sdk.registry.references import check_alias
from vertical_sdk.sources.permission import for_card
from vertical_sdk.tasks import main_metric
from vertical_sdk.types import Example, Interval, Progress, log_progress

if TYPE_CHECKING:
    from vertical_sdk.registry import Registry, Version

__all__ = ["Promotion", "promote"]


@dataclass(frozen=True)
class Promotion:
    """What was compared, the verdict, and whether the alias moved.

    champion          the version that the alias pointed at; None if the alias did not exist
    metric            the first of the challenger's recipe (its gate's). None, like all numbers, if nothing was compared: the verdict
                      is then that of the challenger's own gate
    difference        challenger minus champion, in the metric's own unit
    margin            the value that the challenger's advantage had to exceed
    rows, dropped     how many rows were compared, and how many more were left out because one of the two was trained on them
    notes             what to know about the comparison, a sentence each
    forced            the alias moved although the verdict was negative
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


def promote(  # noqa: PLR0913  (each option is one decision of the user)
    registry: Registry,
    challenger: str,
    alias: str,
    *,
    data: Path | None = None,
    margin: float = 0.0,
    force: bool = False,
    why: str = "",
    allow_sources: Collection[str] = (),
    progress: Progress = log_progress,
) -> Promotion:
    """Move an alias to the challenger, if the challenger beats the version that the alias points at.

    challenger  a registry reference: "medical/topics@candidate", "medical/topics@3"
    alias       an alias of the same name, such as "production"
    data        a CSV or JSONL file to compare on; None: the test rows of the challenger's own recipe
    margin      the challenger's advantage must exceed this with confidence; in the metric's unit, as in a recipe's gate
    force       move the alias although the verdict is negative; the log records this permanently, with `why`, which it needs
    allow_sources  sources of data that are fetched although the challenger's card names them and the champion's does not, or although
                   they are not public; see below

    Both versions answer the same rows. The first metric of the challenger's recipe is compared by the paired bootstrap, over groups if
    the recipe says so. The challenger passes if the lower end of the interval of its advantage is above `margin`, as for the gate.
    The default of 0 requires a version that is better with confidence: what is in production changes only for a reason, and a tie is
    not a reason. If newer data or a smaller model is the reason, the challenger need only not be worse: -0.01 allows it to lose up to
    0.01 (a test of non-inferiority). How much loss matters depends on the use and on the metric's unit, so there is no default for it;
    choose it before you look at the numbers (Piaggio et al., CONSORT extension for non-inferiority trials, 2012).

    A card is written by its publisher, so its sources are fetched only if the champion's card names them too, if they are a file of
    the user with the bytes that the challenger was trained on, or if they are in `allow_sources`. Addresses of this machine and of
    private networks, where a redirect leads to as well, and `file://` are fetched only if they are in `allow_sources`.

    Rows that the champion was trained on (training or validation) are left out, and with `data` those of the challenger too; see
    `evaluation.learned_rows.find_overlap`. If the training rows of a version cannot be prepared here, a note says so: such rows would
    favor that version. A verdict for the challenger stays valid if this is the champion, but not, with `data`, if it is the
    challenger.

    The verdict is negative, too, if the challenger did not pass its own gate or has none, gives the same answer to every row, or if
    the metric is undefined on these rows.

    Without a champion (the alias is new, or its version was revoked or cannot be loaded), the verdict is that of the challenger's own
    gate at publication. The alias moves only if it still points at the same version as at the start.

    Raises RegistryError for force without a reason, references that do not exist, two versions that do not do the same, or an alias
    that was moved in the meantime; DataError for rows that cannot be scored or have changed since training; what loading the
    challenger raises. A challenger that fails is not an error: `moved` is False.
    """
    if force:
        require_reason(why, "moving an alias")
    version = registry.resolve(challenger)
    check_alias(alias, version.name)
    current = registry.list_adapters(version.name, limit=1)[0].aliases.get(alias)
    if current == version.number:
        raise RegistryError(
            f"the alias already points at version {current}. Choose another challenger.", where=f"{version.name}@{alias}"
        )
    allowed = frozenset(allow_sources)
    result = _Comparison(registry, version, alias, current, data, margin, allowed, progress).decide()
    if not result.verdict.passed and not force:
        return result
    result = replace(result, moved=True, forced=not result.verdict.passed)
    registry.set_alias(
        version.name,
        alias,
        version.number,
        expected=current or 0,
        force=result.forced,
        why=why,
        evidence=json.dumps(result.to_dict(), allow_nan=False),
        action="promote by force" if result.forced else "promote",
    )
    return result


@dataclass(frozen=True, eq=False)
class _Comparison:
    """One comparison: the challenger, the alias and the number of the version it points at, the rows and the margin."""

    registry: Registry
    challenger: Version
    alias: str
    current: int | None
    data: Path | None
    margin: float
    allow_sources: frozenset[str]
    progress: Progress

    def decide(self) -> Promotion:
        """Compare the two versions; if there is no champion that answers, take the verdict of the challenger's own gate."""
        name = self.challenger.name
        if self.current is None:
            return self._decide_by_own_gate(f"{name}@{self.alias} did not exist, so there was no champion to compare with.")
        champion = self.registry.resolve(f"{name}@{self.current}", check=False)
        if champion.revoked is not None:
            return self._decide_by_own_gate(
                f"The champion {champion} was revoked ({champion.revoked}), so nothing was compared."
            )
        try:
            champion = self.registry.resolve(str(champion))
            champion_card = champion.card
        except (AdapterError, RegistryError) as error:
            return self._decide_by_own_gate(f"The champion {champion} cannot be used, so nothing was compared: {error}")
        own = Party(str(self.challenger), self.challenger.card)
        other = Party(str(champion), champion_card)
        require_comparable(own, other)
        return self._compare(champion, own, other)

    def _compare(self, champion: Version, own: Party, other: Party) -> Promotion:
        """Compare the two versions on the rows that neither was trained on."""
        rows, dropped, notes = self._select_rows(own, other)
        benchmark = create_benchmark(own.card, own.recipe, rows)
        try:
            outputs, champion_outputs = self._answer(own, other, rows)
        except _ChampionUnusable as error:
            return self._decide_by_own_gate(
                f"The champion {champion} cannot be loaded, so nothing was compared: {error.__cause__}"
            )
        self.progress("comparing", None)
        champion_metric = main_metric(other.recipe).use
        if champion_metric != benchmark.main_metric:
            notes.append(
                f"The main metric of the champion's own recipe is {champion_metric}; {benchmark.main_metric} is compared."
            )
        if self.challenger.forced:
            notes.append(f"The challenger was published by force: its own gate {_describe_gate(self.challenger)}.")
        measured = _measure(benchmark, outputs, champion_outputs, str(champion), self.margin)
        if self.registry.policy.needs_force(self.alias, self.challenger.gate):
            reasons = measured["verdict"].reasons
            measured["verdict"] = Verdict(
                passed=False, reasons=(*reasons, f"Fails: the challenger's own gate {_describe_gate(self.challenger)}.")
            )
        return Promotion(
            self.challenger.name,
            self.alias,
            self.challenger.number,
            champion.number,
            margin=self.margin,
            rows=len(rows),
            dropped=dropped,
            rows_from=str(self.data) if self.data else "the test rows of the challenger's recipe",
            notes=tuple(notes),
            **measured,
        )

    def _answer(self, own: Party, other: Party, rows: Sequence[Example]) -> tuple[Outputs, Outputs]:
        """The answers of both versions. Two versions on one base share it; otherwise one base is in memory at a time.

        Raises _ChampionUnusable if the champion cannot be loaded; what loading the challenger raises.
        """
        progress = self.progress
        model = VerticalModel.from_registry(own.name, self.registry, progress=progress)
        outputs = model.answer(rows, progress=progress).outputs
        try:
            if _have_same_base(own.card.base, other.card.base) and not (own.card.members_only or other.card.members_only):
                model.use(model.add(other.name, self.registry))
            else:
                del model
                model = VerticalModel.from_registry(other.name, self.registry, progress=progress)
        except AdapterError as error:
            raise _ChampionUnusable from error
        champion_outputs = model.answer(rewrite_rows(rows, own, other), progress=progress).outputs
        return outputs, reorder_labels(champion_outputs, other.card, own.card)

    def _select_rows(self, own: Party, other: Party) -> tuple[list[Example], int, list[str]]:
        """The rows that neither version was trained on, how many were left out, and notes about them."""
        with for_card(own.card, known=other.card, allowed=self.allow_sources):
            prepared, unprepared = prepare_own_rows(own.card, own.recipe, needed=self.data is None, progress=self.progress)
        trained_on: list[tuple[Party, Prepared | None, str]] = []
        if self.data is None:
            assert prepared is not None
            if not prepared.test:
                raise DataError(
                    f"{own.name} was cross-fitted, so it has learned all of its recipe's rows. Name a file of new rows with --data."
                )
            rows: Sequence[Example] = prepared.test
        else:
            rows = read_rows(self.data, own.recipe, own.card.contract, require_label=True)[0]
            trained_on.append((own, prepared, unprepared))
        if not have_same_rows(own, other):
            self.progress("preparing the champion's rows", None)
            with for_card(other.card, known=other.card, allowed=self.allow_sources):
                learned = prepare_own_rows(other.card, other.recipe, needed=False, progress=self.progress)
            trained_on.append((other, *learned))
        notes: list[str] = []
        left_out: set[int] = set()
        for party, known, reason in trained_on:
            if known is None:
                notes.append(
                    f"It is unknown whether {party.name} was trained on some of these rows, which would favor it: {reason}"
                )
                continue
            positions = find_overlap(rewrite_rows(rows, own, party), list_learned(known), party)
            left_out |= positions
            if positions:
                notes.append(f"{party.name} was trained on {len(positions)} of the {len(rows)} rows, which were left out.")
        for party, others in ((own, (other.card,)), (other, (own.card,) if self.data is not None else ())):
            if reason := explain_unknown_parent(party.card, *others):
                notes.append(f"It is unknown whether {party.name} was trained on some of these rows: {reason}.")
        if rows and len(left_out) == len(rows):
            raise DataError(
                f"{own.name} or {other.name} was trained on each of the {len(rows)} rows. Name a file of new rows with --data."
            )
        return [row for position, row in enumerate(rows) if position not in left_out], len(left_out), notes

    def _decide_by_own_gate(self, reason: str) -> Promotion:
        """The verdict of the challenger's own gate at publication."""
        version, gate = self.challenger, self.challenger.card.gate
        verdict = Verdict(
            passed=not self.registry.policy.needs_force(self.alias, version.gate),
            reasons=(f"The challenger's own gate {_describe_gate(version)}.", *(gate.reasons if gate else ())),
        )
        return Promotion(version.name, self.alias, version.number, self.current, verdict, margin=self.margin, notes=(reason,))


class _ChampionUnusable(Exception):
    """The champion cannot be loaded; the cause is the error."""


def _measure(benchmark: Benchmark, own: Outputs, champion: Outputs, champion_name: str, margin: float) -> dict[str, Any]:
    """Measure both in the main metric, their difference, and the verdict."""
    metric = benchmark.main_metric
    if "quantiles" in metric_inputs(metric):
        shapes = [None if outputs.quantiles is None else outputs.quantiles.shape for outputs in (own, champion)]
        if None in shapes or shapes[0] != shapes[1]:
            raise RegistryError(
                f"{metric} cannot compare the two: the champion predicts other quantiles than the challenger, or none. "
                "Compare in another metric.",
                where=champion_name,
            )
    test = paired_test(benchmark, metric, own, champion)
    gate = Gate(metric=metric, beats=(champion_name,), margin=margin, confidence=benchmark.confidence)
    return {
        "metric": metric,
        "challenger_value": measure_interval(benchmark, metric, own),
        "champion_value": measure_interval(benchmark, metric, champion),
        "difference": test.difference,
        "p_value": float(test.p_value),
        "confidence": benchmark.confidence,
        "verdict": decide(gate, {champion_name: test}, find_faults(benchmark, own)),
    }


def _describe_gate(version: Version) -> str:
    descriptions = {"passed": "passed", "non-inferior": "passed as non-inferior", "failed": "failed"}
    descriptions["not evaluated"] = "was not evaluated"
    return descriptions.get(version.gate, "does not exist: its recipe says gate: false")


def _have_same_base(first: Fingerprint, second: Fingerprint) -> bool:
    """Whether one backbone serves both; where it came from does not matter."""
    origin = {"name": "", "revision": None, "license": None}
    return first.model_copy(update=origin) == second.model_copy(update=origin)
