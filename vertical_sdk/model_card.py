"""The model card: README.md in an adapter's folder, in the format of the Hugging Face hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from vertical_sdk.card import Card, Promise, hide_paths
from vertical_sdk.types import REPORTED

__all__ = ["CROSSFIT", "describe_folds", "describe_promise", "render_readme"]

CROSSFIT = "crossfit"
"""The fact of a cross-fitted adapter's training that describes its folds."""

FEATURES = "feature-extraction"
"""The pipeline tag of adapters that answer nothing."""
MARKUP = re.compile(r"([\\`\[\]<|])")
"""Characters that begin code, links, pictures, cells or HTML in Markdown."""


def render_readme(card: Card, hub_id: str | None) -> str:
    """Render the card as text: what the adapter is, how it compares, what it was trained on.

    hub_id  the base's name on the hub, which the pages of the hub link to; None if it has none
    """
    card = hide_paths(card)
    metadata = yaml.safe_dump(_metadata(card, _line(hub_id or card.base.name)), sort_keys=False, allow_unicode=True)
    lines = ["---", metadata.rstrip(), "---", "", f"# {_text(card.name)}", ""]
    lines += [_text(card.recipe.get("summary") or f"A {card.task} specialist."), ""]
    origin = f"trained by vertical_sdk with the recipe {_code(card.recipe['name'])} ({card.recipe_digest[:12]})"
    origin = "trained elsewhere and imported" if card.training.get("imported") else origin
    if card.members_only:
        lines += [f"It has no adapter and needs no base: the members of an ensemble answer alone. It was {origin}.", ""]
    else:
        lines += [f"LoRA adapter on {_code(card.base.name)}, {origin}.", ""]
    if method := card.recipe.get("adapter", {}).get("quantize"):
        lines += [f"It was trained, and is used, with the base's linear layers in 4 bits ({_text(method)}, bitsandbytes).", ""]
    if card.parent:
        lines += [f"Its training started from {_code(card.parent.reference)} (weights {card.parent.weights[:12]}).", ""]
    if (folds := describe_folds(card.training)) and not card.members_only:
        lines += [folds, ""]
    if members := card.training.get("ensemble"):
        shares = ", ".join(f"{_text(name)} {weight:.2f}" for name, weight in members.items())
        alone = f"Its members have these weights: {shares}."
        together = f"It answers together with its members, with these weights: {shares}. PEFT alone loads the adapter without its members."
        lines += [alone if card.members_only else together, ""]
    if promise := card.calibration.promise:
        lines += [describe_promise(promise), ""]
    lines += _results_table(card)
    if card.gate is None and card.metrics:
        lines += ["Promotion gate: none. Nothing shows that it is better than its base.", ""]
    for key in ("contribution", "promise"):
        if stated := card.metrics.get(key):
            lines += [_text(stated["text"]), ""]
    if card.gate:
        result = {"non-inferior": "passed as non-inferior, not as better", "failed": "not passed"}.get(
            card.gate.result, "passed"
        )
        lines += [f"Promotion gate: {result}, {REPORTED}. " + " ".join(map(_text, card.gate.reasons)), ""]
    lines += ["```python", *_show_use(card), "```", ""]
    lines += [
        "Data: " + "; ".join(f"{_text(s.source)} ({_text(s.license or 'licence not stated')})" for s in card.sources) + ".",
        "",
    ]
    return "\n".join(lines)


def describe_folds(training: Mapping[str, Any]) -> str:
    """Say what a cross-fitted adapter is, and how far it agrees with the adapters of its folds; "" for another one.

    training  the facts in its card
    """
    facts = training.get(CROSSFIT)
    if not isinstance(facts, Mapping) or not isinstance(agreement := facts.get("agreement"), Mapping):
        return ""
    folds, rows, largest, mean = (
        _line(value)
        for value in (facts.get("folds"), *(agreement.get(key) for key in ("rows", "largest_difference", "mean_difference")))
    )
    known = "rows that it was not trained on" if agreement.get("held_out") else "rows that it was trained on"
    unit = "probabilities" if "equal_labels" in agreement else "numbers"
    equal = (
        f"gives the same labels in a share of {_line(agreement['equal_labels'])}, and " if "equal_labels" in agreement else ""
    )
    return (
        f"It is the mean of {folds} adapters, each of which was trained without one fold of the rows. The verdict is about these "
        f"{folds} adapters on the rows that they were not trained on, not about their mean. On {rows} {known}, without members and "
        f"calibration, the mean adapter {equal}differs from the mean of their answers by at most {largest} in {unit}, {mean} on average."
    )


