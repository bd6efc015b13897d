"""Putting an adapter on its base, with everything checked that could make it another thing than was published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vertical_sdk.adapters.self_test import replay_self_tests
from vertical_sdk.bases.base import Base
from vertical_sdk.card import Card, Fingerprint, read_card
from vertical_sdk.errors import AdapterError, BaseMismatch, CorruptAdapter
from vertical_sdk.families.lora import attach, hide_peft_notice
from vertical_sdk.families.specialist import Specialist, specialist_class
from vertical_sdk.recipe import Recipe
from vertical_sdk.registry.tree import cached_digest

__all__ = ["open_specialist", "require_same_base"]


def require_same_base(made_for: Fingerprint, here: Fingerprint, where: str) -> None:
    """Compare fingerprints, and say what differs.

    Raises BaseMismatch.
    """
    hint = f"It was made for {made_for.name}" + (f" at revision {made_for.revision}" if made_for.revision else "") + "."
    if made_for.architecture != here.architecture:
        raise BaseMismatch(
            f"{where}: was made for another base: a {made_for.architecture}, and {here.name} is a {here.architecture}. {hint}"
        )
    if made_for.vocab_size != here.vocab_size:
        raise BaseMismatch(
            f"{where}: the base's vocabulary was resized: {made_for.vocab_size} tokens when the adapter was made, {here.vocab_size} in "
            f"{here.name}. {hint}"
        )
    if made_for.weights != here.weights:
        raise BaseMismatch(
            f"{where}: was made for another base or revision: the weights of {here.name} are {here.weights[:12]}, "
            f"{made_for.weights[:12]} are needed. {hint}"
        )
    if made_for.tokenizer != here.tokenizer:
        raise BaseMismatch(f"{where}: the base's tokenizer has changed, so the same text gives other tokens. {hint}")
    if made_for.chat_template != here.chat_template:
        raise BaseMismatch(f"{where}: the base's chat template has changed, so it would be asked in another way. {hint}")


def open_specialist(folder: Path, name: str, base: Base, backbone: Any) -> tuple[Specialist, Card, Any]:
    """Load an adapter onto a base model, or beside other adapters on it, and prove that it works.

    folder  the adapter's folder
    name    what the adapter is called on the backbone
    backbone   the base's model, or the peft.PeftModel that others are on already
    returns the specialist, its card, and the peft.PeftModel

    Raises CorruptAdapter, BaseMismatch, IdleAdapter: each says what is wrong with which file.
    """
    import peft

    card = read_card(folder)
    require_same_base(card.base, base.fingerprint, str(folder))
    if unread := card.training.get("unread"):
        raise AdapterError(f"{folder}: {unread}")
    recipe = Recipe.model_validate(card.recipe)
    backbone = attach(backbone, folder, name)
    try:
        for file, digest in card.files.items():
            if not (folder / file).is_file():
                raise CorruptAdapter(f"{folder / file}: is missing. Take the adapter anew.")
            if cached_digest(folder / file) != digest:
                raise CorruptAdapter(f"{folder / file}: was changed or cut since the adapter was made. Take the adapter anew.")
        backbone.set_adapter(name)
        device = next(backbone.parameters()).device
        with hide_peft_notice():
            specialist: Any = specialist_class(card.family).opened(backbone, base, recipe, card, folder)
        specialist.to(device)
        specialist.eval()
        replay_self_tests(specialist, card.self_tests, str(folder))
    except Exception:
        if isinstance(backbone, peft.PeftModel) and len(backbone.peft_config) > 1:
            backbone.delete_adapter(name)
        raise
    return specialist, card, backbone
