"""LoRA on a backbone, by PEFT: put on, saved, and loaded with every key and shape checked."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vertical_sdk.errors import AdapterError, BaseMismatch, CorruptAdapter, IdleAdapter, RecipeError

__all__ = ["ADAPTER_WEIGHTS", "attach", "hide_peft_notice", "read_weights", "with_lora"]

ADAPTER_WEIGHTS = "adapter_model.safetensors"
DEFAULTS = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}


def with_lora(model: Any, settings: Mapping[str, Any], task_type: str | None, where: str) -> Any:
    """The model as a peft.PeftModel with a fresh adapter called "default".

    task_type  as PEFT has it; None for a model that takes other inputs than text

    Raises RecipeError where PEFT refuses the settings.
    """
    import peft

    try:
        unread = {"exclude_modules": r".*pooler.*"} if any("pooler" in name for name, _ in model.named_modules()) else {}
        config = peft.LoraConfig(task_type=task_type, **{**DEFAULTS, **unread, **settings})
        with hide_peft_notice():
            return peft.get_peft_model(model, config)
    except (ValueError, TypeError, KeyError) as error:
        raise RecipeError(f"{where}: adapter: {error}") from None


def read_weights(folder: Path) -> dict[str, Any]:
    """The adapter's tensors.

    Raises CorruptAdapter for a file that is missing, cut or a pickle.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        pickles = sorted(p.name for p in folder.glob("*") if p.suffix in {".bin", ".pt", ".pkl", ".pth", ".ckpt"})
        if pickles:
            raise CorruptAdapter(
                f"{folder}: its weights are a pickle ({', '.join(pickles)}), which can run code when it is read. Save them anew with "
                "PEFT's save_pretrained, which writes adapter_model.safetensors."
            )
        raise CorruptAdapter(f"{folder}: has no {ADAPTER_WEIGHTS}.")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptAdapter(f"{path}: is cut or no safetensors file ({error}). Take the adapter anew.") from None


def attach(model: Any, folder: Path, name: str) -> Any:
    """Put a saved adapter on a base model, or one more on a PeftModel; nothing of it may be left over or missing.

    returns  the peft.PeftModel
    Raises CorruptAdapter, BaseMismatch (keys or shapes that the base has not), IdleAdapter (all its weights are zero).
    """
    import peft

    weights = read_weights(folder)
    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise CorruptAdapter(f"{folder / 'adapter_config.json'}: cannot be read: {error}") from None
    if getattr(config, "peft_type", None) != peft.PeftType.LORA:
        raise AdapterError(f"{folder}: is a {config.peft_type} adapter; only LoRA is supported.")
    config.inference_mode = True
    config.base_model_name_or_path = getattr(model, "name_or_path", None)  # the fingerprint tells bases apart, not their names
    if not any(bool(tensor.any()) for key, tensor in weights.items() if "lora_B" in key):
        raise IdleAdapter(
            f"{folder / ADAPTER_WEIGHTS}: all weights are zero, so the adapter would change nothing. Train it anew."
        )
    try:
        with hide_peft_notice():
            if isinstance(model, peft.PeftModel):
                model.add_adapter(name, config, low_cpu_mem_usage=True)
            else:
                model = peft.get_peft_model(model, config, adapter_name=name, low_cpu_mem_usage=True)
            expected = peft.get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    except ValueError as error:
        raise BaseMismatch(f"{folder}: does not fit this base: {error}") from None
    missing, extra = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or extra:
        told = [
            f"{len(keys)} {word}, such as {keys[0]}"
            for keys, word in ((missing, "missing"), (extra, "unknown to the base"))
            if keys
        ]
        raise BaseMismatch(f"{folder}: its tensors are not those that this base takes: {'; '.join(told)}.")
    for key, tensor in expected.items():
        if tensor.shape != weights[key].shape:
            raise BaseMismatch(f"{folder}: {key} has shape {tuple(weights[key].shape)}, this base takes {tuple(tensor.shape)}.")
    peft.set_peft_model_state_dict(model, weights, adapter_name=name, low_cpu_mem_usage=True)
    model.eval()
    return model


@contextlib.contextmanager
def hide_peft_notice() -> Iterator[None]:
    """Hide the warning about an attribute that transformers has renamed and PEFT still reads. Users cannot act on it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield
