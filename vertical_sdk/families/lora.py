"""LoRA on a backbone by PEFT: create, read and attach adapters, with every key and shape checked."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vertical_sdk.errors import BaseMismatch, CorruptAdapter, IdleAdapter, RecipeError
from vertical_sdk.families.lora_plan import adapt, keep_known_names
from vertical_sdk.families.quantized import count_weights, full_shape
from vertical_sdk.families.shared_base import read_context, share_weights
from vertical_sdk.peft_config import ADAPTER_CONFIG, find_wrong_rank, parse_config, select_settings
from vertical_sdk.registry.checked_files import CheckedFiles
from vertical_sdk.tensors import load_tensors

__all__ = ["ADAPTER_WEIGHTS", "attach", "hide_peft_notice", "list_modules", "read_weights", "with_lora"]

ADAPTER_WEIGHTS = "adapter_model.safetensors"
HARMLESS = 64
"""A rank that every base may have, however small its weights are."""
DEFAULTS = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}


def with_lora(model: Any, settings: Mapping[str, Any], task_type: str | None, where: str) -> Any:
    """Put a new adapter, which changes nothing yet, on a model.

    task_type  PEFT's name of the task; None for a model whose input is not text
    returns    the peft.PeftModel, in which the adapter is called "default"

    Raises RecipeError if PEFT refuses the settings.
    """
    import peft

    try:
        unread = list_modules(model, "pooler")
        config = peft.LoraConfig(
            task_type=task_type, **{**DEFAULTS, **({"exclude_modules": unread} if unread else {}), **settings}
        )
        _check_ranks(model, config)
        _write_out_patterns(config, model)
        with hide_peft_notice(), _refuse_without_effect():
            adapted = peft.get_peft_model(model, config)
        _check_saved_modules(adapted, config.modules_to_save or (), all_exist=True)
        read_context(adapted)
        return adapted
    except (ValueError, TypeError, KeyError, ImportError) as error:
        raise RecipeError(f"adapter: {str(error).strip()}", where=where) from None


def list_modules(model: Any, *parts: str) -> list[str]:
    """List the modules without submodules of which the name contains one of these texts."""
    return [
        name for name, module in model.named_modules() if any(part in name for part in parts) and not any(module.children())
    ]


def _write_out_patterns(config: Any, model: Any) -> None:
    """Replace a regular expression by the names of the modules that it matches: a saved adapter contains only names.

    A pattern that matches nothing stays, and PEFT refuses it.
    """
    for key in ("target_modules", "exclude_modules"):
        pattern = getattr(config, key)
        if isinstance(pattern, str) and pattern != "all-linear":
            names = {name for name, _ in model.named_modules() if re.fullmatch(pattern, name)}
            setattr(config, key, names or pattern)


def _check_ranks(model: Any, config: Any) -> None:
    """Raise ValueError for a rank that no weight of the base has: a higher one adds memory and nothing else."""
    shapes = [full_shape(weight) for weight in model.parameters() if weight.ndim > 1]
    widest = max((min(shape[0], math.prod(shape[1:])) for shape in shapes), default=1)
    highest = max([config.r, *(config.rank_pattern or {}).values()])
    if highest > max(widest, HARMLESS):
        raise ValueError(
            f"r = {highest:,}, but the weights of this base have at most the rank {widest:,}. Choose a smaller one."
        )


@contextlib.contextmanager
def _refuse_without_effect() -> Iterator[None]:
    """Raise ValueError for a setting of which PEFT only warns that it matches no module, so that it would change nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")  # PEFT sets it, so no user has to act
        for problem in (
            "did not match any targeted module",
            "no modules were excluded",
            "no parameter was matched",
            "no tied modules",
        ):
            warnings.filterwarnings("error", message=f"(?s).*{problem}", category=UserWarning)
            warnings.filterwarnings("error", message=f"(?s).*{problem}", category=RuntimeWarning)
        try:
            yield
        except (UserWarning, RuntimeWarning) as warning:
            raise ValueError(str(warning)) from None


def _check_saved_modules(model: Any, names: Sequence[str], *, all_exist: bool = False) -> None:
    """Raise ValueError for a name of modules_to_save that matches no module, or one with the embeddings of the input."""
    from peft.utils.other import ModulesToSaveWrapper

    if not names:
        return  # a vision base has no embeddings to ask for
    saved = {name: module for name, module in model.named_modules() if isinstance(module, ModulesToSaveWrapper)}
    try:
        inputs = model.get_base_model().get_input_embeddings()
    except NotImplementedError:
        inputs = None
    for wanted in names:
        own = [module for name, module in saved.items() if name == wanted or name.endswith(f".{wanted}")]
        if not own and all_exist:
            raise ValueError(f"modules_to_save = {list(names)}: the base has no module {wanted!r}.")
        if inputs is not None and any(
            part is inputs or part is getattr(inputs, "original_module", None) for module in own for part in module.modules()
        ):
            raise ValueError(
                f"modules_to_save = {list(names)}: {wanted!r} holds the embeddings of all tokens, of which no copy is saved. Train "
                "them with LoRA instead: add their name to target_modules."
            )


