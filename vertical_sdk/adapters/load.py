"""Load an adapter onto its base, and check everything that could make it different from what was published."""

from __future__ import annotations

from typing import Any

from vertical_sdk.adapters.folder import Adapter
from vertical_sdk.adapters.self_test import Whole, replay_self_tests
from vertical_sdk.bases.base import Base
from vertical_sdk.card import Fingerprint
from vertical_sdk.errors import AdapterError, BaseMismatch, CorruptAdapter
from vertical_sdk.families.head import PROBE_HEAD
from vertical_sdk.families.lora import attach, hide_peft_notice
from vertical_sdk.families.specialist import LARGE, Specialist, specialist_class
from vertical_sdk.tensors import check_tensors

__all__ = ["load_specialist", "replay_adapter", "require_same_base"]


def require_same_base(trained_on: Fingerprint, base: Fingerprint, where: str) -> None:
    """Compare the fingerprint of the base that an adapter was trained on with a base, and name the difference.

    Raises BaseMismatch.
    """
    hint = f"It was trained on {trained_on.name}" + (f" at revision {trained_on.revision}" if trained_on.revision else "") + "."
    if trained_on.architecture != base.architecture:
        raise BaseMismatch(
            f"the adapter needs another base: a {trained_on.architecture}. {base.name} is a {base.architecture}. {hint}",
            where=where,
        )
    if trained_on.vocab_size != base.vocab_size:
        raise BaseMismatch(
            f"the base's vocabulary was resized: {trained_on.vocab_size} tokens when the adapter was trained, {base.vocab_size} in "
            f"{base.name}. {hint}",
            where=where,
        )
    if trained_on.weights != base.weights:
        raise BaseMismatch(
            f"the adapter needs another base or revision: the weights of {base.name} are {base.weights[:12]}, and "
            f"{trained_on.weights[:12]} are needed. {hint}",
            where=where,
        )
    if trained_on.tokenizer != base.tokenizer:
        raise BaseMismatch(
            f"the base's tokenizer has changed since training, so the same text gives other tokens. {hint}", where=where
        )
    if trained_on.chat_template != base.chat_template:
        raise BaseMismatch(
            f"the base's chat template has changed since training, so prompts would be written differently. {hint}", where=where
        )


def load_specialist(adapter: Adapter, base: Base, backbone: Any, *, replay: bool = True) -> Specialist:
    """Load an adapter onto the model of its base, and replay its self-tests.

    backbone  the base's model, which all adapters on it share
    replay    False: the self-tests of this adapter, with files of these digests, were replayed on this backbone before

    Raises CorruptAdapter, BaseMismatch or IdleAdapter, which name the file and what is wrong with it.
    """
    card, folder = adapter.card, adapter.folder
    if card.members_only:
        raise AdapterError("it has no adapter: its members answer alone. Load it as a model of its own.", where=folder)
    require_same_base(card.base, base.fingerprint, str(folder))
    if base.family not in specialist_class(card.family).bases:
        raise CorruptAdapter(f"the card is for a base of the kind {card.family}, and {base.name} is not one.", where=folder)
    if unread := card.training.get("unread"):
        raise AdapterError(str(unread), where=folder)
    adapted = attach(backbone, adapter.files)
    adapter.files.check()
    if PROBE_HEAD in card.files:
        check_tensors(adapter.files.read(PROBE_HEAD), folder / PROBE_HEAD)  # evaluations read it, and nothing here
    device = next(adapted.parameters()).device
    with hide_peft_notice():
        specialist: Any = specialist_class(card.family).load_trained(adapted, base, adapter.recipe, card, adapter.files)
    specialist.to(device)
    specialist.eval()
    result: Specialist = specialist
    if replay:
        replay_adapter(adapter, base, result)
    return result


def replay_adapter(adapter: Adapter, base: Base, specialist: Specialist) -> None:
    """Check that a loaded adapter gives the answers of its self-tests, members and calibration included. Raises IdleAdapter."""
    whole = Whole(adapter.ensemble, adapter.card.calibration, adapter.files, adapter.card.fields)
    where, large = str(adapter.folder), base.parameters > LARGE
    replay_self_tests(specialist, adapter.card.self_tests, where, whole=whole, large=large)
