"""What an adapter must be before it is published: whole, as its card says, and past its gate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vertical_sdk.card import CARD, Card
from vertical_sdk.errors import CorruptAdapter, GateFailed, RegistryError
from vertical_sdk.registry.store import Manifest

__all__ = ["adapter_folder", "check_files", "check_gate", "headline"]

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
                with safe_open(folder / path, framework="np"):
                    pass
            except SafetensorError as error:
                raise CorruptAdapter(f"{folder}: {path} is not a safetensors file ({error}).") from None


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


def headline(card: Card) -> tuple[str | None, float | None]:
    """The metric that the gate looks at, or else the first that was asked for, with the adapter's value on the test rows."""
    asked = card.recipe.get("evaluate") or {}
    gate = _gate_of(card)
    parts = [part["use"] if isinstance(part, Mapping) else part for part in asked.get("metrics") or ()]
    name = gate.get("metric") if gate else (parts[0] if parts else None)
    if not isinstance(name, str):
        return None, None
    found: Any = card.metrics
    for step in ("systems", "adapter", "metrics", name, "value"):
        found = found.get(step) if isinstance(found, Mapping) else None
    return name, float(found) if isinstance(found, int | float) else None


def _gate_of(card: Card) -> Mapping[str, Any] | None:
    gate = (card.recipe.get("evaluate") or {}).get("gate")
    return gate if isinstance(gate, Mapping) else None