def read_weights(source: CheckedFiles | Path, parameters: int) -> dict[str, Any]:
    """Read the adapter's tensors.

    parameters  numbers of the base: the adapter may have twice as many, as with the highest rank, and 32 million more

    Raises CorruptAdapter for a file that is missing, too large, cut or a pickle, or holds other than finite floating-point numbers.
    """
    files = CheckedFiles.from_source(source)
    path = files.folder / ADAPTER_WEIGHTS
    if not path.is_file():
        pickles = sorted(p.name for p in files.folder.glob("*") if p.suffix in {".bin", ".pt", ".pkl", ".pth", ".ckpt"})
        if pickles:
            raise CorruptAdapter(
                f"the weights are a pickle ({', '.join(pickles)}), which can run code when it is read. Save them again with PEFT's "
                "save_pretrained, which writes adapter_model.safetensors.",
                where=files.folder,
            )
        raise CorruptAdapter(f"this folder has no {ADAPTER_WEIGHTS}.", where=files.folder)
    largest = 8 * (2 * parameters + (32 << 20))
    weights = load_tensors(files.read(ADAPTER_WEIGHTS, largest=largest), path)
    odd = next((name for name, tensor in weights.items() if tensor.dtype not in _number_types()), None)
    if odd is not None:
        raise CorruptAdapter(
            f"{odd[:200]!r} holds {weights[odd].dtype}, not numbers that LoRA is made of. Train it again.", where=path
        )
    return weights


def _number_types() -> set[Any]:
    import torch

    return {torch.float16, torch.bfloat16, torch.float32, torch.float64}


def attach(model: Any, source: CheckedFiles | Path) -> Any:
    """Put a saved adapter on a base model; no tensor may be missing or left over.

    model    is not changed; all adapters on it share its weights
    source   the adapter's files, or a folder that PEFT wrote
    returns  an AdaptedModel for plain LoRA on linear layers; else a peft.PeftModel, in which the adapter is called "default"

    Raises CorruptAdapter, BaseMismatch (keys or shapes that do not fit), IdleAdapter (all its weights are zero).
    """
    files = CheckedFiles.from_source(source)
    folder = files.folder
    settings = parse_config(files.read(ADAPTER_CONFIG), folder / ADAPTER_CONFIG)
    weights = read_weights(files, count_weights(model.parameters()))
    if wrong := find_wrong_rank(settings, {name: tensor.shape for name, tensor in weights.items()}):
        raise BaseMismatch(f"{wrong}.", where=folder)
    if not any(bool(tensor.any()) for key, tensor in weights.items() if "lora_B" in key or "lora_embedding_A" in key):
        raise IdleAdapter(
            "all weights are zero, so the adapter would change nothing. Train it again.", where=folder / ADAPTER_WEIGHTS
        )
    adapted = adapt(model, settings, weights)
    return _attach_by_peft(share_weights(model), settings, weights, folder) if adapted is None else adapted


def _attach_by_peft(model: Any, settings: Mapping[str, Any], weights: dict[str, Any], folder: Path) -> Any:
    """Let PEFT change the layers of a model, and compare the tensors that it expects with those of the adapter."""
    import peft

    # bases are compared by fingerprint, not by name; weights that are replaced at once need no first values
    unread: dict[str, Any] = {"base_model_name_or_path": getattr(model, "name_or_path", None), "init_lora_weights": False}
    try:
        with hide_peft_notice():
            known = keep_known_names(select_settings(settings), model)
            config = peft.LoraConfig(**known, inference_mode=True, **unread)
            model = peft.get_peft_model(model, config, low_cpu_mem_usage=True)
            _check_saved_modules(model, config.modules_to_save or ())
            expected = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError) as error:
        raise BaseMismatch(f"the adapter does not fit this base: {str(error).strip()[:1000]}", where=folder) from None
    weights = _without_own_embeddings(model, weights, expected, folder)
    missing, extra = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or extra:
        differences = [
            f"{len(keys)} {word}, such as {keys[0][:200]}"
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


def _without_own_embeddings(model: Any, weights: dict[str, Any], expected: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Leave out the base's own embeddings, which PEFT saves beside an adapter on embed_tokens or lm_head.

    Raises BaseMismatch if they differ from those of this base, as after new tokens.
    """
    import torch

    extra = [key for key in weights if key not in expected and "lora_" not in key]
    if not extra:
        return weights
    own = model.state_dict()
    kept = dict(weights)
    for key in extra:
        mine = own.get(key, own.get(key.replace(".weight", ".base_layer.weight")))
        if mine is None:
            continue
        if mine.shape != weights[key].shape or not torch.equal(mine.float().cpu(), weights[key].float()):
            raise BaseMismatch(
                f"the adapter comes with its own {key.removeprefix('base_model.model.')} {tuple(weights[key].shape)}, which differs from the "
                f"base's {tuple(mine.shape)}: the base's embeddings were changed too, such as by new tokens. Import it onto the base "
                "with those embeddings, or train it without changing them.",
                where=folder / ADAPTER_WEIGHTS,
            )
        del kept[key]
    return kept


@contextlib.contextmanager
def hide_peft_notice() -> Iterator[None]:
    """Hide the warning about an attribute that transformers has renamed and PEFT still reads. Users cannot act on it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield
