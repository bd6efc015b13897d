"""The keys of `train:` in a recipe: those of transformers.TrainingArguments, and those of the SDK's own."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from vertical_sdk.errors import MissingExtra, RecipeError, UnknownName

__all__ = ["Arguments", "training_arguments"]

DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3,
    "learning_rate": 2e-4,
    "per_device_train_batch_size": 32,
    "warmup_steps": 0.06,
    "weight_decay": 0.01,
    "seed": 0,
    "logging_steps": 0.02,
    "save_strategy": "steps",
    "save_steps": 0.2,
    "save_total_limit": 2,
}
EVAL_STEPS = 0.2
"""How often the validation loss is measured during a training that it may stop. Other trainings measure it once, after the last step."""
OURS = (
    "output_dir", "logging_nan_inf_filter", "remove_unused_columns", "disable_tqdm", "push_to_hub", "label_names", "use_cpu",
    "ddp_find_unused_parameters", "dataloader_pin_memory", "resume_from_checkpoint",
)  # fmt: skip
SMALLEST: dict[str, float] = {
    "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "token_budget": 1, "learning_rate": 0, "seed": 0,
    "weight_decay": 0, "max_grad_norm": 0, "num_train_epochs": 0, "dataloader_num_workers": 0, "early_stopping_patience": 1,
    "save_steps": 0, "eval_steps": 0, "contrastive_steps": 0,
}  # fmt: skip
"""Smallest allowed values. The libraries accept smaller ones silently and fail later."""
POSITIVE = ("rdrop_alpha", "adversarial_epsilon", "loraplus_lr_ratio")
SHARES = ("ema_decay", "layerwise_lr_decay")
"""Keys above 0, and keys between 0 and 1. Without them, training is plain."""
MOST_WORKERS = 256
"""Of `dataloader_num_workers`: each is a process."""


@dataclass
class Arguments(transformers.TrainingArguments):
    """TrainingArguments with the extra options of the SDK's trainer."""

    token_budget: int | None = field(
        default=None, metadata={"help": "Tokens in one pass through the model; default: 2048, or 3072 in bfloat16."}
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "Stop after this many evaluations without a better eval loss, and keep the best weights."},
    )
    contrastive_steps: int = field(
        default=0,
        metadata={"help": "Batches of the supervised contrastive stage that comes before the training; 0: none."},
    )
    ema_decay: float | None = field(
        default=None, metadata={"help": "Use the moving average of the trained weights, with this decay for each step."}
    )
    rdrop_alpha: float | None = field(
        default=None, metadata={"help": "R-Drop: weight of the divergence between two passes with different dropout."}
    )
    adversarial_epsilon: float | None = field(
        default=None, metadata={"help": "Learn from each row also with its embeddings moved so far against the loss."}
    )
    layerwise_lr_decay: float | None = field(
        default=None, metadata={"help": "The learning rate of a layer as a share of that of the layer above it."}
    )
    loraplus_lr_ratio: float | None = field(
        default=None, metadata={"help": "LoRA+: the learning rate of B as a multiple of that of A."}
    )

    @property
    def tokens_per_pass(self) -> int:
        """Tokens in one pass through the model. In bfloat16 more take no more memory, and large products are faster."""
        return self.token_budget or (3072 if self.bf16 else 2048)


def training_arguments(settings: Mapping[str, Any], folder: Path, where: str) -> Arguments:
    """Create the arguments of a run in a folder. Without bf16 or fp16 in the settings, they are in float32 (`choose_precision`).

    where  the recipe's name, for messages

    Raises RecipeError for a key that the SDK sets itself, or a value that transformers refuses; MissingExtra for a tracker that
    is not installed.
    """
    where = f"{where}: train"
    for key in OURS:
        if key in settings:
            raise RecipeError(f"{key} is set by the SDK. Leave it out.", where=where)
    if settings.get("label_smoothing_factor"):
        raise RecipeError(
            "label_smoothing_factor has no effect here; set loss: {use: cross_entropy, smoothing: ...}.", where=where
        )
    for key, least in SMALLEST.items():
        if settings.get(key) is not None and settings[key] < least:
            raise RecipeError(f"{key} = {settings[key]!r} is wrong: it should be {least} or more.", where=where)
    for key in (*POSITIVE, *SHARES):
        value = settings.get(key)
        if value is not None and not 0 < value < (1 if key in SHARES else math.inf):
            right = "more than 0 and less than 1" if key in SHARES else "a finite number above 0"
            raise RecipeError(f"{key} = {value!r} is wrong: it should be {right}.", where=where)
    if (settings.get("dataloader_num_workers") or 0) > MOST_WORKERS:
        workers = settings["dataloader_num_workers"]
        raise RecipeError(f"dataloader_num_workers = {workers!r} is wrong: at most {MOST_WORKERS} are started.", where=where)
    values = {**DEFAULTS, **settings}
    if {"eval_steps", "eval_strategy", "early_stopping_patience"} & {
        key for key, value in settings.items() if value is not None
    }:
        values = {"eval_strategy": "steps", "eval_steps": EVAL_STEPS, **values}
    if values.get("fp16"):
        values["bf16"] = False
    values["report_to"] = _list_trackers(values.get("report_to"))
    if values.get("early_stopping_patience") is not None:
        values = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": False, **values}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return Arguments(
                output_dir=str(folder / "checkpoints"),
                use_cpu=not torch.cuda.is_available(),
                dataloader_pin_memory=torch.cuda.is_available(),
                logging_nan_inf_filter=False,
                remove_unused_columns=False,
                disable_tqdm=True,
                ddp_find_unused_parameters=False,
                **values,
            )
    except (ValueError, TypeError, ImportError) as error:
        raise RecipeError(str(error), where=where) from None


def _list_trackers(report_to: Any) -> list[str]:
    """The trackers besides TensorBoard, whose events the trainer always writes.

    Raises UnknownName or MissingExtra.
    """
    from importlib.util import find_spec

    names = [report_to] if isinstance(report_to, str) else list(report_to or [])
    names = [name for name in names if name not in {"none", "tensorboard"}]
    for name in names:
        if name not in {*INTEGRATION_TO_CALLBACK, "all"}:
            raise UnknownName("tracker", name, INTEGRATION_TO_CALLBACK, "train.report_to")
        if name in {"mlflow", "wandb"} and find_spec(name) is None:
            raise MissingExtra(name, f"train.report_to: {name}")
    return names
