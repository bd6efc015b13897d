"""LoRA on a backbone by PEFT: create, read and attach adapters, with every key and shape checked."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vertical_sdk.errors import AdapterError, BaseMismatch, CorruptAdapter, IdleAdapter, RecipeError
from vertical_sdk.families.shared_base import read_context

__all__ = ["ADAPTER_WEIGHTS", "attach", "hide_peft_notice", "read_weights", "with_lora"]

ADAPTER_WEIGHTS = "adapter_model.safetensors"
DEFAULTS = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}


def with_lora(model: Any, settings: Mapping[str, Any], task_type: str | None, where: str) -> Any:
    """Put a new adapter, which changes nothing yet, on a model.

    task_type  PEFT's name of the task; None for a model whose input is not text
    returns    the peft.PeftModel, in which the adapter is called "default"

    Raises RecipeError if PEFT refuses the settings.
    """
    import peft

    try:
        unread = {"exclude_modules": r".*pooler.*"} if any("pooler" in name for name, _ in model.named_modules()) else {}
        config = peft.LoraConfig(task_type=task_type, **{**DEFAULTS, **unread, **settings})
        with hide_peft_notice():
            adapted = peft.get_peft_model(model, config)
        read_context(adapted)
        return adapted
    except (ValueError, TypeError, KeyError) as error:
        raise RecipeError(f"{where}: adapter: {error}") from None


def read_weights(folder: Path) -> dict[str, Any]:
    """Read the adapter's tensors.

    Raises CorruptAdapter for a file that is missing, cut or a pickle.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        pickles = sorted(p.name for p in folder.glob("*") if p.suffix in {".bin", ".pt", ".pkl", ".pth", ".ckpt"})
        if pickles:
            raise CorruptAdapter(
                f"the weights are a pickle ({', '.join(pickles)}), which can run code when it is read. Save them again with PEFT's "
                "save_pretrained, which writes adapter_model.safetensors.",
                where=folder,
            )
        raise CorruptAdapter(f"this folder has no {ADAPTER_WEIGHTS}.", where=folder)
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptAdapter(
            f"this file is cut or not a safetensors file ({error}). Download the adapter again.", where=path
        ) from None


def attach(model: Any, folder: Path) -> Any:
    """Put a saved adapter on a base model; no tensor may be missing or left over.

    model    its layers are changed: to put several adapters on one base, give a copy by `share_weights` for each
    returns  the peft.PeftModel, in which the adapter is called "default"
    Raises CorruptAdapter, BaseMismatch (keys or shapes that do not fit), IdleAdapter (all its weights are zero).
    """
    import peft

    weights = read_weights(folder)
    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise CorruptAdapter(f"this file cannot be read: {error}", where=folder / "adapter_config.json") from None
    if getattr(config, "peft_type", None) != peft.PeftType.LORA:
        raise AdapterError(f"this is a {config.peft_type} adapter. Only LoRA is supported.", where=folder)
    config.inference_mode = True
    config.base_model_name_or_path = getattr(model, "name_or_path", None)  # bases are compared by fingerprint, not by name
    if not any(bool(tensor.any()) for key, tensor in weights.items() if "lora_B" in key):
        raise IdleAdapter(
            "all weights are zero, so the adapter would change nothing. Train it again.", where=folder / ADAPTER_WEIGHTS
        )
    try:
        with hide_peft_notice():
            model = peft.get_peft_model(model, config, low_cpu_mem_usage=True)
            expected = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    except ValueError as error:
        raise BaseMismatch(f"the adapter does not fit this base: {error}", where=folder) from None
    missing, extra = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or extra:
        differences = [
            f"{len(keys)} {word}, such as {keys[0]}"
            for keys, word in ((missing, "missing"), (extra, "unknown to the base"))
            if keys
        ]
        raise BaseMismatch(f"the adapter's tensors do not fit this base: {'; '.join(differences)}.", where=folder)
    for key, tensor in expected.items():
        if tensor.shape != weights[key].shape:
            raise BaseMismatch(
                f"{key} has shape {tuple(weights[key].shape)}, and this base needs {tuple(tensor.shape)}.", where=folder
            )
    peft.set_peft_model_state_dict(model, weights, low_cpu_mem_usage=True)
    read_context(model)
    model.eval()
    return model


@contextlib.contextmanager
def hide_peft_notice() -> Iterator[None]:
    """Hide the warning about an attribute that transformers has renamed and PEFT still reads. Users cannot act on it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield
