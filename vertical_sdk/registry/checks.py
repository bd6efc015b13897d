"""What an adapter must be before it is published: whole, as its card says, and past its gate."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vertical_sdk.card import CARD, Card
from vertical_sdk.domain import load_domain
from vertical_sdk.errors import CorruptAdapter, GateFailed, RegistryError, VerticalError
from vertical_sdk.registry.store import Manifest

__all__ = ["adapter_folder", "check_files", "check_gate", "noted"]

README = "README.md"
REPORT = "report.html"
UNLISTED = {CARD, README, REPORT}
"""Files that a card does not list."""
NEEDED = ("adapter_config.json", "adapter_model.safetensors")


def adapter_folder(path: Path) -> tuple[Path, Path | None]:
    """The adapter's folder, and the report of its run where there is one, of either folder's path.

    Raises RegistryError where the path is neither an adapter's folder nor a run's.
    """
    inner = path / "adapter"
    if (inner / CARD).is_file():
        report = path / REPORT
        return inner, report if report.is_file() and not report.is_symlink() else None
    if (path / CARD).is_file():
        return path, None
    what = f"has no {CARD} and no adapter/{CARD}" if path.is_dir() else "is not a folder"
    raise RegistryError(f"{path} {what}. Publish the folder of a run that is over (runs/NAME), or the adapter folder in it.")


def check_files(folder: Path, card: Card, manifest: Manifest) -> None:
    """See that the files are those that the card lists, no more and no fewer.

    Raises CorruptAdapter that names the file.
    """
    for path in (*NEEDED, *card.files):
        if path not in manifest:
            raise CorruptAdapter(f"{folder}: {path} is missing. Publish the whole folder that the run left.")
    for path, file in manifest.items():
        listed = card.files.get(path)
        if listed is None and path not in UNLISTED:
            raise CorruptAdapter(
                f"{folder}: {path} is not listed in {CARD}. Take it out: only what the card accounts for is published."
            )
        if listed is not None and listed != file.sha256:
            raise CorruptAdapter(
                f"{folder}: {path} has changed since its card was written. Publish the folder as the run left it."
            )
        if path.endswith(".safetensors"):
            try:
                with safe_open(folder / path, framework="np") as tensors:
                    names = list(tensors.keys())
            except SafetensorError as error:
                raise CorruptAdapter(f"{folder}: {path} is not a safetensors file ({error}).") from None
            if path == NEEDED[1]:
                _check_peft(folder, names)


def _check_peft(folder: Path, tensors: Sequence[str]) -> None:
    """See that PEFT alone can load the folder: a configuration that it knows, and tensors under the names that it looks for."""
    where = f"{folder / NEEDED[0]}"
    try:
        config = json.loads((folder / NEEDED[0]).read_bytes())
        kind = config["peft_type"]
    except (ValueError, TypeError, KeyError):
        raise CorruptAdapter(f"{where}: is not a configuration of PEFT: it is no JSON object with a peft_type.") from None
    if kind != "LORA":
        raise CorruptAdapter(f"{where}: peft_type is {kind!r}; adapters here are LORA.")
    mapping = config.get("auto_mapping") or {"parent_library": "transformers."}
    if not isinstance(mapping, Mapping) or not str(mapping.get("parent_library")).startswith("transformers."):
        raise CorruptAdapter(f"{where}: auto_mapping names a module to import that is not of transformers. Take it out.")
    strange = [name for name in tensors if not name.startswith("base_model.model.")]
    if strange or not any(".lora_" in name for name in tensors):
        what = f"has the tensor {strange[0]!r}" if strange else "has no LoRA weights"
        raise CorruptAdapter(
            f"{folder / NEEDED[1]}: {what}; PEFT would load it and change nothing. Save it with save_pretrained."
        )


def check_gate(card: Card, *, force: bool = False) -> tuple[str, bool]:
    """What the gate said ("passed", "failed", "not evaluated", "no gate"), and whether it was overridden by force.

    Raises GateFailed with the gate's reasons.
    """
    if card.gate is None:
        if _gate_of(card) is None:
            return "no gate", False
        if force:
            return "not evaluated", True
        raise GateFailed(
            f"{card.name} has not been evaluated, and its recipe states a gate. Run `vertical evaluate` on it first."
        )
    if card.gate.passed:
        return "passed", False
    if force:
        return "failed", True
    reasons = "; ".join(card.gate.reasons) or "its card gives no reason"
    raise GateFailed(
        f"{card.name} did not pass its gate: {reasons}. Train a better one, or publish it by force, which is recorded."
    )


def noted(card: Card, *, gate: str, forced: bool, reason: str) -> dict[str, Any]:
    """What a registry keeps beside a version: what is listed, and what can be searched (`registry.query`).

    Raises CorruptAdapter where the recipe or the results in the card are not as a run writes them.
    """
    try:
        metric, facts, metrics = _headline(card), _facts(card, gate=gate, forced=forced), _metrics(card)
    except (AttributeError, KeyError, TypeError) as error:
        raise CorruptAdapter(
            f"{card.name}: the recipe or the results in its card are not as a run writes them ({error})."
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
    found: dict[str, Any] = {
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
    return {key: sorted({value for value in values if value}) for key, values in found.items() if any(values)}


def _languages(domain: Any) -> list[str]:
    """Those of the vertical; none where it is not installed here."""
    if not isinstance(domain, str):
        return []
    try:
        return list(load_domain(domain).languages)
    except VerticalError:
        return []


def _metrics(card: Card) -> dict[str, float]:
    """The adapter's values on the test rows; those of the whole where it has members."""
    systems = card.metrics.get("systems")
    own = systems.get("adapter") if isinstance(systems, Mapping) else None
    measured = own.get("metrics", {}) if isinstance(own, Mapping) else {}
    found = {name: result.get("value") for name, result in measured.items() if isinstance(result, Mapping)}
    return {name: float(v) for name, v in found.items() if isinstance(v, int | float) and math.isfinite(v)}


def _headline(card: Card) -> str | None:
    """The metric that the gate looks at, or else the first that was asked for."""
    asked = card.recipe.get("evaluate") or {}
    gate = _gate_of(card)
    parts = [part["use"] if isinstance(part, Mapping) else part for part in asked.get("metrics") or ()]
    name = gate.get("metric") if gate else (parts[0] if parts else None)
    return name if isinstance(name, str) else None


def _gate_of(card: Card) -> Mapping[str, Any] | None:
    asked = card.recipe.get("evaluate")
    gate = asked.get("gate") if isinstance(asked, Mapping) else None
    return gate if isinstance(gate, Mapping) else None
