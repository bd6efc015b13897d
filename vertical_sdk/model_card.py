"""The model card: README.md in an adapter's folder, in the format of the Hugging Face hub."""

from __future__ import annotations

from typing import Any

import yaml

from vertical_sdk.card import Card

__all__ = ["render_readme"]

PIPELINES = {"generation": "text-generation", "regression": "text-classification"}


def render_readme(card: Card, hub_id: str | None) -> str:
    """Render the card as text: what the adapter is, how it compares, what it was trained on.

    hub_id  the base's name on the hub, which the pages of the hub link to; None if it has none
    """
    base = hub_id or card.base.name
    recipe: dict[str, Any] = card.recipe
    metadata: dict[str, Any] = {
        "library_name": "peft",
        "base_model": base,
        "pipeline_tag": "image-classification" if card.family == "vision" else PIPELINES.get(card.task, "text-classification"),
        "tags": ["lora", f"base_model:adapter:{base}", "vertical_sdk"],
    }
    named = [source.source.removeprefix("hf:").partition(":")[0] for source in card.sources if source.source.startswith("hf:")]
    if named:  # the hub accepts only its own datasets here; the text below names every source
        metadata["datasets"] = sorted(set(named))
    if card.base.license:
        metadata["license"] = card.base.license.lower()
    systems: dict[str, Any] = card.metrics.get("systems", {})
    adapter = systems.get("adapter", {}).get("metrics", {})
    if adapter:
        results = [{"type": name, "value": round(value["value"], 4)} for name, value in adapter.items()]
        task = {"type": metadata["pipeline_tag"]}
        data = {"name": recipe["name"], "type": card.sources[0].source if card.sources else "unknown"}
        metadata["model-index"] = [{"name": card.name, "results": [{"task": task, "dataset": data, "metrics": results}]}]
    lines = ["---", yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True).rstrip(), "---", "", f"# {card.name}", ""]
    lines += [str(recipe.get("summary") or f"A {card.task} specialist."), ""]
    origin = f"trained by vertical_sdk with the recipe `{recipe['name']}` ({card.recipe_digest[:12]})"
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
    if systems:
        names = list(adapter)
        lines += [f"Measured on {card.metrics.get('rows')} rows that it was not trained on:", ""]
        lines += ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for key, system in systems.items():
            values = [system["metrics"].get(name) for name in names]
            cells = [f"{v['value']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" if v else "-" for v in values]
            lines.append(f"| {system.get('title', key)} | " + " | ".join(cells) + " |")
        lines.append("")
    if card.gate:
        lines += [f"Promotion gate: {'passed' if card.gate.passed else 'not passed'}. " + " ".join(card.gate.reasons), ""]
    lines += ["```python", "from vertical_sdk import VerticalModel", "", f'model = VerticalModel.from_registry("{card.name}")']
    example = "{" + ", ".join(f'"{field.name}": ...' for field in card.fields[:3]) + "}" if card.fields else '"..."'
    call = 'model.generate(["..."])' if card.task == "generation" else f"model.predict([{example}])"
    lines += [call, "```", ""]
    lines += ["Data: " + "; ".join(f"{s.source} ({s.license or 'licence not stated'})" for s in card.sources) + ".", ""]
    return "\n".join(lines)
