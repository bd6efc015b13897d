"""Cards that claim what is not so: a passed gate over losing results, made-up digests, numbers that cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry.conftest import GATE, RESULTS, resolve_recipe, write_adapter

from vertical_sdk.card import Card, Parent, SourceRecord, Verdict, read_card, write_card
from vertical_sdk.errors import CorruptAdapter, GateFailed
from vertical_sdk.registry import Registry
from vertical_sdk.types import LabelSpace

LOSING = {
    **RESULTS,
    "systems": {
        "adapter": {"metrics": {"macro_f1": {"value": 0.4, "low": 0.3, "high": 0.5}}},
        "base": {"metrics": {"macro_f1": {"value": 0.55, "low": 0.5, "high": 0.6}}},
    },
    "tests": [
        {"baseline": "base", "metric": "macro_f1", "difference": {"value": -0.15, "low": -0.2, "high": -0.1}, "p_value": 0.002}
    ],
}
FORGETTING = {"evaluate": {"metrics": ["macro_f1"], "gate": GATE, "forgetting": {"budget": 0.3}}}
ON = "on 240 paragraphs of general text, recall@1 is"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def change_card(folder: Path, **changes: Any) -> Path:
    """Write an adapter whose card has these fields."""
    write_card(write_adapter(folder), read_card(folder).model_copy(update=changes))
    return folder


def passed(*reasons: str) -> Verdict:
    return Verdict(passed=True, reasons=reasons)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"metrics": LOSING}, "0.150 worse than base"),
        ({"metrics": {}}, "base was not measured"),
        ({"metrics": {**RESULTS, "tests": []}}, "base was not measured"),
        ({"metrics": {**RESULTS, "confidence": 0.6}}, "its comparisons are at confidence 0.6"),
        (
            {"metrics": {**RESULTS, "warnings": ["The specialist gives one label to every row: 'urgent'."]}},
            "gives one label to every row",
        ),
        ({"gate": passed("Fails: the specialist gives one label to every row.")}, "gives one label to every row"),
        (resolve_recipe("medical/triage", **FORGETTING), "does not say how much was forgotten"),
        (
            resolve_recipe("medical/triage", **FORGETTING)
            | {"gate": passed(f"Passes: {ON} 0.300 with the adapter and 0.800 without. Nothing was forgotten.")},
            "a cost in general ability of 0.500, more than the budget of 0.3",
        ),
        (
            resolve_recipe("medical/triage", evaluate={"gate": {**GATE, "margin": 0.5}}),
            "0.360 better than base .* is at or below the margin of 0.5",
        ),
        (
            resolve_recipe("medical/triage", evaluate={"gate": {**GATE, "metric": "elsewhere.f1"}}),
            "was not measured|is not known",
        ),
        (resolve_recipe("medical/triage"), "tfidf was not measured"),
    ],
)
def test_a_passed_gate_that_does_not_follow_from_the_results_is_refused(
    registry: Registry, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    folder = change_card(tmp_path / "adapter", **changes)

    with pytest.raises(GateFailed, match=f"did not pass its gate: .*{reason}.*does not follow from the results"):
        registry.publish(folder)
    assert registry.list_adapters() == []

    version = registry.publish(folder, force=True, reason="a trial")
    assert (version.gate, version.forced) == ("failed", True)
    assert version.card.gate is not None
    assert not version.card.gate.passed


def test_a_tie_that_a_margin_allows_is_non_inferior_whatever_the_card_says(registry: Registry, tmp_path: Path) -> None:
    tie = {"baseline": "base", "metric": "macro_f1", "difference": {"value": 0.0, "low": -0.02, "high": 0.02}, "p_value": 0.9}
    systems = {name: {"metrics": {"macro_f1": {"value": 0.5, "low": 0.4, "high": 0.6}}} for name in ("adapter", "base")}
    recipe = resolve_recipe("medical/triage", evaluate={"gate": {**GATE, "margin": -0.05}})

    version = registry.publish(
        change_card(tmp_path / "adapter", metrics={**RESULTS, "systems": systems, "tests": [tie]}, **recipe), alias="production"
    )

    assert version.gate == "non-inferior"
    assert version.card.gate is not None
    assert version.card.gate.noninferior


@pytest.mark.parametrize(
    ("metrics", "alternative", "outcome", "fault"),
    [
        (LOSING, "base", "adds", "it is 'adds' against 'base', but from the comparisons follows 'worse' against 'base'"),
        (RESULTS, "tfidf", "adds", "it is 'adds' against 'tfidf', but from the comparisons follows 'adds' against 'base'"),
        ({**RESULTS, "tests": []}, "base", "adds", "but from the comparisons follows nothing"),
    ],
)
def test_a_contribution_that_does_not_follow_from_the_results_is_refused(
    registry: Registry, tmp_path: Path, metrics: dict[str, Any], alternative: str, outcome: str, fault: str
) -> None:
    claim = {"alternative": alternative, "outcome": outcome, "text": "The adapter adds a lot."}
    folder = change_card(tmp_path / "adapter", metrics={**metrics, "contribution": claim})

    with pytest.raises(CorruptAdapter, match=fault):
        registry.publish(folder, force=True, reason="a trial")


def test_a_contribution_that_follows_from_the_results_is_published(registry: Registry, tmp_path: Path) -> None:
    claim = {"alternative": "base", "outcome": "adds", "text": "The adapter adds 0.360."}

    version = registry.publish(change_card(tmp_path / "adapter", metrics={**RESULTS, "contribution": claim}))

    assert version.gate == "passed"


def test_an_evaluation_file_with_a_made_up_verdict_is_refused(registry: Registry, tmp_path: Path) -> None:
    from vertical_sdk.paths import file_digest

    folder = write_adapter(tmp_path / "run" / "adapter", verdict=None)
    (tmp_path / "run" / "recipe.json").write_text("{}")
    evaluation = {"adapter": file_digest(folder / "vertical.json"), "hub_id": None, "rows": 9, "baseline": None, **LOSING}
    evaluation["gate"] = {"passed": True, "reasons": []}
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(evaluation))

    with pytest.raises(GateFailed, match=r"0\.150 worse than base"):
        registry.publish(tmp_path / "run")


@pytest.mark.parametrize(
    "verdict",
    [
        passed("Passes: better."),
        passed(f"Passes: {ON} 0.600 with the adapter and 0.800 without. The cost is 0.200 of a budget of 0.3."),
    ],
)
def test_a_passed_gate_that_follows_from_the_results_is_published(registry: Registry, tmp_path: Path, verdict: Verdict) -> None:
    recipe = resolve_recipe(
        "medical/triage", **(FORGETTING if "paragraphs" in verdict.reasons[0] else {"evaluate": {"gate": GATE}})
    )

    version = registry.publish(change_card(tmp_path / "adapter", gate=verdict, **recipe))

    assert version.gate == "passed"
    assert version.card.gate == verdict


def interval(**changes: Any) -> Callable[[], dict[str, Any]]:
    """Results with another value of the specialist."""
    value = {"value": 0.91, "low": 0.88, "high": 0.94} | changes
    return lambda: {**RESULTS, "tests": [], "systems": {"adapter": {"metrics": {"macro_f1": value}}}}


@pytest.mark.parametrize(
    ("part", "value", "fault"),
    [
        ("recipe_digest", "0" * 64, "recipe_digest: it is"),
        ("recipe", {"name": "medical/triage"}, r"recipe\.(task|data)"),
        ("recipe", {**resolve_recipe("medical/triage")["recipe"], "evaluate": 7}, r"recipe\.evaluate"),
        ("task", "ordinal", "the card is for 'ordinal', and its recipe for 'classification'"),
        ("sources", (SourceRecord(source="rows.csv", sha256="made up"),), r"sources\.0\.sha256: 'made up' is not a SHA-256"),
        ("parent", Parent(reference="a@1", weights="F" * 64), r"parent\.weights"),
        ("sources", (SourceRecord(source="a", sha256="", license="MIT\x1b[2J"),), r"sources\.0\.license"),
        ("sources", (SourceRecord(source="a", sha256="", license="x" * 10_000),), r"sources\.0\.license"),
        ("name", "medical/triage\u202e", "name: "),
        ("versions", {"torch": "2\n3"}, r"versions\.torch"),
        ("labels", LabelSpace(("a", "b"), counts={"a": -5}), r"labels\.counts"),
        ("metrics", interval(value=1.7, high=1.8)(), "1.7 is not from 0 to 1"),
        ("metrics", interval(value=-0.2, low=-0.3)(), "-0.2 is not from 0 to 1"),
        ("metrics", interval(low=0.95, high=0.97)(), "does not contain 0.91"),
        ("metrics", interval(low=0.94, high=0.88)(), "does not contain 0.91"),
        ("metrics", interval(high=None)(), "has a value and two ends"),
        ("metrics", interval(value="0.91")(), r"metrics\.systems\.adapter\.metrics\.macro_f1\.value"),
        ("metrics", interval(value=True)(), r"macro_f1\.value"),
        ("metrics", {**RESULTS, "rows": -1}, r"metrics\.rows"),
        ("metrics", {**RESULTS, "rows": "many"}, r"metrics\.rows"),
        ("metrics", {**RESULTS, "confidence": 95}, r"metrics\.confidence"),
        ("metrics", {**RESULTS, "systems": []}, r"metrics\.systems"),
        ("metrics", {**RESULTS, "systems": {"adapter": 3}}, r"metrics\.systems\.adapter"),
        ("metrics", {**RESULTS, "warnings": "none"}, r"metrics\.warnings"),
        ("metrics", {**RESULTS, "baseline": "elsewhere"}, "no system is called 'elsewhere'"),
        ("metrics", {**RESULTS, "tests": [{**RESULTS["tests"][0], "p_value": -1}]}, r"tests\.0\.p_value"),
        ("metrics", {**RESULTS, "tests": [{**RESULTS["tests"][0], "baseline": "ghost"}]}, "no system is called 'ghost'"),
        (
            "metrics",
            {**RESULTS, "tests": [{**RESULTS["tests"][0], "difference": {"value": 0.8, "low": 0.7, "high": 0.9}}]},
            "it is 0.8, but macro_f1 of the two is 0.91 and 0.55",
        ),
        ("training", {"seconds": -3.0}, r"training\.seconds"),
        ("training", {"ensemble": ["tfidf"]}, r"training\.ensemble"),
        ("account", {"read": -1}, r"account\.read"),
        ("account", {"steps": [{"step": "read", "rows_in": "all", "rows_out": 1}]}, r"account\.steps\.0\.rows_in"),
    ],
)
def test_a_claim_that_cannot_be_true_is_refused_even_by_force(
    registry: Registry, tmp_path: Path, part: str, value: Any, fault: str
) -> None:
    folder = change_card(tmp_path / "adapter", **{part: value})

    for force in (False, True):
        with pytest.raises(CorruptAdapter, match=fault):
            registry.publish(folder, force=force, reason="a trial")
    assert registry.list_adapters() == []


@pytest.mark.parametrize(
    "content",
    [
        b'{"metrics": ' + b'{"a": ' * 5000 + b"1" + b"}" * 5001,
        b"[" * 100_000,
        b'{"name": "x", "account": {"read": NaN}}',
        b'{"name": "' + b"x" * (9 << 20) + b'"}',
        b"\xff\xfe",
        b'{"name": "a", "name": "b"}',
    ],
    ids=["deep", "very deep", "not a number", "large", "not UTF-8", "a repeated key"],
)
def test_an_odd_card_is_refused_when_it_is_read(registry: Registry, tmp_path: Path, content: bytes) -> None:
    folder = write_adapter(tmp_path / "adapter")
    (folder / "vertical.json").write_bytes(content)

    with pytest.raises(CorruptAdapter, match=r"vertical\.json(: Invalid JSON| has 9437196 bytes, and at most)"):
        registry.publish(folder)


def test_a_bundle_with_a_made_up_verdict_is_refused(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vertical_sdk.registry import bundle, checks
    from vertical_sdk.registry import registry as module

    folder = change_card(tmp_path / "adapter", metrics=LOSING)
    enemy = Registry(tmp_path / "enemy")
    with monkeypatch.context() as changed:  # an enemy's own code checks nothing
        changed.setattr(module, "settle_gate", lambda card: card)
        enemy.publish(folder)
    bundle.bundle(enemy, ["medical/triage"], tmp_path / "bundle.zip")

    with pytest.raises(
        GateFailed, match=r"medical/triage@1: the verdict of its gate does not follow from its results: .*0\.150 worse"
    ):
        bundle.unbundle(tmp_path / "bundle.zip", registry)
    assert registry.list_adapters() == []
    assert isinstance(checks.settle_gate(read_card(folder)), Card)
