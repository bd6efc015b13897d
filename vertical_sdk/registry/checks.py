"""Checks before an adapter is published: it is complete, matches its card, and passed its gate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from vertical_sdk.card import CARD, Card, Verdict, hide_paths
from vertical_sdk.domain import load_domain
from vertical_sdk.errors import CorruptAdapter, GateFailed, RegistryError, VerticalError
from vertical_sdk.evaluation_record import find_run
from vertical_sdk.members import ENSEMBLE, check_members, read_members
from vertical_sdk.peft_config import ADAPTER_CONFIG, find_wrong_rank, parse_config
from vertical_sdk.registry.store import Manifest
from vertical_sdk.tensors import check_tensors

__all__ = [
    "LONGEST_PATH",
    "NOT_WORTH_IT",
    "UNGATED",
    "build_record",
    "check_files",
    "check_gate",
    "check_text_sizes",
    "find_adapter_folder",
    "require_reason",
    "settle_gate",
]

UNGATED = "ungated"
"""The gate result of a version whose recipe says `gate: false`."""

NOT_WORTH_IT = frozenset({"nothing", "worse"})
"""Outcomes of `alternatives.Contribution` with which an adapter is not worth it."""
README = "README.md"
REPORT = "report.html"
UNLISTED = {CARD, README, REPORT}
"""Files that a card does not list."""
NEEDED = (ADAPTER_CONFIG, "adapter_model.safetensors")
LONGEST_PATH = 500
"""Characters of a file's path in a version."""
LARGEST_TEXTS = {CARD: 4 << 20, NEEDED[0]: 4 << 20, README: 4 << 20, REPORT: 64 << 20}
"""The most bytes of the files that are read whole. A card has some 100 kB; its parsed form takes fifty times as much memory."""


def find_adapter_folder(path: Path) -> tuple[Path, Path | None]:
    """Find the adapter's folder and the report of its run (None if it is not in a run, or has none).

    path  the folder of an adapter or of a run

    Raises RegistryError if the path is neither.
    """
    inner = path / "adapter"
    if (inner / CARD).is_file() or (path / CARD).is_file():
        folder, run = (inner, path) if (inner / CARD).is_file() else (path, find_run(path.absolute()))
        report = run / REPORT if run is not None else None
        return folder, report if report is not None and report.is_file() and not report.is_symlink() else None
    problem = f"this folder has no {CARD} and no adapter/{CARD}" if path.is_dir() else "this is not a folder"
    raise RegistryError(
        f"{problem}. Publish the folder of a finished run (runs/NAME), or the adapter folder in it.", where=path
    )


def check_text_sizes(manifest: Manifest, where: str | Path = "") -> None:
    """Check paths, and the sizes of the files that are read whole, before any of them is read.

    where  the folder, for the error

    Raises CorruptAdapter.
    """
    for path, file in manifest.items():
        if len(path) > LONGEST_PATH:
            raise CorruptAdapter(
                f"{path[:80]}… is a path of {len(path)} characters, and at most {LONGEST_PATH} are accepted. Rename it.",
                where=where,
            )
        if file.size > LARGEST_TEXTS.get(path, file.size):
            raise CorruptAdapter(
                f"{path} has {file.size} bytes, and at most {LARGEST_TEXTS[path]} are accepted. Remove from it what is not needed.",
                where=where,
            )


def check_files(folder: Path, card: Card, manifest: Manifest) -> None:
    """Check that the files are exactly those that the card lists.

    Raises CorruptAdapter with the name of the file.
    """
    for path in (*((ENSEMBLE,) if card.members_only else NEEDED), *card.files):
        if path not in manifest:
            raise CorruptAdapter(f"{path} is missing. Publish the complete folder of the run.", where=folder)
    for path, file in manifest.items():
        listed = card.files.get(path)
        if listed is None and path not in UNLISTED:
            raise CorruptAdapter(
                f"{path} is not listed in {CARD}. Remove it: only files that the card lists are published.", where=folder
            )
        if listed is not None and listed != file.sha256:
            raise CorruptAdapter(
                f"{path} has changed since its card was written. Publish the unchanged folder of the run.", where=folder
            )
        if path.endswith(".safetensors"):
            shapes = check_tensors((folder / path).read_bytes(), folder / path)
            if path == NEEDED[1]:
                _check_peft(folder, shapes)
    if named := check_members(folder, card.recipe, has_file=ENSEMBLE in card.files):
        read_members((folder / ENSEMBLE).read_bytes(), folder / ENSEMBLE, named)