def describe_promise(promise: Promise) -> str:
    """Say which answers a specialist gives under its promise, and how many they are."""
    held = f"at most {promise.alpha:.1%} wrong answers, with confidence {1 - promise.delta:.1%}"
    rows = f"{promise.rows} validation rows" + (", one of each group" if promise.groups else "")
    if promise.threshold is None:
        return f"It abstains from every answer: on {rows}, no threshold on its confidence gives {held}."
    return (
        f"It abstains if its confidence is below {promise.threshold:.4f}; among its other answers are {held}. On {rows}, it answers "
        f"{promise.coverage:.1%} [{promise.low:.1%}, {promise.high:.1%}]."
    )


def _show_use(card: Card) -> list[str]:
    """Lines of Python that use the adapter: it answers, or, if it learned without labels, a training starts from it."""
    if card.pipeline_tag == FEATURES:
        return ["from vertical_sdk import train", "", f'train("your-recipe.yaml", start={_quote(card.name)})']
    example = "{" + ", ".join(f"{_quote(field.name)}: ..." for field in card.fields[:3]) + "}" if card.fields else '"..."'
    call = 'model.generate(["..."])' if card.verb == "generate" else f"model.predict([{example}])"
    return ["from vertical_sdk import VerticalModel", "", f"model = VerticalModel.from_registry({_quote(card.name)})", call]


def _metadata(card: Card, base: str) -> dict[str, Any]:
    """Build the front matter that the hub reads."""
    adapter: dict[str, Any] = {"library_name": "peft", "base_model": base}
    tags = ["lora", f"base_model:adapter:{base}"]
    metadata: dict[str, Any] = {
        **({"library_name": "vertical_sdk"} if card.members_only else adapter),
        "pipeline_tag": card.pipeline_tag,
        "tags": [*([] if card.members_only else tags), "vertical_sdk"],
    }
    datasets = [
        source.source.removeprefix("hf:").partition(":")[0] for source in card.sources if source.source.startswith("hf:")
    ]
    if datasets:  # the hub accepts only its own datasets here; the text names every source
        metadata["datasets"] = sorted(set(map(_line, datasets)))
    if card.base.license:
        metadata["license"] = _line(card.base.license).lower()
    if own := _systems(card).get("adapter", {}).get("metrics", {}):
        results = [
            {"type": _line(name), "value": round(value["value"], 4)}
            for name, value in own.items()
            if value["value"] is not None
        ]
        data = {"name": _line(card.recipe["name"]), "type": _line(card.sources[0].source) if card.sources else "unknown"}
        result = {"task": {"type": card.pipeline_tag}, "dataset": data, "metrics": results}
        metadata["model-index"] = [{"name": _line(card.name), "results": [result]}]
    return metadata


def _results_table(card: Card) -> list[str]:
    """List the lines of the table of systems and metrics; empty without an evaluation."""
    systems = _systems(card)
    if not systems:
        return []
    names = list(systems.get("adapter", {}).get("metrics", {}))
    apart = not card.metrics.get("repeated") and not card.metrics.get("unknown")
    whose = (
        " by the adapters of its folds, none of which was trained on the rows that it answered"
        if card.metrics.get("folds")
        else " that it was not trained on"
    )
    lines = [f"Measured on {card.metrics.get('rows')} rows{whose if apart else ''}, {REPORTED}:", ""]
    lines += ["| | " + " | ".join(map(_text, names)) + " |", "|---" * (len(names) + 1) + "|"]
    for key, system in systems.items():
        values = [system["metrics"].get(name) for name in names]
        cells = [_interval(value) for value in values]
        lines.append(f"| {_text(system.get('title', key))} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _interval(value: dict[str, float | None] | None) -> str:
    """A value with its interval; a dash for a value that was not measured or is undefined."""
    if not value or value["value"] is None:
        return "-"
    low, high = ("?" if value[end] is None else f"{value[end]:.3f}" for end in ("low", "high"))
    return f"{value['value']:.3f} [{low}, {high}]"


def _text(value: object) -> str:
    """A text of the card for Markdown: one line, in which nothing is markup."""
    return MARKUP.sub(r"\\\1", _line(value))


def _code(value: object) -> str:
    """A text of the card as code."""
    return "`" + _line(value).replace("`", "'") + "`"


def _quote(value: object) -> str:
    """A text of the card as a string of Python."""
    return json.dumps(_line(value), ensure_ascii=False)


def _line(value: object) -> str:
    """A text without characters that end a line or control a terminal."""
    return " ".join("".join(character if character.isprintable() else " " for character in str(value)).split())


def _systems(card: Card) -> dict[str, Any]:
    return dict(card.metrics.get("systems", {}))
