"""The model card: README.md in an adapter's folder, in the format of the Hugging Face hub."""

from __future__ import annotations

from typing import Any

import yaml

from vertical_sdk.card import Card, hide_paths

__all__ = ["render_readme"]


def render_readme(card: Card, hub_id: str | None) -> str:
    """Render the card as text: what the adapter is, how it compares, what it was trained on.

    hub_id  the base's name on the hub, which the pages of the hub link to; None if it has none
    """
    card = hide_paths(card)
    metadata = yaml.safe_dump(_metadata(card, hub_id or card.base.name), sort_keys=False, allow_unicode=True)
    lines = ["---", metadata.rstrip(), "---", "", f"# {card.name}", ""]
    lines += [str(card.recipe.get("summary") or f"A {card.task} specialist."), ""]
    origin = f"trained by vertical_sdk with the recipe `{card.recipe['name']}` ({card.recipe_digest[:12]})"
    origin = "trained elsewhere and imported" if card.training.get("imported") else origin
    lines += [f"LoRA adapter on `{card.base.name}`, {origin}.", ""]
    if card.parent:
        lines += [f"Its training started from `{card.parent.reference}` (weights {card.parent.weights[:12]}).", ""]
    if members := card.training.get("ensemble"):
        shares = ", ".join(f"{name} {weight:.2f}" for name, weight in members.items())
        lines += [
            f"It answers together with its members, with these weights: {shares}. PEFT alone loads the adapter without its members.",
            "",
        ]
    lines += _results_table(card)
    if card.gate is None and card.metrics:
        lines += ["Promotion gate: none. Nothing shows that it is better than its base.", ""]
    if card.gate:
        lines += [f"Promotion gate: {'passed' if card.gate.passed else 'not passed'}. " + " ".join(card.gate.reasons), ""]
    lines += ["```python", "from vertical_sdk import VerticalModel", "", f'model = VerticalModel.from_registry("{card.name}")']
    example = "{" + ", ".join(f'"{field.name}": ...' for field in card.fields[:3]) + "}" if card.fields else '"..."'
    lines += ['model.generate(["..."])' if card.verb == "generate" else f"model.predict([{example}])", "```", ""]
    lines += ["Data: " + "; ".join(f"{s.source} ({s.license or 'licence not stated'})" for s in card.sources) + ".", ""]
    return "\n".join(lines)


def _metadata(card: Card, base: str) -> dict[str, Any]:
    """Build the front matter that the hub reads."""
    metadata: dict[str, Any] = {
        "library_name": "peft",
        "base_model": base,
        "pipeline_tag": card.pipeline_tag,
        "tags": ["lora", f"base_model:adapter:{base}", "vertical_sdk"],
    }
    datasets = [
        source.source.removeprefix("hf:").partition(":")[0] for source in card.sources if source.source.startswith("hf:")
    ]
    if datasets:  # the hub accepts only its own datasets here; the text names every source
        metadata["datasets"] = sorted(set(datasets))
    if card.base.license:
        metadata["license"] = card.base.license.lower()
    if own := _systems(card).get("adapter", {}).get("metrics", {}):
        results = [
            {"type": name, "value": round(value["value"], 4)} for name, value in own.items() if value["value"] is not None
        ]
        data = {"name": card.recipe["name"], "type": card.sources[0].source if card.sources else "unknown"}
        result = {"task": {"type": card.pipeline_tag}, "dataset": data, "metrics": results}
        metadata["model-index"] = [{"name": card.name, "results": [result]}]
    return metadata


def _results_table(card: Card) -> list[str]:
    """List the lines of the table of systems and metrics; empty without an evaluation."""
    systems = _systems(card)
    if not systems:
        return []
    names = list(systems.get("adapter", {}).get("metrics", {}))
    apart = not card.metrics.get("repeated") and not card.metrics.get("unknown")
    lines = [f"Measured on {card.metrics.get('rows')} rows{' that it was not trained on' if apart else ''}:", ""]
    lines += ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for key, system in systems.items():
        values = [system["metrics"].get(name) for name in names]
        cells = [_interval(value) for value in values]
        lines.append(f"| {system.get('title', key)} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _interval(value: dict[str, float | None] | None) -> str:
    """A value with its interval; a dash for a value that was not measured or is undefined."""
    if not value or value["value"] is None:
        return "-"
    low, high = ("?" if value[end] is None else f"{value[end]:.3f}" for end in ("low", "high"))
    return f"{value['value']:.3f} [{low}, {high}]"


def _systems(card: Card) -> dict[str, Any]:
    return dict(card.metrics.get("systems", {}))