def _check_peft(folder: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Check that PEFT alone can load the folder: a LoRA configuration, and tensors with the names and ranks that PEFT expects."""
    config = parse_config((folder / NEEDED[0]).read_bytes(), folder / NEEDED[0])
    unexpected = [name for name in shapes if not name.startswith("base_model.model.")]
    if unexpected or not any(".lora_" in name for name in shapes):
        problem = f"has the tensor {unexpected[0][:200]!r}" if unexpected else "has no LoRA weights"
        raise CorruptAdapter(
            f"{NEEDED[1]} {problem}; PEFT would load it without effect. Save it with save_pretrained.", where=folder
        )
    if wrong := find_wrong_rank(config, shapes):
        raise CorruptAdapter(f"{wrong}. Save it with save_pretrained.", where=folder)


def settle_gate(card: Card) -> Card:
    """Check what a card claims, and return it with the verdict that follows from its results.

    A card that says that it passed its gate gets the other verdict, with the reasons, if its own comparisons, warnings and reasons do
    not lead to it (`gate.decide_again`). One that passed only as non-inferior is not better.

    Raises CorruptAdapter for a claim that cannot be true (`claims.check_claims`).
    """
    from vertical_sdk.gate import decide_again  # with claims, the metrics and tasks: looking up a version needs none of them
    from vertical_sdk.registry.claims import check_claims

    recipe = check_claims(card)
    if card.gate is None or not card.gate.passed:
        return card
    verdict = decide_again(card, recipe)
    if verdict.passed:
        return card.model_copy(update={"gate": card.gate.model_copy(update={"noninferior": verdict.noninferior})})
    reasons = (*verdict.reasons, "The card said that it passed, which does not follow from the results in it.")
    return card.model_copy(update={"gate": Verdict(passed=False, reasons=reasons)})


def check_gate(card: Card, *, force: bool = False) -> tuple[str, bool]:
    """Return the gate result ("passed", "non-inferior", "failed", "not evaluated", "ungated"), and whether force overrides it.

    Raises GateFailed with the gate's reasons.
    """
    if card.gate is None:
        if _gate_setting(card) is False:
            return UNGATED, False
        if force:
            return "not evaluated", True
        raise GateFailed(
            f"{card.name} has not been evaluated, but its recipe has a gate. Run `vertical evaluate` on it first. "
            "A recipe that names no gate has that of its task; to have none, it says evaluate: {gate: false}."
        )
    if card.gate.passed:
        return UNGATED if _gate_setting(card) is False else card.gate.result, False
    if force:
        return "failed", True
    reasons = "; ".join(reason.rstrip(".") for reason in card.gate.reasons) or "its card gives no reasons"
    contribution = card.metrics.get("contribution") or {}
    if contribution.get("outcome") in NOT_WORTH_IT:
        reasons += f". {contribution['text'].rstrip('.')}. The members can be published without it: --members-only"
    raise GateFailed(
        f"{card.name} did not pass its gate: {reasons}. Train a better adapter, or publish this one by force, which is recorded: "
        "--force --reason TEXT."
    )


def require_reason(reason: str, what: str) -> None:
    """Raise RegistryError if the reason for something that is forced is empty.

    what  the thing: "publishing"
    """
    if not reason.strip():
        raise RegistryError(f"{what} by force needs a reason, which is recorded. Give it with --reason TEXT.")


def build_record(card: Card, *, gate: str, forced: bool, reason: str) -> dict[str, Any]:
    """Build the metadata that a registry stores with a version, for lists and for search (`registry.query`).

    Raises CorruptAdapter if the recipe or the results in the card do not have the format that a run writes.
    """
    card = hide_paths(card)
    try:
        metric, facts, metrics = _headline(card), _facts(card, gate=gate, forced=forced), _metrics(card)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CorruptAdapter(
            f"{card.name}: the recipe or the results in its card are malformed ({error}). Publish the unchanged folder of a run."
        ) from None
    return {
        "task": card.task,
        "base": card.base.name,
        "metric": metric,
        "value": metrics.get(metric) if metric is not None else None,
        "gate": gate,
        "forced": forced,
        "reason": reason,
        "facts": facts,
        "metrics": metrics,
    }


def _facts(card: Card, *, gate: str, forced: bool) -> dict[str, list[str]]:
    domain = card.recipe.get("domain")
    facts: dict[str, Any] = {
        "base": [card.base.name],
        "base_license": [card.base.license],
        "domain": [domain],
        "forced": [str(forced).lower()],
        "gate": [gate],
        "language": _languages(domain),
        "license": [source.license for source in card.sources],
        "parent": [card.parent.weights if card.parent else None],
        "recipe": [card.recipe_digest],
        "source": [source.sha256 for source in card.sources],
        "task": [card.task],
        "weights": [card.files.get(NEEDED[1])],
    }
    return {key: sorted({value for value in values if value}) for key, values in facts.items() if any(values)}


def _languages(domain: object) -> list[str]:
    """The languages of the vertical; empty if it is not installed here."""
    if not isinstance(domain, str):
        return []
    try:
        return list(load_domain(domain).languages)
    except VerticalError:
        return []


def _metrics(card: Card) -> dict[str, float]:
    """The values of the specialist, members included, on the test rows."""
    systems = card.metrics.get("systems")
    own = systems.get("adapter") if isinstance(systems, Mapping) else None
    measured = own.get("metrics", {}) if isinstance(own, Mapping) else {}
    values = {name: result.get("value") for name, result in measured.items() if isinstance(result, Mapping)}
    return {name: float(v) for name, v in values.items() if isinstance(v, int | float) and math.isfinite(v)}


def _headline(card: Card) -> str | None:
    """The metric of the gate, or else the first metric of the recipe or of the comparisons."""
    settings = card.recipe.get("evaluate") or {}
    gate = _gate_setting(card) or {}
    parts = [part["use"] if isinstance(part, Mapping) else part for part in settings.get("metrics") or ()]
    tests = card.metrics.get("tests") or ()
    main = tests[0].get("metric") if tests and isinstance(tests[0], Mapping) else None
    name = gate.get("metric") or (parts[0] if parts else main)
    return name if isinstance(name, str) else None


def _gate_setting(card: Card) -> Mapping[str, Any] | Literal[False] | None:
    """The gate that the recipe states: its keys, False for none, or None for the task's default."""
    settings = card.recipe.get("evaluate")
    gate = settings.get("gate") if isinstance(settings, Mapping) else None
    return gate if isinstance(gate, Mapping) or gate is False else None
