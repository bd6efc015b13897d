"""Tiny adapters without torch: the files of PEFT, and a card."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from safetensors.numpy import save_file

from vertical_sdk.card import Card, Fingerprint, Verdict, write_card
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry import Registry
from vertical_sdk.registry.keys import create_key_pair, read_fingerprint
from vertical_sdk.registry.signing import sign

MakeAdapter = Callable[..., Path]
PASSED = Verdict(passed=True, reasons=("0.91 against 0.55",))
GATE = {"metric": "macro_f1", "beats": ["base"]}
RESULTS: dict[str, Any] = {
    "systems": {
        "adapter": {"metrics": {"macro_f1": {"value": 0.91, "low": 0.88, "high": 0.94}}},
        "base": {"metrics": {"macro_f1": {"value": 0.55, "low": 0.5, "high": 0.6}}},
    },
    "tests": [
        {"baseline": "base", "metric": "macro_f1", "difference": {"value": 0.36, "low": 0.3, "high": 0.4}, "p_value": 0.002}
    ],
    "confidence": 0.95,
}
"""An evaluation that passes GATE."""


def resolve_recipe(name: str, **keys: Any) -> dict[str, Any]:
    """The keys of a recipe and its digest, as a card has them."""
    recipe = Recipe.model_validate({"name": name, "task": "classification", "data": {"source": "rows.csv"}} | keys)
    return {"recipe": recipe.to_dict(), "recipe_digest": recipe.digest}


def write_adapter(
    folder: Path,
    seed: int = 0,
    *,
    name: str = "medical/triage",
    verdict: Verdict | None = PASSED,
    gate: dict[str, object] | Literal[False] | None = GATE,
) -> Path:
    """Write the folder of an adapter; `seed` determines its weights."""
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["query"], "base_model_name_or_path": "tiny"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    weights = np.random.default_rng(seed).normal(size=(2, 8)).astype(np.float32)
    save_file({"base_model.model.query.lora_A.weight": weights}, folder / "adapter_model.safetensors")
    (folder / "README.md").write_text("# Triage\n")
    (folder / "tokenizer.json").write_text("{}")
    base = Fingerprint(name="tiny", architecture="BertModel", weights="0" * 64, tokenizer="1" * 64, vocab_size=10)
    card = Card(
        name=name,
        task="classification",
        family="encoder",
        base=base,
        **resolve_recipe(name, evaluate={"metrics": ["macro_f1"], "gate": gate}),
        metrics=RESULTS,
        gate=verdict,
    )
    write_card(folder, card)
    return folder


@pytest.fixture
def make_adapter(tmp_path: Path) -> MakeAdapter:
    """Return a function that creates an adapter folder, in a folder of its name and seed by default."""

    def make(seed: int = 0, *, name: str = "medical/triage", folder: Path | None = None, **what: Any) -> Path:
        return write_adapter(folder or tmp_path / f"made-{name.replace('/', '-')}-{seed}", seed, name=name, **what)

    return make


def sign_with_new_key(registry: Registry, reference: str, key: Path) -> str:
    """Sign a version with a key that is created for it; return the fingerprint."""
    create_key_pair(key)
    sign(registry, reference, key)
    return read_fingerprint(key.with_name(f"{key.name}.pub"))
